"""What waits to be written, and the transaction that writes it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from prober.judge.records import Gap, Outage, OutageClass
from prober.ledger.notes import Note
from prober.ledger.schema import GAP_COLUMNS, OUTAGE_COLUMNS, gap_row, outage_row, upsert
from prober.ledger.totals import Counted, Key, ScopeState

_PIECE_CHARACTERS: Final = 16_384
_PIECE_PAUSE_SECONDS: Final = 0.001
_PARTS_DEPTH: Final = 4
"""A state has parts, these have sections, and these have what may be `Encoded` already."""
_PART_OUTAGES: Final = 2_000
"""So many at once: the event loop has to take in what was written, and must not stand still over it."""

_OUTAGE: Final = upsert("outages", ["id"], [*OUTAGE_COLUMNS, "class", "counted", "counted_seconds"])
_GAP: Final = upsert("gaps", ["id"], GAP_COLUMNS)
_COUNTED: Final = upsert("totals", ["scope", "name"], ["scope", "name", "blips", "outages", "outage_seconds"])
_COUNTED_BEFORE: Final = 'SELECT "blips", "outages", "outage_seconds" FROM totals WHERE "scope" = ? AND "name" = ?'
_STATE: Final = upsert(
    "totals",
    ["scope", "name"],
    ["scope", "name", "up_seconds", "down_seconds", "unknown_seconds", "state", "since"],
)
_HEARTBEAT: Final = upsert("heartbeat", ["only"], ["only", "utc", "now", "boot_id", "elapsed"])
_SNAPSHOT: Final = upsert("snapshots", ["only"], ["only", "utc", "state"])
OUTAGE_ENDED: Final = '"ongoing" = 0 AND max("ended_after", coalesce("ended_by", "ended_after"))'

_SPOILED: Final = (ValueError, TypeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""What the binding raises for a value that no database could hold: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life: Unix time, the runner's clock in which boot, and the ledger's own clock, all at one moment."""

    utc: float
    now: float
    boot_id: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class OutageEntry:
    """An outage to be written. One that is no event (the progress of an open one) may be dropped for a newer one."""

    outage: Outage
    event: bool = True

    def then(self, newer: OutageEntry) -> OutageEntry:
        """Both in one: the last word counts, and what is closed stays closed."""
        if newer.outage.ongoing and not self.outage.ongoing:
            return self
        return OutageEntry(newer.outage, self.event or newer.event)


class Snapshot:
    """The judge's state, turned into bytes once, in the writer's thread."""

    def __init__(self, state: Mapping[str, Any], utc: float) -> None:
        self._state: Mapping[str, Any] | None = state
        self._bytes = b""
        self.utc = utc

    def packed(self) -> bytes:
        """Deflated JSON. Raises TypeError or ValueError if it holds something else than JSON can."""
        if self._state is not None:
            state, self._state = self._state, None
            self._bytes = b"".join(_deflated(state))
        return self._bytes


class Encoded(str):
    """A part of a snapshot that is JSON already."""

    @classmethod
    def of(cls, value: object) -> Encoded:
        """Raises TypeError or ValueError if it holds something else than JSON can."""
        return cls(_json(value))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _deflated(state: Mapping[str, Any]) -> Iterator[bytes]:
    deflate = zlib.compressobj(1)
    for text in _pieces(state):
        yield deflate.compress(text.encode("utf-8", "surrogatepass"))
        if len(text) >= _PIECE_CHARACTERS:
            # Let the event loop run: whoever computes in a thread gets the interpreter back at each of the loop's
            # system calls, and keeps it for a while then. Only sleep gives it away.
            time.sleep(_PIECE_PAUSE_SECONDS)
    yield deflate.flush()


def _pieces(state: object) -> Iterator[str]:
    """JSON in pieces of about _PIECE_CHARACTERS, each the work of a millisecond or less."""
    parts: list[str] = []
    size = 0
    for part in _parts(state, depth=_PARTS_DEPTH):
        parts.append(part)
        size += len(part)
        if size >= _PIECE_CHARACTERS:
            yield "".join(parts)
            parts.clear()
            size = 0
    yield "".join(parts)


def _parts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, Encoded):
        yield value
        return
    if depth == 0 or not isinstance(value, Mapping | list):
        if isinstance(value, Mapping) and any(isinstance(member, Encoded) for member in value.values()):
            raise TypeError("what is encoded already lies too deep")
        yield _json(value)
        return
    comma = ""
    if isinstance(value, list):
        yield "["
        for member in value:
            yield comma
            yield from _parts(member, depth - 1)
            comma = ","
        yield "]"
        return
    yield "{"
    for key, member in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{key!r} is no key of a JSON object")
        yield f"{comma}{json.dumps(key)}:"
        yield from _parts(member, depth - 1)
        comma = ","
    yield "}"


def unpacked(blob: bytes) -> dict[str, Any]:
    """The state out of a snapshot's bytes. Raises ValueError."""
    try:
        state = json.loads(zlib.decompress(blob).decode("utf-8", "surrogatepass"))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not isinstance(state, dict):
        raise ValueError("no object")
    return state


