"""What the ledger shows: facts that are on the disk, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Literal, TypeAlias

from prober.judge.records import Outage, OutageClass
from prober.ledger.batch import Batch, Written
from prober.ledger.storage import PAST_KEPT, PAST_SCOPES, Restored
from prober.ledger.totals import Counted, Key, ScopeState, State, Totals, after_absence

Count: TypeAlias = Literal["blips", "outages", "outage_seconds"]

_NOTHING: Final = Counted()
_NEVER: Final = ScopeState()


class View:
    """The committed facts that metrics and the API need at any moment, in memory."""

    def __init__(self, restored: Restored) -> None:
        self.ongoing = {outage.id: outage for outage in restored.open_outages}
        self.open_gaps = {gap.id: gap for gap in restored.open_gaps}
        self.past = {key: list(outages) for key, outages in restored.past.items()}
        self.notes = restored.notes
        self.states = after_absence(restored.states, restored.elapsed)
        self._counted = dict(restored.totals)
        self._elapsed = restored.elapsed

    def totals(self, key: Key) -> Totals:
        """Counted up to the last heartbeat that was written."""
        counted = self._counted.get(key, _NOTHING)
        state = self.states.get(key, _NEVER).at(self._elapsed)
        return Totals(
            counted.blips,
            counted.outages,
            counted.outage_seconds,
            state.up_seconds,
            state.down_seconds,
            state.unknown_seconds,
        )

    def counted(self, keys: Iterable[Key], what: Count) -> list[float]:
        """One of the totals that outages make, of many scopes."""
        read, known = attrgetter(what), self._counted
        return [float(read(known.get(key, _NOTHING))) for key in keys]

    def state_seconds(self, keys: Iterable[Key], state: State) -> list[float]:
        """Seconds in `state`, as in `totals`, of many scopes."""
        read, states, elapsed = attrgetter(f"{state}_seconds"), self.states, self._elapsed
        rows = [states.get(key, _NEVER) for key in keys]
        return [
            read(row) + elapsed - row.since if row.state == state and elapsed > row.since else read(row) for row in rows
        ]

    def take(self, batch: Batch, written: Written) -> None:
        """A batch was committed."""
        for name, entry in batch.outages.items():
            if name not in written.passed_over:
                self._take_outage(entry.outage)
        for name, gap in batch.gaps.items():
            if name in written.gaps_passed_over:
                continue
            if gap.end is None:
                self.open_gaps[name] = gap
            else:
                self.open_gaps.pop(name, None)
        if written.notes is not None:
            self.notes = written.notes
        self._counted |= written.counted
        self.states |= batch.states
        if batch.heartbeat is not None:
            self._elapsed = batch.heartbeat.elapsed
        if batch.prune_before is not None:
            self._forget(batch.prune_before)

    def _take_outage(self, outage: Outage) -> None:
        if outage.ongoing:
            self.ongoing[outage.id] = outage
            return
        self.ongoing.pop(outage.id, None)
        if outage.scope in PAST_SCOPES and outage.outage_class is OutageClass.OUTAGE:
            key = outage.scope, outage.name
            past = [other for other in self.past.get(key, ()) if other.id != outage.id]
            past.append(outage)
            past.sort(key=lambda one: (one.start, one.id), reverse=True)
            self.past[key] = past[:PAST_KEPT]

    def _forget(self, before: float) -> None:
        for key, past in self.past.items():
            self.past[key] = [one for one in past if (one.ended_by or one.ended_after) >= before]
