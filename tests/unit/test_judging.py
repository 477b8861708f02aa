"""The judge at work: what is written down before it is shown, what is carried out, what a restart settles."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from prober.clock import Clock, SystemClock
from prober.failures import Failure, Operation
from prober.judge.detector import Detector
from prober.judge.records import Event, Gap, GapCause, GapClosed, Outage, OutageClosed, OutageOpened, Settings
from prober.judge.rollup import Node
from prober.judging import SNAPSHOT_VERSION, Judging
from prober.ledger import Absence, Encoded, Ledger, Restored
from prober.model import Check, Entity, Network, Observation, Site, Target
from prober.probes import PROBES
from prober.probes.icmp import IcmpOptions
from tests.fakes import VirtualClock, VirtualLoop, on_virtual_time

CHECK = Check("host", "icmp", "icmp", 60.0, 5.0, IcmpOptions(address="192.0.2.1"))
ENTITY = Entity("lab", targets=(Target("host", "lab", (CHECK,)),), references=())


@dataclass
class Book:
    """A ledger that commits when the test says so."""

    restored: Restored = field(default_factory=Restored)
    absence: Absence | None = None
    writable: bool = True
    events: list[Event] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    beats: int = 0
    snapshots: int = 0

    def restore(self) -> Restored:
        return self.restored

    def record(self, events: Iterable[Event], then: Callable[[], None] | None = None) -> None:
        self.events += events
        if then is not None:
            self.waiting.append(then)

    async def append(self, events: Iterable[Event]) -> None:
        self.events += events

    async def outages(self, **_filters: Any) -> list[Outage]:
        return []

    def track(self, states: Any, now: float) -> None: ...

    def retrack(self, states: Any, gone: Any, now: float) -> None: ...

    def heartbeat(self, now: float, utc: float, ongoing: Any) -> None:
        self.beats += 1

    def snapshot(self, state: Any, utc: float) -> None:
        self.snapshots += 1

    def ongoing(self) -> list[Outage]:
        opened = {e.outage.id: e.outage for e in self.events if isinstance(e, OutageOpened)}
        closed = {e.outage.id for e in self.events if isinstance(e, OutageClosed)}
        return [outage for name, outage in opened.items() if name not in closed]

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()


class Hands:
    """Carries out nothing, remembers everything."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []

    def request(
        self, check: Check, at: float, reason: str, wanted: Callable[[float], bool], *, displace: bool = False
    ) -> None:
        self.asked.append((at, reason))


def judging(clock: Clock, book: Book | Ledger) -> Judging:
    return Judging(
        vantage="here",
        settings=Settings(),
        kinds=PROBES,
        entities=[ENTITY],
        references=[],
        clock=clock,
        ledger=book,  # type: ignore[arg-type]
    )


def seen(clock: VirtualClock, success: bool, reason: Any = "regular") -> Observation:
    return Observation(
        CHECK,
        clock.now(),
        clock.utc(),
        success,
        0.1,
        {},
        {},
        operation=None if success else Operation.RECEIVE,
        failure=None if success else Failure.TIMEOUT,
        reason=reason,
    )


async def probe(bench: Judging, clock: VirtualClock, success: bool, times: int, every: float) -> None:
    for number in range(times):
        bench.sent(CHECK, clock.now(), "confirmation" if not success and number else "regular")
        bench.observe(seen(clock, success, "confirmation" if not success and number else "regular"))
        await asyncio.sleep(every)


def word(bench: Judging) -> str:
    return str(bench.shown["entity", "lab"].verdict)


def test_an_outage_is_on_the_disk_before_it_is_shown() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        book, hands = Book(), Hands()
        bench = judging(clock, book)
        await bench.restore()
        bench.start(hands)
        await probe(bench, clock, True, 100, 60.0)
        book.commit()
        assert word(bench) == "up"
        await probe(bench, clock, False, 40, 2.0)
        assert [event.outage.scope for event in book.events if isinstance(event, OutageOpened)] == [
            "check",
            "target",
            "entity",
        ]
        assert word(bench) == "up"  # not committed
        book.commit()
        assert word(bench) == "dark"
        assert len(bench.ongoing()) == 3
        assert any(reason == "confirmation" for _at, reason in hands.asked)
        await bench.stop()

    on_virtual_time(scenario)


def test_a_ledger_that_cannot_be_written_does_not_make_the_agent_blind() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        book = Book()
        bench = judging(clock, book)
        await bench.restore()
        bench.start(Hands())
        await probe(bench, clock, True, 100, 60.0)
        book.commit()
        book.writable = False
        await probe(bench, clock, False, 40, 2.0)
        assert word(bench) == "dark"
        await bench.stop()

    on_virtual_time(scenario)


