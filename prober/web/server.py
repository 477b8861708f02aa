"""The aiohttp application: which path answers what, and who may ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from prober.api import BadRequest, NotAvailable
from prober.config.problems import ConfigError
from prober.web import scrape
from prober.web.attribution import Attribution, probing_text
from prober.web.auth import Users, Verdict
from prober.web.blackbox import Endpoint, add_routes
from prober.web.notes import NotesApi
from prober.web.notes import add_routes as add_notes
from prober.web.page import Site, add_pages

SCRAPES_MAX: Final = 8
"""Expositions under way at one time; one more is answered 503."""
SEND_SECONDS: Final = 60.0
"""How long a client may take to receive an exposition."""
BODY_BYTES_MAX: Final = 16 * 1024

PROBING_TXT: Final = "/.well-known/probing.txt"

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": ("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
}


class Api(NotesApi, Protocol):
    """Plain values that become JSON."""

    def status(self) -> dict[str, Any]:
        """What is known now."""
        ...

    async def outages(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of outages. Raises BadRequest and NotAvailable."""
        ...


@dataclass(frozen=True, slots=True)
class Views:
    """What the HTTP face shows and does. It knows nothing else of the agent."""

    render: Callable[[bool], AsyncGenerator[bytes, None]]
    """The exposition, in pieces; as gzip or not."""
    why_not_ready: Callable[[], str | None]
    """None once the configuration is loaded and the first probe ran; until then what is missing."""
    reload: Callable[[], Awaitable[None]]
    """Read the configuration again. Raises ConfigError and keeps the old one."""
    api: Api
    """What /api/v1 answers."""
    site: Site
    """The status page, and everything below it."""
    attribution: Callable[[], Attribution | None] = lambda: None
    """None when no contact is configured."""
    utc: Callable[[], float] = time.time
    endpoint: Endpoint | None = None
    """blackbox_exporter's interface: /probe, /config, /logs."""


@dataclass(frozen=True, slots=True)
class PageOnly:
    """The status page of a ledger, where no agent runs."""

    site: Site


@dataclass(slots=True)
class Access:
    """Who may ask, and what answers carry. Changes when web.yml is read again."""

    users: Users
    headers: Mapping[str, str]
    loopback: bool = False  # whether we listen there and nowhere else


def make_app(views: Views | PageOnly, access: Access, *around: Middleware) -> web.Application:
    """The application, with `around` as its outermost middlewares. It holds nothing that has to be closed."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Whoever sees our probes has no password, and RFC 9511 (section 2.2) is for them.
        if access.users.required and request.path != PROBING_TXT:
            verdict = await access.users.check(request.headers.get("Authorization"))
            if verdict is Verdict.BUSY:
                return _text("too many logins at once", 503, {"Retry-After": "1"})
            if verdict is Verdict.BAD:
                return _text("unauthorized", 401, {"WWW-Authenticate": 'Basic realm="prober", charset="UTF-8"'})
        return await handler(request)

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = "prober"  # aiohttp has put its own there
        for name, value in access.headers.items():
            if value:
                response.headers[name] = value
            else:
                response.headers.pop(name, None)

    app = web.Application(middlewares=[*around, guard], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(add_headers)
    add_pages(app, views.site)
    if isinstance(views, Views):
        _add_agent(app, views, access)
    return app


def _add_agent(app: web.Application, views: Views, access: Access) -> None:
    pages = _Pages(views)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/api/v1/status", pages.status)
    app.router.add_get("/api/v1/outages", pages.outages)
    add_notes(
        app,
        views.api,
        admitted=lambda request: access.users.required or _has_certificate(request),
        loopback=lambda: access.loopback,
    )
    app.router.add_get("/-/healthy", pages.healthy)
    app.router.add_get("/-/ready", pages.ready)
    app.router.add_post("/-/reload", pages.reload)
    app.router.add_put("/-/reload", pages.reload)
    app.router.add_get(PROBING_TXT, pages.probing)
    if views.endpoint is not None:
        add_routes(app, views.endpoint)


def _has_certificate(request: web.Request) -> bool:
    """Whether the client has shown a certificate; one that was not verified does not get so far."""
    transport = request.transport
    return transport is not None and bool(transport.get_extra_info("peercert"))


def _text(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=text + "\n", status=status, headers=headers)


class _Pages:
    """The handlers."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._scrapes = 0
        self._reloading = asyncio.Lock()

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        if self._scrapes >= SCRAPES_MAX:
            return _text("too many scrapes at once", 503, {"Retry-After": "1"})
        self._scrapes += 1
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await scrape.send(request, self._views.render)
        except TimeoutError:
            # Closing would wait for the client to read what is written already.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._scrapes -= 1

    async def status(self, _request: web.Request) -> web.Response:
        return web.json_response(self._views.api.status())

    async def outages(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(await self._views.api.outages(request.query))
        except BadRequest as error:
            return web.json_response({"error": str(error)}, status=400)
        except NotAvailable as error:
            return web.json_response({"error": str(error)}, status=503)

    async def healthy(self, _request: web.Request) -> web.Response:
        return _text("healthy")

    async def ready(self, _request: web.Request) -> web.Response:
        missing = self._views.why_not_ready()
        return _text("ready") if missing is None else _text(f"not ready: {missing}", 503)

    async def reload(self, request: web.Request) -> web.Response:
        # A browser that stands on somebody else's page may POST here too. Prometheus and curl send no such header.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _text("another site's page may not do that", 403)
        async with self._reloading:
            try:
                await self._views.reload()
            except ConfigError as error:
                return _text(f"not reloaded, the old configuration stays:\n{error}", 500)
        return _text("reloaded")

    async def probing(self, _request: web.Request) -> web.Response:
        attribution = self._views.attribution()
        if attribution is None:
            return _text("no contact is configured", 404)
        return web.Response(
            text=probing_text(attribution, self._views.utc()), headers={"Cache-Control": "max-age=3600"}
        )
