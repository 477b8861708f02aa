"""What the judge says: verdicts, outages, gaps, the events that carry them, and the work that it asks for.

Times in records are Unix seconds (UTC). Times in requests and events (`at`) are the runner's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Any, Literal, NamedTuple, TypeAlias

from prober.model import Check

Scope: TypeAlias = Literal["check", "target", "network", "site", "entity"]


class Verdict(StrEnum):
    """What is known of a scope now. `PARTIAL` and `DARK` are an entity's words for some and all of its members down."""

    UP = "up"
    DOWN = "down"
    PARTIAL = "partial"
    DARK = "dark"
    UNKNOWN = "unknown"


class OutageClass(StrEnum):
    """`OUTAGE` if even the shortest duration that the bounds allow reaches `blip_seconds`."""

    BLIP = "blip"
    OUTAGE = "outage"


class Onset(StrEnum):
    """`PROGRESSIVE`: loss or round-trip time had risen above the long-term level before the scope went down."""

    ABRUPT = "abrupt"
    PROGRESSIVE = "progressive"


class GapCause(StrEnum):
    """Why this vantage could not see."""

    STOPPED = "stopped"  # the agent did not run
    OFFLINE = "offline"  # the references did not answer either
    OVERLOAD = "overload"  # the agent ran and could not keep up
    CLOCK_STEP = "clock_step"  # UTC was changed under us; `step_seconds` says by how much


@dataclass(frozen=True, slots=True)
class Settings:
    """The `judgement:` section of the settings."""

    false_outages_per_year: float = 0.01  # per check
    confirm_interval_seconds: float = 2.0
    blip_seconds: float = 60.0
    flap_window_seconds: float = 3600.0
    onset_look_back_seconds: float = 172_800.0


def rfc3339(utc: float | None) -> str | None:
    """`2014-12-22T16:15:00Z`, with milliseconds where they are not zero. None stays None."""
    if utc is None or not isfinite(utc):
        return None
    milliseconds = round(utc * 1000)
    text = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{milliseconds % 1000:03d}Z" if milliseconds % 1000 else f"{text}Z"


