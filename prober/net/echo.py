"""Echo requests over one shared socket per address family, timed by the kernel.

Unprivileged datagram sockets first (`net.ipv4.ping_group_range`), raw sockets otherwise. A reply counts only if
address, identifier, sequence and the random token in the payload match a request in flight; whatever else comes is
counted as late, duplicate or forged. The kernel stamps arrivals (SO_TIMESTAMPNS), so a busy event loop distorts no
round-trip time; and before a request is given up, everything that the kernel holds for us is read, so a stalled loop
turns no reply into a timeout. If the kernel had to drop packets meanwhile (SO_MEMINFO), the verdict is
BUFFERS_EXHAUSTED, our own side, and no timeout.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter, deque
from contextlib import suppress
from typing import Final, NamedTuple

from prober.contract import EchoReply, ProbeFailure
from prober.failures import Failure, Operation
from prober.net import icmp_wire as wire
from prober.net.errors import failure_of_oserror
from prober.net.icmp_socket import (
    ANCILLARY_SIZE,
    READ_SIZE,
    SocketType,
    ancillary_of,
    dropped,
    open_socket,
    read_ancillary,
    read_error_queue,
    scope_id,
    send_failure,
    set_dont_fragment,
)

log = logging.getLogger(__name__)

DRAIN_AFTER: Final = 64  # requests sent without reading; on loopback their replies are here before the last is sent
DRAIN_AT_MOST: Final = 512  # messages in one go of the loop's callback
EXPIRE_AT_MOST: Final = 100_000
EXPIRE_STEP_SECONDS: Final = 0.005
REMEMBERED: Final = 16_384  # finished requests, to tell late and duplicate replies from forged ones
REOPEN_AFTER_SECONDS: Final = 10.0

HOW_TO_PERMIT: Final = (
    "ICMP is not permitted here: allow it with `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (or the range of "
    "this user's group), or give the process CAP_NET_RAW; until then every icmp check reports permission_denied"
)


class _Pending:
    """A request in flight."""

    __slots__ = ("deadline", "future", "head", "key", "sent_monotonic", "sent_ns")

    def __init__(self, key: tuple[int, str], head: bytes, future: asyncio.Future[EchoReply]) -> None:
        self.key = key  # sequence, address
        self.head = head  # the payload up to and with the token
        self.future = future
        self.deadline = 0.0
        self.sent_ns = 0
        self.sent_monotonic = 0.0


class _Done(NamedTuple):
    """A request that is over."""

    head: bytes
    answered: bool


class EchoSocket:
    """The socket of one address family."""

    def __init__(self, v6: bool, contact: str | None, only: SocketType | None, unmatched: Counter[str]) -> None:
        self._v6 = v6
        self._contact = contact
        self._unmatched = unmatched
        self._loop = asyncio.get_running_loop()
        self._pending: dict[tuple[int, str], _Pending] = {}
        self._done: dict[tuple[int, str], _Done] = {}
        self._queues: dict[float, deque[_Pending]] = {}  # by timeout: each is in order of its deadlines
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self._tokens = b""
        self._token_at = 0
        self._unread = 0
        self._drops = 0
        self._dropped_at = 0.0  # monotonic: when we last found that the kernel had dropped something
        self._prefixes: dict[int, bytes] = {}
        self._socket, self.type = open_socket(v6, only)
        self._identifier = self._identify()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _identify(self) -> int:
        if self.type == "raw":
            # Other pingers of this host see our replies and we see theirs: the identifier keeps them apart.
            return int.from_bytes(os.urandom(2), "big")
        self._socket.bind(("::" if self._v6 else "0.0.0.0", 0))  # the kernel chooses the identifier
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Close the socket; requests in flight are cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for pending in self._pending.values():
            pending.future.cancel()
        self._pending.clear()
        self._queues.clear()

    # -- sending -------------------------------------------------------------------------------------------------------

    def echo(
        self,
        address: str,
        timeout_seconds: float,
        payload_size: int,
        hop_limit: int | None,
        dont_fragment: bool,
        source: str | None,
    ) -> asyncio.Future[EchoReply]:
        if self._unread >= DRAIN_AFTER:
            self._drain(EXPIRE_AT_MOST)
        destination: tuple[str, int] | tuple[str, int, int, int]
        host, _, scope = address.partition("%")
        destination = (host, 0, 0, scope_id(scope)) if self._v6 else (host, 0)
        key = self._next_key(host)
        head = self._prefix(payload_size) + self._next_token()
        payload = head + bytes(max(0, payload_size - len(head)))
        packet = wire.echo_request(
            self._v6, self._identifier, key[0], payload, sum_it=self.type == "raw" and not self._v6
        )
        ancillary = ancillary_of(self._v6, hop_limit, source) if hop_limit is not None or source is not None else []
        pending = _Pending(key, head, self._loop.create_future())
        self._pending[key] = pending
        try:
            if dont_fragment:
                set_dont_fragment(self._socket, self._v6, True)
            try:
                self._send(pending, packet, ancillary, destination)
            finally:
                if dont_fragment:
                    set_dont_fragment(self._socket, self._v6, False)
        except OSError as error:
            del self._pending[key]
            raise send_failure(error, source) from error
        self._unread += 1
        pending.deadline = self._loop.time() + timeout_seconds
        self._queues.setdefault(timeout_seconds, deque()).append(pending)
        if self._timer is None:
            self._timer = self._loop.call_at(pending.deadline, self._expire)
        return pending.future

    def _send(
        self,
        pending: _Pending,
        packet: bytes,
        ancillary: list[tuple[int, int, bytes]],
        destination: tuple[str, int] | tuple[str, int, int, int],
    ) -> None:
        for _ in range(8):
            pending.sent_monotonic = time.monotonic()
            pending.sent_ns = time.time_ns()
            try:
                self._socket.sendmsg([packet], ancillary, 0, destination)
            except OSError as error:
                # An ICMP error about an earlier request is reported at the next call, whatever that is (ip(7),
                # IP_RECVERR). If there was one, it was not this request's: try again.
                if not self._take_errors():
                    raise
                last = error
            else:
                return
        raise last

    def _next_key(self, host: str) -> tuple[int, str]:
        """The next sequence number that is not in flight to this address."""
        for _ in range(65_536):
            self._sequence = (self._sequence + 1) & 0xFFFF
            key = (self._sequence, host)
            if key not in self._pending:
                return key
        raise ProbeFailure(Operation.SEND, Failure.BUFFERS_EXHAUSTED, f"65,536 requests in flight to {host}")

    def _next_token(self) -> bytes:
        if self._token_at >= len(self._tokens):
            self._tokens = os.urandom(512 * wire.TOKEN_SIZE)
            self._token_at = 0
        token = self._tokens[self._token_at : self._token_at + wire.TOKEN_SIZE]
        self._token_at += wire.TOKEN_SIZE
        return token

    def _prefix(self, payload_size: int) -> bytes:
        prefix = self._prefixes.get(payload_size)
        if prefix is None:
            prefix = self._prefixes[payload_size] = wire.payload_prefix(self._contact, payload_size)
        return prefix

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._drain(DRAIN_AT_MOST)

    def _drain(self, at_most: int) -> None:
        """Read what the kernel holds for us, up to `at_most` messages."""
        self._unread = 0
        for _ in range(at_most):
            try:
                message, ancillary, _flags, peer = self._socket.recvmsg(READ_SIZE, ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError:
                # The pending error of some request: its particulars are in the error queue.
                self._take_errors()
                continue
            self._receive(message, ancillary, peer[0])
        if self.type == "datagram":
            self._take_errors()
        drops = dropped(self._socket)
        if drops != self._drops:
            self._drops, self._dropped_at = drops, time.monotonic()

    def _receive(self, message: bytes, ancillary: list[tuple[int, int, bytes]], peer: str) -> None:
        hop_limit, stamp_ns = read_ancillary(ancillary)
        if self.type == "raw" and not self._v6:
            stripped = wire.strip_ipv4(message)
            if stripped is None:
                return
            hop_limit, message = stripped
        read = wire.read_echo(message)
        if read is None:
            return
        kind, echo = read
        if kind != (wire.ECHO_REPLY_V6 if self._v6 else wire.ECHO_REPLY_V4):
            self._receive_error(message, peer)
            return
        if echo.identifier != self._identifier:
            return  # another process's
        host = peer.partition("%")[0]
        key = (echo.sequence, host)
        pending = self._pending.get(key)
        if pending is None or not echo.payload.startswith(pending.head):
            self._count_unmatched(key, echo.payload)
            return
        del self._pending[key]
        rtt = (stamp_ns - pending.sent_ns) / 1e9
        elapsed = time.monotonic() - pending.sent_monotonic
        if not 0.0 < rtt <= elapsed + 0.001:  # the wall clock was stepped in between
            rtt = elapsed
        self._finish(pending, EchoReply(rtt_seconds=rtt, hop_limit=hop_limit), answered=True)

    def _count_unmatched(self, key: tuple[int, str], payload: bytes) -> None:
        done = self._done.get(key)
        if done is None or not payload.startswith(done.head):
            self._unmatched["forged"] += 1
        elif done.answered:
            self._unmatched["duplicate"] += 1
        else:
            self._unmatched["late"] += 1
            self._done[key] = done._replace(answered=True)

    def _receive_error(self, message: bytes, peer: str) -> None:
        """An ICMP error on a raw socket, which sees those of all processes."""
        error = wire.read_error(self._v6, message)
        if error is None or error.request.identifier != self._identifier:
            return
        host = socket.inet_ntop(socket.AF_INET6 if self._v6 else socket.AF_INET, error.destination)
        self._fail(host, error.request, error.type, error.code, peer)

    def _take_errors(self) -> int:
        """Read the error queue of a datagram socket. Returns how many errors were there. ip(7), IP_RECVERR."""
        if self.type != "datagram":
            return 0
        taken = 0
        for error in read_error_queue(self._socket, EXPIRE_AT_MOST):
            taken += 1
            echo = wire.read_echo(error.quoted)
            if error.from_network and echo is not None:
                self._fail(error.destination, echo[1], error.type, error.code, error.reporter)
        # Should the queue have been too full for an error, its number is left behind on the socket: take it, too.
        return taken + bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _fail(self, host: str, request: wire.Echo, kind: int, code: int, reporter: str) -> None:
        key = (request.sequence, host)
        pending = self._pending.get(key)
        if pending is None:
            return  # late: the request is over
        if len(request.payload) >= len(pending.head) and not request.payload.startswith(pending.head):
            self._unmatched["forged"] += 1
            return
        del self._pending[key]
        reply = EchoReply(
            rtt_seconds=None,
            failure=wire.failure_of_error(self._v6, kind, code),
            detail=wire.describe_error(self._v6, kind, code, reporter),
            reporter=reporter,
        )
        self._finish(pending, reply, answered=True)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _finish(self, pending: _Pending, reply: EchoReply, answered: bool) -> None:
        self._done.pop(pending.key, None)  # to the end of the order
        self._done[pending.key] = _Done(pending.head, answered)
        if len(self._done) > REMEMBERED:
            del self._done[next(iter(self._done))]
        if not pending.future.done():
            pending.future.set_result(reply)

    def _expire(self) -> None:
        """Give up what is overdue, after reading all that the kernel had received by now."""
        self._timer = None
        now = self._loop.time()
        self._drain(EXPIRE_AT_MOST)
        next_deadline: float | None = None
        for timeout, queue in list(self._queues.items()):
            while queue:
                pending = queue[0]
                if self._pending.get(pending.key) is pending:
                    if pending.deadline > now:
                        break
                    del self._pending[pending.key]
                    self._finish(pending, self._give_up(pending), answered=False)
                queue.popleft()
            if not queue:
                del self._queues[timeout]
            elif next_deadline is None or queue[0].deadline < next_deadline:
                next_deadline = queue[0].deadline
        if next_deadline is not None:
            # In steps: of many requests with deadlines close to each other, not each is worth a timer.
            self._timer = self._loop.call_at(max(next_deadline, now + EXPIRE_STEP_SECONDS), self._expire)

    def _give_up(self, pending: _Pending) -> EchoReply:
        if pending.sent_monotonic <= self._dropped_at:
            detail = "the kernel dropped packets meant for us while we waited: raise net.core.rmem_max"
            return EchoReply(rtt_seconds=None, failure=Failure.BUFFERS_EXHAUSTED, detail=detail)
        return EchoReply(rtt_seconds=None, failure=Failure.TIMEOUT)


class EchoSockets:
    """The Pinger of the agent: opens a family's socket when it is first needed, and again once it is permitted.

    `unmatched` counts replies that matched no request in flight, by `late`, `duplicate` and `forged`.
    `only` restricts the socket type (tests use it).
    """

    def __init__(self, contact: str | None = None, only: SocketType | None = None) -> None:
        if contact is not None and len(contact) > wire.MOST_URI:
            raise ValueError(f"the contact URI is longer than {wire.MOST_URI} characters")
        self._contact = contact
        self._only = only
        self._sockets: dict[bool, EchoSocket] = {}
        self._refused: dict[bool, tuple[float, ProbeFailure]] = {}
        self._told: set[bool] = set()
        self.unmatched: Counter[str] = Counter({"late": 0, "duplicate": 0, "forged": 0})

    def echo(
        self,
        address: str,
        *,
        timeout_seconds: float,
        payload_size: int = wire.DEFAULT_PAYLOAD,
        hop_limit: int | None = None,
        dont_fragment: bool = False,
        source: str | None = None,
    ) -> asyncio.Future[EchoReply]:
        """See `Pinger.echo`. Raises ProbeFailure PERMISSION_DENIED where the host forbids ICMP to this process."""
        v6 = ":" in address
        opened = self._sockets.get(v6) or self._open(v6)
        return opened.echo(address, timeout_seconds, payload_size, hop_limit, dont_fragment, source)

    def try_open(self) -> None:
        """Open the IPv4 socket now, so that a host that forbids it is told of at the start and not a round later."""
        with suppress(ProbeFailure):
            self._open(False)

    def _open(self, v6: bool) -> EchoSocket:
        now = time.monotonic()
        refused = self._refused.get(v6)
        if refused is not None and now < refused[0] + REOPEN_AFTER_SECONDS:
            raise refused[1]
        try:
            opened = EchoSocket(v6, self._contact, self._only, self.unmatched)
        except OSError as error:
            failure = failure_of_oserror(error, local=True)
            denied = ProbeFailure(Operation.PREPARE, failure, f"cannot open an ICMP socket: {error.strerror}")
            self._refused[v6] = now, denied
            if failure is Failure.PERMISSION_DENIED and not self._told:
                log.error(HOW_TO_PERMIT)
            self._told.add(v6)
            raise denied from error
        self._refused.pop(v6, None)
        self._sockets[v6] = opened
        log.info("ICMP socket open", extra={"family": "ipv6" if v6 else "ipv4", "type": opened.type})
        return opened

    def close(self) -> None:
        """Close the sockets; requests in flight are cancelled."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()
