"""From a data directory to an open ledger: at the start, and again after every failure."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prober.judge.records import Gap, Outage
from prober.ledger.batch import Heartbeat, unpacked
from prober.ledger.files import (
    FILE_NAME,
    DirectoryLock,
    LedgerError,
    checked,
    create,
    exists,
    open_writing,
    passing,
    reading,
)
from prober.ledger.notes import LATEST, Note, read_notes
from prober.ledger.schema import GAP_COLUMNS, OUTAGE_COLUMNS, VERSION, columns, gap_of, migrate, outage_of
from prober.ledger.totals import Counted, Key, ScopeState

PAST_KEPT: Final = 20
"""So many of the newest outages of class `outage` of each entity, network and site are exported."""

PAST_SCOPES: Final = ("entity", "network", "site")


@dataclass(frozen=True, slots=True)
class Absence:
    """How long the agent did not run, as far as the ledger can tell."""

    begin: float  # Unix time of the last sign of life, on today's clock
    seconds: float
    exact: bool  # measured within one boot, by a clock that no one sets
    step_seconds: float = 0.0  # how far UTC was stepped meanwhile; 0 where that cannot be known


@dataclass(slots=True)
class Restored:
    """What a ledger holds for an agent that starts on it."""

    open_outages: list[Outage] = field(default_factory=list)
    open_gaps: list[Gap] = field(default_factory=list)
    snapshot: dict[str, Any] | None = None
    snapshot_at: float | None = None  # Unix time
    last_heartbeat: Heartbeat | None = None
    totals: dict[Key, Counted] = field(default_factory=dict)
    states: dict[Key, ScopeState] = field(default_factory=dict)
    past: dict[Key, list[Outage]] = field(default_factory=dict)  # newest first
    notes: tuple[Note, ...] = ()  # the newest ones
    spoiled_snapshot: str = ""

    @property
    def elapsed(self) -> float:
        """The ledger's own clock at the last sign of life."""
        last = 0.0 if self.last_heartbeat is None else self.last_heartbeat.elapsed
        return max([last, *(row.since for row in self.states.values())])

    def absence(self, now: float, utc: float, boot_id: str) -> Absence | None:
        """The time since the last heartbeat; None if there was none. Never negative.

        Within one boot the runner's clock tells it exactly, whatever was done to UTC; else only UTC can.
        """
        beat = self.last_heartbeat
        if beat is None:
            return None
        if boot_id and beat.boot_id == boot_id and now >= beat.now:
            seconds = now - beat.now
            return Absence(utc - seconds, seconds, True, utc - beat.utc - seconds)
        seconds = max(0.0, utc - beat.utc)
        return Absence(utc - seconds, seconds, False)


