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
from math import inf
from typing import Final

from prober.contract import EchoDone, EchoReply, ProbeFailure, SendEcho
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
LOOK_FOR_DROPS_SECONDS: Final = 0.05
REMEMBERED: Final = 8_192  # to twice as many finished requests, to tell late and duplicate replies from forged ones
SHORT_PAUSE_SECONDS: Final = 0.06
HURRIED_AFTER: Final = 4  # short pauses in a row
REOPEN_AFTER_SECONDS: Final = 10.0

HOW_TO_PERMIT: Final = (
    "ICMP is not permitted here: allow it with `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (or the range of "
    "this user's group), or give the process CAP_NET_RAW; until then every icmp check reports permission_denied"
)


class _Pending:
    """A request in flight, then one that is remembered."""

    __slots__ = ("deadline", "done", "head", "key", "sent_monotonic", "sent_ns")

    def __init__(
        self, key: tuple[int, str], head: bytes, done: EchoDone, sent: tuple[float, int], timeout_seconds: float
    ) -> None:
        self.key = key  # sequence, address
        self.head = head  # the payload up to and with the token
        self.done: EchoDone | None = done  # None: it is over
        self.sent_monotonic, self.sent_ns = sent  # time.monotonic is time.perf_counter, where there is Linux
        self.deadline = self.sent_monotonic + timeout_seconds


class _Remembered:
    """How the payloads of finished requests began, in two generations: when the younger one is full, the older one is
    forgotten.
    """

    def __init__(self) -> None:
        self._younger: dict[tuple[int, str], bytes] = {}
        self._older: dict[tuple[int, str], bytes] = {}

    def add(self, key: tuple[int, str], head: bytes) -> None:
        if len(self._younger) >= REMEMBERED:
            self._older, self._younger = self._younger, {}
        self._younger[key] = head

    def knows(self, key: tuple[int, str], message: bytes) -> bool:
        """Whether this message answers one of them."""
        head = self._younger.get(key) or self._older.get(key)
        return head is not None and message.startswith(head, wire.HEADER_SIZE)


class _Shape:
    """What the requests to one address have in common."""

    __slots__ = ("dont_fragment", "hop_limit", "host", "padding", "plain", "prefix", "scope", "source")

    def __init__(
        self,
        address: str,
        prefix: bytes,
        payload_size: int,
        hop_limit: int | None,
        dont_fragment: bool,
        source: str | None,
    ) -> None:
        self.host, _, self.scope = address.partition("%")
        self.prefix = prefix
        self.padding = bytes(max(0, payload_size - len(prefix) - wire.TOKEN_SIZE))
        self.hop_limit = hop_limit
        self.dont_fragment = dont_fragment
        self.source = source
        self.plain = not (self.scope or dont_fragment) and hop_limit is None and source is None


