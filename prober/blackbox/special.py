"""Addresses that are no public hosts: what nobody may have probed unless it is named.

The tables are IANA's special-purpose address registries (RFC 6890, as of 2025) and the addresses at which clouds serve
their instances' credentials. They are written out because `ipaddress.is_global` differs between versions of Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Special:
    """A special-purpose range; `word` says what it is for."""

    word: str
    network: Network


# More specific ranges first: the first that holds an address tells what it is.
_RANGES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "metadata",
        (
            "169.254.169.254/32",  # most clouds
            "169.254.169.253/32",  # a cloud's resolver
            "169.254.170.2/32",  # credentials of containers
            "169.254.170.23/32",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "168.63.129.16/32",  # public by the registry, and yet a cloud's own host for its instances
            "fd00:ec2::/32",
            "fd20:ce::254/128",
        ),
    ),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("unspecified", ("0.0.0.0/8", "::/128")),  # which Linux takes for its own host
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10", "64:ff9b:1::/48")),
    ("shared", ("100.64.0.0/10",)),  # carrier-grade NAT (RFC 6598)
    ("link_local", ("169.254.0.0/16", "fe80::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("broadcast", ("255.255.255.255/32",)),
    ("documentation", ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")),
    ("benchmarking", ("198.18.0.0/15", "2001:2::/48")),
    # Tunnels and translators: what stands inside may be any IPv4 address.
    ("tunnel", ("2002::/16", "2001::/32", "192.88.99.0/24", "::ffff:0:0:0/96", "::/96")),
    # 2001::/23 has anycast of protocols, and no hosts. The last three: all but 2000::/3, global unicast (RFC 4291).
    (
        "reserved",
        (
            *("192.0.0.0/24", "240.0.0.0/4", "2001::/23", "100::/64", "100:0:0:1::/64", "5f00::/16"),
            *("::/3", "4000::/2", "8000::/1"),
        ),
    ),
)
_SPECIAL: Final = tuple(Special(word, ip_network(text)) for word, texts in _RANGES for text in texts)

WORDS: Final = tuple(word for word, _ in _RANGES)

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LAST_32_BITS: Final = tuple(map(IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48")))
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # RFC 5214 section 6.1


def special_range(address: Address) -> Special | None:
    """The range that holds an address, None if it is an ordinary public one."""
    for special in _SPECIAL:
        if address.version == special.network.version and address in special.network:
            return special
    return None


def reached(address: Address) -> Address:
    """Whom a packet to `address` is for in the end: IPv4-mapped (RFC 4291) and NAT64 (RFC 6052) are IPv4."""
    if isinstance(address, IPv6Address):
        if address in _MAPPED or address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return IPv6Address(int(address))  # without its zone
    return address


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which something on the path may deliver what is sent to an IPv6 address."""
    if not isinstance(address, IPv6Address):
        return ()
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address in _6TO4:
        return (IPv4Address(number >> 80 & 0xFFFFFFFF),)
    if address in _TEREDO:  # RFC 4380 section 4: the server, and the client with its bits turned round
        return IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(number & 0xFFFFFFFF ^ 0xFFFFFFFF)
    if number > 1 and any(address in network for network in _LAST_32_BITS):
        return (last,)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return (last,)
    return ()
