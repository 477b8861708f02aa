"""The page's facts out of a ledger alone: of a replay, of an agent that is stopped, or as of a moment in the past."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from prober.judge.records import Gap, Outage, Scope, Verdict
from prober.ledger import Heartbeat, LedgerError
from prober.ledger.files import ledger_file, reading, told
from prober.ledger.notes import notes_in
from prober.ledger.read import Opener, gaps_in, outages_in
from prober.ledger.totals import ScopeState
from prober.model import Entity, Network, Site, Target
from prober.page.rings import Course
from prober.page.source import Facts, Key, Known, Note

T = TypeVar("T")

OPEN_MAX: Final = 2_000
"""Outages that are looked at to find what was down at a moment: far more than can be ongoing at a time."""


class LedgerSource:
    """A `Source`. Opened by `open_ledger`."""

    def __init__(self, file: Path, entities: tuple[Entity, ...], vantage: str, at: float | None) -> None:
        self._file = file
        self._entities = entities
        self._vantage = vantage
        self._at = at
        self._found: tuple[tuple[tuple[int, int], ...], Facts] | None = None

    @property
    def version(self) -> int:
        return 0

    def facts(self) -> Facts:
        stamp = _stamp(self._file)  # before it is read: what is written meanwhile makes another one
        if self._found is None or self._found[0] != stamp:
            self._found = stamp, self._read()
        return self._found[1]

    def _read(self) -> Facts:
        kept = _asked(self._file, _kept)
        beat = kept.beat
        newest = outages_in(*self.place(), vantage=self._vantage, limit=1)
        last = beat.utc if beat is not None else newest[0].detected_at if newest else 0.0
        now = last if self._at is None else self._at
        began: dict[tuple[str, str], float] = {
            key: since for key in kept.states if (since := _began(kept, key)) is not None
        }
        ask = partial(outages_in, *self.place(), vantage=self._vantage, until=now)
        ongoing = tuple(seen for one in ask(since=now, limit=OPEN_MAX) if (seen := as_of(one, now)).ongoing)
        gaps = [gap for gap in gaps_in(*self.place(), since=now) if gap.vantage == self._vantage and gap.begin <= now]
        open_gaps = tuple(gap for one in gaps if (gap := gap_as_of(one, now)).end is None)
        entities = self._entities or _entities_of(kept, self._file, self._vantage)
        down = {(one.scope, one.name) for one in ongoing}
        return Facts(
            now=now,
            vantage=self._vantage,
            entities=entities,
            states=_states(entities, down, began, now, blind=bool(open_gaps)),
            ongoing=ongoing,
            open_gaps=open_gaps,
            began=lambda scope, name: began.get((scope, name)),
            fixed=self._at is not None,
            vantages=vantages_in(self._file),
        )

    def place(self) -> tuple[Path, Opener]:
        return self._file, partial(reading, self._file)

    def at_most(self) -> tuple[str | None, float | None]:
        return self._vantage, self._at

    def course(self, keys: Sequence[str], now: float) -> Course | None:
        return None

    def notes(self, since: float, until: float) -> Sequence[Note]:
        return notes_in(*self.place(), since=since, until=until)


def open_ledger(path: Path, entities: tuple[Entity, ...], vantage: str | None, at: float | None) -> LedgerSource:
    """The ledger in directory (or file) `path` as a source. Raises LedgerError."""
    file = ledger_file(path)
    names = vantages_in(file)
    if _asked(file, _kept).beat is None and not names:
        raise LedgerError(f"{file}: holds nothing yet; run the agent with this directory for a while")
    if vantage is not None and vantage not in names:
        known = ", ".join(names) or "none"
        raise LedgerError(f"{file}: has no record of a vantage {vantage}; it has: {known}")
    chosen = vantage if vantage is not None else names[0] if names else file.parent.name or file.name
    return LedgerSource(file, entities, chosen, at)


def as_of(outage: Outage, now: float) -> Outage:
    """The outage as it stood at `now`: not over, if it ended later, and without what was counted up to its end."""
    if outage.ongoing and outage.ended_after <= now:
        return outage
    end = outage.ended_after if outage.ended_by is None else outage.ended_by
    if not outage.ongoing and end <= now:
        if outage.restored_full is None or outage.restored_full <= now:
            return outage
        return replace(outage, restored_full=None, members={})
    return replace(
        outage,
        ongoing=True,
        end=None,
        ended_by=None,
        restored_full=None,
        ended_after=max(outage.started_by, min(outage.ended_after, now)),
        failures={},
        members={},
        unobserved_seconds=0.0,
        note="",
    )


def gap_as_of(gap: Gap, now: float) -> Gap:
    """The gap as it stood at `now`: not over, if it ended later."""
    return replace(gap, end=None) if gap.end is not None and gap.end > now else gap


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a ledger holds beside its history."""

    beat: Heartbeat | None
    states: Mapping[tuple[str, str], ScopeState]


