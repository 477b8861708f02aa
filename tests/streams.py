"""For tests of the kinds that speak over TCP: servers that follow a script, and one probe as the runner makes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from prober.contract import Attempt, Family, Io, Kind, ProbeFailure
from prober.failures import Failure, Operation
from tests.fakes import NoPinger, probe_as_runner

Script: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

USER_AGENT: Final = "prober-test (+mailto:noc@example.org)"
TIMEOUT: Final = 0.2
"""For probes that are to time out; long enough for everything before the moment that is tested."""


@dataclass(frozen=True)
class Names:
    """The vantage's resolver: it knows these names, or never answers."""

    known: Mapping[str, str]
    silent: bool = False

    async def resolve(self, name: str, family: Family) -> str:
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if name not in self.known:
            raise ProbeFailure(Operation.RESOLVE, Failure.NXDOMAIN, name)
        return self.known[name]

    def server(self) -> tuple[str, int]:
        raise ProbeFailure(Operation.RESOLVE, Failure.RESOLVER_UNREACHABLE, "there is none")


@dataclass(frozen=True)
class Outcome:
    """What one probe came to. `failed`: operation and failure, None if the target answered as expected."""

    attempt: Attempt
    failed: tuple[Operation, Failure] | None = None
    detail: str = ""


async def run(
    kind: Kind, options: Mapping[str, object], *, timeout: float = 5.0, names: Names | None = None, permit: bool = True
) -> Outcome:
    """One probe with the options as a file gives them, under the runner's deadline."""
    parsed = kind.options.model_validate_json(json.dumps(options))
    return await probe_once(kind, parsed, timeout=timeout, names=names, permit=permit)


async def probe_once(
    kind: Kind, options: object, *, timeout: float = 5.0, names: Names | None = None, permit: bool = True
) -> Outcome:
    """One probe under the runner's deadline."""
    attempt = Attempt(timeout)
    io = Io(names or Names({}), NoPinger(), USER_AGENT, permit=lambda _address: permit)
    try:
        async with asyncio.timeout(timeout):
            await probe_as_runner(kind, options, attempt, io)
    except TimeoutError:
        return Outcome(attempt, (attempt.operation, Failure.TIMEOUT))
    except ProbeFailure as failure:
        return Outcome(attempt, (failure.operation, failure.failure), failure.detail)
    return Outcome(attempt)


async def cancel_during(
    operation: Operation, kind: Kind, options: Mapping[str, object], *, names: Names | None = None
) -> None:
    """Cancel a probe once it has hung in `operation` for a few turns of the loop."""
    attempt = Attempt(5.0)
    io = Io(names or Names({}), NoPinger(), USER_AGENT)
    parsed = kind.options.model_validate_json(json.dumps(options))
    task = asyncio.ensure_future(probe_as_runner(kind, parsed, attempt, io))
    async with asyncio.timeout(5.0):
        calm = 0
        while calm < 3:
            await asyncio.sleep(0.005)
            calm = calm + 1 if attempt.operation is operation else 0
            assert not task.done(), task.exception()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


@contextlib.asynccontextmanager
async def serving(script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that treats each connection by the script; yields its `host:port`. Nothing is left of it at the end."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await script(reader, writer)
                await writer.drain()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            handlers.discard(task)

    server = await asyncio.start_server(handle, host, 0, ssl=tls, ssl_handshake_timeout=1.0 if tls else None)
    try:
        yield at(server.sockets[0])
    finally:
        for _ in range(5):  # asyncio forgets a connection that it is accepting when its server closes
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        for _ in range(20):  # connections that were just accepted begin, and closed transports end, in the next turns
            for task in handlers:
                task.cancel()
            await asyncio.sleep(0)


def at(sock: socket.socket) -> str:
    """`host:port` of a socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def saying(*pieces: bytes, pause: float = 0.0, then: Script | None = None) -> Script:
    """A script: wait for the client's first word, then say these pieces one after another, then close or go on."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await say(writer, pieces, pause)
        if then is not None:
            await then(reader, writer)

    return script


async def say(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...], pause: float = 0.0) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A script: say nothing more and keep the connection."""
    await asyncio.get_running_loop().create_future()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A script: take nothing from the connection and keep it."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await hang(reader, writer)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A script: reset the connection."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def dribbling(start: bytes, octet: bytes, pause: float = 0.005) -> Script:
    """A script: say `start`, then one more octet again and again, for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(start)
        while True:
            writer.write(octet)
            await writer.drain()
            await asyncio.sleep(pause)

    return script


def flooding(start: bytes, more: bytes) -> Script:
    """A script: say `start`, then `more` as fast as it is taken, for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()

    return script


def redirecting(location: bytes | None, status: int = 302) -> Script:
    """A script: answer an HTTP request with a redirect."""
    line = b"" if location is None else b"Location: %s\r\n" % location
    return saying(b"HTTP/1.1 %d Moved\r\n%sContent-Length: 0\r\n\r\n" % (status, line))


def recording(heard: list[bytes], answer: bytes) -> Script:
    """A script: note the HTTP request, give the answer."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
        heard.append(head + await reader.readexactly(length))
        writer.write(answer)

    return script


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A `host:port` on loopback that answers no SYN: the queue of a listener that accepts nothing is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield at(listener)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """A `host:port` on loopback where nothing listens, kept from being taken by another."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield at(sock)
