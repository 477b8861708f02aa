"""The status page over HTTP: pages, feeds, what they are drawn with, the stream that says when to look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from prober.api import BadRequest, NotAvailable, NotFound
from prober.web.scrape import accepts_gzip

EVENTS: Final = "/events"
STREAMS_MAX: Final = 32
"""Pages that are told of changes at one time; one more is answered 503 and asks now and then by itself."""
LOOK_SECONDS: Final = 0.5
SILENCE_SECONDS: Final = 30.0
"""A stream says something this often at least: a page that hears nothing is told that its connection is gone."""
STREAM_SECONDS: Final = 900.0
"""Then it ends, and the page connects again: with what web.yml says by then."""
STATIC_MAX_AGE: Final = 300

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_STATIC: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon-up.svg": "image/svg+xml",
    "icon-down.svg": "image/svg+xml",
    "icon-partial.svg": "image/svg+xml",
    "icon-unknown.svg": "image/svg+xml",
}


class Document(Protocol):
    """What is sent."""

    @property
    def body(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def filename(self) -> str: ...
    @property
    def packed(self) -> bytes: ...  # gzip


class Site(Protocol):
    """The pages."""

    @property
    def version(self) -> int:
        """Another one whenever something has changed."""
        ...

    async def page(self, name: str, argument: str, query: Mapping[str, str]) -> Document:
        """A page. Raises NotFound, BadRequest and NotAvailable."""
        ...


def add_pages(app: web.Application, site: Site) -> None:
    """Serve the pages."""
    pages = _Pages(site)
    for path, name in (
        ("/", "index"),
        ("/outages", "outages"),
        ("/outages.atom", "atom"),
        ("/outages.ics", "ics"),
        ("/outages.csv", "csv"),
    ):
        app.router.add_get(path, pages.of(name))
    app.router.add_get("/entities/{argument:(?s:.+)}", pages.of("entity"))
    app.router.add_get("/outages/{argument:(?s:.+)}", pages.of("outage"))
    app.router.add_get("/badge/{argument:(?s:.+)}.svg", pages.of("badge"))
    app.router.add_get("/static/{file}", pages.static)
    app.router.add_get(EVENTS, pages.events)
    app.on_shutdown.append(pages.close)


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._streams = 0
        self._closing = asyncio.Event()
        self._static = {name: files("prober.page").joinpath("static", name).read_bytes() for name in _STATIC}

    def of(self, name: str) -> Handler:
        """The handler of a page."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                found = await self._site.page(name, request.match_info.get("argument", ""), request.query)
            except NotFound as error:
                return _line(str(error), 404)
            except BadRequest as error:
                return _line(str(error), 400)
            except NotAvailable as error:
                return _line(str(error), 503, {"Retry-After": "1"})
            headers = {"Content-Security-Policy": PAGE_POLICY} if found.content_type == "text/html" else {}
            if found.filename:
                headers["Content-Disposition"] = f'attachment; filename="{found.filename}"'
            body = found.body
            headers["Vary"] = "Accept-Encoding"
            if accepts_gzip(request.headers.get("Accept-Encoding", "")):
                headers["Content-Encoding"] = "gzip"
                body = found.packed
            charset = None if found.content_type.startswith("image/") else "utf-8"
            return web.Response(
                body=body,
                status=found.status,
                content_type=found.content_type,
                charset=charset,
                headers=headers,
            )

        return answer

    async def static(self, request: web.Request) -> web.Response:
        """What the pages are drawn with."""
        name = request.match_info["file"]
        body = self._static.get(name)
        if body is None:
            return _line("no such file", 404)
        return web.Response(
            body=body,
            content_type=_STATIC[name],
            charset="utf-8",
            headers={"Cache-Control": f"private, max-age={STATIC_MAX_AGE}"},
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The number of what is shown, whenever it is another one, and every SILENCE_SECONDS."""
        if self._streams >= STREAMS_MAX:
            return _line("too many pages are watching at once", 503, {"Retry-After": "15"})
        self._streams += 1
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            await self._tell(response)
        finally:
            self._streams -= 1
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        end = time.monotonic() + STREAM_SECONDS
        told, told_at = None, 0.0
        await response.write(b"retry: 2000\n\n")
        while not self._closing.is_set() and (now := time.monotonic()) < end:
            version = self._site.version
            if version != told or now - told_at > SILENCE_SECONDS:
                told, told_at = version, now
                await response.write(f"data: {version}\n\n".encode())
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()
            except TimeoutError:
                continue

    async def close(self, _app: web.Application) -> None:
        """End the streams, so that the agent need not wait for them."""
        self._closing.set()


def _line(text: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=text + "\n", status=status, headers=headers)