def _kept(connection: sqlite3.Connection) -> _Kept:
    # `prober.ledger.storage.restore` also reads every outage that an agent wants to know of: ten times the work.
    beat = connection.execute('SELECT "utc", "now", "boot_id", "elapsed" FROM heartbeat').fetchone()
    rows = connection.execute(
        'SELECT "scope", "name", "up_seconds", "down_seconds", "unknown_seconds", "state", "since" FROM totals'
    ).fetchall()
    states = {(scope, name): ScopeState(*state) for scope, name, *state in rows}
    return _Kept(None if beat is None else Heartbeat(*beat), states)


def _stamp(file: Path) -> tuple[tuple[int, int], ...]:
    """Another one whenever the ledger has been written to: into its log (WAL), or from there into the file."""
    found = []
    for one in (file, file.with_name(f"{file.name}-wal")):
        try:
            known = one.stat()
            found.append((known.st_mtime_ns, known.st_size))
        except OSError:  # no log, or a file that is gone: reading it says so
            found.append((0, 0))
    return tuple(found)


def vantages_in(file: Path) -> tuple[str, ...]:
    """The vantages whose records a ledger has."""
    found = _asked(
        file,
        lambda connection: connection.execute(
            'SELECT DISTINCT "vantage" FROM outages UNION SELECT DISTINCT "vantage" FROM gaps ORDER BY 1'
        ).fetchall(),
    )
    return tuple(row[0] for row in found)


def _asked(file: Path, question: Callable[[sqlite3.Connection], T]) -> T:
    with told(file), reading(file) as connection:
        return question(connection)


def _began(kept: _Kept, key: tuple[str, str]) -> float | None:
    """Since when a scope has been watched, if it was ever seen; as far as the totals tell."""
    beat, row = kept.beat, kept.states[key]
    if beat is None:
        return None
    row = row.at(beat.elapsed) if row.state is not None else row
    if row.up_seconds + row.down_seconds <= 0:
        return None
    return beat.utc - (beat.elapsed - row.since) - row.up_seconds - row.down_seconds - row.unknown_seconds


def _states(
    entities: Iterable[Entity], down: set[Key], began: Mapping[tuple[str, str], float], now: float, *, blind: bool
) -> dict[Key, Known]:
    """Verdicts out of records: what is in an outage is down; what is watched and in none is up."""
    found: dict[Key, Known] = {}

    def put(scope: Scope, name: str) -> Known:
        key = scope, name
        if key in down:
            found[key] = Known(Verdict.UNKNOWN if blind else Verdict.DOWN, False)
        elif key in began and began[key] <= now:
            found[key] = Known(Verdict.UNKNOWN if blind else Verdict.UP, True)
        else:
            found[key] = Known(Verdict.UNKNOWN, None)
        return found[key]

    for entity in entities:
        for target in entity.targets:
            put("target", target.name)
            for check in target.checks:
                put("check", check.key)
        sites = [put("site", site.name) for site in entity.sites]
        networks = [put("network", network.name) for network in entity.networks]
        whole = put("entity", entity.name)
        if whole.verdict is Verdict.DOWN:
            found["entity", entity.name] = Known(Verdict.DARK, False)
        elif whole.verdict is Verdict.UP and any(part.verdict is Verdict.DOWN for part in networks or sites):
            found["entity", entity.name] = Known(Verdict.PARTIAL, True)
    return found


def _entities_of(kept: _Kept, file: Path, vantage: str) -> tuple[Entity, ...]:
    """What a ledger knows of its scopes, where no targets file says it: names, and whose they are."""
    rows = _asked(
        file,
        lambda connection: connection.execute(
            'SELECT DISTINCT "scope", "name", "entity" FROM outages WHERE "vantage" = ?', (vantage,)
        ).fetchall(),
    )
    owner: dict[tuple[str, str], str] = {(scope, name): entity for scope, name, entity in rows}
    names = sorted({entity for *_, entity in rows} | {name for scope, name in kept.states if scope == "entity"})
    if len(names) == 1:
        owner |= dict.fromkeys(kept.states, names[0])
    entities = []
    for name in names:
        parts = sorted(key for key, entity in owner.items() if entity == name)
        entities.append(
            Entity(
                name,
                networks=tuple(Network(part, name, "") for scope, part in parts if scope == "network"),
                sites=tuple(Site(part, name) for scope, part in parts if scope == "site"),
                targets=tuple(Target(part, name, ()) for scope, part in parts if scope == "target"),
            )
        )
    return tuple(entities)
