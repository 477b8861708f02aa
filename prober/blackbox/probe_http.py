"""Modules of the prober `http`: a request, its redirects, and what is wanted of the last answer."""

from __future__ import annotations

import base64
import re
import time
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from prober.blackbox.cookies import Cookies
from prober.blackbox.credentials import Fields, authorization, injected, read_file
from prober.blackbox.http_answer import AnswerMetrics, judge
from prober.blackbox.http_hop import Answer, Hop, ask, open_hop, proxy_of, server_name_of
from prober.blackbox.options import HttpProbe, IpOptions
from prober.blackbox.session import Session
from prober.blackbox.tls_options import TlsConfig
from prober.blackbox.yaml import octets
from prober.contract import ProbeFailure
from prober.failures import Failure, Operation
from prober.net.dial import Connection
from prober.net.names import join_host_port
from prober.net.url import HttpUrl, parse_url

REDIRECTS_MAX: Final = 10

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OF_THE_BODY: Final = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_NOT_ACROSS_HOSTS: Final = frozenset(
    {"authorization", "www-authenticate", "cookie", "cookie2", "proxy-authorization", "proxy-authenticate"}
)


async def probe_http(options: HttpProbe, session: Session) -> None:
    """Fetch the target, a URL or what becomes one behind `http://`."""
    prober = _HttpProber(options, session)
    try:
        await prober.run()
    finally:
        prober.metrics.export_phases(session.attempt)