class EchoSocket:
    """The socket of one address family."""

    def __init__(self, v6: bool, only: SocketType | None, unmatched: Counter[str]) -> None:
        self._v6 = v6
        self._unmatched = unmatched
        self._loop = asyncio.get_running_loop()
        self._pending: dict[tuple[int, str], _Pending] = {}
        self._answered = _Remembered()
        self._given_up = _Remembered()
        self._queues: dict[float, deque[_Pending]] = {}  # by timeout: each is in order of its deadlines
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self._tokens = b""
        self._token_at = 0
        self._unread = 0
        self._drops = 0
        self._dropped_at = 0.0  # monotonic: when we last found that the kernel had dropped something
        self._looked_for_drops_at = 0.0
        self._socket, self.type = open_socket(v6, only)
        self._identifier = self._identify()
        self._request = wire.ECHO_REQUEST_V6 if v6 else wire.ECHO_REQUEST_V4
        self._reply = wire.ECHO_REPLY_V6 if v6 else wire.ECHO_REPLY_V4
        self._raw_v4 = self.type == "raw" and not v6  # the one that has IP headers, and makes its own checksums
        self._listening = False  # the loop wakes us for each arrival; else `collect` is called often enough
        self._hurried = 0  # short pauses between the last calls of `collect`
        self.impatient = 0  # requests in flight whose replies somebody waits for
        self.listen()

    def _identify(self) -> int:
        if self.type == "raw":
            # Other pingers of this host see our replies and we see theirs: the identifier keeps them apart.
            return int.from_bytes(os.urandom(2), "big")
        self._socket.bind(("::" if self._v6 else "0.0.0.0", 0))  # the kernel chooses the identifier
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Close the socket; whoever waits for a reply is told that there will be none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_listening()
        self._socket.close()
        left = list(self._pending.values())
        self._pending.clear()
        self._queues.clear()
        for pending in left:
            if pending.done is not None:
                pending.done(None)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, shape: _Shape, timeout_seconds: float, done: EchoDone) -> None:
        """Send one echo request. Raises ProbeFailure."""
        if self._unread >= DRAIN_AFTER:
            self._drain(EXPIRE_AT_MOST)
        host = shape.host
        self._sequence = sequence = (self._sequence + 1) & 0xFFFF
        key = (sequence, host)
        if key in self._pending:
            key = self._next_key(host)
            sequence = key[0]
        at = self._token_at
        if at >= len(self._tokens):
            self._tokens = os.urandom(512 * wire.TOKEN_SIZE)
            at = 0
        self._token_at = at + wire.TOKEN_SIZE
        head = shape.prefix + self._tokens[at : at + wire.TOKEN_SIZE]
        packet = wire.write_header(self._request, 0, 0, self._identifier, sequence) + head + shape.padding
        if self._raw_v4:
            packet = wire.with_checksum(packet)
        try:
            if shape.plain:
                sent = time.monotonic(), time.time_ns()
                self._socket.sendto(packet, (host, 0))
            else:
                sent = self._send_specially(packet, shape)
        except OSError as error:
            sent = self._send_again(packet, shape, error)
        pending = _Pending(key, head, done, sent, timeout_seconds)
        self._pending[key] = pending
        self._unread += 1
        queue = self._queues.get(timeout_seconds)
        if queue is None:
            queue = self._queues[timeout_seconds] = deque()
        queue.append(pending)
        if self._timer is None or self._timer_at > pending.deadline + EXPIRE_STEP_SECONDS:
            self._arm(timeout_seconds)

    def _send_again(self, packet: bytes, shape: _Shape, error: OSError) -> tuple[float, int]:
        """See whether an error is this request's.

        An ICMP error about an earlier request is reported at the next call, whatever that is (ip(7), IP_RECVERR). If
        there was one, it was not this request's: try again.
        """
        for _ in range(8):
            if not self._take_errors():
                break
            try:
                return self._send_specially(packet, shape)
            except OSError as again:
                error = again
        raise send_failure(error, shape.source) from error

    def _send_specially(self, packet: bytes, shape: _Shape) -> tuple[float, int]:
        """Send with what has to be told the kernel packet by packet. Returns when, monotonic and Unix nanoseconds."""
        destination = (shape.host, 0, 0, scope_id(shape.scope)) if self._v6 else (shape.host, 0)
        ancillary = ancillary_of(self._v6, shape.hop_limit, shape.source)
        if shape.dont_fragment:
            set_dont_fragment(self._socket, self._v6, True)
        try:
            sent = time.monotonic(), time.time_ns()
            self._socket.sendmsg([packet], ancillary, 0, destination)
        finally:
            if shape.dont_fragment:
                set_dont_fragment(self._socket, self._v6, False)
        return sent

    def _next_key(self, host: str) -> tuple[int, str]:
        """The next sequence number that is not in flight to this address."""
        for _ in range(65_536):
            self._sequence = (self._sequence + 1) & 0xFFFF
            key = (self._sequence, host)
            if key not in self._pending:
                return key
        raise ProbeFailure(Operation.SEND, Failure.BUFFERS_EXHAUSTED, f"65,536 requests in flight to {host}")

    # -- receiving -----------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Be woken by arrivals from now on."""
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._socket.fileno())

    def collect(self, pause_seconds: float) -> None:
        """See `EchoSockets.collect`."""
        if pause_seconds > SHORT_PAUSE_SECONDS or self.impatient:
            self._hurried = 0
            self.listen()
            return
        if self._hurried < HURRIED_AFTER:
            self._hurried += 1
            return
        self._stop_listening()
        if self._pending:
            self._drain(EXPIRE_AT_MOST)

    def _readable(self) -> None:
        if not self._drain(DRAIN_AT_MOST):
            self._take_errors()  # woken, and no message: there are errors to read

    def _drain(self, at_most: int) -> int:
        """Read what the kernel holds for us, up to `at_most` messages. Returns how many there were."""
        self._unread = 0
        receive, look_at, in_flight = self._socket.recvmsg, self._receive, self._pending
        read = 0
        while read < at_most:
            try:
                message, ancillary, _flags, peer = receive(READ_SIZE, ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError:
                # The pending error of some request: its particulars are in the error queue.
                self._take_errors()
                read += 1
                continue
            read += 1
            look_at(message, ancillary, peer[0])
            if not in_flight:
                break  # should there be more, the loop will wake us again: cheaper than to ask the kernel each time
        now = time.monotonic()
        if now > self._looked_for_drops_at + LOOK_FOR_DROPS_SECONDS:
            self._look_for_drops(now)
        return read

    def _look_for_drops(self, now: float) -> None:
        self._looked_for_drops_at = now
        drops = dropped(self._socket)
        if drops != self._drops:
            self._drops, self._dropped_at = drops, now

    def _receive(self, message: bytes, ancillary: list[tuple[int, int, bytes]], peer: str) -> None:
        hop_limit, stamp_ns = read_ancillary(ancillary)
        if self._raw_v4:
            stripped = wire.strip_ipv4(message)
            if stripped is None:
                return
            hop_limit, message = stripped
        if len(message) < wire.HEADER_SIZE:
            return
        kind, _code, _sum, identifier, sequence = wire.read_header(message)
        if kind != self._reply:
            self._receive_error(message, peer)
            return
        if identifier != self._identifier:
            return  # another process's
        key = (sequence, peer.partition("%")[0] if self._v6 else peer)
        pending = self._pending.get(key)
        if pending is None or not message.startswith(pending.head, wire.HEADER_SIZE):
            self._count_unmatched(key, message)
            return
        rtt = (stamp_ns - pending.sent_ns) / 1e9
        elapsed = time.monotonic() - pending.sent_monotonic
        # The wall clock was stepped in between; by less than the reply waited for us (a slot), it goes unnoticed.
        if not 0.0 < rtt <= elapsed + 0.001:
            rtt = elapsed
        self._finish(pending, self._answered, EchoReply(pending.sent_monotonic, rtt, hop_limit))

    def _count_unmatched(self, key: tuple[int, str], message: bytes) -> None:
        if self._answered.knows(key, message):
            self._unmatched["duplicate"] += 1
        elif self._given_up.knows(key, message):
            self._unmatched["late"] += 1
            self._answered.add(key, message[wire.HEADER_SIZE :])
        else:
            self._unmatched["forged"] += 1

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
        reply = EchoReply(
            pending.sent_monotonic,
            rtt_seconds=None,
            failure=wire.failure_of_error(self._v6, kind, code),
            detail=wire.describe_error(self._v6, kind, code, reporter),
            reporter=reporter,
        )
        self._finish(pending, self._answered, reply)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _finish(self, pending: _Pending, among: _Remembered, reply: EchoReply) -> None:
        key = pending.key
        del self._pending[key]
        among.add(key, pending.head)
        done, pending.done = pending.done, None
        if done is not None:
            done(reply)

    def _expire(self) -> None:
        """Give up what is overdue, after reading all that the kernel had received by now."""
        self._timer = None
        now = time.monotonic()
        if self._next_deadline() <= now:
            self._drain(EXPIRE_AT_MOST)
            self._take_errors()
            self._look_for_drops(now)
            for queue in list(self._queues.values()):
                while queue and queue[0].deadline <= now:
                    pending = queue.popleft()
                    if pending.done is not None:
                        self._finish(pending, self._given_up, self._give_up(pending))
        deadline = self._next_deadline()
        if deadline < inf and self._timer is None:
            # In steps: of many requests with deadlines close to each other, not each is worth a timer.
            self._arm(max(deadline - now, EXPIRE_STEP_SECONDS))

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()  # it was for a longer timeout
        self._timer = self._loop.call_later(seconds, self._expire)
        self._timer_at = self._timer.when()

    def _next_deadline(self) -> float:
        """Of the requests in flight; those that are over are let go."""
        earliest = inf
        for timeout, queue in list(self._queues.items()):
            while queue and queue[0].done is None:
                queue.popleft()
            if not queue:
                del self._queues[timeout]
            elif queue[0].deadline < earliest:
                earliest = queue[0].deadline
        return earliest

    def _give_up(self, pending: _Pending) -> EchoReply:
        if pending.sent_monotonic <= self._dropped_at:
            detail = "the kernel dropped packets meant for us while we waited: raise net.core.rmem_max"
            return EchoReply(pending.sent_monotonic, None, failure=Failure.BUFFERS_EXHAUSTED, detail=detail)
        return EchoReply(pending.sent_monotonic, None, failure=Failure.TIMEOUT)


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
        self._prefixes: dict[int, bytes] = {}  # by payload size
        self._sockets: dict[bool, EchoSocket] = {}
        self._refused: dict[bool, tuple[float, ProbeFailure]] = {}
        self._told: set[bool] = set()
        self.unmatched: Counter[str] = Counter({"late": 0, "duplicate": 0, "forged": 0})

    def prepare(
        self,
        address: str,
        *,
        payload_size: int = wire.DEFAULT_PAYLOAD,
        hop_limit: int | None = None,
        dont_fragment: bool = False,
        source: str | None = None,
    ) -> SendEcho:
        """See `Pinger.prepare`. Sending raises ProbeFailure PERMISSION_DENIED where the host forbids ICMP to us."""
        prefix = self._prefixes.get(payload_size)
        if prefix is None:
            prefix = self._prefixes[payload_size] = wire.payload_prefix(self._contact, payload_size)
        shape = _Shape(address, prefix, payload_size, hop_limit, dont_fragment, source)
        sockets, v6 = self._sockets, ":" in address

        def send(timeout_seconds: float, done: EchoDone) -> None:
            opened = sockets.get(v6) or self._open(v6)
            opened.send(shape, timeout_seconds, done)

        return send

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
        future: asyncio.Future[EchoReply] = asyncio.get_running_loop().create_future()
        v6 = ":" in address
        opened = self._sockets.get(v6) or self._open(v6)

        def done(reply: EchoReply | None) -> None:
            opened.impatient -= 1
            if reply is None:
                future.cancel()
            elif not future.done():
                future.set_result(reply)

        send = self.prepare(
            address, payload_size=payload_size, hop_limit=hop_limit, dont_fragment=dont_fragment, source=source
        )
        send(timeout_seconds, done)
        opened.impatient += 1
        opened.listen()
        return future

    def collect(self, pause_seconds: float) -> None:
        """To be called at each turn of somebody who sends at short intervals, with how long it will be until the next.

        While that is short, all that has arrived is taken in at these calls, and the loop is not woken for each reply:
        the kernel has stamped them, so there is no hurry, and a wake-up costs several times what a reply does.
        """
        for opened in self._sockets.values():
            opened.collect(pause_seconds)

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
            opened = EchoSocket(v6, self._only, self.unmatched)
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
