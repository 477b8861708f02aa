"""A stand-in for the agent behind the HTTP face, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from prober.api import BadRequest, NotAvailable
from prober.page.site import Document
from prober.textformat import Writer
from prober.web import Attribution, Views, WebFace

EXPOSITION = b"".join(b'probe_success{target="t%d"} 1\n' % n for n in range(20_000))  # 600 kB


@dataclass
class Agent:
    """What the views show. `render_error` and `reload_error` make the exception that is raised, new each time."""

    missing: str | None = None
    attribution: Attribution | None = field(
        default_factory=lambda: Attribution("mailto:noc@example.org", "Some\nprobes.")
    )
    render_error: Callable[[], Exception] | None = None
    reload_error: Callable[[], Exception] | None = None
    on_reload: Callable[[], Awaitable[None]] | None = None
    gate: asyncio.Event | None = None
    """No exposition goes on before it is set."""
    pieces: Iterable[bytes] = tuple(EXPOSITION[start : start + 10_000] for start in range(0, len(EXPOSITION), 10_000))
    reloads: int = 0
    rendering: int = 0
    rendered: int = 0
    noted: list[dict[str, Any]] = field(default_factory=list)

    async def render(self, gzip: bool = False) -> AsyncGenerator[bytes, None]:
        writer = Writer(gzip)
        yield writer.begin()
        async with aclosing(self._text()) as pieces:
            async for piece in pieces:
                yield writer.plain(piece)
        yield writer.end()

    async def _text(self) -> AsyncGenerator[bytes, None]:
        self.rendering += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            for piece in self.pieces:
                yield piece
                if self.render_error is not None:
                    raise self.render_error()
        finally:
            self.rendered += 1

    async def reload(self) -> None:
        self.reloads += 1
        if self.reload_error is not None:
            raise self.reload_error()
        if self.on_reload is not None:
            await self.on_reload()

    def status(self) -> dict[str, Any]:
        return {"vantage": "test"}

    version = 1
    """Of what the status page shows."""

    async def page(self, name: str, argument: str, query: Mapping[str, str]) -> Document:
        return Document(f"<!DOCTYPE html>\n<title>{name}</title>\n".encode(), "text/html")

    async def outages(self, query: Mapping[str, str]) -> dict[str, Any]:
        if "bad" in query:
            raise BadRequest("bad is no parameter")
        if "full" in query:
            raise NotAvailable("the disk is gone")
        return {"outages": [], "asked": dict(query)}

    async def notes(self, query: Mapping[str, str]) -> dict[str, Any]:
        return {"notes": self.noted, "asked": dict(query)}

    async def add_note(self, given: object) -> dict[str, Any]:
        if not isinstance(given, dict) or "text" not in given:
            raise BadRequest("a note needs a text")
        self.noted.append(given)
        return {"id": str(len(self.noted)), **given}

    async def remove_note(self, name: str) -> bool:
        if name == "full":
            raise NotAvailable("the disk is gone")
        return bool(self.noted) and self.noted.pop() is not None

    def views(self) -> Views:
        return Views(
            render=self.render,
            why_not_ready=lambda: self.missing,
            reload=self.reload,
            api=self,
            site=self,
            attribution=lambda: self.attribution,
            utc=lambda: 1_700_000_000.0,  # 2023-11-14
        )


def at(face: WebFace) -> tuple[str, int]:
    """Host and port."""
    host, _, port = face.urls[0].partition("://")[2].rpartition(":")
    return host.strip("[]"), int(port)


async def talk(face: WebFace, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Send bytes, read until the other end closes (5 s at most)."""
    reader, writer = await asyncio.open_connection(*at(face), ssl=tls)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        with suppress(OSError):  # closed it is
            await writer.wait_closed()


async def refused(face: WebFace, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a request is not answered but cut off, in whatever way."""
    try:
        return await talk(face, b"GET /-/healthy HTTP/1.0\r\n\r\n", tls) == b""
    except OSError:
        return True


async def until(predicate: Callable[[], bool]) -> None:
    """Let the loop run until it holds, 5 s at most."""
    for _ in range(1_000):
        if predicate():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within 5 s")


def basic(user: str, password: str) -> str:
    """An Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Hold:
    """The longest that the loop's thread worked in one go, in seconds of CPU: whom else the machine served meanwhile
    is not counted."""

    longest: float = 0.0


@asynccontextmanager
async def watched_loop() -> AsyncIterator[Hold]:
    """Watch the running loop. Without a garbage collection: all that pytest holds takes longer than what is sought."""
    hold, over = Hold(), False

    async def watch() -> None:
        while not over:
            before = time.thread_time()
            await asyncio.sleep(0)
            hold.longest = max(hold.longest, time.thread_time() - before)

    gc.disable()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            try:
                yield hold
            finally:
                over = True
    finally:
        gc.enable()
