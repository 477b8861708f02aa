"""One DNS exchange: a question goes out over UDP, TCP or TLS, and its answer comes back.

Over UDP every question has a socket, and with it a random port, of its own (RFC 5452, section 9.2), connected so that
the kernel hands over nobody else's packets and reports ICMP errors. What is no answer to the question is counted and
does not end the wait: a forged packet must not win against the true one that comes later.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

from prober.alarms import Alarm
from prober.contract import Attempt, ProbeFailure
from prober.failures import Failure, Operation
from prober.net.dial import Connection
from prober.net.dns_message import Malformed, Question, Reply, read_reply
from prober.net.errors import failure_of_oserror
from prober.net.icmp_socket import IP_RECVERR, IPV6_RECVERR, SO_TIMESTAMPNS, read_ancillary, read_error_queue
from prober.net.icmp_wire import describe_error, failure_of_error
from prober.net.readiness import READ, of_loop

_READ_SIZE: Final = 4096  # octets of one UDP answer; more than UDP_PAYLOAD_SIZE for servers that do not heed it
_ANCILLARY_SIZE: Final = 64
_READ_AT_MOST: Final = 64  # messages in one go of the loop's callback, should somebody flood us
TOGETHER_SECONDS: Final = 0.02
_STREAM_MESSAGES_AT_MOST: Final = 16
_PORT_UNREACHABLE: Final = {False: (3, 3), True: (1, 4)}  # ICMP type and code; RFC 792, RFC 4443


class UdpExchange:
    """One question over UDP. A context manager, because it owns a socket.

    `ignored` counts messages that were no answer to the question (wrong id, wrong question, not DNS), `duplicates`
    answers that were the same as the first.
    """

    __slots__ = (
        "_alarm",
        "_defect",
        "_expired",
        "_failure",
        "_ident",
        "_known",
        "_malformed",
        "_question",
        "_readiness",
        "_reply",
        "_reply_wire",
        "_seconds",
        "_sent",
        "_sent_ns",
        "_silence_ends",
        "_sock",
        "duplicates",
        "ignored",
        "request_seconds",
        "second",
    )

    def __init__(self, question: Question, address: str, port: int, source: str | None = None) -> None:
        """Open and connect the socket. Raises ProbeFailure (our own side)."""
        self._readiness = of_loop()
        self._question = question
        self._ident = os.urandom(2)
        self._known: Callable[[], None] | None = None
        self._alarm: Alarm | None = None
        self._reply: Reply | None = None
        self._reply_wire = b""
        self.second: Reply | None = None
        """What contradicts the first answer."""
        self._failure: ProbeFailure | None = None
        self._defect: Exception | None = None
        self._malformed: str | None = None
        self._expired = False
        self._silence_ends = True
        self._seconds = 0.0
        self._sent = 0.0
        self._sent_ns = 0
        self.request_seconds = 0.0
        self.ignored = 0
        self.duplicates = 0
        self._sock = _open(address, port, source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._known = None
        if self._alarm is not None:
            self._alarm.cancel()
        if (descriptor := self._sock.fileno()) >= 0:
            self._readiness.forget(descriptor)
            self._sock.close()

    def send(self) -> None:
        """Send the question. Raises ProbeFailure (our own side)."""
        wire = self._question.wire(self._ident)
        self._sent = time.perf_counter()
        self._sent_ns = time.time_ns()
        try:
            self._sock.send(wire)
        except OSError as error:
            raise _failure(Operation.SEND, error, local=True) from error
        self._readiness.watch(self._sock.fileno(), READ, self._readable)

    def expect(self, seconds: float, known: Callable[[], None], *, silence_ends: bool = True) -> None:
        """Have `known` called when there is an answer or an error, or after `seconds`; see `first`, then.

        `silence_ends`: False leaves it to the caller to end a silence; only garbage is judged in time.
        """
        self._silence_ends = silence_ends
        self._wait(seconds, known, 0.0)

    def first(self) -> Reply:
        """The first answer; `request_seconds` tells how long it took.

        Raises ProbeFailure: TIMEOUT, MALFORMED if only garbage came, or what an ICMP error said; and what is a defect.
        """
        if self._defect is not None:
            raise self._defect
        if self._reply is not None:
            return self._reply
        if self._failure is not None:
            raise self._failure
        if self._malformed is not None:
            raise ProbeFailure(Operation.RECEIVE, Failure.MALFORMED, self._malformed)
        raise ProbeFailure(Operation.RECEIVE, Failure.TIMEOUT, f"no answer within {self._seconds:.3g} s")

    def listen(self, seconds: float, known: Callable[[], None]) -> None:
        """Have `known` called when there is a `second` answer that says something else, or after `seconds`."""
        self._silence_ends = True
        # Hardly ever does one come: those who listen stop together.
        self._wait(seconds, known, TOGETHER_SECONDS)

    async def reply(self, seconds: float, *, silence_ends: bool = True) -> Reply:
        """`expect`, and wait for what is `first`."""
        waiter = self._readiness.loop.create_future()
        self.expect(seconds, partial(_set, waiter), silence_ends=silence_ends)
        await waiter
        return self.first()

    def _wait(self, seconds: float, known: Callable[[], None], slack: float) -> None:
        self._expired = False
        self._seconds = seconds
        self._known = known
        self._alarm = self._readiness.after(seconds, self._expire, slack=slack)

    def _wake(self) -> None:
        known, self._known = self._known, None
        if known is not None:
            if self._alarm is not None:
                self._alarm.cancel()
            known()

    def _expire(self) -> None:
        # What the kernel received in time counts, even if the loop stood still meanwhile.
        waited = self._known
        self._readable()
        if self._known is waited:
            self._expired = True
            if self._silence_ends or self._malformed is not None:
                self._wake()

    def _readable(self) -> None:
        for _ in range(_READ_AT_MOST):
            try:
                wire, ancillary, _flags, _peer = self._sock.recvmsg(_READ_SIZE, _ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._refused(error)
                return
            try:
                wanted = self._take(wire, ancillary)
            except Exception as error:  # a defect of ours is no silence of the server's
                self._defect, wanted = error, True
            if wanted:
                self._wake()
                return

    def _take(self, wire: bytes, ancillary: list[tuple[int, int, bytes]]) -> bool:
        """Judge one message. True if it is what is being waited for."""
        try:
            reply = read_reply(self._question, self._ident, wire)
        except Malformed as error:
            self._malformed = str(error)
            reply = None
        if reply is None:
            self.ignored += 1
            return self._expired and self._malformed is not None
        if self._reply is None:
            self._reply, self._reply_wire = reply, wire
            self.request_seconds = self._seconds_until(read_ancillary(ancillary)[1])
            return True
        # A truncated answer holds only part of the records, so that a difference would tell nothing.
        if wire == self._reply_wire or reply.truncated or self._reply.truncated or not reply.differs_from(self._reply):
            self.duplicates += 1
            return False
        self.second = reply
        return True

    def _seconds_until(self, stamp_ns: int) -> float:
        """From sending to the kernel's stamp of the arrival, which a busy event loop does not distort.

        The stamps are of the wall clock: if that was stepped meanwhile, the time until now is the best there is. (The
        first socket of a host that asks for stamps may get them at reading, because the kernel switches stamping on in
        the background; the echo sockets keep it on.)
        """
        elapsed = time.perf_counter() - self._sent
        seconds = (stamp_ns - self._sent_ns) / 1e9
        return seconds if 0.0 < seconds <= elapsed else elapsed

    def _refused(self, error: OSError) -> None:
        """An ICMP error about our question: the particulars are in the error queue (ip(7), IP_RECVERR)."""
        v6 = self._sock.family == socket.AF_INET6
        failure: ProbeFailure | None = None
        for queued in read_error_queue(self._sock, _READ_AT_MOST):
            if queued.from_network and failure is None:
                refused = (queued.type, queued.code) == _PORT_UNREACHABLE[v6]
                reason = Failure.REFUSED if refused else failure_of_error(v6, queued.type, queued.code)
                detail = describe_error(v6, queued.type, queued.code, queued.reporter)
                failure = ProbeFailure(Operation.RECEIVE, reason, detail)
        if self._reply is None and self._failure is None:
            self._failure = failure or _failure(Operation.RECEIVE, error, local=False)
            self._wake()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _open(address: str, port: int, source: str | None) -> socket.SocketType:
    """A non-blocking UDP socket, connected; the kernel chooses the port at random."""
    v6 = ":" in address
    operation = Operation.PREPARE
    sock: socket.SocketType | None = None
    try:
        sock = socket.SocketType(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        # Without it the kernel keeps "host unreachable" to itself.
        sock.setsockopt(*((socket.IPPROTO_IPV6, IPV6_RECVERR) if v6 else (socket.IPPROTO_IP, IP_RECVERR)), 1)
        if source is not None:
            sock.bind((source, 0))
        operation = Operation.CONNECT
        sock.connect((address, port))
    except OSError as error:
        if sock is not None:
            sock.close()
        raise _failure(operation, error, local=True) from error
    return sock


def _failure(operation: Operation, error: OSError, *, local: bool) -> ProbeFailure:
    return ProbeFailure(operation, failure_of_oserror(error, local=local), error.strerror or str(error))


async def ask_over_stream(connection: Connection, attempt: Attempt, question: Question) -> Reply:
    """Ask over an established TCP or TLS connection (RFC 7766, RFC 7858). Sets `attempt.operation`, not its phases.

    Raises ProbeFailure. Nobody forges packets into a stream, so that garbage fails at once; an answer to something else
    is passed over.
    """
    ident = os.urandom(2)
    wire = question.wire(ident)
    attempt.operation = Operation.SEND
    await connection.send(len(wire).to_bytes(2, "big") + wire)
    attempt.operation = Operation.RECEIVE
    buffer = b""
    for _ in range(_STREAM_MESSAGES_AT_MOST):
        buffer = await _at_least(2, buffer, connection, attempt)
        end = 2 + int.from_bytes(buffer[:2], "big")
        buffer = await _at_least(end, buffer, connection, attempt)
        try:
            reply = read_reply(question, ident, buffer[2:end])
        except Malformed as error:
            attempt.fail(Failure.MALFORMED, str(error))
        buffer = buffer[end:]
        if reply is not None:
            if reply.truncated:
                attempt.fail(Failure.TRUNCATED, "truncated even over TCP")
            return reply
    attempt.fail(Failure.MALFORMED, f"{_STREAM_MESSAGES_AT_MOST} messages, none an answer to the question")


async def _at_least(size: int, buffer: bytes, connection: Connection, attempt: Attempt) -> bytes:
    while len(buffer) < size:
        data = await connection.receive()
        if not data:
            attempt.fail(Failure.CLOSED, f"the connection was closed after {len(buffer)} octets of the answer")
        buffer += data
    return buffer
