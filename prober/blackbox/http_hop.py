"""One HTTP request over a connection of its own: through a proxy or not, with TLS or not, HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from prober.blackbox.http_client_options import ProxyOptions
from prober.blackbox.options import IpOptions
from prober.blackbox.proxy import Proxy, proxy_for
from prober.blackbox.session import Session
from prober.blackbox.tls import start_tls
from prober.blackbox.tls_options import TlsConfig
from prober.failures import Failure, Operation
from prober.net.dial import Connection, dial
from prober.net.http2 import Http2Exchange
from prober.net.http_client import Response
from prober.net.names import is_address, join_host_port
from prober.net.url import HttpUrl

Fields = list[tuple[str, str]]

_ANY_FAMILY = IpOptions()
_NOT_IN_HTTP2 = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"})


class Answer(Protocol):
    """A response whose head was read."""

    @property
    def status(self) -> int: ...
    @property
    def version(self) -> float: ...
    @property
    def content_length(self) -> int: ...
    def header(self, name: str) -> str | None: ...
    def headers(self, name: str) -> list[str]: ...
    def pieces(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Hop:
    """What is asked of whom."""

    method: str
    url: HttpUrl
    host_header: str
    address: str
    """Where to connect to; empty if a proxy is to resolve the name."""
    fields: Fields
    body: bytes | None
    tls_config: TlsConfig
    server_name: str


def proxy_of(options: ProxyOptions, url: HttpUrl, session: Session) -> Proxy | None:
    """The proxy for a URL. Raises ProbeFailure for one that cannot be used."""
    try:
        return proxy_for(options, url)
    except ValueError as error:
        session.attempt.fail(Failure.INTERNAL_ERROR, f"proxy: {error}", Operation.PREPARE)


async def open_hop(
    hop: Hop, options: ProxyOptions, session: Session, alpn: tuple[str, ...]
) -> tuple[Connection, Proxy | None]:
    """Connect for a hop, through its proxy if it has one, and make the TLS handshake. The caller closes the connection.

    Raises ProbeFailure.
    """
    url = hop.url
    by_literal = HttpUrl(url.scheme, hop.address, url.port, url.target) if hop.address else url
    proxy = proxy_of(options, by_literal, session)
    connect_before = session.attempt.phases.get("connect")
    session.permit(url.host, hop.address, url.port)
    if proxy is None:
        connection = await dial(session.attempt, hop.address, url.port)
    else:
        session.attempt.operation = Operation.RESOLVE
        address = await session.resolve(proxy.host, _ANY_FAMILY)
        session.permit(proxy.host, address, proxy.port)
        connection = await dial(session.attempt, address, proxy.port)
    try:
        if proxy is not None and url.secure:
            await _tunnel(connection, hop, options, proxy, session)
        if url.secure:
            await start_tls(session, connection, hop.tls_config, hop.server_name, alpn)
    except BaseException:
        connection.close()
        # As the original, which counts a connection once it can be used.
        session.attempt.phases["connect"] = connect_before or 0.0
        raise
    return connection, proxy


async def _tunnel(connection: Connection, hop: Hop, options: ProxyOptions, proxy: Proxy, session: Session) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6)."""
    where = join_host_port(hop.address or hop.url.host, hop.url.port)
    fields = [("Host", where)]
    if proxy.authorization:
        fields.append(("Proxy-Authorization", proxy.authorization))
    fields += [(name, value) for name, values in options.proxy_connect_header.items() for value in values]
    with session.attempt.phase("connect", Operation.CONNECT):
        await connection.send(encode("CONNECT", where, fields, None))
        response = Response(connection, session.attempt, "HEAD")  # nothing of a body is to be waited for
        await response.read_head()
        if response.status != 200:
            session.attempt.fail(Failure.UNEXPECTED_REPLY, f"the proxy answered {response.status} to CONNECT")


async def ask(hop: Hop, connection: Connection, proxy: Proxy | None, session: Session) -> Answer:
    """Send the request and read the head of the answer, timing the phase `processing`. Raises ProbeFailure."""
    attempt = session.attempt
    tls = connection.tls
    started = time.perf_counter()
    answer: Http2Exchange | Response
    if tls is not None and tls.selected_alpn_protocol() == "h2":
        answer = Http2Exchange(connection, attempt)
    else:
        answer = Response(connection, attempt, hop.method)
    try:
        attempt.operation = Operation.SEND
        if isinstance(answer, Http2Exchange):
            await answer.send(_http2_head(hop), hop.body)
        else:
            await connection.send(_http1(hop, proxy))
        attempt.operation = Operation.RECEIVE
        await answer.read_head()
    finally:  # as the original, which counts up to the first octet: also where no head follows
        if answer.begun:
            attempt.phases["processing"] = attempt.phases.get("processing", 0.0) + time.perf_counter() - started
    return answer


def _http1(hop: Hop, proxy: Proxy | None) -> bytes:
    target = hop.url.target
    fields = [("Host", hop.host_header), *hop.fields]
    if proxy is not None and not hop.url.secure:
        where = join_host_port(hop.address, hop.url.port) if hop.address else hop.url.authority
        target = f"http://{where}{hop.url.target}"
        if proxy.authorization:
            fields.append(("Proxy-Authorization", proxy.authorization))
    return encode(hop.method, target, [*fields, ("Connection", "close")], hop.body)


def encode(method: str, target: str, fields: Fields, body: bytes | None) -> bytes:
    """A request of HTTP/1.1 (RFC 9112)."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    if body is not None or method in ("POST", "PUT", "PATCH"):  # RFC 9110 section 8.6
        lines.append(f"Content-Length: {len(body or b'')}")
    return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + (body or b"")


def _http2_head(hop: Hop) -> Fields:
    head = [
        (":method", hop.method),
        (":authority", hop.host_header),
        (":scheme", hop.url.scheme),
        (":path", hop.url.target),
    ]
    head += [(name.lower(), value) for name, value in hop.fields if name.lower() not in _NOT_IN_HTTP2]
    if hop.body is not None:
        head.append(("content-length", str(len(hop.body))))
    return head


def server_name_of(host_header: str) -> str:
    """The name in a Host header, without its port."""
    if is_address(host_header):
        return host_header
    name, colon, port = host_header.rpartition(":")
    return (name if colon and port.isdigit() else host_header).strip("[]")
