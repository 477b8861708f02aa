"""The thread that writes: an fsync takes milliseconds, or for ever, and the event loop must not wait for it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from prober.ledger.batch import Batch, Snapshot, Written, write, write_snapshot
from prober.ledger.files import primary_code
from prober.ledger.notes import NoteWatch
from prober.ledger.storage import Storage, describe

_DELAY_PER_ATTEMPT: Final = 10.0
"""Waiting is this many times as long as the failed attempt took: much to write must not mean much work in vain."""
_DELAY_SECONDS_MAX: Final = 30.0


class Writer:
    """Writes batches in order, each whole, and again until it has worked.

    All of `on_...` are called in the writer's thread, after the facts: `on_written` when a batch is on the disk,
    `on_well` when nothing of it is left, `on_trouble` with a reason when it could not be written and will be tried
    again, `on_spoiled` with what can never be.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        on_written: Callable[[Batch, Written], None],
        on_well: Callable[[], None],
        on_trouble: Callable[[str], None],
        on_spoiled: Callable[[list[str]], None],
        retry_seconds: float,
    ) -> None:
        self._storage = storage
        self._on_written = on_written
        self._on_well = on_well
        self._on_trouble = on_trouble
        self._on_spoiled = on_spoiled
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._waiting = Batch()
        self._in_hand = Batch()
        self._stopping = False
        self._notes = NoteWatch()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, fill: Callable[[Batch], None]) -> None:
        """Let `fill` add to what waits to be written. It holds the lock: it must be quick."""
        with self._changed:
            fill(self._waiting)
            self._changed.notify()

    @property
    def unwritten(self) -> int:
        """Outages and gaps that are not on the disk yet."""
        with self._changed:
            return self._waiting.records + self._in_hand.records

    def stop(self, timeout: float) -> Batch:
        """Write what is left, trying once more if that is hard. Blocks. What could not be written."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            left = Batch()
            left.absorb(self._in_hand)
            left.absorb(self._waiting)
        return left

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (batch := self._next()) is not None:
                began = time.monotonic()
                try:
                    if connection is None:
                        connection = self._storage.connect()
                        self._notes = NoteWatch()
                    self._storage.verify()
                    self._write(connection, batch)
                # Whatever it is, a defect of ours included: what was not written is not lost, and the trouble is told.
                except Exception as error:
                    if connection is not None and not _is_full(error):
                        # After a failed fsync the kernel's pages are not to be trusted: read them from the disk again.
                        self._drop(connection)
                        connection = None
                    self._on_trouble(describe(error))
                    if not self._put_back(time.monotonic() - began):
                        break
        finally:
            if connection is not None:
                self._drop(connection)
            self._storage.close()

    def _next(self) -> Batch | None:
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if not self._waiting:
                return None
            self._in_hand, self._waiting = self._waiting.split()
            return self._in_hand

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        written = write(connection, batch)
        snapshot, batch.snapshot = batch.snapshot, None
        with self._changed:
            self._in_hand = Batch(snapshot=snapshot)  # the events are safe, whatever becomes of the snapshot
        written.notes = self._notes.changed(connection)
        if written.spoiled:
            self._on_spoiled(written.spoiled)
        self._on_written(batch, written)
        if snapshot is not None:
            self._write_snapshot(connection, snapshot)
        with self._changed:
            self._in_hand = Batch()
        self._on_well()

    def _write_snapshot(self, connection: sqlite3.Connection, snapshot: Snapshot) -> None:
        try:
            snapshot.packed()
        except (TypeError, ValueError) as error:
            self._on_spoiled([f"snapshot: {error}"])
            return
        write_snapshot(connection, snapshot)

    def _put_back(self, seconds: float) -> bool:
        """Keep what could not be written for the next attempt, and wait for that. False: there is none."""
        delay = min(max(self._retry_seconds, seconds * _DELAY_PER_ATTEMPT), _DELAY_SECONDS_MAX)
        with self._changed:
            self._in_hand.absorb(self._waiting)
            self._waiting, self._in_hand = self._in_hand, Batch()
            if self._stopping:
                return False
            self._changed.wait_for(lambda: self._stopping, delay)
            return True

    def _drop(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            self._storage.disconnect(connection)


def _is_full(error: Exception) -> bool:
    """A full disk spoils nothing; the connection stays, and with it the files that readers need."""
    return isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_FULL