@dataclass(frozen=True, slots=True)
class Outage:
    """A scope could not be reached: began in (started_after, started_by], ended in (ended_after, ended_by].

    `start` and `end` are the headline, the middle of the raw neighbours; the bounds hold the truth, the headline is the
    best guess. `ended_after` of an ongoing outage is how far it is certain so far. Neither `ongoing` nor `ended_by`: it
    was abandoned (see `note`), nobody looked when it ended.
    """

    id: str  # given at the opening, never changed by a clock step
    vantage: str
    scope: Scope
    name: str
    entity: str
    started_after: float | None  # None: never seen up in this agent's memory
    started_by: float
    start: float
    detected_at: float
    ended_after: float
    ended_by: float | None = None
    end: float | None = None
    ongoing: bool = True
    onset: Onset = Onset.ABRUPT
    degraded_since: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)  # "operation/failure" -> probes
    members: Mapping[str, int] = field(default_factory=dict)  # up, down, unknown
    frozen: tuple[str, ...] = ()  # the members that this outage is about, by name
    blip_seconds: float = 60.0
    losses: int = 1  # k: so many losses in a row are not chance
    flaps: int = 0  # earlier outages of this scope that ended within the flap window
    unobserved_seconds: float = 0.0  # of the headline's duration (so far, while ongoing): this vantage could not see
    restored_full: float | None = None  # every frozen member seen up again; the first one is `ended_by`
    note: str = ""

    @property
    def duration_min_seconds(self) -> float:
        """The shortest duration that the bounds allow (for an ongoing outage: so far)."""
        return max(0.0, self.ended_after - self.started_by)

    @property
    def duration_max_seconds(self) -> float | None:
        """The longest duration that the bounds allow; None if a bound is missing."""
        return None if self.ended_by is None or self.started_after is None else self.ended_by - self.started_after

    @property
    def duration_seconds(self) -> float | None:
        """The headline; None while ongoing and for an abandoned outage."""
        return None if self.end is None else max(0.0, self.end - self.start)

    @property
    def outage_class(self) -> OutageClass:
        """Blip or outage."""
        return OutageClass.OUTAGE if self.duration_min_seconds >= self.blip_seconds else OutageClass.BLIP

    def to_json(self) -> dict[str, Any]:
        """The outage as the API, the ledger and the replay print it."""
        return {
            "id": self.id,
            "vantage": self.vantage,
            "scope": self.scope,
            "name": self.name,
            "entity": self.entity,
            "started_after": rfc3339(self.started_after),
            "started_by": rfc3339(self.started_by),
            "ended_after": rfc3339(self.ended_after),
            "ended_by": rfc3339(self.ended_by),
            "start": rfc3339(self.start),
            "end": rfc3339(self.end),
            "duration_seconds": self.duration_seconds,
            "duration_min_seconds": self.duration_min_seconds,
            "duration_max_seconds": self.duration_max_seconds,
            "detected_at": rfc3339(self.detected_at),
            "class": str(self.outage_class),
            "onset": str(self.onset),
            "degraded_since": rfc3339(self.degraded_since),
            "ongoing": self.ongoing,
            "failures": dict(self.failures),
            "members": dict(self.members),
            "restored_first": rfc3339(self.ended_by),
            "restored_full": rfc3339(self.restored_full),
            "flaps": self.flaps,
            "unobserved_seconds": self.unobserved_seconds,
            "note": self.note,
        }

    def to_state(self) -> dict[str, Any]:
        """Every field as JSON-able values, exact; `from_state` turns it back."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {
            "onset": str(self.onset),
            "failures": dict(self.failures),
            "members": dict(self.members),
            "frozen": list(self.frozen),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Outage:
        """The outage that `to_state` described."""
        return cls(**{**state, "onset": Onset(state["onset"]), "frozen": tuple(state["frozen"])})


@dataclass(frozen=True, slots=True)
class Gap:
    """This vantage could not see from `begin` to `end` (None: still)."""

    id: str
    vantage: str
    begin: float
    end: float | None
    cause: GapCause
    step_seconds: float = 0.0
    references: tuple[str, ...] = ()  # whose silence showed it

    def to_json(self) -> dict[str, Any]:
        """The gap as the ledger and the API name it."""
        return {
            "vantage": self.vantage,
            "from": rfc3339(self.begin),
            "to": rfc3339(self.end),
            "cause": str(self.cause),
            "step_seconds": self.step_seconds,
        }


@dataclass(frozen=True, slots=True)
class OutageOpened:
    """A new outage; it goes into the ledger before anything shows it."""

    outage: Outage


@dataclass(frozen=True, slots=True)
class OutageUpdated:
    """A record changed after its opening: re-anchored by a clock step, or fully restored after its end."""

    outage: Outage


@dataclass(frozen=True, slots=True)
class OutageClosed:
    """The scope was seen up again, or the outage was abandoned."""

    outage: Outage


@dataclass(frozen=True, slots=True)
class GapOpened:
    """The references went silent: nothing is known from `gap.begin` on."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class GapClosed:
    """A gap with both ends (one that was never opened by an event too: agent stopped, clock step)."""

    gap: Gap


class StateChanged(NamedTuple):
    """What is known of a scope changed. `up` is the last verdict, held while unknown; None: never known."""

    scope: Scope
    name: str
    entity: str
    verdict: Verdict
    up: bool | None
    at: float


Event: TypeAlias = OutageOpened | OutageUpdated | OutageClosed | GapOpened | GapClosed | StateChanged


class Confirm(NamedTuple):
    """Probe `check` once more at `at` (reason `confirmation`), besides its regular rounds."""

    check: Check
    at: float


class ProbeMember(NamedTuple):
    """Probe `check` at `at` in the place of its next regular round (reason `regular`): its scope is in trouble."""

    check: Check
    at: float


class ProbeReference(NamedTuple):
    """Probe a reference's check at `at` (reason `reference`). Ahead of everything else in the budgets."""

    check: Check
    at: float


Request: TypeAlias = Confirm | ProbeMember | ProbeReference


class Decisions(NamedTuple):
    """What the judge decided: events for the ledger, in order, and probes that the runner is to send."""

    events: tuple[Event, ...] = ()
    requests: tuple[Request, ...] = ()
