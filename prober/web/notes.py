"""/api/v1/notes: read by whoever may read the rest, written by few.

Who may write: a client that web.yml has let in (a password, or a certificate of a CA that it must have), else only one
on this host, of an agent that listens on loopback alone. Behind a reverse proxy on this host everybody looks local: so
without a login a request must carry nothing that a proxy adds, and be of HTTP/1.1 (proxies, nginx for one, speak
HTTP/1.0 to what is behind them unless told otherwise). A proxy that leaves no trace cannot be told from a client here:
docs/http.md says that an agent behind one needs a login.

A browser is a client on this host too, and may stand on somebody else's page: so a request must be of
`application/json`, which no page sends elsewhere without asking first (and is never allowed), must have no other
origin, and its Host must be this host's own (a name may be made to lead here: DNS rebinding).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from prober.api import BadRequest, NotAvailable

NOTES: Final = "/api/v1/notes"
_PROXY_HEADERS: Final = ("forwarded", "via", "x-")
"""How the names of headers begin that a proxy adds, in lower case."""


class NotesApi(Protocol):
    """Plain values that become JSON."""

    async def notes(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Notes, newest first. Raises BadRequest and NotAvailable."""
        ...

    async def add_note(self, given: object) -> dict[str, Any]:
        """Write a note. Raises BadRequest and NotAvailable."""
        ...

    async def remove_note(self, name: str) -> bool:
        """Remove one; False: there is none. Raises NotAvailable."""
        ...


def add_routes(
    app: web.Application, api: NotesApi, admitted: Callable[[web.Request], bool], loopback: Callable[[], bool]
) -> None:
    """Serve the notes. `admitted`: whether web.yml has let this client in; `loopback`: whether we listen only there."""
    pages = _Pages(api, admitted, loopback)
    app.router.add_get(NOTES, pages.listed)
    app.router.add_post(NOTES, pages.added)
    app.router.add_delete(NOTES + "/{id}", pages.removed)


class _Pages:
    def __init__(self, api: NotesApi, admitted: Callable[[web.Request], bool], loopback: Callable[[], bool]) -> None:
        self._api = api
        self._admitted = admitted
        self._loopback = loopback

    async def listed(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(await self._api.notes(request.query))
        except BadRequest as error:
            return _refused(400, str(error))
        except NotAvailable as error:
            return _refused(503, str(error))

    async def added(self, request: web.Request) -> web.Response:
        if (why := self._why_not(request)) is not None:
            return _refused(403, why)
        if request.content_type != "application/json":
            return _refused(415, "send it as application/json")
        try:
            note = await self._api.add_note(_parsed(await request.read()))
        except BadRequest as error:
            return _refused(400, str(error))
        except NotAvailable as error:
            return _refused(503, str(error))
        return web.json_response(note, status=201)

    async def removed(self, request: web.Request) -> web.Response:
        if (why := self._why_not(request)) is not None:
            return _refused(403, why)
        try:
            there = await self._api.remove_note(request.match_info["id"])
        except NotAvailable as error:
            return _refused(503, str(error))
        return web.Response(status=204) if there else _refused(404, "there is no note with this id")

    def _why_not(self, request: web.Request) -> str | None:
        """Why this request may not write; None: it may."""
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "another site's page may not do that"
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return "another site's page may not do that"
        if self._admitted(request):
            return None
        if not self._loopback():
            return (
                "an agent that listens on more than loopback wants a login (web.yml); or use `prober note` on its host"
            )
        if not is_loopback(request.remote) or _through_proxy(request):
            return "only from the agent's own host, or with a login (web.yml); or use `prober note` there"
        return None if names_this_host(request.host) else "ask for this host by its address or as localhost"


def _through_proxy(request: web.Request) -> bool:
    """Whether this request looks as if it came through a proxy."""
    return request.version < HttpVersion11 or any(name.lower().startswith(_PROXY_HEADERS) for name in request.headers)


def is_loopback(address: str | None) -> bool:
    """Whether this is an address of this host alone."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def names_this_host(host: str) -> bool:
    """Whether a Host header names this host in a way that no name server has a say in."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)


def _parsed(body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    return parsed


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
