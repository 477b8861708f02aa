"""What the agent talks about: targets, their checks, and what a probe saw. Frozen, standard library only.

Units: every `*_seconds` is a float in seconds. `sent_at` is a reading of the runner's clock (CLOCK_BOOTTIME in the
agent, virtual in a replay); `utc` is the same moment as a Unix timestamp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from prober.failures import Failure, Operation

Fact: TypeAlias = float | str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is asked of one target, again and again.

    `options` belongs to the probe kind (`prober.probes.PROBES[kind].options`) and is opaque to everything else.
    """

    target: str
    name: str  # unique within the target; defaults to the kind
    kind: str
    interval_seconds: float
    timeout_seconds: float
    options: object
    prober: str = ""  # of a module what it probes with; empty where the kind says it
    key: str = field(init=False, repr=False, compare=False)
    """`target/check`: unique per agent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.target}/{self.name}")  # once: every probe asks for it many times

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle, in less than half the time of the dataclass's own way: a large set is handed over at a start."""
        given = (self.interval_seconds, self.timeout_seconds, self.options, self.prober)
        return Check, (self.target, self.name, self.kind, *given)

    @property
    def speaks(self) -> str:
        """The kind, or what a module comes to: an http module is an http check to whoever judges."""
        return self.prober or self.kind


@dataclass(frozen=True, slots=True)
class Network:
    """A routed prefix of an entity, for instance one of North Korea's four /24s."""

    name: str
    entity: str
    prefix: str
    title: str = ""
    origin_asn: int | None = None
    transit: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """A service that may be served by several targets (mirrors)."""

    name: str
    entity: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A host or mirror. Where it stands (`hosted_in`) is its property, never the verdict on the entity."""

    name: str  # unique per agent
    entity: str
    checks: tuple[Check, ...]
    title: str = ""
    network: str | None = None
    site: str | None = None
    hosted_in: str | None = None  # ISO 3166-1 alpha-2
    require: Literal["any", "all"] = "any"  # of its checks, for the target to be reachable

    def __reduce__(self) -> tuple[object, ...]:
        """As a check's."""
        stands = (self.network, self.site, self.hosted_in)
        return Target, (self.name, self.entity, self.checks, self.title, *stands, self.require)


@dataclass(frozen=True, slots=True)
class Entity:
    """A country or an organisation: what the headline is about."""

    name: str
    title: str = ""
    country: str | None = None  # ISO 3166-1 alpha-2
    networks: tuple[Network, ...] = ()
    sites: tuple[Site, ...] = ()
    targets: tuple[Target, ...] = ()
    references: Literal["default"] | tuple[str, ...] = "default"  # names of references that vouch; () switches off


@dataclass(frozen=True, slots=True)
class Reference:
    """A control target: what this vantage must reach when it is online. Never watched as a target."""

    name: str
    network: str  # distinct networks vouch independently, for instance "AS13335"
    checks: tuple[Check, ...]
    title: str = ""


class Observation(NamedTuple):
    """What one probe of one check saw: facts, no judgement. A tuple, which is made in a fifth of a dataclass's time.

    `sent_at` is when the probe began; where a name was resolved first, the target was met `phases["resolve"]` later.
    `phases` holds the duration of every phase that was completed, in seconds, by the name that its metric uses.
    `facts` holds what else the kind measures (see the kind's `facts` table).
    On failure, `operation` and `failure` are set and `detail` has the raw text for the log.
    """

    check: Check
    sent_at: float  # runner's clock
    utc: float  # Unix time of sent_at
    success: bool
    duration_seconds: float
    phases: Mapping[str, float]
    facts: Mapping[str, Fact]
    operation: Operation | None = None
    failure: Failure | None = None
    detail: str = ""
    address: str | None = None  # the address that was probed, once known
    stalled_seconds: float = 0.0  # the agent's own standstill during the probe: phases may be that much too long
    reason: Literal["regular", "confirmation", "reference", "once"] = "regular"
