"""Modules of the probers `tcp` and `unix`: a connection, TLS if wanted, and a conversation over it."""

from __future__ import annotations

from typing import Final

from prober.blackbox.expand import expand
from prober.blackbox.exposition import Family, Metrics
from prober.blackbox.options import QueryResponse, StreamProbe, TcpProbe, UnixProbe
from prober.blackbox.session import Session, port_number, split_target
from prober.blackbox.tls import export_tls, start_tls
from prober.blackbox.yaml import octets
from prober.failures import Failure, Operation
from prober.net.dial import Connection, dial, dial_unix

LINE_SIZE_MAX: Final = 65_536
LINES_MAX: Final = 100_000


async def probe_tcp(options: TcpProbe, session: Session) -> None:
    """Connect to `host:port`, then talk."""
    host, port_text = split_target(session, session.target)
    address = await session.choose(host, options)
    port = port_number(session, port_text)
    session.permit(host, address, port)
    session.log.debug("Dialing TCP", address=address, port=port, tls=options.tls)
    with await dial(session.attempt, address, port, source=options.source_ip_address or None) as connection:
        if options.tls:
            await start_tls(session, connection, options.tls_config, host)
        session.log.debug("Successfully dialed")
        await _converse(options, session, connection, host)


async def probe_unix(options: UnixProbe, session: Session) -> None:
    """Connect to the unix socket whose path is the target, then talk."""
    path = session.target
    if not path or "\0" in path or len(path.encode("utf-8", "replace")) > 107:
        session.bad_target("the path of a unix socket has 1 to 107 octets")
    session.permit(path, path, 0, "unix")
    session.attempt.address = path
    session.log.debug("Dialing unix", path=path, tls=options.tls)
    with await dial_unix(session.attempt, path) as connection:
        if options.tls:
            await start_tls(session, connection, options.tls_config, "")
        session.log.debug("Successfully dialed")
        await _converse(options, session, connection, "")


async def _converse(options: StreamProbe, session: Session, connection: Connection, server_name: str) -> None:
    metrics = session.metrics
    by_regex = metrics.gauge("probe_failed_due_to_regex", "Indicates if probe failed due to regex")
    by_bytes = metrics.gauge("probe_failed_due_to_bytes", "Indicates if probe failed due to bytes")
    if options.tls:
        export_tls(metrics, connection, with_cipher=False)
    lines = Lines(connection)
    for number, step in enumerate(options.query_response):
        session.log.debug("Processing query response entry", entry_number=number)
        send = octets(step.send)
        if step.expect is not None:
            send = await _expect(step, session, lines, by_regex)
        if step.expect_bytes:
            await _expect_bytes(octets(step.expect_bytes), session, lines, by_bytes)
        if send:
            session.attempt.operation = Operation.SEND
            session.log.debug("Sending line", size=len(send))
            await connection.send(send + b"\n")
        if step.starttls:
            await start_tls(session, connection, options.tls_config, server_name)
            lines = Lines(connection)
            export_tls(metrics, connection, with_cipher=False)


async def _expect(step: QueryResponse, session: Session, lines: Lines, by_regex: Family) -> bytes:
    """Read lines until one matches; what is to be sent then. Raises ProbeFailure."""
    wanted = step.expect
    assert wanted is not None
    session.attempt.operation = Operation.RECEIVE
    last = b""
    for _ in range(LINES_MAX):
        line = await lines.next(session)
        if line is None:
            break
        last = line
        session.log.debug("Read line", line=line)
        match = wanted.find(line)
        if match is not None:
            by_regex.set(0.0)
            session.log.debug("Regexp matched", regexp=wanted, line=line)
            if step.labels is not None:
                _export_labels(step, match, session.metrics)
            return expand(octets(step.send), match)
    by_regex.set(1.0)
    session.log.error("Regexp did not match", regexp=wanted, line=last)
    session.attempt.fail(Failure.UNEXPECTED_REPLY, f"no line matches {wanted}", Operation.VALIDATE)


async def _expect_bytes(wanted: bytes, session: Session, lines: Lines, by_bytes: Family) -> None:
    session.attempt.operation = Operation.RECEIVE
    data = await lines.take(len(wanted))
    session.log.debug("Read bytes", bytes=data.hex(" "))
    if len(data) < len(wanted):
        session.log.error("Read less data than expected", expected=wanted.hex(" "), bytes=data.hex(" "))
        session.attempt.fail(Failure.CLOSED, f"closed after {len(data)} of {len(wanted)} octets")
    by_bytes.set(float(data != wanted))
    if data != wanted:
        session.log.error("Bytes did not match", expected=wanted.hex(" "), bytes=data.hex(" "))
        session.attempt.fail(Failure.UNEXPECTED_REPLY, "other octets than expected", Operation.VALIDATE)


def _export_labels(step: QueryResponse, match: object, metrics: Metrics) -> None:
    labels = step.labels or ()
    info = Family("probe_expect_info", "Explicit content matched", tuple(label.name for label in labels))
    info.set(1.0, *(expand(octets(label.value), match).decode("utf-8", "replace") for label in labels))
    metrics.families[info.name] = info  # of several steps with labels, the last one counts


class Lines:
    """The lines that arrive over a connection, without their ends; at the end of the stream, what is left."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buffer = b""
        self._ended = False

    async def next(self, session: Session) -> bytes | None:
        """The next line, None at the end. Raises ProbeFailure for one longer than LINE_SIZE_MAX."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0 and end < LINE_SIZE_MAX:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                return line.removesuffix(b"\r")
            if len(self._buffer) >= LINE_SIZE_MAX:
                session.attempt.fail(Failure.MALFORMED, f"a line of more than {LINE_SIZE_MAX} octets")
            searched = len(self._buffer)
            if not await self._more():
                line, self._buffer = self._buffer, b""
                return line.removesuffix(b"\r") if line else None

    async def take(self, size: int) -> bytes:
        """The next `size` octets, fewer at the end."""
        while len(self._buffer) < size and await self._more():
            pass
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _more(self) -> bool:
        if not self._ended:
            data = await self._connection.receive()
            self._buffer += data
            self._ended = not data
        return not self._ended
