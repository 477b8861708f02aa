"""What may be probed through /probe: the entries of an allow list, as they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from prober.net.names import check_host

PUBLIC: Final = "public"
"""The entry for every name and every address that no special-purpose range holds."""

_LIKE: Final = (
    "write a name (example.org), a name with all below it (.example.org), a prefix (192.0.2.0/24), "
    'an address, "public", or unix:/path; each but the last may end in a port or ports (:443, :8000-8099)'
)
_PORTS: Final = re.compile(r"(?P<what>.*):(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?\Z")


@dataclass(frozen=True, slots=True)
class AllowEntry:
    """One entry. Exactly one of `name`, `prefix` and `path` is set, or `public`."""

    text: str
    name: str | None = None  # in lower case, without the final dot
    below: bool = False  # and all names below it
    prefix: IPv4Network | IPv6Network | None = None
    path: str | None = None  # of a unix socket
    public: bool = False
    ports: tuple[int, int] | None = None  # first and last; None: all, and what has no ports (icmp)

    def covers_port(self, port: int) -> bool:
        """Whether a port is covered; 0 stands for what has none."""
        return self.ports is None or self.ports[0] <= port <= self.ports[1]

    def covers_name(self, name: str) -> bool:
        """Whether a host name (in lower case, without the final dot) is this entry's."""
        if self.name is None:
            return False
        return name == self.name or (self.below and name.endswith(f".{self.name}"))

    def covers_address(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether an address is in this entry's prefix."""
        return self.prefix is not None and address in self.prefix


def parse_allow(text: str) -> AllowEntry:
    """An entry of the list. Raises ValueError with what is wrong and what to do."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError("has no absolute path; write it like unix:/run/service.sock")
        return AllowEntry(text, path=path)
    what, ports = _split(text)
    if what == PUBLIC:
        return AllowEntry(text, public=True, ports=ports)
    if what.startswith("*"):
        raise ValueError(f"is a pattern; write {what[1:] if what.startswith('*.') else PUBLIC}")
    prefix = _prefix(what)
    if prefix is not None:
        return AllowEntry(text, prefix=prefix, ports=ports)
    below = what.startswith(".")
    try:
        name = check_host(what.removeprefix(".")).removesuffix(".").lower()
    except ValueError:
        raise ValueError(f"is nothing that could be probed; {_LIKE}") from None
    return AllowEntry(text, name=name, below=below, ports=ports)


def _split(text: str) -> tuple[str, tuple[int, int] | None]:
    """What an entry is for, without brackets, and its ports."""
    if text.startswith("[") and text.endswith("]"):
        return text[1:-1], None
    found = _PORTS.match(text)
    if found is None or (":" in found["what"] and not found["what"].endswith("]")):  # an IPv6 address without a port
        return text, None
    first = int(found["first"])
    last = int(found["last"] or first)
    if not 0 < first <= last < 65536:
        raise ValueError("has ports that are none; write a number from 1 to 65535, or two as in 8000-8099")
    return found["what"].removeprefix("[").removesuffix("]"), (first, last)


def _prefix(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    raise ValueError(f"has bits set behind the prefix; write {network}")
