"""The ledger as the agent uses it: events go in, and views show nothing that is not on the disk.

    ledger = await Ledger.open(data_dir, now=clock.now(), utc=clock.utc())
    ...                                            # ledger.restore(), ledger.absence: for the judge
    ledger.record(decisions.events)                # the gap since the last heartbeat first, before any heartbeat
    ledger.heartbeat(clock.now(), clock.utc(), judge.ongoing())
    await ledger.close()

All methods are for the event loop's thread. While the disk is full or read-only, nothing fails: events wait in memory,
`writable` is False, the views stand still, and all is written in order once that is possible again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from prober.judge.records import (
    Event,
    Gap,
    GapClosed,
    GapOpened,
    Outage,
    OutageClosed,
    OutageOpened,
    OutageUpdated,
    Scope,
    StateChanged,
)
from prober.ledger.batch import Batch, Heartbeat, OutageEntry, Snapshot, Written
from prober.ledger.files import LedgerError
from prober.ledger.notes import Note, add_note, notes_in, remove_note
from prober.ledger.read import Opener, gaps_in, outages_in
from prober.ledger.storage import Restored, Storage
from prober.ledger.totals import Counted, Key, ScopeState, State, StateBook, Totals, state_of
from prober.ledger.view import View
from prober.ledger.writer import Writer

log = logging.getLogger("prober.ledger")

A = TypeVar("A")
T = TypeVar("T")

UNWRITTEN_MAX: Final = 100_000
"""Outages and gaps that may wait in memory (about 200 MB); beyond, the oldest that ended is given up, and counted."""


def boot_id() -> str:
    """Which boot of this host it is; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Ledger:
    """One agent's ledger. Made by `open`."""

    def __init__(self, storage: Storage, restored: Restored, now: float, utc: float, boot: str) -> None:
        self._storage = storage
        self._boot = boot
        self._restored = restored
        self.absence = restored.absence(now, utc, boot)
        beat = restored.last_heartbeat
        came_back_at = beat.elapsed + self.absence.seconds if beat and self.absence else 0.0
        self._elapsed_at_zero = max(restored.elapsed, came_back_at) - now
        self._view = View(restored)
        self._book = StateBook(self._view.states)
        self.writable = True
        self.failing_since: float | None = None  # Unix time
        self.failing_reason = ""
        self.lost = 0
        self._utc, self._now = utc, now
        self._one_note = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        now: float,
        utc: float,
        boot: str | None = None,
        retry_seconds: float = 1.0,
        unwritten_max: int = UNWRITTEN_MAX,
    ) -> Ledger:
        """The ledger in `data_dir`, made if missing. `now` is the runner's clock (CLOCK_BOOTTIME), `utc` Unix time.

        Raises LedgerError if it must not be used: another agent has it, it is broken, or it is a later prober's. A disk
        that is full or read-only is no reason: then the agent starts with what can be read.
        """
        storage = Storage(data_dir)
        restored, trouble = await asyncio.to_thread(storage.start)
        ledger = cls(storage, restored, now, utc, boot_id() if boot is None else boot)
        ledger._start(trouble, retry_seconds, unwritten_max)
        return ledger

    def _start(self, trouble: str, retry_seconds: float, unwritten_max: int) -> None:
        self._unwritten_max = unwritten_max
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(
            self._storage,
            on_written=partial(self._on_loop, self._written),
            on_well=partial(self._on_loop, self._well),
            on_trouble=partial(self._on_loop, self._trouble),
            on_spoiled=partial(self._on_loop, self._spoiled),
            retry_seconds=retry_seconds,
        )
        if trouble:
            self._trouble(trouble)
        if self._restored.spoiled_snapshot:
            log.warning(
                "the snapshot is spoiled, what was learned is learned anew",
                extra={"file": str(self._storage.path), "reason": self._restored.spoiled_snapshot},
            )
        # Ahead of the first heartbeat, else another crash would count the last states on over this absence.
        self._writer.put(lambda batch: batch.states.update(self._view.states))
        self._writer.start()

    def restore(self) -> Restored:
        """What the ledger held when it was opened. What a gap means is the judge's matter; see `absence`."""
        return self._restored

    # -- in ------------------------------------------------------------------------------------------------------------

    def record(self, events: Iterable[Event], then: Callable[[], None] | None = None) -> None:
        """Take events to be written, in order; `then` is called once they are on the disk. Never waits, never fails."""
        events = list(events)
        done: asyncio.Future[None] | None = None
        if then is not None:
            done = self._loop.create_future()
            done.add_done_callback(lambda future: None if future.cancelled() else then())

        def fill(batch: Batch) -> None:
            self._fill(events, batch)
            if done is not None:
                batch.waiters.append(done)

        if events:
            self._writer.put(fill)

    async def append(self, events: Iterable[Event]) -> None:
        """`record`, then wait until they are on the disk. While the disk cannot be written that may be long."""
        done: asyncio.Future[None] = self._loop.create_future()
        events = list(events)

        def fill(batch: Batch) -> None:
            self._fill(events, batch)
            batch.waiters.append(done)

        self._writer.put(fill)
        await done

    def _fill(self, events: list[Event], batch: Batch) -> None:
        for event in events:
            match event:
                case OutageOpened(outage) | OutageUpdated(outage) | OutageClosed(outage):
                    batch.add_outage(OutageEntry(outage))
                case GapOpened(gap) | GapClosed(gap):
                    batch.add_gap(gap)
                case StateChanged():
                    key = event.scope, event.name
                    row = self._book.change(key, state_of(event), self._elapsed_at(event.at))
                    if row is not None:
                        batch.states[key] = row
        if len(batch.outages) + len(batch.gaps) > self._unwritten_max:
            self._shorten(batch)

    def _shorten(self, batch: Batch) -> None:
        """Give up the oldest that have ended, a tenth more than needed: so that it is done seldom."""
        surplus = len(batch.outages) + len(batch.gaps) - self._unwritten_max * 9 // 10
        ended = [name for name, entry in batch.outages.items() if not entry.outage.ongoing][:surplus]
        for name in ended:
            del batch.outages[name]
        over = [name for name, gap in batch.gaps.items() if gap.end is not None][: surplus - len(ended)]
        for name in over:
            del batch.gaps[name]
        self.lost += len(ended) + len(over)
        if ended or over:
            log.error("too many events wait to be written, the oldest are lost", extra={"events": len(ended + over)})

    def track(self, states: Iterable[StateChanged], now: float) -> None:
        """What is known of every configured scope, at the start and after a reload. No other is counted on."""
        rows: dict[Key, ScopeState] = {}
        elapsed = self._elapsed_at(now)
        known = {(state.scope, state.name): state_of(state) for state in states}
        for key, state in known.items():
            row = self._book.change(key, state, elapsed)
            if row is not None:
                rows[key] = row
        rows |= self._book.keep(known, elapsed)
        if rows:
            self._writer.put(lambda batch: batch.states.update(rows))

    def retrack(self, states: Iterable[StateChanged], gone: Iterable[Key], now: float) -> None:
        """The same after a change of some scopes only. What is `gone` is not counted on."""
        elapsed = self._elapsed_at(now)
        wanted: dict[Key, State | None] = dict.fromkeys(gone)
        wanted |= {(state.scope, state.name): state_of(state) for state in states}
        changed = {key: self._book.change(key, state, elapsed) for key, state in wanted.items()}
        rows = {key: row for key, row in changed.items() if row is not None}
        if rows:
            self._writer.put(lambda batch: batch.states.update(rows))

    def heartbeat(self, now: float, utc: float, ongoing: Iterable[Outage] = ()) -> None:
        """A sign of life, each few seconds; with how far the open outages are certain by now (`Judge.ongoing`).

        The totals are shown up to here. It is dropped for a newer one while it cannot be written.
        """
        self._utc, self._now = utc, now
        beat = Heartbeat(utc, now, self._boot, self._elapsed_at(now))
        # One that is opened but not yet written is in a batch ahead; the transaction passes over what it does not know.
        grown = [OutageEntry(outage, event=False) for outage in ongoing if self._view.ongoing.get(outage.id) != outage]

        def fill(batch: Batch) -> None:
            batch.heartbeat = beat
            for entry in grown:
                batch.add_outage(entry)

        self._writer.put(fill)

    def snapshot(self, state: Mapping[str, Any], utc: float) -> None:
        """Keep the judge's state, in place of the one before. The mapping must not change any more.

        It is turned into JSON in the writer's thread, and is never in the ledger ahead of events recorded before it.
        """

        def fill(batch: Batch) -> None:
            batch.snapshot = Snapshot(state, utc)

        self._writer.put(fill)

    def prune_soon(self, before_utc: float, done: asyncio.Future[None] | None = None) -> None:
        """Have outages and gaps that ended before removed. What is open stays, and so do the totals."""

        def fill(batch: Batch) -> None:
            batch.prune_before = before_utc if batch.prune_before is None else max(before_utc, batch.prune_before)
            if done is not None:
                batch.waiters.append(done)

        self._writer.put(fill)

    async def prune(self, before_utc: float) -> None:
        """`prune_soon`, then wait until it is done."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.prune_soon(before_utc, done)
        await done

    async def close(self, timeout: float = 5.0) -> None:
        """Write what is left, for `timeout` seconds at most, and let go of the directory. Idempotent."""
        if self._closed:
            return
        self._closed = True
        left = await asyncio.to_thread(self._writer.stop, timeout)
        await asyncio.sleep(0)  # what the writer has reported is taken in
        for waiter in left.waiters:
            waiter.cancel()
        if lost := left.records:
            self.lost += lost
            log.error(
                "events could not be written before the end, they are lost",
                extra={"file": str(self._storage.path), "events": lost, "reason": self.failing_reason},
            )

    # -- out: what is on the disk --------------------------------------------------------------------------------------

    def ongoing(self) -> list[Outage]:
        """The open outages, as last written."""
        return list(self._view.ongoing.values())

    def open_gaps(self) -> list[Gap]:
        """The open gaps."""
        return list(self._view.open_gaps.values())

    def past(self, scope: Scope, name: str) -> list[Outage]:
        """The newest 20 of class `outage` that have ended, newest first; of entities, networks and sites only."""
        return list(self._view.past.get((scope, name), ()))

    def totals(self, scope: Scope, name: str) -> Totals:
        """What `*_total` metrics show. Never goes back."""
        return self._view.totals((scope, name))

    def latest_notes(self) -> tuple[Note, ...]:
        """The newest 20 notes, newest first; what another process has written is seen with the next heartbeat."""
        return self._view.notes

    # For a scrape of thousands of scopes, the same in their parts, which stay the same objects while nothing happens.

    def ongoing_at(self, keys: Iterable[Key]) -> Iterator[Outage | None]:
        """The open outage of each of these scopes, as last written."""
        return self._view.ongoing_at(keys)

    def counted(self, keys: Iterable[Key]) -> Iterator[Counted]:
        """What outages add up to, of each of these scopes."""
        return self._view.counted(keys)

    def states(self, keys: Iterable[Key]) -> Iterator[ScopeState]:
        """The seconds in each state, up to its last change, of each of these scopes; from then on up to `elapsed`."""
        return self._view.states_of(keys)

    @property
    def version(self) -> int:
        """Another one whenever an outage, a state or a count of a scope has changed."""
        return self._view.version

    @property
    def elapsed(self) -> float:
        """The ledger's own clock at the last heartbeat that was written: totals are counted up to it."""
        return self._view.elapsed

    @property
    def unwritten(self) -> int:
        """Outages and gaps that wait to be written."""
        return self._writer.unwritten

    @property
    def place(self) -> tuple[Path, Opener]:
        """The file and what opens it beside its writer: for the questions of `prober.ledger.read`, in a thread."""
        return self._storage.path, self._storage.reading

    async def outages(self, **filters: Any) -> list[Outage]:
        """As `prober.ledger.read.read_outages`. Raises LedgerError."""
        return await asyncio.to_thread(outages_in, self._storage.path, self._storage.reading, **filters)

    async def gaps(self, **filters: Any) -> list[Gap]:
        """As `prober.ledger.read.read_gaps`. Raises LedgerError."""
        return await asyncio.to_thread(gaps_in, self._storage.path, self._storage.reading, **filters)

    # -- notes: not of our making --------------------------------------------------------------------------------------

    async def notes(self, **filters: Any) -> list[Note]:
        """As `prober.ledger.notes.read_notes`. Raises LedgerError."""
        return await asyncio.to_thread(notes_in, self._storage.path, self._storage.reading, **filters)

    async def add_note(self, note: Note) -> None:
        """Write a note, and wait until it is on the disk. Raises LedgerError and BadNote."""
        await self._noting(add_note, note)

    async def remove_note(self, name: str) -> bool:
        """Remove a note; False: there is none of this id. Raises LedgerError."""
        return await self._noting(remove_note, name)

    async def _noting(self, change: Callable[[Path, A], T], what: A) -> T:
        if not self.writable:  # it would wait for as long as the disk makes it
            raise LedgerError(f"{self._storage.path}: cannot be written now ({self.failing_reason})")
        async with self._one_note:
            done = await asyncio.to_thread(change, self._storage.path, what)
        # The views look for notes when something is written: at once, not with the next heartbeat.
        self._writer.put(lambda batch: batch.waiters.append(self._loop.create_future()))
        return done

    # -- what the writer reports ---------------------------------------------------------------------------------------

    def _on_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody looks at the views any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _written(self, batch: Batch, written: Written) -> None:
        self._view.take(batch, written)
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _well(self) -> None:
        if self.writable:
            return
        log.warning(
            "the ledger is written again, nothing is missing",
            extra={
                "file": str(self._storage.path),
                "seconds": round(self._utc - self.failing_since) if self.failing_since is not None else None,
                "lost": self.lost,
            },
        )
        self.writable, self.failing_since, self.failing_reason = True, None, ""

    def _trouble(self, reason: str) -> None:
        self.failing_reason = reason
        if not self.writable:
            return
        self.writable, self.failing_since = False, self._utc
        log.error(
            "the ledger cannot be written; probing goes on, events wait in memory",
            extra={"file": str(self._storage.path), "reason": reason},
        )

    def _spoiled(self, what: list[str]) -> None:
        self.lost += sum(not text.startswith("snapshot") for text in what)
        for text in what[:10]:
            log.error("cannot be written, whatever the disk", extra={"record": text})

    def _elapsed_at(self, now: float) -> float:
        return self._elapsed_at_zero + now
