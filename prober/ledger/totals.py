"""Totals of a scope: figures that only ever grow, whatever is closed, pruned, reloaded or killed.

State seconds are written when a state changes and counted up to the last written heartbeat when they are read: what
was shown once can be derived again from what is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from prober.judge.records import StateChanged, Verdict

Key: TypeAlias = tuple[str, str]
"""Scope and name."""

State: TypeAlias = Literal["up", "down", "unknown"]


@dataclass(frozen=True, slots=True)
class Totals:
    """What is counted for one scope since the ledger began."""

    blips: int = 0  # that have ended: until then an outage's class may change
    outages: int = 0  # likewise
    outage_seconds: float = 0.0  # certain ones, those of the ongoing outage included
    up_seconds: float = 0.0
    down_seconds: float = 0.0
    unknown_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Counted:
    """The part of the totals that outages make."""

    blips: int = 0
    outages: int = 0
    outage_seconds: float = 0.0


class ScopeState(NamedTuple):
    """Seconds in each state up to `since`, and the state from then on. Times are on the ledger's own clock."""

    up_seconds: float = 0.0
    down_seconds: float = 0.0
    unknown_seconds: float = 0.0
    state: State | None = None  # None: not configured, nothing is counted
    since: float = 0.0

    def at(self, elapsed: float) -> ScopeState:
        """The same, counted up to `elapsed` (or `since`, if that is later)."""
        passed = elapsed - self.since
        if passed <= 0:
            return self
        return ScopeState(
            self.up_seconds + passed * (self.state == "up"),
            self.down_seconds + passed * (self.state == "down"),
            self.unknown_seconds + passed * (self.state == "unknown"),
            self.state,
            elapsed,
        )


NOTHING: Final = Counted()
"""No outage has been counted yet."""
NEVER: Final = ScopeState()
"""No state has been noted yet."""


def never_up(states: Mapping[Key, ScopeState]) -> Iterator[Key]:
    """The scopes that were never seen up: an agent has no say on them."""
    for key, row in states.items():
        if row.up_seconds + row.down_seconds <= 0 and row.state not in ("up", "down"):
            yield key


def state_of(change: StateChanged) -> State:
    """`prober_up` and `prober_observed` in one word."""
    if change.verdict is Verdict.UNKNOWN or change.up is None:
        return "unknown"
    return "up" if change.up else "down"


class StateBook:
    """The states of all scopes, in which changes are noted ahead of their being written."""

    def __init__(self, states: Mapping[Key, ScopeState]) -> None:
        self._states = dict(states)

    def change(self, key: Key, state: State | None, elapsed: float) -> ScopeState | None:
        """Note that `key` is in `state` from `elapsed` on. The new row, or None if nothing changed."""
        known = self._states.get(key)
        if known is None:
            fresh = self._states[key] = ScopeState(state=state, since=elapsed)
            return fresh
        if known.state == state:
            return None
        changed = self._states[key] = known.at(elapsed)._replace(state=state)
        return changed

    def keep(self, keys: Iterable[Key], elapsed: float) -> dict[Key, ScopeState]:
        """Stop counting what is not among `keys`. The rows that changed."""
        kept, stopped = set(keys), {}
        for key in [key for key in self._states if key not in kept]:
            row = self.change(key, None, elapsed)
            if row is not None:
                stopped[key] = row
        return stopped


def after_absence(states: Mapping[Key, ScopeState], elapsed: float) -> dict[Key, ScopeState]:
    """The states as a restart finds them: counted up to the last sign of life, unknown since."""
    return {
        key: row.at(elapsed)._replace(state="unknown") if row.state is not None else row for key, row in states.items()
    }
