"""Who may be probed through /probe: asked with the address of every connection, after the name was resolved.

Nothing is allowed that the list does not name. A name in the list allows the name, wherever it leads in public; a
special-purpose range is opened by a prefix within it alone: whoever controls a name's DNS must not be able to point it
at our own network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from prober.blackbox.guard import Destination
from prober.blackbox.special import WORDS, Address, Network, embedded, reached, special_range
from prober.config.allow import AllowEntry, parse_allow
from prober.net.names import check_host, is_address
from prober.printable import printable

NOT_ALLOWED: Final = "not_allowed"
NO_ALLOW_LIST: Final = "no_allow_list"
OPTED_OUT: Final = "opted_out"
INVALID_TARGET: Final = "invalid_target"
INVALID_HOSTNAME: Final = "invalid_hostname"
REASONS: Final = (NOT_ALLOWED, NO_ALLOW_LIST, OPTED_OUT, INVALID_TARGET, INVALID_HOSTNAME, *WORDS)
"""All that a refusal can be for: the values of `prober_probe_refused_info`'s label."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is sent. `text` is one line that holds no address which the client did not know."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The allow list, and `permits`, the opt-out list."""

    entries: tuple[AllowEntry, ...]
    permits: Callable[[str], bool]

    @classmethod
    def of(cls, allow: Iterable[str], permits: Callable[[str], bool]) -> Policy:
        """Of entries that `parse_allow` takes."""
        return cls(tuple(map(parse_allow, allow)), permits)

    def before_resolving(self, name: str) -> Refusal | None:
        """What can be said of a host name before anybody is asked for its address."""
        if not self.permits(name):
            return _opted_out(name)
        if not self.entries:
            return _NO_LIST
        if any(entry.public or entry.prefix is not None for entry in self.entries) or self._names(name, None):
            return None
        return _not_allowed(name)

    def judge(self, destination: Destination) -> Refusal | None:
        """Whether a connection may be made or a packet sent; None: it may."""
        name, port = destination.name, destination.port
        if destination.transport == "unix":
            return self._unix(destination.address)
        if not self.permits(name) or not self.permits(destination.address):
            return _opted_out(name)
        if not self.entries:
            return _NO_LIST
        if not destination.address and not is_address(name):
            return self._unresolved(name, port)
        outer = ip_address(destination.address or name)
        address = reached(outer)
        if address != outer and not self.permits(str(address)):
            return _opted_out(name)
        for one in (address, *embedded(outer)):
            special = special_range(one)
            if special is not None and not self._opens(one, special.network, port):
                return _special(destination, special.word)
        if special_range(address) is not None:
            return None
        if any(e.covers_port(port) and (e.public or e.covers_address(address)) for e in self.entries):
            return None
        if not is_address(name) and self._names(name, port):
            return None
        return _not_allowed(f"{name}, port {port}" if port else name)

    def _unresolved(self, name: str, port: int) -> Refusal | None:
        """A proxy is to resolve the name, so nobody here knows where it leads: then it must be named itself."""
        if self._names(name, port):
            return None
        text = f"{printable(name, 253)} is resolved by a proxy; probe_endpoint.allow must have the name itself"
        return Refusal(NOT_ALLOWED, text)

    def _names(self, name: str, port: int | None) -> bool:
        try:
            canonical = check_host(name).removesuffix(".").lower()
        except ValueError:
            return False
        return any(e.covers_name(canonical) and (port is None or e.covers_port(port)) for e in self.entries)

    def _opens(self, address: Address, special: Network, port: int) -> bool:
        """Whether an entry names this address within this range: 0.0.0.0/0 opens no special-purpose range."""
        return any(
            entry.prefix is not None
            and entry.prefix.version == special.version
            and entry.prefix.subnet_of(special)  # type: ignore[arg-type]  # of one version they are
            and entry.covers_address(address)
            and entry.covers_port(port)
            for entry in self.entries
        )

    def _unix(self, path: str) -> Refusal | None:
        if not self.entries:
            return _NO_LIST
        if any(entry.path == path for entry in self.entries):
            return None
        shown = printable(path, 253)
        return Refusal(NOT_ALLOWED, f"the socket {shown} is not in probe_endpoint.allow; add unix:{shown}")


class PolicyGuard:
    """The policy as one probe asks it. It remembers the refusal, and where the probe wanted to go first."""

    def __init__(self, policy: Policy, heard: Callable[[Destination], None] = lambda _destination: None) -> None:
        self._policy = policy
        self._heard = heard
        self.refusal: Refusal | None = None
        self.refused: Destination | None = None

    def __call__(self, destination: Destination) -> str | None:
        """The guard that the probe calls."""
        refusal = self._policy.judge(destination)
        if refusal is None:
            self._heard(destination)
            return None
        self.refusal, self.refused = refusal, destination
        return refusal.text

    def name(self, name: str) -> Refusal | None:
        """Asked for a name before it is resolved."""
        refusal = self._policy.before_resolving(name)
        if refusal is not None:
            self.refusal = refusal
        return refusal


_NO_LIST: Final = Refusal(NO_ALLOW_LIST, "nothing may be probed: probe_endpoint.allow is empty; name targets there")


def _not_allowed(what: str) -> Refusal:
    return Refusal(NOT_ALLOWED, f"{printable(what, 253)} is not in probe_endpoint.allow; add its name or its prefix")


def _opted_out(name: str) -> Refusal:
    return Refusal(OPTED_OUT, f"{printable(name, 253)} is on the opt-out list")


def _special(destination: Destination, word: str) -> Refusal:
    what = f"a {word.replace('_', '-')} address"
    leads = "is" if destination.name == destination.address else "leads to"
    remedy = "which probe_endpoint.allow does not name; add its prefix if it is to be probed"
    return Refusal(word, f"{printable(destination.name, 253)} {leads} {what}, {remedy}")
