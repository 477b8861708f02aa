"""What this host says about names: /etc/resolv.conf and /etc/hosts, read as the C library does. Pure.

resolv.conf(5), hosts(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prober.net.names import is_address

_SERVERS_AT_MOST: Final = 3  # MAXNS of <resolv.h>


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The settings of resolv.conf that we follow."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    attempts: int = 2
    timeout_seconds: float = 5.0
    rotate: bool = False
    use_tcp: bool = False

    def candidates(self, name: str) -> list[str]:
        """The absolute names to look up for `name`, in order: as it is, and below the search domains."""
        if name.endswith("."):
            return [name]
        below = [f"{name}.{domain}".rstrip(".") + "." for domain in self.search]
        return [f"{name}.", *below] if name.count(".") >= self.ndots else [*below, f"{name}."]


def parse_resolv_conf(text: str) -> ResolvConf:
    """Lines that mean nothing to us, or are wrong, are passed over, as the C library does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, str] = {}
    for words in _lines(text, "#;"):
        keyword, values = words[0], words[1:]
        if not values:
            continue
        if keyword == "nameserver" and len(servers) < _SERVERS_AT_MOST and is_address(values[0]):
            servers.append(values[0])
        elif keyword == "domain":
            search = (values[0],)
        elif keyword == "search":  # the last of `domain` and `search` wins
            search = tuple(values)
        elif keyword == "options":
            options.update({option: value for option, _, value in (v.partition(":") for v in values)})
    return ResolvConf(
        servers=tuple(servers),
        search=tuple(domain for domain in search if domain != "."),
        ndots=_number(options, "ndots", 0, 15, 1),
        attempts=_number(options, "attempts", 1, 5, 2),
        timeout_seconds=float(_number(options, "timeout", 1, 30, 5)),
        rotate="rotate" in options,
        use_tcp="use-vc" in options,
    )


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Lower-case name -> its addresses, in the order of the file."""
    found: dict[str, tuple[str, ...]] = {}
    for words in _lines(text, "#"):
        if is_address(words[0]):
            for name in words[1:]:
                key = name.lower().rstrip(".")
                found[key] = (*found.get(key, ()), words[0])
    return found


def _lines(text: str, comment: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        for sign in comment:
            line = line.partition(sign)[0]
        if words := line.split():
            yield words


def _number(options: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    """The C library's limits and defaults (<resolv.h>, resolv.conf(5)); what is no number counts as absent."""
    text = options.get(name, "")
    return max(least, min(int(text), most)) if text.isdecimal() else default
