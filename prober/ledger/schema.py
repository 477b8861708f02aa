"""The tables of the ledger, their migrations, and records as rows.

Times are Unix seconds (REAL), except `heartbeat.now` (the runner's clock) and everything on the ledger's own clock
(`heartbeat.elapsed`, `totals.since`): seconds that this ledger has been in use, which no clock step touches and which
goes on over restarts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from prober.judge.records import Gap, GapCause, Outage

APPLICATION_ID: Final = 0x70726F62
"""`prob` in ASCII, in the file's header: another program's database is never taken for a ledger."""

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE outages (
        "id" TEXT PRIMARY KEY,
        "vantage" TEXT NOT NULL,
        "scope" TEXT NOT NULL,
        "name" TEXT NOT NULL,
        "entity" TEXT NOT NULL,
        "started_after" REAL,
        "started_by" REAL NOT NULL,
        "start" REAL NOT NULL,
        "detected_at" REAL NOT NULL,
        "ended_after" REAL NOT NULL,
        "ended_by" REAL,
        "end" REAL,
        "ongoing" INTEGER NOT NULL,
        "onset" TEXT NOT NULL,
        "degraded_since" REAL,
        "failures" TEXT NOT NULL,
        "members" TEXT NOT NULL,
        "frozen" TEXT NOT NULL,
        "blip_seconds" REAL NOT NULL,
        "losses" INTEGER NOT NULL,
        "flaps" INTEGER NOT NULL,
        "unobserved_seconds" REAL NOT NULL,
        "restored_full" REAL,
        "note" TEXT NOT NULL,
        "class" TEXT NOT NULL,
        -- what of this outage is in the totals already: written twice, it still counts once
        "counted" INTEGER NOT NULL,
        "counted_seconds" REAL NOT NULL
    );
    CREATE INDEX outages_by_start ON outages ("start", "id");
    CREATE INDEX outages_by_scope ON outages ("scope", "name", "start");
    CREATE INDEX outages_ongoing ON outages ("id") WHERE "ongoing" = 1;
    CREATE TABLE gaps (
        "id" TEXT PRIMARY KEY,
        "vantage" TEXT NOT NULL,
        "begin" REAL NOT NULL,
        "end" REAL,
        "cause" TEXT NOT NULL,
        "step_seconds" REAL NOT NULL,
        "references" TEXT NOT NULL
    );
    CREATE INDEX gaps_by_begin ON gaps ("begin", "id");
    CREATE TABLE totals (
        "scope" TEXT NOT NULL,
        "name" TEXT NOT NULL,
        "blips" INTEGER NOT NULL DEFAULT 0,
        "outages" INTEGER NOT NULL DEFAULT 0,
        "outage_seconds" REAL NOT NULL DEFAULT 0,
        "up_seconds" REAL NOT NULL DEFAULT 0,
        "down_seconds" REAL NOT NULL DEFAULT 0,
        "unknown_seconds" REAL NOT NULL DEFAULT 0,
        "state" TEXT,  -- up, down, unknown; NULL: not configured (any more)
        "since" REAL NOT NULL DEFAULT 0,
        PRIMARY KEY ("scope", "name")
    ) WITHOUT ROWID;
    CREATE TABLE heartbeat (
        "only" INTEGER PRIMARY KEY CHECK ("only" = 1),
        "utc" REAL NOT NULL,
        "now" REAL NOT NULL,
        "boot_id" TEXT NOT NULL,
        "elapsed" REAL NOT NULL
    );
    CREATE TABLE snapshots (
        "only" INTEGER PRIMARY KEY CHECK ("only" = 1),
        "utc" REAL NOT NULL,
        "state" BLOB NOT NULL  -- JSON, deflated (RFC 1950)
    );
    """,
    """
    CREATE TABLE notes (
        "id" TEXT PRIMARY KEY,
        "at" REAL NOT NULL,
        "until" REAL,  -- NULL: about a moment
        "entity" TEXT NOT NULL,  -- empty: about all
        "text" TEXT NOT NULL,
        "source" TEXT NOT NULL,
        "link" TEXT NOT NULL,
        "added_at" REAL NOT NULL
    );
    CREATE INDEX notes_by_at ON notes ("at", "id");
    """,
)
"""Migration n makes version n + 1 out of version n. What was released is never changed, only followed."""

VERSION: Final = len(MIGRATIONS)
NOTES_SINCE: Final = 2
"""The version that brought the table `notes`."""

OUTAGE_COLUMNS: Final = tuple(field.name for field in fields(Outage))
GAP_COLUMNS: Final = tuple(field.name for field in fields(Gap))

_JSON_COLUMNS: Final = frozenset({"failures", "members", "frozen"})


def columns(names: Sequence[str]) -> str:
    """Quoted: `end` and `references` are words of SQL."""
    return ", ".join(f'"{name}"' for name in names)


def upsert(table: str, key: Sequence[str], names: Sequence[str]) -> str:
    """A statement that writes a row, whether it is there already or not."""
    marks = ", ".join("?" * len(names))
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in key)
    return (
        f"INSERT INTO {table} ({columns(names)}) VALUES ({marks}) ON CONFLICT ({columns(key)}) DO UPDATE SET {changes}"
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to VERSION, each step whole or not at all. Raises sqlite3.Error."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number in range(version, VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def statements(script: str) -> list[str]:
    """The single statements of a script. `executescript` would commit between them."""
    found, start = [], 0
    for end, character in enumerate(script):
        if character == ";" and sqlite3.complete_statement(script[start : end + 1]):
            found.append(script[start : end + 1])
            start = end + 1
    return found


def outage_row(outage: Outage) -> list[Any]:
    """The values of OUTAGE_COLUMNS."""
    return [
        _compact(getattr(outage, name)) if name in _JSON_COLUMNS else getattr(outage, name) for name in OUTAGE_COLUMNS
    ]


def outage_of(row: Sequence[Any]) -> Outage:
    """The outage out of the values of OUTAGE_COLUMNS, exactly as it was. Raises ValueError."""
    state = dict(zip(OUTAGE_COLUMNS, row, strict=True))
    state |= {name: json.loads(state[name]) for name in _JSON_COLUMNS}
    return Outage.from_state(state | {"ongoing": bool(state["ongoing"])})


def gap_row(gap: Gap) -> list[Any]:
    """The values of GAP_COLUMNS."""
    return [_compact(getattr(gap, name)) if name == "references" else getattr(gap, name) for name in GAP_COLUMNS]


def gap_of(row: Sequence[Any]) -> Gap:
    """The gap out of the values of GAP_COLUMNS. Raises ValueError."""
    state = dict(zip(GAP_COLUMNS, row, strict=True))
    return Gap(**state | {"cause": GapCause(state["cause"]), "references": tuple(json.loads(state["references"]))})


def _compact(value: Mapping[str, int] | tuple[str, ...]) -> str:
    plain = dict(value) if isinstance(value, Mapping) else list(value)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