@dataclass(slots=True)
class Batch:
    """What waits to be written. Records are whole: a newer one of the same id takes the place of the older."""

    outages: dict[str, OutageEntry] = field(default_factory=dict)
    gaps: dict[str, Gap] = field(default_factory=dict)
    states: dict[Key, ScopeState] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    snapshot: Snapshot | None = None
    prune_before: float | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.outages or self.gaps or self.states or self.waiters or self.heartbeat or self.snapshot) or (
            self.prune_before is not None
        )

    @property
    def records(self) -> int:
        """Outages and gaps with something new to say; heartbeats and the like are not missed."""
        return sum(entry.event for entry in self.outages.values()) + len(self.gaps)

    def add_outage(self, entry: OutageEntry) -> None:
        """Take in an outage; what changed last stands last."""
        older = self.outages.pop(entry.outage.id, None)
        self.outages[entry.outage.id] = entry if older is None else older.then(entry)

    def add_gap(self, gap: Gap) -> None:
        """Take in a gap; one that has ended stays so."""
        older = self.gaps.pop(gap.id, None)
        self.gaps[gap.id] = older if older is not None and older.end is not None and gap.end is None else gap

    def split(self) -> tuple[Batch, Batch]:
        """What is to be written next (all, unless it is very much), and what stays.

        Heartbeat and snapshot come with the last part: they must never be in the ledger ahead of events.
        """
        if len(self.outages) <= _PART_OUTAGES:
            return self, Batch()
        first = Batch()
        for name in list(islice(self.outages, _PART_OUTAGES)):
            first.outages[name] = self.outages.pop(name)
        return first, self

    def absorb(self, newer: Batch) -> None:
        """Take in a younger batch. Costs what that one holds, not what this one does."""
        for entry in newer.outages.values():
            self.add_outage(entry)
        for gap in newer.gaps.values():
            self.add_gap(gap)
        self.states |= newer.states
        self.heartbeat = newer.heartbeat or self.heartbeat
        self.snapshot = newer.snapshot or self.snapshot
        if newer.prune_before is not None:
            self.prune_before = newer.prune_before
        self.waiters += newer.waiters


@dataclass(slots=True)
class Written:
    """What a transaction did that the batch does not tell."""

    counted: dict[Key, Counted] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)  # outages whose row was better, or not there to be updated
    gaps_passed_over: set[str] = field(default_factory=set)
    spoiled: list[str] = field(default_factory=list)  # what can never be written, and why
    notes: tuple[Note, ...] | None = None  # the newest ones, if somebody has written any


def write(connection: sqlite3.Connection, batch: Batch) -> Written:
    """Write everything but the snapshot, whole or not at all; it is on the disk on return. Raises sqlite3.Error."""
    written = Written()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for entry in batch.outages.values():
            try:
                _write_outage(connection, entry, written)
            except (*_SPOILED, sqlite3.IntegrityError) as error:
                written.spoiled.append(f"outage {entry.outage.id}: {error}")
                written.passed_over.add(entry.outage.id)
        for gap in batch.gaps.values():
            try:
                _write_gap(connection, gap, written)
            except (*_SPOILED, sqlite3.IntegrityError) as error:
                written.spoiled.append(f"gap {gap.id}: {error}")
                written.gaps_passed_over.add(gap.id)
        connection.executemany(
            _STATE,
            [
                (scope, name, row.up_seconds, row.down_seconds, row.unknown_seconds, row.state, row.since)
                for (scope, name), row in batch.states.items()
            ],
        )
        if batch.heartbeat is not None:
            beat = batch.heartbeat
            connection.execute(_HEARTBEAT, (1, beat.utc, beat.now, beat.boot_id, beat.elapsed))
        if batch.prune_before is not None:
            connection.execute(f"DELETE FROM outages WHERE {OUTAGE_ENDED} < ?", (batch.prune_before,))
            connection.execute('DELETE FROM gaps WHERE "end" < ?', (batch.prune_before,))
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return written


def _write_outage(connection: sqlite3.Connection, entry: OutageEntry, written: Written) -> None:
    outage = entry.outage
    found = connection.execute(
        'SELECT "ongoing", "counted", "counted_seconds" FROM outages WHERE "id" = ?', (outage.id,)
    ).fetchone()
    if found is None and not entry.event:
        written.passed_over.add(outage.id)
        return
    ongoing, counted, seconds = found or (True, 0, 0.0)
    if outage.ongoing and not ongoing:  # an event that comes a second time, after a crash
        written.passed_over.add(outage.id)
        return
    certain = max(seconds, outage.duration_min_seconds)
    ends = not outage.ongoing and not counted
    row = [*outage_row(outage), str(outage.outage_class), int(counted or ends), certain]
    connection.execute(_OUTAGE, row)
    if not ends and certain == seconds:
        return
    key = outage.scope, outage.name
    before = written.counted.get(key) or Counted(
        *(connection.execute(_COUNTED_BEFORE, key).fetchone() or ()),
    )
    total = written.counted[key] = Counted(
        before.blips + (ends and outage.outage_class is OutageClass.BLIP),
        before.outages + (ends and outage.outage_class is OutageClass.OUTAGE),
        before.outage_seconds + certain - seconds,
    )
    connection.execute(_COUNTED, (*key, total.blips, total.outages, total.outage_seconds))


def _write_gap(connection: sqlite3.Connection, gap: Gap, written: Written) -> None:
    found = connection.execute('SELECT "end" FROM gaps WHERE "id" = ?', (gap.id,)).fetchone()
    if found is not None and found[0] is not None and gap.end is None:
        written.gaps_passed_over.add(gap.id)
        return
    connection.execute(_GAP, gap_row(gap))


def write_snapshot(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Write a snapshot, without waiting for the disk: after a power cut the one before is as good.

    Raises sqlite3.Error, and TypeError or ValueError if it is not JSON.
    """
    packed = snapshot.packed()
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        connection.execute(_SNAPSHOT, (1, snapshot.utc, packed))
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # the first error is the one to tell
            connection.execute("ROLLBACK")
