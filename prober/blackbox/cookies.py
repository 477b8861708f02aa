"""Cookies between the redirects of one probe (RFC 6265): some pages redirect for ever to those that return none."""

from __future__ import annotations

from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from prober.net.names import is_address
from prober.net.url import HttpUrl

_COOKIES_MAX: Final = 50
_LENGTH_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class _Cookie:
    name: str
    value: str
    host: str
    path: str
    secure: bool
    below: bool  # also for the hosts below this one


class Cookies:
    """What servers have set so far."""

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, url: HttpUrl, headers: list[str]) -> None:
        """Take in the Set-Cookie headers of an answer from `url`; what is not well-formed is passed over."""
        for header in headers[:_COOKIES_MAX]:
            parsed: SimpleCookie = SimpleCookie()
            try:
                parsed.load(header[:_LENGTH_MAX])
            except CookieError:
                continue
            for name, morsel in list(parsed.items())[:1]:
                domain = morsel["domain"].lower().removeprefix(".")
                host = url.host.lower()
                # A top-level domain is nobody's; of public suffixes below we know nothing, and need not: a probe keeps
                # its cookies to itself, for one chain of redirects.
                foreign = is_address(host) or "." not in domain or not host.endswith(f".{domain}")
                if domain and domain != host and foreign:
                    continue
                path = morsel["path"] if morsel["path"].startswith("/") else _directory(url.target)
                cookie = _Cookie(name, morsel.coded_value, domain or host, path, bool(morsel["secure"]), bool(domain))
                key = (cookie.host, path, name)
                if morsel["max-age"] in ("0", "-1"):
                    self._cookies.pop(key, None)
                elif len(self._cookies) < _COOKIES_MAX:
                    self._cookies[key] = cookie

    def header(self, url: HttpUrl) -> str:
        """The Cookie header for a request to `url`; empty if there is none."""
        host, path = url.host.lower(), url.target.partition("?")[0]
        fitting = [
            cookie
            for cookie in self._cookies.values()
            if (host == cookie.host or (cookie.below and host.endswith(f".{cookie.host}")))
            and (url.secure or not cookie.secure)
            and (path == cookie.path or path.startswith(cookie.path.removesuffix("/") + "/"))
        ]
        fitting.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in fitting)


def _directory(target: str) -> str:
    path = target.partition("?")[0]
    return path.rpartition("/")[0] or "/"