def test_heartbeats_and_snapshots_have_their_rhythm() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        book = Book()
        bench = judging(clock, book)
        await bench.restore()
        bench.start(Hands())
        await asyncio.sleep(100.5)
        await bench.stop()
        assert book.beats in (21, 22)
        assert book.snapshots in (11, 12)
        await asyncio.sleep(100)
        assert book.beats in (21, 22)

    on_virtual_time(scenario)


def test_a_standstill_is_a_gap() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        book = Book()
        bench = judging(clock, book)
        await bench.restore()
        bench.start(Hands())
        for at in (1.0, 2.0, 3.0, 63.0, 64.0):
            await asyncio.sleep(at - clock.now())
            bench.looked_at_clock(clock.now(), clock.utc() - clock.now(), None)
        await asyncio.sleep(1)
        gaps = [event.gap for event in book.events if isinstance(event, GapClosed)]
        assert [(gap.cause, round((gap.end or 0) - gap.begin)) for gap in gaps] == [(GapCause.OVERLOAD, 60)]
        await bench.stop()

    on_virtual_time(scenario)


def test_an_absence_is_a_gap_and_a_clock_stepped_meanwhile_is_another() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        await asyncio.sleep(1000)
        book = Book(absence=Absence(clock.utc() - 100, 100, True, step_seconds=3600.0))
        bench = judging(clock, book)
        await bench.restore()
        gaps = {event.gap.cause: event.gap for event in book.events if isinstance(event, GapClosed)}
        assert gaps[GapCause.CLOCK_STEP].step_seconds == 3600.0
        stopped = gaps[GapCause.STOPPED]
        assert (stopped.end or 0) - stopped.begin == 100
        assert bench.judge.utc_offset == clock.utc() - clock.now()

    on_virtual_time(scenario)


def test_a_gap_that_only_the_ledger_knows_is_closed_at_the_last_sign_of_life() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        await asyncio.sleep(1000)
        begin = clock.utc() - 500
        gap = Gap("offline:1", "here", begin, None, GapCause.OFFLINE)
        book = Book(Restored(open_gaps=[gap]), Absence(clock.utc() - 100, 100, True))
        await judging(clock, book).restore()
        closed = [event.gap for event in book.events if isinstance(event, GapClosed) and event.gap.id == gap.id]
        assert [(one.begin, one.end) for one in closed] == [(begin, clock.utc() - 100)]

    on_virtual_time(scenario)


def test_a_defect_of_the_judge_is_counted_and_judging_goes_on() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        book, caught = Book(), []
        bench = judging(clock, book)
        bench.on_defect = lambda where, error: caught.append((where, str(error)))
        await bench.restore()
        bench.start(Hands())
        await probe(bench, clock, True, 100, 60.0)
        decide, broken = bench.judge.decide, [True]

        def sometimes(now: float) -> Any:
            if broken:
                raise ZeroDivisionError("judge")
            return decide(now)

        bench.judge.decide = sometimes  # type: ignore[method-assign]
        await probe(bench, clock, False, 5, 2.0)
        assert set(caught) == {("judge", "judge")}
        broken.clear()
        await probe(bench, clock, False, 35, 2.0)
        book.commit()
        assert word(bench) == "dark"
        await bench.stop()

    on_virtual_time(scenario)


def test_a_stream_of_results_does_not_put_the_decision_off() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        book = Book()
        bench = judging(clock, book)
        await bench.restore()
        bench.start(Hands())
        await probe(bench, clock, True, 100, 60.0)
        decided: list[float] = []
        decide = bench.judge.decide

        def spy(now: float) -> Any:
            decided.append(now)
            return decide(now)

        bench.judge.decide = spy  # type: ignore[method-assign]
        for _ in range(200):
            bench.sent(CHECK, clock.now(), "confirmation")
            bench.observe(seen(clock, False, "confirmation"))
            loop.jump(0.0001)
            await asyncio.sleep(0)
        assert len(decided) > 20
        await bench.stop()

    on_virtual_time(scenario)


def test_what_has_become_certain_is_recorded_before_a_reload_takes_it_away() -> None:
    """Of however many checks: one decision looks at some of them only."""

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        checks = [Check(f"t{n}", "icmp", "icmp", 60.0, 5.0, IcmpOptions(address="192.0.2.1")) for n in range(450)]
        targets = tuple(Target(check.target, "lab", (check,)) for check in checks)
        book = Book()
        bench = judging(clock, book)
        bench.reconfigure([Entity("lab", targets=targets, references=())], [])
        bench.start(Hands())
        for success, times, every in ((True, 30, 60.0), (False, 40, 2.0)):
            for _ in range(times):
                for check in checks:
                    bench.sent(check, clock.now(), "regular")
                    bench.observe(seen(clock, success)._replace(check=check))
                loop.jump(every)
                if success:
                    await asyncio.sleep(0)
        bench.reconfigure([Entity("lab", targets=targets[:10], references=())], [])
        opened = [event for event in book.events if isinstance(event, OutageOpened) and event.outage.scope == "check"]
        closed = [event for event in book.events if isinstance(event, OutageClosed) and event.outage.scope == "check"]
        assert len(opened) == 450
        assert len(closed) == 440
        await bench.stop()

    on_virtual_time(scenario)


