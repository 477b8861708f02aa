"""Outages that are one event, and what stands beside them. Pure; times are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from prober.judge.records import Outage
from prober.ledger_cli import when
from prober.page.source import Note
from prober.page.words import counted


def notes_beside(notes: Iterable[Note], entity: str, begin: float, end: float) -> tuple[Note, ...]:
    """The notes to be shown beside an outage of `entity` from `begin` to `end`, or beside the entity itself."""
    return tuple(note for note in notes if note.entity in ("", entity) and begin <= note.at <= end)


def parts_of_event(outages: Iterable[Outage]) -> str:
    """`4 networks and 6 sites`."""
    names = {(one.scope, one.name) for one in outages}
    networks, sites = (sum(scope == wanted for scope, _ in names) for wanted in ("network", "site"))
    counts = (counted(networks, "network") if networks else "", counted(sites, "site") if sites else "")
    return " and ".join(count for count in counts if count)


def is_part(part: Outage, whole: Outage) -> bool:
    """Whether a part was down at the same time as the whole, and by no more than an hour before it."""
    if part.entity != whole.entity or part.vantage != whole.vantage:
        return False
    last = inf if whole.ongoing else max(whole.start, whole.ended_after)
    ended = inf if part.ongoing else part.ended_after
    return whole.start - 3_600 <= part.start <= last and ended >= whole.start


def bounds(outage: Outage) -> str:
    """Between which moments it began and ended."""
    began = f"began {_between(outage.started_after, outage.started_by)}"
    if outage.ongoing:
        return f"{began}; certain until {when(outage.ended_after)}"
    if outage.ended_by is None:
        return f"{began}; certain until {when(outage.ended_after)}, then no longer watched"
    return f"{began}; ended {_between(outage.ended_after, outage.ended_by)}"


def _between(after: float | None, by: float) -> str:
    if after is None:
        return f"before {when(by)}"
    first, last = when(after), when(by)
    return f"between {first} and {last[11:] if first[:10] == last[:10] else last}"
