"""What the agent knows right now about each check. Metrics, the live table and the API are views of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from prober.failures import Failure, Operation
from prober.model import Check, Entity, Observation, Target

LOSS_WINDOW: Final = 60
"""Regular probes over which the loss ratio is taken."""
_RECENT: Final = (1 << LOSS_WINDOW) - 1

CERTIFICATE_EXPIRY: Final = "cert_earliest_expiry"
"""The fact (Unix seconds) that is held while a probe fails: an expired certificate still has its date."""


class CheckState:
    """What is known of one check."""

    __slots__ = ("certificate_expiry", "check", "entity", "failures", "last", "probes", "recent", "rounds", "target")

    def __init__(self, entity: Entity, target: Target, check: Check) -> None:
        self.entity = entity
        self.target = target
        self.check = check
        self.last: Observation | None = None
        self.probes = 0
        self.failures: dict[tuple[Operation, Failure], int] = {}
        self.recent = 0  # regular probes: a bit each, the newest lowest, set where it failed
        self.rounds = 0  # how many of them there are, up to LOSS_WINDOW
        self.certificate_expiry: float | None = None

    def observe(self, observation: Observation) -> None:
        """Take in what a probe of this check saw."""
        self.last = observation
        self.probes += 1
        if observation.reason == "regular":
            self.recent = (self.recent << 1 | (not observation.success)) & _RECENT
            if self.rounds < LOSS_WINDOW:
                self.rounds += 1
        if observation.operation is not None and observation.failure is not None:
            cause = observation.operation, observation.failure
            self.failures[cause] = self.failures.get(cause, 0) + 1
        if CERTIFICATE_EXPIRY in observation.facts:
            expiry = observation.facts[CERTIFICATE_EXPIRY]
            if isinstance(expiry, float):
                self.certificate_expiry = expiry

    @property
    def loss_ratio(self) -> float | None:
        """Share of the recent regular probes that failed; None before the first."""
        return self.recent.bit_count() / self.rounds if self.rounds else None


class Prepared(NamedTuple):
    """The checks of a new configuration, and which of them go on from which of the old one."""

    checks: dict[str, CheckState]
    continued: list[tuple[CheckState, CheckState]]


class State:
    """All checks, in the order of the files. `observe` is a sink of the runner."""

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self._checks: dict[str, CheckState] = {}
        self.entities: tuple[Entity, ...] = ()
        self.replace(entities)

    def replace(self, entities: Iterable[Entity], prepared: Prepared | None = None) -> None:
        """Take a new configuration, as it was prepared. Counters of a check go on as long as its key and kind stay."""
        self.entities = tuple(entities)
        prepared = prepared or self.prepared(self.entities)
        for fresh, old in prepared.continued:
            for name in ("last", "probes", "failures", "recent", "rounds", "certificate_expiry"):
                setattr(fresh, name, getattr(old, name))
        self._checks = prepared.checks

    def prepared(self, entities: Iterable[Entity]) -> Prepared:
        """What `replace` is to be given. With thousands of checks it takes long, and may be made in a thread."""
        checks: dict[str, CheckState] = {}
        continued = []
        for entity in entities:
            for target in entity.targets:
                for check in target.checks:
                    old = self._checks.get(check.key)
                    if old is not None and old.check is check and old.target is target and old.entity is entity:
                        checks[check.key] = old
                        continue
                    fresh = checks[check.key] = CheckState(entity, target, check)
                    if old is not None and old.check.kind == check.kind:
                        continued.append((fresh, old))
        return Prepared(checks, continued)

    def observe(self, observation: Observation) -> None:
        """Take in an observation; one of a check that is no longer configured is dropped."""
        state = self._checks.get(observation.check.key)
        if state is not None:
            state.observe(observation)

    def __iter__(self) -> Iterator[CheckState]:
        return iter(self._checks.values())

    def __len__(self) -> int:
        return len(self._checks)
