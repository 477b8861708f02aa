"""Questions to a ledger, also to one that a running agent writes, and to a copy on a read-only disk."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from prober.judge.records import Gap, Outage, Scope
from prober.ledger.files import broken, ledger_file, reading, told, version_of
from prober.ledger.schema import GAP_COLUMNS, OUTAGE_COLUMNS, columns, gap_of, outage_of
from prober.printable import printable

Opener = Callable[[], AbstractContextManager[sqlite3.Connection]]


class Mark(NamedTuple):
    """As much of an outage as a timeline needs."""

    id: str
    scope: Scope
    name: str
    start: float
    end: float | None  # None: it goes on, or nobody knows
    ended_after: float
    ongoing: bool
    outage_class: str
    degraded_since: float | None
    detected_at: float


_MARK_COLUMNS: Final = (
    "id", "scope", "name", "start", "end", "ended_after", "ongoing", "class", "degraded_since", "detected_at",
)  # fmt: skip


SILENT_SECONDS: Final = 15.0
"""Three heartbeats. After so long the agent is not running, or its ledger cannot be written."""


class LastWord(NamedTuple):
    """Until when a ledger tells of what goes on."""

    beat: float  # the last heartbeat, Unix seconds
    running: bool  # whether its agent is

    def now(self, utc: float) -> float:
        """The moment that "so far" means: now (`utc`) while the agent runs, else its last heartbeat."""
        return utc if self.running else self.beat


def last_word(beat: float, utc: float) -> LastWord:
    """What the last heartbeat says at `utc`."""
    return LastWord(beat, abs(utc - beat) <= SILENT_SECONDS)


def read_last_word(path: Path, utc: float) -> LastWord | None:
    """`last_word` of the ledger in directory (or file) `path`; None: no agent has run on it. Raises LedgerError."""
    file = ledger_file(path)
    beats = _ask(file, partial(reading, file), 'SELECT "utc" FROM heartbeat', [], "", 1)
    return last_word(beats[0][0], utc) if beats else None


def cursor_after(outage: Outage) -> str:
    """Where the page after this outage begins: opaque, safe in a URL."""
    return base64.urlsafe_b64encode(json.dumps([outage.start, outage.id]).encode()).decode().rstrip("=")


def parse_cursor(text: str) -> tuple[float, str]:
    """Start and id of the outage that was shown last. Raises ValueError for what `cursor_after` never made."""
    try:
        start, name = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(start, float | int) or not isinstance(name, str):
            raise TypeError
    except (ValueError, TypeError):
        raise ValueError(f'"{printable(text, 40)}" is not a cursor; take it from the page before') from None
    return float(start), name


def read_outages(
    path: Path,
    *,
    since: float | None = None,
    scope: Scope | None = None,
    name: str | None = None,
    entity: str | None = None,
    ongoing: bool = False,
    limit: int | None = None,
    after: str | None = None,
) -> list[Outage]:
    """Outages of the ledger in directory (or file) `path`, newest start first.

    `since` (Unix seconds): those that were not over by then. `ongoing`: only those that are not over at all. `after`:
    the page behind that cursor; pages stay in step while outages are added. Raises LedgerError, and ValueError for a
    cursor that is none.
    """
    file = ledger_file(path)
    return outages_in(
        file,
        partial(reading, file),
        since=since,
        scope=scope,
        name=name,
        entity=entity,
        ongoing=ongoing,
        limit=limit,
        after=after,
    )


def read_gaps(path: Path, *, since: float | None = None, limit: int | None = None) -> list[Gap]:
    """Gaps of the ledger in directory (or file) `path` not over at `since`, newest first. Raises LedgerError."""
    file = ledger_file(path)
    return gaps_in(file, partial(reading, file), since=since, limit=limit)


def outages_in(
    file: Path,
    opener: Opener,
    *,
    since: float | None = None,
    scope: Scope | None = None,
    name: str | None = None,
    entity: str | None = None,
    ongoing: bool = False,
    limit: int | None = None,
    after: str | None = None,
    scopes: Collection[Scope] = (),
    vantage: str | None = None,
    until: float | None = None,
    by_id: str | None = None,
    lasted: bool = False,
) -> list[Outage]:
    """`read_outages` over a connection that `opener` makes.

    `scopes`: any of these. `until`: those that had been detected by then. `lasted`: no blips, and nothing that goes on.
    """
    conditions: list[tuple[str, tuple[Any, ...]]] = [
        (f'"{column}" = ?', (value,))
        for column, value in (("scope", scope), ("name", name), ("entity", entity), ("vantage", vantage), ("id", by_id))
        if value is not None
    ]
    if lasted:
        conditions.append(('"ongoing" = 0 AND "class" = \'outage\'', ()))
    if scopes:
        conditions.append((f'"scope" IN ({", ".join("?" * len(scopes))})', tuple(scopes)))
    if until is not None:
        conditions.append(('"detected_at" <= ?', (until,)))
    if ongoing:
        conditions.append(('"ongoing" = 1', ()))
    if since is not None:
        conditions.append(('("ongoing" = 1 OR max("ended_after", coalesce("ended_by", "ended_after")) >= ?)', (since,)))
    if after is not None:
        conditions.append(('("start", "id") < (?, ?)', parse_cursor(after)))
    order = 'ORDER BY "start" DESC, "id" DESC'
    rows = _ask(file, opener, f"SELECT {columns(OUTAGE_COLUMNS)} FROM outages", conditions, order, limit)
    return [_decoded(file, outage_of, row) for row in rows]


def gaps_in(file: Path, opener: Opener, *, since: float | None = None, limit: int | None = None) -> list[Gap]:
    """`read_gaps` over a connection that `opener` makes."""
    conditions: list[tuple[str, tuple[Any, ...]]] = []
    if since is not None:
        conditions.append(('("end" IS NULL OR "end" >= ?)', (since,)))
    order = 'ORDER BY "begin" DESC, "id" DESC'
    rows = _ask(file, opener, f"SELECT {columns(GAP_COLUMNS)} FROM gaps", conditions, order, limit)
    return [_decoded(file, gap_of, row) for row in rows]


def marks_in(
    file: Path,
    opener: Opener,
    *,
    of: Mapping[Scope, Collection[str] | None],
    since: float,
    until: float | None = None,
    vantage: str | None = None,
    limit: int,
) -> list[Mark]:
    """The outages not over at `since` of these scopes (by name; None: all of that scope), newest first."""
    wanted: list[tuple[str, tuple[Any, ...]]] = [
        ('"scope" = ?', (scope,))
        if names is None
        else (f'("scope" = ? AND "name" IN ({", ".join("?" * len(names))}))', (scope, *names))
        for scope, names in of.items()
    ]
    conditions: list[tuple[str, tuple[Any, ...]]] = [
        (f"({' OR '.join(text for text, _ in wanted)})", tuple(value for _, values in wanted for value in values)),
        ('("ongoing" = 1 OR max("ended_after", coalesce("end", "ended_after")) >= ?)', (since,)),
    ]
    if vantage is not None:
        conditions.append(('"vantage" = ?', (vantage,)))
    if until is not None:
        conditions.append(('"detected_at" <= ?', (until,)))
    order = 'ORDER BY "start" DESC, "id" DESC'
    rows = _ask(file, opener, f"SELECT {columns(_MARK_COLUMNS)} FROM outages", conditions, order, limit)
    return [Mark(*row) for row in rows]


def _ask(
    file: Path,
    opener: Opener,
    select: str,
    conditions: list[tuple[str, tuple[Any, ...]]],
    order: str,
    limit: int | None,
) -> list[tuple[Any, ...]]:
    where = f" WHERE {' AND '.join(text for text, _ in conditions)}" if conditions else ""
    values = [value for _, several in conditions for value in several]
    with told(file), opener() as connection:
        version_of(connection, file)  # what is asked for has been the same since the first version
        # All at once: a reader that dawdles would keep the writer from ever starting its log anew.
        return connection.execute(
            f"{select}{where} {order} LIMIT ?", (*values, -1 if limit is None else limit)
        ).fetchall()


def _decoded(file: Path, decode: Callable[[tuple[Any, ...]], Any], row: tuple[Any, ...]) -> Any:
    try:
        return decode(row)
    except (ValueError, KeyError, TypeError) as error:
        raise broken(file, f"a row that no ledger has: {error}") from None
