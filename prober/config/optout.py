"""Who asked not to be probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from prober.net.names import check_host

REMEMBERED: Final = 65_536


@dataclass(frozen=True)
class OptOut:
    """A list of prefixes, addresses and host names that get no packet. A name covers its subdomains too.

    Make it of entries that `canonical_entry` returned.
    """

    entries: tuple[str, ...] = ()

    def covering(self, host: str) -> str | None:
        """The entry that covers `host` (an address or a name), or None."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return self._covering_name(host)
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:192.0.2.1 reaches 192.0.2.1
        for prefix, entry in self._prefixes:
            if address in prefix or (mapped is not None and mapped in prefix):
                return entry
        return None

    def permits(self, host: str) -> bool:
        """Whether `host` may be probed."""
        return not self.entries or self._permits(host)

    @cached_property
    def _permits(self) -> Callable[[str], bool]:
        """Remembers, for the same hosts are asked for again and again, with every probe."""
        return lru_cache(maxsize=REMEMBERED)(lambda host: self.covering(host) is None)

    def _covering_name(self, host: str) -> str | None:
        try:
            name = canonical_name(host)
        except ValueError:
            return None
        while name:
            if name in self._names:
                return name
            name = name.partition(".")[2]
        return None

    @cached_property
    def _prefixes(self) -> tuple[tuple[IPv4Network | IPv6Network, str], ...]:
        found = []
        for entry in self.entries:
            try:
                found.append((ip_network(entry), entry))
            except ValueError:
                continue  # a name
        return tuple(found)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.entries) - {entry for _prefix, entry in self._prefixes}


def canonical_entry(text: str) -> str:
    """One entry of the list as `OptOut` wants it. Raises ValueError with what is wrong and what to do."""
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return canonical_name(text)
    raise ValueError(f"has bits set behind the prefix; write {network}")


def canonical_name(text: str) -> str:
    """A host name in lower case, without the final dot, international labels encoded (RFC 5890). Raises ValueError."""
    if text.startswith("*."):
        raise ValueError(f"is a pattern, and a name covers its subdomains by itself; write {text[2:]}")
    try:
        return check_host(text).removesuffix(".").lower()
    except ValueError:
        remedy = "write it like 192.0.2.0/24, 2001:db8::1 or example.org"
        raise ValueError(f"is no prefix, address or host name; {remedy}") from None
