"""Whatever happens in whatever order: every acknowledged event is there exactly once, and no total goes back."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prober.judge.records import Event, Outage, OutageClosed, OutageOpened, OutageUpdated, StateChanged, Verdict
from prober.ledger import FILE_NAME, Ledger, Totals, read_outages
from tests.ledgers import BEGIN, ended, outage, state

NAMES = ("a", "b")

step = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(NAMES)),
    st.tuples(st.just("close"), st.sampled_from(NAMES), st.sampled_from([45.0, 89.0, 91.0, 600.0, 1e6])),
    st.tuples(st.just("grow"), st.sampled_from(NAMES), st.floats(0, 5000)),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("state"), st.sampled_from(NAMES), st.sampled_from([Verdict.UP, Verdict.DOWN, Verdict.UNKNOWN])),
    st.tuples(st.just("pass"), st.floats(0.001, 1000)),
    st.tuples(st.just("beat")),
    st.tuples(st.just("prune"), st.floats(0, 1e6)),
    st.tuples(st.just("crash")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("reload"), st.sets(st.sampled_from(NAMES))),
)


class Life:
    """An agent's life, and what the ledger must say of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lives = 0
        self.now = 1000.0
        self.rows: dict[str, Outage] = {}
        self.sent: list[Event] = []
        self.seconds: dict[str, float] = {}  # by id: the most that was certain
        self.over: dict[str, Outage] = {}  # ever
        self.shown = {name: Totals() for name in NAMES}

    @property
    def directory(self) -> Path:
        return self.home / str(self.lives)

    @property
    def utc(self) -> float:
        return BEGIN + self.now

    async def start(self) -> None:
        self.ledger = await Ledger.open(self.directory, now=self.now, utc=self.utc, boot="one")
        expected = sorted((row for row in self.rows.values() if row.ongoing), key=lambda row: row.id)
        assert sorted(self.ledger.restore().open_outages, key=lambda row: row.id) == expected

    async def crash(self) -> None:
        """Go on with the files as they lie there."""
        await self.ledger.append([])  # the files exist, and lie still
        before = self.directory
        self.lives += 1
        self.directory.mkdir()
        for end in ("", "-wal"):
            shutil.copyfile(before / f"{FILE_NAME}{end}", self.directory / f"{FILE_NAME}{end}")
        await self.ledger.close()
        await self.start()

    def open_one(self, name: str) -> Outage | None:
        return next((row for row in self.rows.values() if row.name == name and row.ongoing), None)

    async def tell(self, event: OutageOpened | OutageUpdated | OutageClosed) -> None:
        await self.ledger.append([event])
        self.sent.append(event)
        row = event.outage
        self.rows[row.id] = row
        self.seconds[row.id] = max(self.seconds.get(row.id, 0.0), row.duration_min_seconds)
        if not row.ongoing:
            self.over.setdefault(row.id, row)

    async def do(self, what: str, *how: Any) -> None:
        steps: dict[str, Callable[..., Any]] = {
            "open": self._open, "close": self._close, "grow": self._grow, "again": self._again, "state": self._state,
            "pass": self._pass, "beat": self._beat, "prune": self._prune, "crash": self.crash, "stop": self._stop,
            "reload": self._reload,
        }  # fmt: skip
        await steps[what](*how)
        await self.ledger.append([])
        self.check()

    async def _open(self, name: str) -> None:
        if self.open_one(name) is None:
            self.now += 1.0  # ids hold milliseconds
            await self.tell(OutageOpened(outage(name, self.utc)))

    async def _close(self, name: str, seconds: float) -> None:
        row = self.open_one(name)
        if row is not None:
            await self.tell(OutageClosed(ended(row, seconds)))

    async def _grow(self, name: str, seconds: float) -> None:
        row = self.open_one(name)
        if row is not None:
            grown = replace(row, ended_after=row.ended_after + seconds)
            self.ledger.heartbeat(self.now, self.utc, [grown])
            self.rows[row.id] = grown
            self.seconds[row.id] = max(self.seconds[row.id], grown.duration_min_seconds)

    async def _again(self, number: int) -> None:
        """An event a second time; one of an outage that is still known, as only the latest are ever repeated."""
        known: list[Event] = []
        known += [event for event in self.sent if isinstance(event, OutageOpened) and self._is_over(event.outage.id)]
        known += [event for event in self.sent if isinstance(event, OutageClosed) and event.outage.id in self.rows]
        if known:
            await self.ledger.append([known[number % len(known)]])

    def _is_over(self, name: str) -> bool:
        return name in self.rows and not self.rows[name].ongoing

    async def _state(self, name: str, verdict: Verdict) -> None:
        await self.ledger.append([self._known(name, verdict)])

    def _known(self, name: str, verdict: Verdict) -> StateChanged:
        return state(name, verdict, self.now)

    async def _pass(self, seconds: float) -> None:
        self.now += seconds

    async def _beat(self) -> None:
        self.ledger.heartbeat(self.now, self.utc)

    async def _reload(self, names: set[str]) -> None:
        self.ledger.track([self._known(name, Verdict.UNKNOWN) for name in sorted(names)], self.now)

    async def _prune(self, ago: float) -> None:
        before = self.utc - ago
        await self.ledger.prune(before)
        # `ended` may say that one ended before what it had grown to: it is kept as long as anything of it is.
        kept = [row for row in self.rows.values() if row.ongoing or max(row.ended_after, row.ended_by or 0.0) >= before]
        self.rows = {row.id: row for row in kept}

    async def _stop(self) -> None:
        await self.ledger.close()
        await self.start()

    def check(self) -> None:
        assert {row.id: row for row in read_outages(self.directory)} == self.rows
        assert {row.id for row in self.ledger.ongoing()} == {row.id for row in self.rows.values() if row.ongoing}
        for name in NAMES:
            shown = self.ledger.totals("network", name)
            assert all(new >= old for new, old in zip(astuple(shown), astuple(self.shown[name]), strict=True))
            self.shown[name] = shown
            over = [row for row in self.over.values() if row.name == name]
            assert shown.outages == sum(row.outage_class == "outage" for row in over)
            assert shown.blips == len(over) - shown.outages
            certain = sum(seconds for name_, seconds in self.seconds.items() if name_.split(":")[1] == name)
            assert abs(shown.outage_seconds - certain) < 1e-6 * max(1.0, certain)
            assert shown.up_seconds + shown.down_seconds + shown.unknown_seconds <= self.now - 1000.0 + 1e-6


@given(st.lists(step, max_size=25))
@example([("open", "b"), ("pass", 76.0), ("grow", "b", 16.0), ("close", "b", 45.0), ("prune", 0.0)])
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_doubled_or_taken_back(steps: list[tuple[Any, ...]]) -> None:
    async def live(home: Path) -> None:
        life = Life(home)
        await life.start()
        try:
            for what, *how in steps:
                await life.do(what, *how)
        finally:
            await life.ledger.close()

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(live(Path(home)))
