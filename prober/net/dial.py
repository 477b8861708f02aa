"""TCP connections for probes: connect, TLS, send, receive, each timed and each error translated once, here.

No streams and no transports: a probe does one thing at a time, so a non-blocking socket and the loop's readiness
callbacks are enough. That costs half of what a transport does, tells what our own kernel says from what the network
says, and leaves nothing to shut down in the background.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from prober.alarms import Alarm
from prober.contract import Attempt, Done, FactSpec, ProbeFailure
from prober.failures import Failure, Operation
from prober.net.drive import resumed
from prober.net.errors import failure_of_oserror
from prober.net.icmp_socket import IP_RECVERR, IPV6_RECVERR, read_error_queue
from prober.net.icmp_wire import describe_error, failure_of_error
from prober.net.readiness import ONCE, READ, WRITE, of_loop
from prober.net.tls import TlsOptions, TlsSession, certificate_facts, context_for, failure_of_sslerror, tls_facts

RECEIVE_SIZE: Final = 65_536  # octets asked of the kernel at a time
_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# struct tcp_info of <linux/tcp.h>: tcpi_rtt (microseconds) at octet 68, tcpi_total_retrans at octet 100.
_TCP_INFO_SIZE: Final = 104
_TCP_INFO: Final = struct.Struct("=68xI28xI")

TCP_FACTS: Final = (
    FactSpec(
        "tcp_rtt_seconds",
        "probe_tcp_handshake_rtt_seconds",
        "Round trip of the TCP handshake as the kernel measured it, which a busy agent does not distort",
    ),
    FactSpec(
        "tcp_retransmits",
        "probe_tcp_handshake_retransmits",
        "How often the kernel had to repeat the SYN before the connection stood",
    ),
)


class Connection:
    """A TCP connection of one probe, with TLS or without. Not for two tasks at once.

    Every error is raised as a ProbeFailure at the attempt's current operation. A context manager that closes it.
    """

    __slots__ = ("_asked", "_attempt", "_readiness", "_sock", "_tls", "_waiter")

    def __init__(self, sock: socket.SocketType, attempt: Attempt) -> None:
        self._sock = sock
        self._attempt = attempt
        self._readiness = of_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._tls: TlsSession | None = None
        self._asked = False  # something was just sent: the answer cannot be here yet

    async def send(self, data: bytes) -> None:
        """Hand all of `data` to the kernel. Fails with RESET if the peer does not want it."""
        if self._tls is not None:
            try:
                data = self._tls.encrypt(data)
            except ssl.SSLError as error:
                self._attempt.fail(failure_of_sslerror(error), str(error), Operation.TLS)
        await self._send(data)

    async def receive(self) -> bytes:
        """What has arrived, waiting for at least one octet; nothing at the end of the stream."""
        if self._tls is None:
            return await self._receive()
        try:
            while (data := self._tls.decrypt()) is None:
                await self._exchange(self._tls)
        except ssl.SSLError as error:
            self._attempt.fail(failure_of_sslerror(error), str(error), Operation.TLS)
        return data

    def close(self) -> None:
        """Close at once, without waiting for the peer. Idempotent."""
        if self._tls is not None:
            with suppress(OSError):  # whether the farewell gets there is not our concern
                self._sock.send(self._tls.farewell())
        if (descriptor := self._sock.fileno()) >= 0:
            self._readiness.forget(descriptor)
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def connect(self, address: str, port: int) -> None:
        """Establish the TCP connection."""
        if self.begin(address, port):
            await self._until(WRITE)
        self.established(port)
        # On a connection that stands, an ICMP error is only a hint (RFC 5461).
        _heed_icmp(self._sock, ":" in address, False)

    def begin(self, address: str, port: int) -> bool:
        """Send the SYN. True: the socket becomes writable when it is known what came of it."""
        try:
            number = self._sock.connect_ex((address, port))
        except OSError as bad_zone:  # of a link-local address, `%eth9`
            self._attempt.fail(failure_of_oserror(bad_zone, local=True), str(bad_zone))
        if number and number != errno.EINPROGRESS:  # our own host speaks, not the network
            error = OSError(number, os.strerror(number))
            self._attempt.fail(failure_of_oserror(error, local=True), str(error))
        return number == errno.EINPROGRESS

    def established(self, port: int) -> None:
        """See what came of it. Raises ProbeFailure if there is no connection."""
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._attempt.fail(*_reported(self._sock, number))
        if self._sock.getsockname()[1] == port and self._sock.getsockname() == self._sock.getpeername():
            # A simultaneous open (RFC 9293 section 3.5) with ourselves: the port was free, and it was lent to us.
            self._attempt.fail(Failure.REFUSED, "nothing listens there: the connection reached its own socket")

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS of an established connection, to read certificates and version from; None without TLS."""
        return None if self._tls is None else self._tls.inner

    async def connect_unix(self, path: str) -> None:
        """Connect to a unix socket."""
        try:
            self._sock.connect(path)
        except OSError as error:
            failure = Failure.REFUSED if error.errno in (errno.ENOENT, errno.EAGAIN) else None
            self._attempt.fail(failure or failure_of_oserror(error, local=True), f"{path}: {error}")

    def read_tcp_info(self) -> None:
        """Record the kernel's view of the TCP handshake, see TCP_FACTS."""
        rtt, retransmits = _TCP_INFO.unpack(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE))
        if rtt:  # 0: a repeated SYN, without TCP timestamps, gives no sample (RFC 6298 section 3)
            self._attempt.facts["tcp_rtt_seconds"] = rtt / 1e6
        self._attempt.facts["tcp_retransmits"] = float(retransmits)

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Make the TLS handshake; from here on everything is encrypted."""
        tls = TlsSession(context, server_name)
        try:
            while not tls.shake_hands():
                await self._exchange(tls)
            await self._send(tls.outgoing.read())
        except ssl.SSLError as error:
            with suppress(OSError):
                self._sock.send(tls.outgoing.read())  # the alert, so that the server's log can say why
            failure = failure_of_sslerror(error)
            if failure in (Failure.CERTIFICATE_EXPIRED, Failure.CERTIFICATE_NOT_YET_VALID):
                # OpenSSL looks at the dates last: the certificate is the right one, and its dates are facts.
                self._attempt.facts.update(certificate_facts(tls.inner))
            self._attempt.fail(failure, str(error))
        self._tls = tls

    def read_tls_facts(self) -> None:
        """Record certificates, version and cipher, see TLS_FACTS."""
        if self._tls is not None:
            self._attempt.facts.update(tls_facts(self._tls.inner))

    async def _exchange(self, tls: TlsSession) -> None:
        """Send what TLS has to say and give it what the peer answers."""
        if tls.outgoing.pending:
            await self._send(tls.outgoing.read())
        if data := await self._receive():
            tls.incoming.write(data)
        else:
            tls.incoming.write_eof()

    async def _send(self, data: bytes) -> None:
        self._asked = True
        rest: bytes | memoryview = data
        while rest:
            try:
                sent = self._sock.send(rest)
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]
            except BlockingIOError:
                await self._until(WRITE)
            except OSError as error:
                self._attempt.fail(failure_of_oserror(error, local=False), str(error))

    async def _receive(self) -> bytes:
        if self._asked:
            self._asked = False
            await self._until(READ)
        while True:
            try:
                return self._sock.recv(RECEIVE_SIZE)
            except BlockingIOError:
                await self._until(READ)
            except OSError as error:
                self._attempt.fail(failure_of_oserror(error, local=False), str(error))

    def writable(self) -> bool:
        """Whether there is room to write, or an error, by now."""
        now = select.poll()
        now.register(self._sock.fileno(), select.POLLOUT)
        return bool(now.poll(0))

    def wait(self, events: int, ready: Callable[[], None]) -> None:
        """Have `ready` called once, as soon as there is something to read or room to write."""
        self._readiness.watch(self._sock.fileno(), events | ONCE, ready)

    async def _until(self, events: int) -> None:
        resume = self._attempt.resume
        if resume is not None:
            self.wait(events, resume)
            await resumed()
            return
        self._waiter = self._readiness.loop.create_future()
        self.wait(events, self._wake)
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _open(attempt: Attempt, address: str, source: str | None) -> socket.SocketType:
    v6 = ":" in address
    try:
        sock = socket.SocketType(  # without the layer of socket.socket, which is made for files and contexts
            socket.AF_INET6 if v6 else socket.AF_INET, _STREAM
        )
    except OSError as error:
        attempt.fail(failure_of_oserror(error, local=True), str(error))
    try:
        _heed_icmp(sock, v6, True)
        if source is not None:
            sock.bind((source, 0))
    except OSError as error:
        sock.close()
        attempt.fail(failure_of_oserror(error, local=True), f"source {source}: {error}" if source else str(error))
    return sock


def _heed_icmp(sock: socket.SocketType, v6: bool, on: bool) -> None:
    """Have ICMP errors reported at once and in the error queue. Without it, Linux overlooks one that arrives while the
    SYN is still being sent, and keeps to itself what a router said exactly.
    """
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, on)


def _reported(sock: socket.SocketType, number: int) -> tuple[Failure, str]:
    """What the network said about a connection under way: by an ICMP error if there is one, else by its errno."""
    error = OSError(number, os.strerror(number))
    failure = failure_of_oserror(error, local=False)
    for queued in read_error_queue(sock, 4):
        if queued.from_network:
            v6 = sock.family == socket.AF_INET6
            if failure is not Failure.REFUSED:
                failure = failure_of_error(v6, queued.type, queued.code)
            return failure, describe_error(v6, queued.type, queued.code, queued.reporter)
    return failure, str(error)


class Dialling:
    """A TCP connection that is only to be made, without a task: begun with `begin`, over when `done` is called.

    Times the phase `connect` and records TCP_FACTS, as `dial`.
    """

    __slots__ = ("_address", "_alarm", "_attempt", "_connection", "_done", "_port", "_started")

    def __init__(self, attempt: Attempt, done: Done, address: str, port: int, source: str | None) -> None:
        """Raises ProbeFailure (our own side)."""
        self._attempt = attempt
        self._done = done
        self._address = address
        self._port = port
        self._alarm: Alarm | None = None
        self._connection = Connection(_open(attempt, address, source), attempt)
        self._started = time.perf_counter()

    def begin(self) -> None:
        """Send the SYN. Raises ProbeFailure."""
        self._attempt.operation = Operation.CONNECT
        try:
            self._connection.begin(self._address, self._port)
            self._connection.wait(WRITE, self._known)
        except OSError as error:
            self._connection.close()
            raise ProbeFailure(Operation.CONNECT, failure_of_oserror(error, local=True), str(error)) from None
        except BaseException:
            self._connection.close()
            raise
        self._alarm = of_loop().after(self._attempt.timeout_seconds, self._expire)

    def give_up(self) -> None:
        """Leave nothing behind. Idempotent."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._connection.close()

    def _known(self) -> None:
        failed: Exception | None = None
        try:
            self._connection.established(self._port)
            self._attempt.phases["connect"] = time.perf_counter() - self._started
            self._connection.read_tcp_info()
        except OSError as error:
            failed = ProbeFailure(Operation.CONNECT, failure_of_oserror(error, local=False), str(error))
        except Exception as error:  # the probe's failure, or a defect of ours: the runner tells them apart
            failed = error
        self.give_up()
        self._done(failed)

    def _expire(self) -> None:
        if (
            self._connection.writable()
        ):  # what the kernel learned in time counts, even if the loop stood still meanwhile
            self._known()
            return
        self.give_up()
        self._done(ProbeFailure(Operation.CONNECT, Failure.TIMEOUT))


