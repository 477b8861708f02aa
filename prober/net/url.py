"""URLs of HTTP, taken apart once. Errors are ValueErrors that say what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote_from_bytes, urljoin, urlsplit

from prober.net.names import check_host, join_host_port

URL_LENGTH_MAX: Final = 8192  # RFC 9110 section 4.1 asks for at least 8000

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_PORTS: Final[dict[str, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """What is needed of a URL to ask for it. A fragment is dropped, credentials are not allowed."""

    scheme: Literal["http", "https"]
    host: str  # a name in its ASCII form, or an address without brackets
    port: int
    target: str  # path and query, percent-encoded where it must be (RFC 9112 section 3.2.1, origin-form)

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of the Host header: without the port where it is the scheme's own (RFC 9110 section 7.2)."""
        whole = join_host_port(self.host, self.port)
        return whole.rpartition(":")[0] if self.port == _PORTS[self.scheme] else whole

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may share credentials, and what a log may show."""
        return f"{self.scheme}://{join_host_port(self.host, self.port)}"

    def join(self, location: str) -> HttpUrl:
        """Where a Location header that came from here leads. Raises ValueError."""
        return parse_url(urljoin(self.origin + self.target, location))


def parse_url(text: str) -> HttpUrl:
    """An `http://` or `https://` URL. Raises ValueError."""
    if len(text) > URL_LENGTH_MAX:
        raise ValueError(f"the URL has {len(text)} characters; {URL_LENGTH_MAX} are allowed")
    if _CONTROL.search(text):
        raise ValueError("the URL holds a control character; write it percent-encoded, for instance %0A")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL ({error}); write it like http://host:port/path") from None
    scheme = parts.scheme
    if scheme != "http" and scheme != "https":
        raise ValueError(f'the URL has the scheme "{scheme[:20]}"; write http://... or https://...')
    if "@" in parts.netloc:
        raise ValueError("the URL holds credentials, which would be seen everywhere; use an Authorization header")
    if not parts.hostname:
        raise ValueError(f"the URL names no host; write {scheme}://host/path")
    if "%" in parts.hostname:
        raise ValueError("the URL's host holds a percent sign; write the name itself, or an address without interface")
    if port == 0:
        raise ValueError("the URL's port is 0; write a number from 1 to 65535")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpUrl(
        "https" if scheme == "https" else "http",
        check_host(parts.hostname),
        port or _PORTS[scheme],
        # A Location may come in any encoding; its octets are kept as they are.
        quote_from_bytes(target.encode("utf-8", "surrogateescape"), safe=_PRINTABLE),
    )
