"""What a module asks before it sends anything anywhere: may I?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prober.net.names import join_host_port

Transport: TypeAlias = Literal["tcp", "udp", "icmp", "unix"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a probe wants to connect to or send to next."""

    name: str
    """As the target, a redirect, a proxy's or token's URL names it: a host name or an address; a unix socket's path."""
    address: str
    """The IP address that the name stands for now, which is what will be connected to; a unix socket's path; empty if a
    proxy is to resolve the name."""
    port: int
    """0 for icmp and unix."""
    transport: Transport = "tcp"

    def __str__(self) -> str:
        where = join_host_port(self.address, self.port) if self.port else self.address
        return where if self.name == self.address else f"{self.name} ({where})"


Guard: TypeAlias = Callable[[Destination], str | None]
"""Asked before every connection and every packet to a new destination, after the name was resolved, also after
redirects, and for proxies and token servers. Returns None to permit, or the reason of the refusal in one line."""


def permit_all(_destination: Destination) -> None:
    """The guard of those who wrote the target down themselves: a targets file."""
