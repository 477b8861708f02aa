"""The HTTP face: listens, bounds what clients may cost, and changes certificates without missing a connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from prober.logs import OncePerCause, trace
from prober.net.names import client_key
from prober.web.auth import Users
from prober.web.blackbox import PROBE
from prober.web.notes import is_loopback
from prober.web.page import EVENTS
from prober.web.server import Access, PageOnly, Views, make_app
from prober.web.webconfig import WebConfig

CONNECTIONS_MAX: Final = 100
"""Descriptors are for probes: one more connection is closed at once. Beside these: who waits for a probe."""
OTHERS_SHARE: Final = 4
"""One client may not have the last quarter of these: whoever floods us must not keep the scrapes of others out."""
REQUEST_SECONDS: Final = 10.0
"""From connecting to a complete request head, the TLS handshake included."""
KEEP_ALIVE_SECONDS: Final = 120.0
"""Longer than a scrape interval, so that a scraper keeps its connection."""
UNREAD_SECONDS: Final = 60
"""How long written data may stay unread before the kernel gives the connection up (RFC 5482)."""
LINGER_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 2.0
LINE_BYTES_MAX: Final = 4096
"""The request line, and each header."""
HEADERS_MAX: Final = 64
BACKLOG: Final = 64

log = logging.getLogger(__name__)


class CannotListen(Exception):
    """No socket could be had; the text is one line for the user."""


class WebFace:
    """Serves the views over HTTP, or HTTPS, from `start` to `close`."""

    def __init__(self, views: Views | PageOnly, config: WebConfig | None = None) -> None:
        self._config = config or WebConfig()
        self._access = Access(Users(self._config.users), self._config.headers)
        self._runner = web.AppRunner(
            make_app(views, self._access, _minded), access_log=None, shutdown_timeout=CLOSE_SECONDS
        )
        self._once = OncePerCause(log)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._clients: Counter[Hashable] = Counter()
        self.connections_max = CONNECTIONS_MAX
        """How many clients may be connected; can be changed at any time."""

    async def start(self, host: str, port: int) -> None:
        """Listen on `host` (an address, a name, or "" for all addresses); port 0: any free one. Raises CannotListen."""
        await self._runner.setup()
        try:
            self._sockets = await _listening(host, port)
        except OSError as error:
            await self._runner.cleanup()
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            reason = error.strerror or str(error)
            raise CannotListen(f"cannot listen on {where}: {reason}; free the port or choose another") from None
        self._access.loopback = all(is_loopback(sock.getsockname()[0]) for sock in self._sockets)
        await self._serve()

    @property
    def urls(self) -> list[str]:
        """Where it can be reached, one URL per socket."""
        scheme = "http" if self._config.tls is None else "https"
        names = (sock.getsockname() for sock in self._sockets)
        return [f"{scheme}://[{n[0]}]:{n[1]}" if ":" in n[0] else f"{scheme}://{n[0]}:{n[1]}" for n in names]

    async def replace(self, config: WebConfig) -> None:
        """Go on with another web.yml. Who is connected finishes the request under way and must connect again."""
        same_tls = config.tls is None and self._config.tls is None
        self._config = config
        self._access.users.replace(config.users)
        self._access.headers = config.headers
        if same_tls or not self._sockets:
            return
        # The sockets stay open: who connects meanwhile waits in their queues.
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.retire()
        await self._serve()

    async def close(self) -> None:
        """Stop listening, let requests under way finish for CLOSE_SECONDS, close every connection. Idempotent."""
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        self._servers, self._sockets = [], []
        await self._runner.cleanup()
        for connection in list(self._connections):
            connection.force_close()
            self.gone(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        tls = self._config.tls
        self._servers = [
            await loop.create_server(
                self._accept,
                sock=sock.dup(),
                ssl=tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=REQUEST_SECONDS if tls else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if tls else None,
            )
            for sock in self._sockets
        ]

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        # A batch is accepted before it is known whose connections they are: `admits` decides. Handshakes are bounded.
        batch = BACKLOG if self._config.tls is None else 0
        if server is None or len(self._connections) >= self.connections_max + batch:
            return _Refused()
        connection = _Connection(self, server)
        self._connections.add(connection)
        return connection

    def admits(self, connection: _Connection, client: Hashable) -> bool:
        """Count a connection as this client's; False: it has its share. Over TLS that is known after the handshake."""
        if self._clients.total() >= self.connections_max:
            return False
        if self._clients[client] >= self.connections_max - CONNECTIONS_MAX // OTHERS_SHARE:
            return False
        self._clients[client] += 1
        connection.client = client
        return True

    def gone(self, connection: _Connection) -> None:
        """A connection ended, or never came to be."""
        connection.patience.cancel()
        self._connections.discard(connection)
        client, connection.client = connection.client, None
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def defect(self, error: BaseException) -> None:
        """A handler raised."""
        place = trace(error.__traceback__)
        self._once.error(f"{type(error).__name__}:{place}", "a defect of the HTTP face", error=error)


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Connection(web.RequestHandler):
    """One client. aiohttp closes it when it is idle; this class closes it when it never asks for anything."""

    def __init__(self, face: WebFace, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # what turns it off
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )
        self._face = face
        self._asked = self._busy = self._retired = False
        self._abandonable: asyncio.Task[Any] | None = None
        self.client: Hashable = None
        self.patience = loop.call_later(REQUEST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self.force_close()
        self._face.gone(self)

    @contextmanager
    def request(self, abandonable: bool) -> Iterator[None]:
        """While a request of this connection is handled; `abandonable`: it is cancelled when the client goes away."""
        self.patience.cancel()
        self._asked = self._busy = True
        self._abandonable = asyncio.current_task() if abandonable else None
        try:
            yield
        finally:
            self._busy = False
            self._abandonable = None
            if self._retired:
                self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        if peer is not None and not self._face.admits(self, client_key(peer[0])):
            self._face.gone(self)
            transport.abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._abandonable is not None:
            self._abandonable.cancel()
        self._face.gone(self)

    def retire(self) -> None:
        """Answer the request that is under way or still to come from a new client, and close; close at once if idle."""
        if self._asked and not self._busy:
            self.force_close()
        else:
            self._retired = True

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """aiohttp would log a traceback for every malformed request."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError) or error is None:
            log.debug("a request could not be answered", extra={"peer": str(self.peername), "why": str(error)})
        else:
            self._face.defect(error)


@web.middleware
async def _minded(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, _Connection)
    with connection.request(request.path in (PROBE, EVENTS)):  # a reload goes on, whoever asked for it
        return await handler(request)


async def _listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host`. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refused: list[OSError] = []
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        at = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])  # one port for all
        try:
            sockets.append(_listen(family, at))
        except OSError as error:
            refused.append(error)
            if host:
                break
    # A host without IPv6 has no ::, and all addresses are then those of IPv4.
    if refused and (host or not sockets):
        _close(sockets)
        raise refused[0]
    return sockets


def _listen(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)  # accepted ones inherit it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        with suppress(OSError):
            sock.close()
