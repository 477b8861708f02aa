"""What the ledger shows: facts that are on the disk, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

from prober.judge.records import Outage, OutageClass
from prober.ledger.batch import Batch, Written
from prober.ledger.storage import PAST_KEPT, PAST_SCOPES, Restored
from prober.ledger.totals import NEVER, NOTHING, Counted, Key, ScopeState, Totals, after_absence


class View:
    """The committed facts that metrics and the API need at any moment, in memory."""

    def __init__(self, restored: Restored) -> None:
        self.ongoing = {outage.id: outage for outage in restored.open_outages}
        self._ongoing_at: dict[Key, Outage] = {(one.scope, one.name): one for one in restored.open_outages}
        self.open_gaps = {gap.id: gap for gap in restored.open_gaps}
        self.past = {key: list(outages) for key, outages in restored.past.items()}
        self.notes = restored.notes
        self.states = after_absence(restored.states, restored.elapsed)
        self._counted = dict(restored.totals)
        self.elapsed = restored.elapsed
        """The ledger's own clock at the last heartbeat that was written."""
        self.version = 0
        """Another one whenever something of a scope has changed."""

    def totals(self, key: Key) -> Totals:
        """Counted up to the last heartbeat that was written."""
        counted = self._counted.get(key, NOTHING)
        state = self.states.get(key, NEVER).at(self.elapsed)
        return Totals(
            counted.blips,
            counted.outages,
            counted.outage_seconds,
            state.up_seconds,
            state.down_seconds,
            state.unknown_seconds,
        )

    def ongoing_at(self, keys: Iterable[Key]) -> Iterator[Outage | None]:
        """The open outage of each of these scopes."""
        return map(self._ongoing_at.get, keys)

    def counted(self, keys: Iterable[Key]) -> Iterator[Counted]:
        """What outages add up to, of each of these scopes."""
        return map(self._counted.get, keys, repeat(NOTHING))

    def states_of(self, keys: Iterable[Key]) -> Iterator[ScopeState]:
        """The seconds in each state, as they were when the state changed last, of each of these scopes."""
        return map(self.states.get, keys, repeat(NEVER))

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
        if batch.outages or batch.states or written.counted or batch.prune_before is not None:
            self.version += 1
        self._counted |= written.counted
        self.states |= batch.states
        if batch.heartbeat is not None:
            self.elapsed = batch.heartbeat.elapsed
        if batch.prune_before is not None:
            self._forget(batch.prune_before)

    def _take_outage(self, outage: Outage) -> None:
        key = outage.scope, outage.name
        other = self._ongoing_at.get(key)
        if outage.ongoing:
            self.ongoing[outage.id] = outage
            if other is None or other.id == outage.id or other.start <= outage.start:
                self._ongoing_at[key] = outage
            return
        self.ongoing.pop(outage.id, None)
        if other is not None and other.id == outage.id:
            del self._ongoing_at[key]
        if outage.scope in PAST_SCOPES and outage.outage_class is OutageClass.OUTAGE:
            past = [other for other in self.past.get(key, ()) if other.id != outage.id]
            past.append(outage)
            past.sort(key=lambda one: (one.start, one.id), reverse=True)
            self.past[key] = past[:PAST_KEPT]

    def _forget(self, before: float) -> None:
        for key, past in self.past.items():
            self.past[key] = [one for one in past if (one.ended_by or one.ended_after) >= before]