class _HttpProber:
    def __init__(self, options: HttpProbe, session: Session) -> None:
        self.options = options
        self.session = session
        self.metrics = AnswerMetrics(options, session.metrics)
        self.cookies = Cookies()
        self.first: HttpUrl
        self.url: HttpUrl
        self.address = ""
        self.host_header = ""
        self.server_name = ""
        self.tls_config: TlsConfig
        self.fields: Fields = []
        self.secrets: Fields = []
        self.method = options.method or "GET"
        self.body: bytes | None = octets(options.body) or None
        self.left_host = False
        self.referer = ""
        self.basic = ""
        self.by_name = False  # an absolute redirect was followed: from there on the URL's own name is asked for
        self.alpn = ("h2", "http/1.1") if options.enable_http2 else ("http/1.1",)

    async def run(self) -> None:
        """Raises ProbeFailure."""
        await self._begin()
        redirects = 0
        while True:
            hop = self._hop()
            session = self.session
            session.log.debug("Making HTTP request", url=hop.url.origin + hop.url.target, host=hop.host_header)
            connection, proxy = await open_hop(hop, self.options, session, self.alpn)
            with connection:
                answer = await ask(hop, connection, proxy, session)
                session.log.debug("Received HTTP response", status_code=answer.status)
                location = self._location(answer)
                if location is not None:
                    following = self._join(location)
                    redirects += 1
                    self.metrics.redirects.set(float(redirects))
                    session.log.info("Received redirect", location=location)
                    if self.options.follows and redirects <= REDIRECTS_MAX:
                        self.cookies.take(self.url, answer.headers("Set-Cookie"))
                        await self._follow(location, following, answer.status)
                        continue
                    session.log.info("Not following redirect")
                await self._finish(answer, connection, unread=location is not None)
                return

    async def _begin(self) -> None:
        """The target's URL, its address, and what to say to it."""
        options, session = self.options, self.session
        began = time.perf_counter()
        try:
            url, basic = parse_target(session)
        except ProbeFailure:
            if self._names_a_host():
                self.metrics.begin_resolve()
                _protocol, lookup, _hash = session.register_lookup()
                lookup.set(time.perf_counter() - began)
            raise
        self.first = self.url = url
        self.host_header = url.authority
        for name, value in options.headers.items():
            if name.lower() == "host":
                self.host_header = value
            else:
                self.fields.append((name, value))
        if not any(name.lower() == "user-agent" for name, _ in self.fields):
            self.fields.append(("User-Agent", session.io.user_agent))
        self.tls_config = options.tls_config
        self.server_name = server_name_of(self.host_header) if self.host_header != url.authority else url.host
        through_proxy = bool(options.proxy_url or options.proxy_from_environment)
        if not (options.skip_resolve_phase_with_proxy and through_proxy):
            self.metrics.begin_resolve()
            self.address = await session.choose(url.host, options)
        elif proxy_of(options, url, session) is None:
            self.address = await session.resolve(url.host, options)
        self.metrics.begin_request()
        if options.body_file:
            self.body = await read_file(session, options.body_file)
        open_ones, self.secrets = await injected(options.http_headers, session)
        self.fields += open_ones
        if not any(name.lower() == "authorization" for name, _ in self.fields):
            credentials = await authorization(options, session)
            if not credentials:
                credentials = self.basic = basic
            if credentials:
                self.secrets.append(("Authorization", credentials))

    def _names_a_host(self) -> bool:
        """Whether the target is a URL but for its host: the original asks the resolver even for `127.1`."""
        text = self.session.target
        text = text if text.lower().startswith(("http://", "https://")) else f"http://{text}"
        try:
            parts = urlsplit(text)
            return bool(parts.hostname) and parts.port != 0 and not _BAD_ESCAPE.search(text)
        except ValueError:
            return False

    def _hop(self) -> Hop:
        fields = [
            (name, value) for name, value in self.fields if not self.left_host or name.lower() not in _NOT_ACROSS_HOSTS
        ]
        if not self.left_host:
            fields += self.secrets
        if self.referer and not any(name.lower() == "referer" for name, _ in fields):
            fields.append(("Referer", self.referer))
        if cookie := self.cookies.header(self.url):
            fields.append(("Cookie", cookie))
        return Hop(
            self.method, self.url, self.host_header, self.address, fields, self.body, self.tls_config, self.server_name
        )

    def _location(self, answer: Answer) -> str | None:
        """Where the answer would lead to; None if it is no redirect, or one that nobody can follow."""
        location = answer.header("Location")
        if answer.status not in _REDIRECTS or not location:
            return None
        if answer.status in (307, 308) and self.options.body_file:
            return None  # as the original, which reads the file only once
        return location

    def _join(self, location: str) -> HttpUrl:
        """The URL that a Location header leads to. Raises ProbeFailure for one that leads nowhere."""
        try:
            return self.url.join(_without_userinfo(location))
        except ValueError as error:
            if urlsplit(location).scheme.lower() not in ("", "http", "https"):  # a redirect, and one too far
                self.metrics.redirects.add(1.0)
            self.session.log.error("Location cannot be followed", location=location, err=error)
            self.session.attempt.fail(Failure.HTTP_REDIRECT, f"Location: {error}", Operation.VALIDATE)

    async def _follow(self, location: str, url: HttpUrl, status: int) -> None:
        """Make the redirect's URL the next one (RFC 9110 section 15.4). Raises ProbeFailure."""
        session = self.session
        # RFC 9110 section 10.1.3. The first URL is told with the address in place of the name, as it was asked.
        self.referer = "" if self.url.secure and not url.secure else self._shown_url()
        if status in (301, 302, 303):
            if self.method not in ("GET", "HEAD"):
                self.method = "GET"
            self.body = None
            self.fields = [(name, value) for name, value in self.fields if name.lower() not in _OF_THE_BODY]
        if not same_site(url.host, self.first.host):
            self.left_host = True  # for good: what was stripped stays stripped
        self.by_name = self.by_name or bool(urlsplit(location).netloc)
        if urlsplit(location).netloc:
            if self.basic:  # it was the target URL's own
                self.secrets.remove(("Authorization", self.basic))
                self.basic = ""
            # Another server: the module's name for the first one says nothing about it.
            self.host_header, self.server_name = url.authority, url.host
            self.tls_config = self.options.tls_config.model_copy(update={"server_name": ""})
            if self.address or proxy_of(self.options, url, session) is None:
                with session.attempt.phase("resolve", Operation.RESOLVE):
                    preferred = self.options.preferred_ip_protocol
                    self.address = await session.resolve(url.host, IpOptions(preferred_ip_protocol=preferred))
        self.url = url

    def _shown_url(self) -> str:
        url = self.url
        if self.by_name or not self.address:
            return f"{url.scheme}://{url.authority}{url.target}"
        port = url.authority.removeprefix(join_host_port(url.host, 0).removesuffix(":0"))
        return f"{url.scheme}://{join_host_port(self.address, 0).removesuffix(':0')}{port}{url.target}"

    async def _finish(self, answer: Answer, connection: Connection, *, unread: bool) -> None:
        """Hold the last answer against what is wanted. `unread`: a redirect that is not followed has no body for us."""
        await judge(self.options, self.session, self.metrics, answer, connection, unread=unread)


def parse_target(session: Session) -> tuple[HttpUrl, str]:
    """The target as a URL, and the Authorization header that credentials in it amount to. Raises ProbeFailure."""
    text = session.target
    if not text.lower().startswith(("http://", "https://")):
        text = f"http://{text}"
    basic = ""
    if any(character < " " or character == "\x7f" for character in text):
        session.bad_target("a control character; write it percent-encoded, for instance %0A")
    if _BAD_ESCAPE.search(text.partition("?")[0]):
        session.bad_target("a percent sign that no two hexadecimal digits follow; write %25 for the sign itself")
    try:
        parts = urlsplit(text)
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            basic = "Basic " + base64.b64encode(pair.encode()).decode()
        return parse_url(_without_userinfo(text)), basic
    except ValueError as error:
        session.bad_target(str(error))


def _without_userinfo(text: str) -> str:
    parts = urlsplit(text)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else text


def same_site(host: str, first: str) -> bool:
    """Whether credentials for `first` may go to `host`: the same host, or one below it."""
    host, first = host.lower(), first.lower()
    return host == first or (":" not in host and host.endswith(f".{first}"))
