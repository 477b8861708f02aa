"""Ledgers as vantages: their records, and when their agents watched what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prober.judge.records import Gap, Outage
from prober.ledger import LedgerError, read_gaps, read_outages
from prober.ledger.files import NoLedger, broken, ledger_file, reading, told
from prober.ledger.read import outages_in
from prober.ledger.storage import Restored, restore
from prober.ledger.totals import never_up
from prober.report.report import ORDER, Key, Vantage
from prober.report.spans import Span


def from_ledgers(paths: Iterable[Path]) -> list[Vantage]:
    """The vantages whose ledgers these files or directories are. Raises LedgerError."""
    found: dict[str, Vantage] = {}
    for path in paths:
        try:
            vantages = _vantages(path)
        except NoLedger as error:
            remedy = "name the data directory of an agent, or its ledger file, with --ledger"
            raise NoLedger(error.path, remedy) from None
        for vantage in vantages:
            if vantage.name in found:
                raise LedgerError(
                    f"{ledger_file(path)}: there is a vantage {vantage.name} in another of these ledgers already; "
                    "give each agent a name of its own (vantage: in the settings), or name each ledger once"
                )
            found[vantage.name] = vantage
    return list(found.values())


def _vantages(path: Path) -> list[Vantage]:
    file = ledger_file(path)
    outages, gaps, kept = read_outages(path), read_gaps(path), restored(file)
    beat = kept.last_heartbeat
    times = [outage.ended_after if outage.ended_by is None else outage.ended_by for outage in outages]
    times += [gap.begin if gap.end is None else gap.end for gap in gaps]
    begins = [outage.start for outage in outages] + [gap.begin for gap in gaps]
    last = max([*times, *([beat.utc] if beat is not None else [])], default=0.0)
    first = min([*begins, *([beat.utc - beat.elapsed] if beat is not None else [])], default=last)
    seen = _seen(kept, first, last)
    snapshot = kept.snapshot or {}
    several = snapshot.get("vantages")
    if several is None:
        # one agent: if its vantage was renamed, the older records are its own, too
        newest: list[Outage | Gap] = [*outages[:1], *gaps[:1]]
        named = max(newest, key=_begin).vantage if newest else str(file.parent.name or file.name)
        return [Vantage(str(snapshot.get("vantage") or named), tuple(outages), tuple(gaps), first, last, seen=seen)]
    try:
        unseen = {str(name): {(scope, thing) for scope, thing in never} for name, never in several.items()}
    except (AttributeError, TypeError, ValueError):
        raise broken(file, "it names its vantages as no replay does") from None
    return [
        Vantage(
            name,
            tuple(one for one in outages if one.vantage == name),
            tuple(one for one in gaps if one.vantage == name),
            first,
            last,
            seen=None if seen is None else {key: spans for key, spans in seen.items() if key not in never},
        )
        for name, never in unseen.items()
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one vantage had seen when its ledger ended."""

    file: Path
    vantage: str  # empty: nothing says its name
    vantages: tuple[str, ...]  # all that the ledger is of
    several: bool
    states: Mapping[tuple[str, str], str]
    ongoing: tuple[Outage, ...]
    gaps: tuple[Gap, ...]  # those that are not over

    def last(self, entity: str) -> Outage | None:
        """The entity's last outage that is over, no blip. Raises LedgerError."""
        mine = self.vantage if self.several else None
        found = outages_in(
            self.file, partial(reading, self.file), scope="entity", name=entity, vantage=mine, lasted=True, limit=1
        )
        return found[0] if found else None


def seen_by(file: Path, kept: Restored, vantage: str | None = None) -> Seen:
    """What `vantage` had seen; None: the only one, or the first by name. Raises LedgerError if there is no such."""
    several = (kept.snapshot or {}).get("vantages")
    if several is None:
        newest: list[Outage | Gap] = [*read_outages(file, limit=1), *read_gaps(file, limit=1)]
        named = max(newest, key=_begin).vantage if newest else ""
        names = [str((kept.snapshot or {}).get("vantage") or named)]
    elif isinstance(several, Mapping) and several:
        names = sorted(map(str, several))
    else:
        raise broken(file, "it names its vantages as no replay does")
    if vantage is not None and vantage not in names:
        raise LedgerError(f"{file}: is not of a vantage {vantage}; it is of: {', '.join(names) or 'none'}")
    name = names[0] if vantage is None else vantage
    states = {key: row.state for key, row in kept.states.items() if row.state is not None}
    if several is None:
        # one agent: if its vantage was renamed, the older records are its own, too
        return Seen(file, name, tuple(names), False, states, tuple(kept.open_outages), tuple(kept.open_gaps))
    # The states are those of any of them: of this one only its records are.
    ongoing = tuple(one for one in kept.open_outages if one.vantage == name)
    try:
        never = {(scope, thing) for scope, thing in several[name]}
    except (TypeError, ValueError):
        raise broken(file, "it names its vantages as no replay does") from None
    down = {(one.scope, one.name) for one in ongoing}
    mine = {key: "down" if key in down else "unknown" if key in never else "up" for key in states}
    gaps = tuple(one for one in kept.open_gaps if one.vantage == name)
    return Seen(file, name, tuple(names), True, mine, ongoing, gaps)


def _begin(record: Outage | Gap) -> float:
    return record.start if isinstance(record, Outage) else record.begin


def restored(file: Path) -> Restored:
    """What stands in a ledger. Raises LedgerError."""
    with told(file), reading(file) as connection:
        return restore(connection)


def _seen(kept: Restored, first: float, last: float) -> dict[Key, tuple[Span, ...]] | None:
    """When each scope was watched: from when it was configured on, unless it never was seen; None: not known."""
    beat = kept.last_heartbeat
    if beat is None or not kept.states:
        return None
    found: dict[Key, tuple[Span, ...]] = {}
    unseen = set(never_up(kept.states))
    for (scope, name), row in kept.states.items():
        if (scope, name) in unseen:
            continue
        now = row if row.state is None else row.at(beat.elapsed)
        end = beat.utc - (beat.elapsed - now.since)
        begin = end - (now.up_seconds + now.down_seconds + now.unknown_seconds)
        watched = ((max(first, begin), last if row.state is not None else min(last, end)),)
        found |= {(known, name): watched for known in ORDER if known == scope}
    return found