def test_a_large_snapshot_is_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        checks = [Check(f"t{n}", "icmp", "icmp", 60.0, 5.0, IcmpOptions(address="192.0.2.1")) for n in range(501)]
        entity = Entity("lab", targets=tuple(Target(c.target, "lab", (c,)) for c in checks), references=())
        book = Book()
        bench = judging(clock, book)
        bench.reconfigure([entity], [])
        made: list[int] = []
        snapshot = Detector.snapshot

        def spy(self: Detector, history: bool) -> dict[str, Any]:
            made.append(round(1000 * clock.now()))
            return snapshot(self, history)

        monkeypatch.setattr(Detector, "snapshot", spy)
        bench.start(Hands())
        await asyncio.sleep(0.055)
        bench.reconfigure([entity, replace(entity, name="other", targets=())], [])  # half-way: it begins anew
        await asyncio.sleep(5)
        assert max(Counter(made).values()) <= 50
        assert 501 + 200 <= len(made) <= 501 + 350
        assert book.snapshots == 1
        await asyncio.sleep(60)
        assert book.snapshots == 7  # one in ten seconds: the rhythm goes on, once
        await bench.stop()

    on_virtual_time(scenario)


def nodes() -> int:
    """Scopes that are in memory."""
    return sum(type(one) is Node for one in gc.get_objects())


def test_a_replaced_configuration_needs_no_garbage_collector() -> None:
    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        bench = judging(clock, Book())
        bench.start(Hands())
        target = Target("another", "lab", (replace(CHECK, target="another"),), network="net", site="site")
        network, site = Network("net", "lab", "192.0.2.0/24"), Site("site", "lab")
        entity = Entity("lab", targets=(*ENTITY.targets, target), networks=(network,), sites=(site,), references=())
        gc.collect()
        gc.disable()
        first = nodes()
        try:
            bench.reconfigure([entity], [])
            assert nodes() == first + 5  # a target, its check and mirror, a network, a site
            bench.reconfigure([ENTITY], [])
            assert nodes() == first
        finally:
            gc.enable()
        await bench.stop()

    on_virtual_time(scenario)


def test_a_disk_that_cannot_be_written_does_not_keep_the_agent_from_starting() -> None:
    class Full(Book):
        async def append(self, events: Iterable[Event]) -> None:
            await asyncio.Event().wait()

    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        bench = judging(clock, Full())
        await bench.restore()
        assert clock.now() < 10
        assert word(bench) == "unknown"

    on_virtual_time(scenario)


async def test_an_agent_that_was_killed_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    """A snapshot that was made in slices, read again by the real ledger."""
    clock = SystemClock()

    async def life(until: Callable[[Judging], object]) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        try:
            one = judging(clock, ledger)
            await one.restore()
            until(one)
            await ledger.append([])  # what was put down before is written
            one.halt()
        finally:
            await ledger.close()

    def see(one: Judging) -> None:
        (check,) = ENTITY.targets[0].checks
        at = clock.now()
        one.sent(check, at, "regular")
        one.observe(Observation(check, at, clock.utc(), True, 0.01, {}, {}, None, None, "", None, 0.0, "regular"))
        one.judge.decide(clock.now())
        sliced = one.judge.slices(50, history=True, encode=Encoded.of)
        while sliced.step():
            pass
        assert check.key in sliced.checks[0]
        assert not sliced.left_out
        one.write_snapshot(sliced)

    kept: list[float | None] = []

    def look(one: Judging) -> None:
        (detector,) = one.judge.watch.detectors.values()
        kept.append(detector.last_ok)

    await life(see)
    await life(look)
    assert kept != [None]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"watch": {"checks": [{"a": "text"}]}},
        {"watch": {"checks": {"a": "text"}}},
        {"watch": {"checks": []}},
        {"utc_offset": "noon"},
        {"watch": {"checks": [{"a": {}}]}},
    ],
)
def test_a_snapshot_that_makes_no_sense_costs_what_was_learned_and_no_start(spoiled: dict[str, Any]) -> None:
    class Spoiled(Book):
        def restore(self) -> Restored:
            kept = {"version": SNAPSHOT_VERSION, "utc_offset": 0.0, "book": {}, "suspects": [], **spoiled}
            return replace(super().restore(), snapshot=kept, snapshot_at=1_700_000_000.0)

    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        bench = judging(clock, Spoiled())
        await bench.restore()
        assert word(bench) == "unknown"

    on_virtual_time(scenario)
