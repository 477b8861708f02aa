"""Which proxy a request goes through: `proxy_url`, `no_proxy`, or the environment, by the rules of Go's httpproxy."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from prober.blackbox.http_client_options import ProxyOptions
from prober.net.names import is_address
from prober.net.url import HttpUrl


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that speaks plain HTTP. `authorization` is the value of its Proxy-Authorization header, or empty."""

    host: str
    port: int
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"


def proxy_for(options: ProxyOptions, url: HttpUrl, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy for a URL; None if it is reached directly. Raises ValueError for a proxy that cannot be used."""
    if options.proxy_url:
        if options.no_proxy and _excluded(url, options.no_proxy):
            return None
        return parse_proxy(options.proxy_url)
    if not options.proxy_from_environment:
        return None
    names = ("HTTPS_PROXY", "https_proxy") if url.secure else ("HTTP_PROXY", "http_proxy")
    text = next((environment[name] for name in names if environment.get(name)), "")
    excluded = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not text or _excluded(url, excluded):
        return None
    return parse_proxy(text if "://" in text else f"http://{text}")


def parse_proxy(text: str) -> Proxy:
    """Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a proxy of the scheme {parts.scheme!r} is not supported")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization)


def _excluded(url: HttpUrl, no_proxy: str) -> bool:
    """Whether `no_proxy` (names with their subdomains, addresses, prefixes, each with or without a port) covers it."""
    host = url.host.lower().removesuffix(".")
    if host == "localhost" or (is_address(host) and ip_address(host).is_loopback):
        return True
    return any(_covers(entry.strip().lower(), host, url.port) for entry in no_proxy.split(","))


def _covers(entry: str, host: str, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return is_address(host) and ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    if not is_address(entry):
        name, colon, number = entry.rpartition(":")
        if colon and number.isdigit() and int(number) != port:
            return False
        entry = (name if colon and number.isdigit() else entry).strip("[]")
    if is_address(entry):
        return is_address(host) and ip_address(entry) == ip_address(host)
    name = entry.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")
