"""Hosts and ports as people write them. Errors are ValueErrors that say what to write instead."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, inet_pton
from typing import Final

from prober.contract import Family

# RFC 1123 section 2.1, and the underscore that real names have.
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.IGNORECASE)
_PORT: Final = re.compile(r"[0-9]{1,5}\Z")
_LIKE: Final = "write one like www.example.org, 192.0.2.1 or 2001:db8::1"
_NAME_LENGTH_MAX: Final = 253  # RFC 1035 section 2.3.4, in the notation with dots


@lru_cache(maxsize=65_536)  # asked of the same hosts with every probe, and what validates a check asks several times
def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that `host` is the literal of (without brackets), if it is one."""
    try:
        return IPv4Address(inet_pton(AF_INET, host))  # takes what ipaddress takes, in a third of the time
    except (OSError, ValueError):
        pass
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Whether `host` is an IP address literal (without brackets)."""
    return address_of(host) is not None


def check_host(host: str) -> str:
    """`host` if it is an IP address or a host name, a name beyond ASCII in its IDNA form. Raises ValueError."""
    if is_address(host):
        return host
    name = host
    if not host.isascii():
        try:
            name = host.encode("idna").decode()
        except UnicodeError:
            raise ValueError(f'"{host[:80]}" is no host name; {_LIKE}') from None
    if len(name) > _NAME_LENGTH_MAX or not all(map(_LABEL.match, name.removesuffix(".").split("."))):
        raise ValueError(f'"{host[:80]}" is no host name and no IP address; {_LIKE}')
    if name.removesuffix(".").rpartition(".")[2].isdigit():  # 10.1, 1.2.3.999: no resolver should see these
        raise ValueError(f'"{host[:80]}" is no IP address; write all four numbers, each at most 255')
    return name


def check_address(address: str) -> str:
    """`address` if it is an IP address literal. Raises ValueError."""
    if not is_address(address):
        raise ValueError(f'"{address[:80]}" is no IP address; write one like 192.0.2.1 or 2001:db8::1')
    return address


def split_host_port(text: str) -> tuple[str, int]:
    """The host, without brackets, and the port of `host:port` or `[address]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not _PORT.match(port) or (":" in host and not bracketed):
        raise ValueError(f'"{text[:80]}" has no port; write host:port, an IPv6 address as [address]:port')
    if not 0 < int(port) < 65536:
        raise ValueError(f"{port} is no port; write a number from 1 to 65535")
    return (check_address(host[1:-1]) if bracketed else check_host(host)), int(port)


def join_host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_families(host: str, family: Family, source: str | None) -> None:
    """Whether a host, the family wanted of it and our source address can be had together. Raises ValueError."""
    wanted = {"any": None, "ipv4": 4, "ipv6": 6}[family]
    address = address_of(host)
    found = address.version if address is not None else None
    if wanted and found and wanted != found:
        raise ValueError(f"{host} is no IPv{wanted} address; leave family out")
    version = wanted or found
    if source is not None and version and ip_address(source).version != version:
        raise ValueError(f"source {source} is of the other address family; write an IPv{version} address")


def family_for(family: Family, source: str | None) -> Family:
    """The family to ask the resolver for: that of our source address where nothing else is wanted."""
    if family == "any" and source is not None:
        return "ipv4" if ip_address(source).version == 4 else "ipv6"
    return family


def client_key(client: str) -> Hashable:
    """Whom a peer's address counts for: an IPv4 address, or the /64 of an IPv6 one, which one host may have whole."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    return address if address.version == 4 else ip_network((address, 64), strict=False)