async def dial_unix(attempt: Attempt, path: str) -> Connection:
    """Connect to a unix socket, timing the phase `connect`. Raises ProbeFailure. The caller closes the connection."""
    try:
        sock = socket.socket(socket.AF_UNIX, _STREAM)
    except OSError as error:
        attempt.fail(failure_of_oserror(error, local=True), str(error))
    connection = Connection(sock, attempt)
    try:
        with attempt.phase("connect", Operation.CONNECT):
            await connection.connect_unix(path)
    except BaseException:
        connection.close()
        raise
    return connection


async def dial(
    attempt: Attempt,
    address: str,
    port: int,
    *,
    source: str | None = None,
    tls: TlsOptions | None = None,
    server_name: str = "",
    alpn: tuple[str, ...] = (),
) -> Connection:
    """Connect to an IP address, from `source` if given, and with `tls` make the handshake for `server_name` (a name or
    an address literal; the options' own name goes first).

    Times the phases `connect` and `tls` and records TCP_FACTS and TLS_FACTS. Raises ProbeFailure. The caller closes the
    connection; when this fails or is cancelled, it has closed it itself.
    """
    context = None
    if tls is not None:
        try:
            context = await context_for(tls, alpn)
        except OSError as error:
            attempt.fail(Failure.INTERNAL_ERROR, f"ca_file {tls.ca_file}: {error}")
        server_name = (tls.server_name or server_name).removesuffix(".").partition("%")[0]
    connection = Connection(_open(attempt, address, source), attempt)
    try:
        with attempt.phase("connect", Operation.CONNECT):
            await connection.connect(address, port)
        connection.read_tcp_info()
        if context is not None:
            with attempt.phase("tls", Operation.TLS):
                await connection.start_tls(context, server_name)
            connection.read_tls_facts()
    except BaseException:
        connection.close()
        raise
    return connection
