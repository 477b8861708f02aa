"""/probe, /config and /logs over HTTP."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from prober.printable import printable

PROBE: Final = "/probe"
TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"


class Answer(Protocol):
    """What an endpoint answers."""

    @property
    def status(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def content_type(self) -> str: ...


class Past(Protocol):
    """A probe that is over, as /logs lists it."""

    @property
    def number(self) -> int: ...
    @property
    def utc(self) -> float: ...
    @property
    def module(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def success(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def reason(self) -> str: ...


class Endpoint(Protocol):
    """blackbox_exporter's interface."""

    @property
    def why_off(self) -> str | None:
        """None if it is served; else one line for the client."""
        ...

    @property
    def history(self) -> Iterable[Past]:
        """The last probes, and the last that failed, the newest first."""
        ...

    def probe(self, query: Mapping[str, str], scrape_timeout: str | None, client: str) -> Awaitable[Answer]:
        """Probe once."""
        ...

    def config(self) -> Answer:
        """The modules."""
        ...

    def log_of(self, query: Mapping[str, str]) -> Answer:
        """The log of one probe."""
        ...


def add_routes(app: web.Application, endpoint: Endpoint) -> None:
    """Serve the endpoint."""
    pages = _Pages(endpoint)
    # The original heeds no method.
    app.router.add_get(PROBE, pages.served(pages.probe))
    app.router.add_post(PROBE, pages.served(pages.probe))
    app.router.add_get("/config", pages.served(pages.config))
    app.router.add_get("/logs", pages.served(pages.logs))


class _Pages:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def served(self, handler: Handler) -> Handler:
        """`handler`, as long as the endpoint is on and no other site's page is asking."""

        async def answer(request: web.Request) -> web.StreamResponse:
            why_off = self._endpoint.why_off
            if why_off is not None:
                return web.Response(status=403, text=f"{request.path} is {why_off}\n")
            # A browser within our network may have been sent here, to probe what only we can reach.
            if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
                return web.Response(status=403, text="another site's page may not do that\n")
            return await handler(request)

        return answer

    async def probe(self, request: web.Request) -> web.Response:
        scrape_timeout = request.headers.get(TIMEOUT_HEADER)
        return _response(await self._endpoint.probe(request.query, scrape_timeout, request.remote or ""))

    async def config(self, _request: web.Request) -> web.Response:
        return _response(self._endpoint.config())

    async def logs(self, request: web.Request) -> web.Response:
        if request.query:
            return _response(self._endpoint.log_of(request.query))
        return web.Response(text=_listing(self._endpoint.history), content_type="text/html")


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    if answer.status in (429, 503):
        headers["Retry-After"] = "1"
    return web.Response(status=answer.status, body=answer.text.encode("utf-8", "replace"), headers=headers)


def _listing(history: Iterable[Past]) -> str:
    rows = "".join(map(_row, history))
    heads = "".join(f"<th>{head}" for head in ("Time", "Module", "Target", "Result", "Seconds", "Reason", "Log"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Recent probes</title>\n'
        f"<h1>Recent probes</h1>\n<table>\n<tr>{heads}\n{rows}</table>\n</html>\n"
    )


def _row(past: Past) -> str:
    when = datetime.fromtimestamp(past.utc, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    result = "Success" if past.success else "<strong>Failure</strong>"
    texts = (when, past.module, past.target)
    cells = "".join(f"<td>{html.escape(printable(text))}" for text in texts)
    return (
        f"<tr>{cells}<td>{result}<td>{past.seconds:.3f}<td>{html.escape(printable(past.reason))}"
        f'<td><a href="logs?id={past.number}">Log</a>\n'
    )
