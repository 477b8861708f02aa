"""The ledger of a replay: the same tables, rules and views, written in step with virtual time.

The agent's ledger writes in a thread of its own, for which virtual time does not wait. This one writes where it is
asked to, events at once and the rest along with them or before it is read, and never waits for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from prober.judge.records import Event, Outage, OutageClosed, OutageOpened, OutageUpdated
from prober.ledger import Ledger
from prober.ledger.batch import Batch, Written, write, write_snapshot
from prober.ledger.read import outages_in
from prober.ledger.storage import Storage
from prober.replay.clock import WorldClock

BOOT: Final = "replay"


class StepWriter:
    """As `prober.ledger.writer.Writer`, without a thread."""

    def __init__(self, connection: sqlite3.Connection, on_written: Callable[[Batch, Written], None]) -> None:
        self._connection = connection
        self._on_written = on_written
        self._waiting = Batch()
        _no_waiting(connection)

    def put(self, fill: Callable[[Batch], None]) -> None:
        """Let `fill` add to what waits; events are written at once."""
        fill(self._waiting)
        if self._waiting.waiters or self._waiting.records:
            self.flush()

    @property
    def unwritten(self) -> int:
        """Outages and gaps that are not written yet: none."""
        return self._waiting.records

    def flush(self) -> None:
        """Write what waits. Raises sqlite3.Error."""
        batch, self._waiting = self._waiting, Batch()
        snapshot, batch.snapshot = batch.snapshot, None
        self._on_written(batch, write(self._connection, batch))
        if snapshot is not None:
            write_snapshot(self._connection, snapshot)
            _no_waiting(self._connection)

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self.flush()
        self._connection.close()


def _no_waiting(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = OFF")


class StepLedger(Ledger):
    """A `Ledger` whose every word is written on the spot. `errors` notes how far the clock was off at each record."""

    _writer: StepWriter  # type: ignore[assignment]

    @classmethod
    def opened(cls, directory: Path, *, clock: WorldClock, clock_error: Callable[[], float]) -> StepLedger:
        """The ledger in `directory`, made if missing. Raises LedgerError or sqlite3.Error."""
        storage = Storage(directory)
        restored, trouble = storage.start()
        if trouble:
            raise OSError(trouble)
        ledger = cls(storage, restored, clock.now(), clock.utc(), BOOT)
        ledger._set_up(storage.connect(), clock, clock_error)
        return ledger

    def _set_up(self, connection: sqlite3.Connection, clock: WorldClock, clock_error: Callable[[], float]) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._unwritten_max = 2**31
        self._clock_error = clock_error
        self.errors: dict[str, float] = {}
        self.recorded = 0  # how often events were recorded
        self._writer = StepWriter(connection, self._written)
        self._writer.put(lambda batch: batch.states.update(self._view.states))

    def record(self, events: Iterable[Event], then: Callable[[], None] | None = None) -> None:
        events = list(events)
        self._note(events)
        super().record(events)
        if then is not None:
            self._writer.flush()
            self._clock.call_at(self._clock.now(), then)

    async def append(self, events: Iterable[Event]) -> None:
        events = list(events)
        self._note(events)
        await super().append(events)

    def flush(self) -> None:
        """Write what waits, so that the views show it."""
        self._writer.flush()

    def _note(self, events: Iterable[Event]) -> None:
        self.recorded += 1
        for event in events:
            if isinstance(event, OutageOpened | OutageUpdated | OutageClosed):
                self.errors[event.outage.id] = self._clock_error()

    async def outages(self, **filters: Any) -> list[Outage]:
        self._writer.flush()
        return outages_in(self._storage.path, self._storage.reading, **filters)

    async def close(self, timeout: float = 0.0) -> None:
        if not self._closed:
            self._closed = True
            self._writer.close()
            self._storage.close()
