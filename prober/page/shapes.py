"""What the templates are given: plain values."""

from __future__ import annotations

from dataclasses import dataclass

from prober.judge.records import Scope
from prober.page.source import Note
from prober.page.timeline import Strip


@dataclass(frozen=True, slots=True)
class Ongoing:
    """An outage that goes on."""

    title: str
    scope: Scope
    href: str
    word: str
    start: float
    clock: str
    since: str
    facts: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A sparkline: points in a box of COLUMNS times 20, and what it says."""

    path: str
    losses: tuple[tuple[int, float], ...]  # column, height
    rtt: str
    loss: str
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """A scope with its strip."""

    title: str
    about: str
    look: str
    word: str
    strip: Strip
    curve: Curve | None
    href: str = ""
    inner: bool = False  # a part of the row above


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one kind."""

    caption: str
    rows: tuple[Row, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class EntityView:
    """An entity."""

    name: str
    title: str
    anchor: str
    path: str  # the name as a part of an address
    href: str
    look: str
    word: str
    since: bool  # whether `rest` goes on in the same sentence
    rest: str
    whole: Row
    groups: tuple[Group, ...]
    ongoing: tuple[Ongoing, ...]
    ongoing_more: int
    targets: Group | None
    target_count: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class OutageRow:
    """A line of the table of outages."""

    href: str
    start: str
    scope: Scope
    title: str
    duration: str
    look: str
    kind: str
    onset: str
    bounds: str
    reasons: str
    notes: tuple[Note, ...] = ()
    parts: str = ""  # what else was down because of it


@dataclass(frozen=True, slots=True)
class Health:
    """How well this vantage sees."""

    look: str
    word: str
    witnesses: tuple[tuple[str, str, str], ...]  # look, name, what
    gaps: tuple[tuple[str, str, str], ...]  # from, duration, cause
    gap_line: str
    ledger: str
