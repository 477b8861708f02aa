"""The page's facts out of a running agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path

from prober.judge.records import Outage, Scope
from prober.judging import Judging
from prober.ledger.notes import notes_in
from prober.ledger.read import Opener
from prober.model import Entity
from prober.page.rings import Course, Rings
from prober.page.source import Facts, Note, Witness


class AgentSource:
    """A `Source`."""

    def __init__(
        self,
        vantage: str,
        judging: Judging,
        entities: Callable[[], tuple[Entity, ...]],
        rings: Rings,
        links: Callable[[], tuple[tuple[str, str], ...]],
    ) -> None:
        self._vantage = vantage
        self._judging = judging
        self._entities = entities
        self._rings = rings
        self._links = links

    @property
    def version(self) -> int:
        return self._judging.version

    def facts(self) -> Facts:
        judging = self._judging
        ledger = judging.ledger
        trouble = "" if ledger.writable else ledger.failing_reason or "it cannot be written"
        return Facts(
            now=judging.utc(),
            vantage=self._vantage,
            entities=self._entities(),
            states=judging.shown.copy(),
            ongoing=self._ongoing(),
            open_gaps=tuple(ledger.open_gaps()),
            began=self._began,
            observer_up=judging.judge.observer_up if judging.reference_count else None,
            witnesses=self._witnesses(),
            ledger_trouble=trouble,
            live=True,
            vantages=(self._vantage,),
            links=self._links(),
        )

    def _ongoing(self) -> tuple[Outage, ...]:
        """What is on the disk as ongoing, as far as it is certain by now: the disk has that of the last heartbeat."""
        current = {outage.id: outage for outage in self._judging.judge.ongoing()}
        return tuple(current.get(outage.id, outage) for outage in self._judging.ongoing())

    def _began(self, scope: Scope, name: str) -> float | None:
        totals = self._judging.ledger.totals(scope, name)
        if totals.up_seconds + totals.down_seconds <= 0:
            return None
        return self._judging.utc() - totals.up_seconds - totals.down_seconds - totals.unknown_seconds

    def _witnesses(self) -> tuple[Witness, ...]:
        offset = self._judging.judge.utc_offset
        found: dict[str, Witness] = {}
        for observer in self._judging.judge.watch.observers.values():
            for network in observer.reach.networks:
                last = network.last_ok + offset if isfinite(network.last_ok) else None
                found[network.name] = Witness(network.name, network.losses, last)
        return tuple(found[name] for name in sorted(found))

    def place(self) -> tuple[Path, Opener]:
        return self._judging.ledger.place

    def at_most(self) -> tuple[str | None, float | None]:
        return None, None

    def course(self, keys: Sequence[str], now: float) -> Course | None:
        return self._rings.course(keys, now)

    def notes(self, since: float, until: float) -> Sequence[Note]:
        return notes_in(*self.place(), since=since, until=until)
