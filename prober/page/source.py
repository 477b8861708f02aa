"""What the page shows, wherever it is from: a running agent, or a ledger alone. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from prober.judge.records import Gap, Outage, Scope, Verdict
from prober.ledger.read import Opener
from prober.model import Entity
from prober.page.rings import Course
from prober.scopes import Standing

Key: TypeAlias = tuple[Scope, str]
"""Scope and name."""


class Note(Protocol):
    """A dated remark from outside. It stands beside what was measured and never is part of it."""

    @property
    def at(self) -> float: ...
    @property
    def entity(self) -> str: ...  # empty: about everything
    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def added_at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a scope. `up` is the last verdict, held while unknown; None: never known."""

    verdict: Verdict
    up: bool | None


UNKNOWN = Known(Verdict.UNKNOWN, None)


@dataclass(frozen=True, slots=True)
class Witness:
    """A network of references: whether it answers is how the vantage knows that it can see."""

    name: str
    losses: int  # in a row
    last_ok: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at one moment."""

    now: float
    vantage: str
    entities: tuple[Entity, ...]
    states: Mapping[Key, Standing]
    ongoing: tuple[Outage, ...]
    open_gaps: tuple[Gap, ...]
    began: Callable[[Scope, str], float | None]
    """Since when a scope is watched; None: not known, or never seen up."""
    observer_up: bool | None = None  # None: a ledger does not say
    witnesses: tuple[Witness, ...] = ()
    ledger_trouble: str = ""  # why nothing can be written; empty: it can
    live: bool = False  # from a running agent
    fixed: bool = False  # as of a moment that was asked for
    vantages: tuple[str, ...] = ()  # all that the ledger has records of
    version: int = 0  # of the source, when it was asked
    links: tuple[tuple[str, str], ...] = ()  # further pages: path and what it is

    def known(self, scope: Scope, name: str) -> Standing:
        """What is known of a scope."""
        return self.states.get((scope, name), UNKNOWN)


class Source(Protocol):
    """Where the facts are from."""

    @property
    def version(self) -> int:
        """Another one whenever something has changed."""
        ...

    def facts(self) -> Facts:
        """What is known now. On the event loop's thread, and quick."""
        ...

    def place(self) -> tuple[Path, Opener]:
        """The ledger's file and what opens it, for a thread."""
        ...

    def at_most(self) -> tuple[str | None, float | None]:
        """Records of this vantage alone, and only what had been detected by then; None: of all, and everything."""
        ...

    def course(self, keys: Sequence[str], now: float) -> Course | None:
        """Round trips and loss of these checks in the last day, together; None: not measured here."""
        ...

    def notes(self, since: float, until: float) -> Sequence[Note]:
        """Remarks from outside with a date in that time, in a thread. Raises LedgerError."""
        ...