class Storage:
    """The ledger of one data directory. `start` once, in any thread; then `connect` and the rest in the writer's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / FILE_NAME
        self._lock = DirectoryLock(directory)
        self._identity: tuple[int, int] | None = None
        self._connected = False
        self._guard = threading.Lock()

    def start(self) -> tuple[Restored, str]:
        """What is there, and why it cannot be written for now (empty: it can). Raises LedgerError if it must not be."""
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> tuple[Restored, str]:
        trouble = ""
        try:
            self._secure()
        except OSError as error:
            trouble = self._excuse(error)
        if not exists(self.path):
            try:
                if not trouble:
                    create(self.path)
                    self._identify()
            except (OSError, sqlite3.Error) as error:
                trouble = self._excuse(error)
            return Restored(), trouble
        try:
            with checked(self.path) as (connection, version):
                restored = restore(connection) if version == VERSION else None
            if restored is None:
                restored = self._upgraded()
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"{self.path}: cannot be read ({describe(error)})") from None
        self._identify()
        return restored, trouble or self._refusal()

    def _refusal(self) -> str:
        """Why the ledger could not be written if it were tried now; empty if that cannot be told beforehand."""
        if os.access(self.path, os.W_OK) and os.access(self.directory, os.W_OK):
            return ""
        read_only = os.statvfs(self.directory).f_flag & os.ST_RDONLY
        return os.strerror(errno.EROFS if read_only else errno.EACCES).lower()

    def _upgraded(self) -> Restored:
        connection = open_writing(self.path)
        try:
            migrate(connection)
            return restore(connection)
        finally:
            connection.close()

    def _excuse(self, error: OSError | sqlite3.Error) -> str:
        if not passing(error):
            raise LedgerError(f"{self.directory}: cannot hold the ledger ({describe(error)})") from None
        return describe(error)

    def _secure(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()

    def _identify(self) -> None:
        status = self.path.stat()
        self._identity = status.st_dev, status.st_ino

    def connect(self) -> sqlite3.Connection:
        """A connection to the same ledger as at the start. Raises LedgerError, sqlite3.Error or OSError."""
        with self._guard:
            self._secure()
            if self._identity is None:
                if self.path.exists():
                    # A disk that was mounted late. Its outages were not restored: nothing may be written beside them.
                    raise LedgerError(f"{self.path}: appeared after the start; restart the agent to go on with it")
                create(self.path)
                self._identify()
            self.verify()
            connection = open_writing(self.path)
            self._connected = True
            return connection

    def verify(self) -> None:
        """Raises LedgerError if the file is no longer there: what is written to a removed file is nowhere."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._identity:
            raise LedgerError(f"{self.path}: was removed or replaced while in use; restart the agent")

    def disconnect(self, connection: sqlite3.Connection) -> None:
        """Close a connection."""
        with self._guard:
            self._connected = False
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads, in this process. Raises as `prober.ledger.files.reading`."""
        if self._connected:
            with reading(self.path, beside_writer=True) as connection:
                yield connection
            return
        with self._guard, reading(self.path) as connection:
            yield connection

    def close(self) -> None:
        """Let another agent have the directory."""
        self._lock.release()


def describe(error: BaseException) -> str:
    """An error in a few words, without the path that stands beside it anyway."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "not a directory"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def restore(connection: sqlite3.Connection) -> Restored:
    """What stands in a ledger of this version. Raises sqlite3.Error, and sqlite3.DatabaseError for impossible rows."""
    try:
        return _restore(connection)
    except (ValueError, KeyError, TypeError) as error:
        raise sqlite3.DatabaseError(f"a row that no ledger has: {error}") from None


def _restore(connection: sqlite3.Connection) -> Restored:
    restored = Restored()
    outages = columns(OUTAGE_COLUMNS)
    for row in connection.execute(f'SELECT {outages} FROM outages WHERE "ongoing" = 1 ORDER BY "start", "id"'):
        restored.open_outages.append(outage_of(row))
    for row in connection.execute(f'SELECT {columns(GAP_COLUMNS)} FROM gaps WHERE "end" IS NULL ORDER BY "begin"'):
        restored.open_gaps.append(gap_of(row))
    newest = connection.execute(
        f"SELECT {outages} FROM (SELECT *, row_number() OVER "
        '(PARTITION BY "scope", "name" ORDER BY "start" DESC, "id" DESC) AS place FROM outages '
        f'WHERE "ongoing" = 0 AND "class" = \'outage\' AND "scope" IN ({", ".join("?" * len(PAST_SCOPES))})) '
        'WHERE place <= ? ORDER BY "start" DESC, "id" DESC',
        (*PAST_SCOPES, PAST_KEPT),
    )
    for row in newest:
        outage = outage_of(row)
        restored.past.setdefault((outage.scope, outage.name), []).append(outage)
    names = ["scope", "name", "blips", "outages", "outage_seconds"]
    names += ["up_seconds", "down_seconds", "unknown_seconds", "state", "since"]
    for row in connection.execute(f"SELECT {columns(names)} FROM totals"):
        restored.totals[row[0], row[1]] = Counted(*row[2:5])
        restored.states[row[0], row[1]] = ScopeState(*row[5:10])
    beat = connection.execute('SELECT "utc", "now", "boot_id", "elapsed" FROM heartbeat').fetchone()
    if beat is not None:
        restored.last_heartbeat = Heartbeat(*beat)
    restored.notes = tuple(read_notes(connection, limit=LATEST))
    snapshot = connection.execute('SELECT "utc", "state" FROM snapshots').fetchone()
    if snapshot is not None:
        try:
            restored.snapshot, restored.snapshot_at = unpacked(snapshot[1]), snapshot[0]
        except ValueError as error:  # learned state can be learned again; the outages cannot
            restored.spoiled_snapshot = str(error)
    return restored
