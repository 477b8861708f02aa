"""Questions to the ledger for one page, in a thread and over one connection. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from prober.judge.records import Gap, Outage, Scope
from prober.ledger.read import Mark, Opener, gaps_in, marks_in, outages_in
from prober.page.ledger import as_of, gap_as_of
from prober.page.source import Facts, Source

MARKS_MAX: Final = 20_000
"""Outages that the strips of a page are made of: the newest."""
GAPS_MAX: Final = 2_000


class History:
    """What is on record as of `facts.now`. Every method may raise LedgerError."""

    def __init__(self, source: Source, facts: Facts, opener: Opener) -> None:
        self._file, _ = source.place()
        self._opener = opener
        self._vantage, self._until = source.at_most()
        self._now = facts.now
        self._current = {outage.id: outage for outage in facts.ongoing}

    def outages(self, **filters: Any) -> list[Outage]:
        """As `prober.ledger.read.outages_in`; what is ongoing as far as it has come by now."""
        if filters.get("ongoing") and self._until is not None:
            return self._open(filters)
        found = outages_in(self._file, self._opener, vantage=self._vantage, until=self._until, **filters)
        return [self._as_of_now(outage) for outage in found]

    def _open(self, filters: Mapping[str, Any]) -> list[Outage]:
        """What goes on at a moment in the past is over in the ledger."""
        if filters.get("after"):
            return []  # there is one page of them
        wanted = {key: filters[key] for key in ("scope", "name", "entity") if filters.get(key) is not None}
        found = [one for one in self._current.values() if all(getattr(one, key) == wanted[key] for key in wanted)]
        return found[: filters.get("limit")]

    def _as_of_now(self, outage: Outage) -> Outage:
        if outage.ongoing and outage.id in self._current:
            return self._current[outage.id]
        return outage if self._until is None else as_of(outage, self._until)

    def marks(self, of: Mapping[Scope, Collection[str] | None], since: float) -> list[Mark]:
        """As `prober.ledger.read.marks_in`."""
        found = marks_in(
            self._file, self._opener, of=of, since=since, until=self._until, vantage=self._vantage, limit=MARKS_MAX
        )
        if self._until is None:
            return found
        return [
            mark if mark.end is None or mark.end <= self._now else mark._replace(end=None, ongoing=True)
            for mark in found
        ]

    def gaps(self, since: float) -> list[Gap]:
        """Gaps of the vantage not over at `since`, newest first."""
        found = gaps_in(self._file, self._opener, since=since, limit=GAPS_MAX)
        known = [gap for gap in found if self._vantage in (None, gap.vantage) and gap.begin <= self._now]
        return known if self._until is None else [gap_as_of(gap, self._until) for gap in known]


class NoHistory(History):
    """In the place of a ledger that cannot be read: what is ongoing is known all the same."""

    def __init__(self, source: Source, facts: Facts) -> None:
        super().__init__(source, facts, source.place()[1])

    def outages(self, **filters: Any) -> list[Outage]:
        return [] if filters.get("lasted") or filters.get("by_id") else self._open(filters)

    def marks(self, of: Mapping[Scope, Collection[str] | None], since: float) -> list[Mark]:
        return []

    def gaps(self, since: float) -> list[Gap]:
        return []


@contextmanager
def asking(source: Source, facts: Facts) -> Iterator[History]:
    """A `History` over one connection. Raises LedgerError, sqlite3.Error or OSError if the ledger cannot be opened."""
    _, opener = source.place()
    with opener() as connection:
        yield History(source, facts, lambda: nullcontext(connection))
