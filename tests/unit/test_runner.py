"""The runner on virtual time: rounds, budgets, places, stalls, defects, reloads."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from prober.contract import Attempt, Direct, Done, Family, Io, Kind, Options
from prober.deadline import StallMeter
from prober.failures import Failure, Operation
from prober.logs import OncePerCause
from prober.model import Check, Observation
from prober.runner import ADMITTED_AT_ONCE, Listener, Runner
from prober.schedule import Budgets, phase_seconds
from tests.fakes import NoPinger, NoResolver, VirtualClock, VirtualLoop, on_virtual_time


class FakeOptions(Options):
    host: str = "192.0.2.1"
    seconds: float = 0.0
    mood: str = "fine"
    packets: int = 1
    address: str | None = None


async def fake_probe(options: FakeOptions, attempt: Attempt, io: Io) -> None:
    attempt.operation = Operation.RECEIVE
    attempt.address = options.address
    if options.seconds:
        await asyncio.sleep(options.seconds)
    if options.mood == "refused":
        attempt.fail(Failure.REFUSED, operation=Operation.CONNECT)
    if options.mood == "defect":
        raise ZeroDivisionError(options.host)
    if options.mood in ("resolve", "prepare"):
        attempt.operation = Operation(options.mood)
        await asyncio.sleep(1000)


def fake_direct(options: FakeOptions, _io: Io) -> Direct | None:
    """The same without a task; `mood` "task" wants one."""
    if options.mood == "task":
        return None

    def begin(attempt: Attempt, done: Done) -> Callable[[], None]:
        attempt.operation = Operation.RECEIVE
        if options.mood == "refused":
            attempt.fail(Failure.REFUSED, operation=Operation.CONNECT)
        if options.mood == "defect":
            raise ZeroDivisionError(options.host)
        defect = ZeroDivisionError(options.host) if options.mood == "late defect" else None
        timer = asyncio.get_running_loop().call_later(options.seconds, done, defect)
        return timer.cancel

    return begin


KINDS = {
    name: Kind(
        name=name,
        options=FakeOptions,
        probe=fake_probe,
        host=lambda options: str(options.host),
        phase_metric="fake_seconds",
        phases=(),
        facts=(),
        packets=lambda options: int(options.packets),
        holds_descriptor=name in ("holder", "direct"),
        direct=fake_direct if name in ("direct", "light") else None,
    )
    for name in ("fake", "holder", "direct", "light")
}


def check(name: str, interval: float = 10.0, timeout: float = 2.0, kind: str = "fake", **options: object) -> Check:
    return Check(name, kind, kind, interval, timeout, FakeOptions(**options))  # type: ignore[arg-type]


@dataclass
class Bench:
    """A runner on virtual time with what it saw."""

    loop: VirtualLoop
    clock: VirtualClock
    runner: Runner
    meter: StallMeter
    seen: list[Observation] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)

    def of(self, name: str) -> list[Observation]:
        return [observation for observation in self.seen if observation.check.target == name]


def bench(
    loop: VirtualLoop,
    clock: VirtualClock,
    checks: Iterable[Check],
    *,
    budgets: Budgets | None = None,
    concurrency: int = 100,
    sinks: Iterable[Callable[[Observation], None]] = (),
    stagger: float = 0.0,
    listener: Listener | None = None,
    slot_seconds: float = 0.0,
    after_slot: Callable[[float], None] | None = None,
) -> Bench:
    meter = StallMeter()
    meter.start()
    seen: list[Observation] = []
    runner = Runner(
        clock=clock,
        io=Io(resolver=NoResolver(), pinger=NoPinger(), user_agent="test"),
        kinds=KINDS,
        budgets=budgets or Budgets(1e6, 1e6),
        concurrency=concurrency,
        meter=meter,
        sinks=(*sinks, seen.append),
        stagger=stagger,
        listener=listener,
        slot_seconds=slot_seconds,
        after_slot=after_slot,
    )
    made = Bench(loop, clock, runner, meter, seen)
    runner.figures.lateness = made.lateness.append
    runner.update(checks)
    runner.start()
    return made


@pytest.mark.parametrize("mood", ["fine", "task", "refused", "defect", "late defect"])
def test_a_probe_without_a_task_is_seen_like_any_other(mood: str) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", kind="direct", mood=mood, seconds=0.5)], concurrency=1)
        await asyncio.sleep(30)
        defect = mood in ("defect", "late defect")
        failures = {"refused": Failure.REFUSED, mood if defect else "": Failure.INTERNAL_ERROR}
        assert {(one.success, one.failure) for one in made.seen} == {(mood in ("fine", "task"), failures.get(mood))}
        assert len(made.seen) >= 3
        assert made.runner.figures.in_flight == 0
        assert made.runner.figures.skipped["previous_round_running"] == 0
        assert made.runner.figures.exceptions["direct"] == (len(made.seen) if defect else 0)
        await made.runner.stop()

    on_virtual_time(scenario)


def test_probes_without_a_task_share_the_places_and_fail_at_once_in_any_number() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        slow = [check(f"slow{n}", kind="direct", seconds=1.0) for n in range(20)]
        broken = [check(f"broken{n}", kind="direct", mood="refused") for n in range(2_000)]
        made = bench(loop, clock, [*slow, *broken], concurrency=1)
        await asyncio.sleep(40)
        assert len({one.check.key for one in made.seen}) == 2_020
        await made.runner.stop()

    on_virtual_time(scenario)


def test_many_that_waited_and_fail_at_once_leave_the_loop_its_turns() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        turns = 0
        of_turn: list[int] = []

        def turn() -> None:
            nonlocal turns
            turns += 1
            if len(of_turn) < 1_000:
                loop.call_soon(turn)

        def begun(observation: Observation) -> None:
            if observation.check.target != "first":
                if not turns:
                    turn()
                of_turn.append(turns)

        first = check("first", kind="direct", interval=100.0, timeout=99.0, seconds=98.0)
        made = bench(loop, clock, [first], concurrency=1, sinks=[begun])
        await asyncio.sleep(60)
        waiting = [check(f"t{n}", kind="direct", mood="refused", interval=20.0) for n in range(1_000)]
        made.runner.update([first, *waiting])
        await asyncio.sleep(20)
        assert not of_turn
        made.runner.update(waiting)
        await asyncio.sleep(120)
        await made.runner.stop()
        assert len(of_turn) >= 1_000
        assert max(Counter(of_turn[:1_000]).values()) <= ADMITTED_AT_ONCE
        assert made.runner.figures.in_flight == 0

    on_virtual_time(scenario)


@pytest.mark.parametrize("broken", [0, 1])
def test_stopping_gives_up_all_though_one_is_a_defect(broken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up: list[str] = []

    def direct(options: FakeOptions, _io: Io) -> Direct:
        def give_up() -> None:
            given_up.append(options.host)
            if len(given_up) == broken:
                raise ZeroDivisionError

        return lambda _attempt, _done: give_up

    monkeypatch.setitem(KINDS, "direct", replace(KINDS["direct"], direct=direct))

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}", kind="direct", host=f"192.0.2.{n}") for n in range(3)])
        await asyncio.sleep(15)
        await made.runner.stop()
        assert len(set(given_up)) == 3
        assert made.runner.figures.in_flight == 0
        assert made.runner.figures.exceptions["direct"] == broken

    on_virtual_time(scenario)


def test_stopping_gives_up_a_probe_without_a_task() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", kind="direct", seconds=200.0)])
        await asyncio.sleep(15)
        assert made.runner.figures.in_flight == 1
        await made.runner.stop()
        assert made.runner.figures.in_flight == 0
        assert not made.seen
        await asyncio.sleep(300)
        assert not made.seen

    on_virtual_time(scenario)


def test_rounds_begin_with_slots_and_nothing_else_wakes_the_runner() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        pauses: list[float] = []
        made = bench(loop, clock, [check(f"t{n}") for n in range(1_000)], slot_seconds=0.1, after_slot=pauses.append)
        await asyncio.sleep(35)
        await made.runner.stop()
        starts = [one.sent_at for one in made.seen]
        assert len(starts) > 3_000
        assert max(abs(at / 0.1 - round(at / 0.1)) for at in starts) < 1e-5
        assert max(made.lateness) < 1e-6
        assert len(pauses) <= 352
        assert min(pauses[1:-1]) > 0.09
        for n in range(1_000):  # a slot shifts a round, and never the next one
            times = [one.utc for one in made.of(f"t{n}")]
            phase = phase_seconds(f"t{n}/fake", 10)
            assert all(-1e-6 <= (utc - phase + 5) % 10 - 5 < 0.1 for utc in times[1:])

    on_virtual_time(scenario)


def test_short_intervals_know_no_slots() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", interval=0.2, timeout=0.1)], slot_seconds=0.1)
        await asyncio.sleep(20)
        await made.runner.stop()
        times = [one.utc for one in made.of("t")]
        assert len(times) >= 99
        assert all(abs(later - at - 0.2) < 1e-5 for at, later in pairwise(times[1:]))

    on_virtual_time(scenario)


def test_what_was_asked_for_begins_at_a_quarter_of_a_slot() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        one = check("t")
        made = bench(loop, clock, [one], slot_seconds=0.1)
        await asyncio.sleep(12)
        for n in range(100):
            made.runner.request(one, clock.now() + 0.3 + n * 0.0013, "confirmation", lambda _now: True)
        await asyncio.sleep(1)
        await made.runner.stop()
        starts = {round(each.sent_at / 0.025, 4) for each in made.seen if each.reason == "confirmation"}
        assert 5 <= len(starts) <= 7
        assert all(start == round(start) for start in starts)

    on_virtual_time(scenario)


def test_rounds_lie_on_the_grid_and_the_first_is_early() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}") for n in range(20)])
        await asyncio.sleep(100)
        await made.runner.stop()
        for n in range(20):
            times = [observation.utc for observation in made.of(f"t{n}")]
            assert 10 <= len(times) <= 11
            assert times[0] - 1_700_000_000 <= 8 + 0.01
            phase = phase_seconds(f"t{n}/fake", 10)
            for utc in times[1:]:
                assert (utc - phase + 5) % 10 - 5 == pytest.approx(0, abs=0.01)
        assert max(made.lateness) < 0.01

    on_virtual_time(scenario)


def test_regular_rounds_of_a_check_never_overlap() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        # The timeout is not enforced on this one: it is the probe that is slow, for a round and a half.
        made = bench(loop, clock, [check("slow", interval=10, timeout=100, seconds=15)])
        await asyncio.sleep(100)
        await made.runner.stop()
        times = [observation.sent_at for observation in made.seen]
        assert all(b - a > 15 for a, b in itertools.pairwise(times))
        assert made.runner.figures.skipped["previous_round_running"] >= 4

    on_virtual_time(scenario)


def test_a_probe_that_takes_too_long_says_what_it_was_doing() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        moods = [check("stuck", mood="resolve"), check("ours", mood="prepare")]
        made = bench(loop, clock, [check("slow", seconds=100), *moods])
        await asyncio.sleep(25)
        await made.runner.stop()
        assert {(o.operation, o.failure) for o in made.of("slow")} == {(Operation.RECEIVE, Failure.TIMEOUT)}
        assert {(o.operation, o.failure) for o in made.of("stuck")} == {(Operation.RESOLVE, Failure.RESOLVER_TIMEOUT)}
        assert {(o.operation, o.failure) for o in made.of("ours")} == {(Operation.PREPARE, Failure.LOOP_STALLED)}

    on_virtual_time(scenario)


def test_a_stalled_loop_makes_no_timeouts() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}", seconds=1.0) for n in range(50)])

        async def stalls() -> None:
            for _ in range(60):
                await asyncio.sleep(1.3)
                loop.jump(1.7)

        await stalls()
        await made.runner.stop()
        assert len(made.seen) > 500
        assert all(observation.success for observation in made.seen)
        assert max(observation.stalled_seconds for observation in made.seen) == pytest.approx(1.7, abs=0.06)

    on_virtual_time(scenario)


def test_a_stall_too_long_to_tell_is_our_own_failure() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", interval=60, timeout=2, seconds=100)])
        entry = made.runner._entries["t/fake"]
        await asyncio.sleep(entry.due - loop.time() + 0.1)
        loop.jump(9)
        await asyncio.sleep(1)
        await made.runner.stop()
        assert [observation.failure for observation in made.seen] == [Failure.LOOP_STALLED]

    on_virtual_time(scenario)


def test_a_suspended_host_does_not_probe_everything_at_once() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}", interval=60) for n in range(600)])
        await asyncio.sleep(100)
        loop.jump(3600)
        made.seen.clear()
        await asyncio.sleep(6)
        woken = len(made.seen)
        await asyncio.sleep(60)
        await made.runner.stop()
        assert woken < 120  # a tenth of an interval: about 60
        assert len({observation.check.target for observation in made.seen}) == 600
        assert made.runner.figures.skipped["missed"] >= 600 * 59

    on_virtual_time(scenario)


@pytest.mark.parametrize("step", [3600.0, -3600.0, 17.0, -17.0])
def test_a_clock_step_neither_doubles_nor_loses_rounds(step: float) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}") for n in range(20)])
        await asyncio.sleep(50)
        clock.step(step)
        await asyncio.sleep(50)
        await made.runner.stop()
        assert made.runner.figures.clock_steps == 1
        for n in range(20):
            times = [observation.sent_at for observation in made.of(f"t{n}")]
            gaps = [b - a for a, b in itertools.pairwise(times)][1:]
            assert min(gaps) >= 5 - 0.01
            assert max(gaps) <= 15 + 0.01

    on_virtual_time(scenario)


@pytest.mark.parametrize("kind", ["fake", "light"])
def test_budgets_delay_and_show_as_lateness(kind: str) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        budgets = Budgets(packets_per_second=1000, per_prefix_per_second=2)
        crowd = [check(f"t{n}", interval=60, host=f"192.0.2.{n}", kind=kind) for n in range(240)]
        other = check("other", interval=10, host="198.51.100.1")
        made = bench(loop, clock, [*crowd, other], budgets=budgets)
        await asyncio.sleep(120)
        await made.runner.stop()
        sent = sorted(o.sent_at for o in made.seen if o.check.target != "other")
        for begin in range(100):
            assert sum(1 for at in sent if begin <= at < begin + 10) <= 2 * 10 + 2
        assert len(sent) == pytest.approx(240, abs=4)  # twice too many for the budget: half of the rounds
        others = [o.sent_at for o in made.of("other")][1:]
        assert [b - a for a, b in itertools.pairwise(others)] == pytest.approx([10] * (len(others) - 1))
        assert max(made.lateness) > 10

    on_virtual_time(scenario)


@pytest.mark.parametrize("kind", ["fake", "direct", "light"])
def test_a_probe_is_charged_once(kind: str) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        budgets = Budgets(packets_per_second=15, per_prefix_per_second=1.5)
        checks = [check(f"t{n}", interval=1.0, timeout=0.5, kind=kind, host=f"192.0.{n}.1") for n in range(10)]
        made = bench(loop, clock, checks, budgets=budgets)
        await asyncio.sleep(60)
        await made.runner.stop()
        assert len(made.seen) == pytest.approx(600, abs=10)
        assert max(made.lateness) < 0.01

    on_virtual_time(scenario)


@pytest.mark.parametrize("kind", ["fake", "direct", "light"])
def test_what_is_under_way_is_counted_round_by_round(kind: str) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", interval=10, kind=kind, seconds=1.0, host="192.0.2.1")])
        under_way = []
        for _ in range(600):
            await asyncio.sleep(0.1)
            under_way.append(made.runner.figures.in_flight)
        await made.runner.stop()
        assert set(under_way) == {0, 1}
        assert sum(under_way) == pytest.approx(60, abs=12)
        assert len(made.seen) == 6

    on_virtual_time(scenario)


def test_a_name_is_charged_to_the_prefix_of_its_address_once_that_is_known() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        asked: list[object] = []

        class Spy(Budgets):
            def reserve(self, now: float, key: object, packets: float) -> float:
                asked.append(str(key))
                return now

        named = check("t", host="example.org", address="192.0.2.7")
        made = bench(loop, clock, [named], budgets=Spy(1e6, 1e6))
        await asyncio.sleep(25)
        await made.runner.stop()
        assert asked == ["example.org", "192.0.2.0/24", "192.0.2.0/24"]

    on_virtual_time(scenario)


def test_a_defect_in_a_slot_costs_one_round_and_the_others_nothing() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        class Broken(Budgets):
            asked = 0

            def reserve(self, now: float, key: object, packets: float) -> float:
                self.asked += 1
                if self.asked == 1:
                    raise ZeroDivisionError
                return super().reserve(now, str(key), packets)

        made = bench(loop, clock, [check(f"t{n}") for n in range(8)], budgets=Broken(1e6, 1e6), slot_seconds=0.4)
        await asyncio.sleep(45)
        await made.runner.stop()
        assert made.runner.figures.exceptions["schedule"] == 1
        assert min(len(made.of(f"t{n}")) for n in range(8)) >= 3
        assert sum(made.runner.figures.skipped.values()) == 0

    on_virtual_time(scenario)


def test_probes_that_hold_descriptors_wait_for_a_place() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        holders = [check(f"h{n}", kind="holder", seconds=1.0, timeout=3) for n in range(30)]
        free = [check(f"f{n}", seconds=1.0) for n in range(30)]
        made = bench(loop, clock, [*holders, *free], concurrency=2)
        most = 0
        for _ in range(300):
            await asyncio.sleep(0.1)
            most = max(most, made.runner._holding)
        await made.runner.stop()
        assert most == 2
        assert len(made.seen) > 100
        assert all(observation.success for observation in made.seen)

    on_virtual_time(scenario)


def test_a_defect_is_isolated_counted_and_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(OncePerCause, "error", lambda self, cause, *a, **k: logged.append(cause))

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("bad", mood="defect"), check("good"), check("no", mood="refused")])
        await asyncio.sleep(50)
        await made.runner.stop()
        assert {o.failure for o in made.of("bad")} == {Failure.INTERNAL_ERROR}
        assert all(o.success for o in made.of("good"))
        assert {(o.operation, o.failure) for o in made.of("no")} == {(Operation.CONNECT, Failure.REFUSED)}
        assert made.runner.figures.exceptions == {"fake": len(made.of("bad"))}

    on_virtual_time(scenario)
    assert len(set(logged)) == 1


def test_a_defect_of_one_sink_costs_the_others_nothing() -> None:
    def broken(_observation: Observation) -> None:
        raise RuntimeError

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t")], sinks=[broken])
        await asyncio.sleep(30)
        await made.runner.stop()
        assert len(made.seen) == 3
        assert made.runner.figures.exceptions["sink"] == 3

    on_virtual_time(scenario)


def test_stopping_leaves_nothing() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check(f"t{n}", seconds=1.5) for n in range(50)])
        await asyncio.sleep(12)
        before = len(made.seen)
        await made.runner.stop()
        made.meter.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(30)
        assert len(made.seen) == before
        assert made.runner.figures.in_flight == 0

    on_virtual_time(scenario)


def test_update_keeps_what_stays_drops_what_goes_and_starts_what_comes() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("stays"), check("goes", seconds=1), check("changes")])
        await asyncio.sleep(50)
        made.runner.update([check("stays"), replace(check("changes"), interval_seconds=5.0), check("comes")])
        made.seen.clear()
        await asyncio.sleep(50)
        await made.runner.stop()
        assert made.of("goes") == []
        assert len(made.of("stays")) == 5
        assert len(made.of("changes")) in (10, 11)
        assert len(made.of("comes")) in (5, 6)

    on_virtual_time(scenario)


def test_a_check_that_is_changed_again_and_again_neither_overlaps_nor_gains_rounds() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        slow = check("t", interval=10, timeout=8, seconds=7)
        made = bench(loop, clock, [slow])
        most = 0
        for number in range(300):
            await asyncio.sleep(0.5)
            most = max(most, made.runner.figures.in_flight)
            if number % 3 == 0:
                made.runner.update([replace(slow, options=FakeOptions(seconds=7, packets=1 + number % 2))])
        assert most == 1
        await asyncio.sleep(20)
        made.seen.clear()
        await asyncio.sleep(50)
        await made.runner.stop()
        assert len(made.seen) == 5  # it goes on

    on_virtual_time(scenario)


def test_the_first_packets_to_a_name_are_charged_to_its_prefix() -> None:
    class Somewhere(NoResolver):
        async def resolve(self, name: str, family: Family) -> str:
            return "192.0.2.7"

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        crowd = [check(f"t{n}", interval=10, host=f"name-{n}.example") for n in range(100)]
        made = bench(loop, clock, [], budgets=Budgets(1000, 2))
        made.runner._io = replace(made.runner._io, resolver=Somewhere())
        made.runner.update(crowd)
        await asyncio.sleep(10)
        await made.runner.stop()
        assert 15 <= len(made.seen) <= 22

    on_virtual_time(scenario)


def test_cancelling_a_single_probe_leaves_no_observation() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [])
        task = asyncio.create_task(made.runner.execute(check("t", seconds=1), "once"))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.seen == []
        await made.runner.stop()

    on_virtual_time(scenario)


def test_times_of_an_observation() -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [])
        before = clock.now()
        observation = await made.runner.execute(check("t", seconds=1.5))
        assert observation.sent_at == pytest.approx(before)
        assert observation.utc - observation.sent_at == pytest.approx(1_700_000_000)
        await made.runner.stop()

    on_virtual_time(scenario)


# -- probes that are asked for -----------------------------------------------------------------------------------------


class Ears:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.sent_at: list[tuple[str, str, float]] = []
        self.observed: list[Observation] = []
        self.taken_back: list[tuple[str, float]] = []
        self.looks: list[float | None] = []

    def sent(self, check: Check, at: float, reason: str) -> None:
        self.sent_at.append((check.target, reason, at))

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)

    def withdrawn(self, check: Check, at: float) -> None:
        self.taken_back.append((check.target, at))

    def looked_at_clock(self, at: float, offset_seconds: float, stepped_seconds: float | None) -> None:
        self.looks.append(stepped_seconds)


def always(_now: float) -> bool:
    return True


def test_everything_that_is_sent_is_heard_of_and_then_observed_or_withdrawn() -> None:
    ears = Ears()

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t", seconds=1.5)], listener=ears)
        await asyncio.sleep(95)
        entry = made.runner._entries["t/fake"]
        await asyncio.sleep(entry.due - loop.time() + 0.5)  # one is under way
        await made.runner.stop()

    on_virtual_time(scenario)
    heard = [("t", observation.sent_at) for observation in ears.observed] + ears.taken_back
    assert [(target, at) for target, _reason, at in ears.sent_at] == heard
    assert len(ears.taken_back) == 1


def test_confirmations_may_overlap_and_are_asked_for_again_before_they_go() -> None:
    ears = Ears()

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        slow = check("t", interval=1000, timeout=100, seconds=50)
        made = bench(loop, clock, [slow], listener=ears)
        for at in (1.0, 2.0, 3.0, 4.0):
            made.runner.request(slow, at, "confirmation", lambda now: now < 3.5)
        made.runner.request(check("unknown"), 1.0, "confirmation", always)
        await asyncio.sleep(10)
        await made.runner.stop()

    on_virtual_time(scenario)
    asked = [(target, round(at, 2)) for target, reason, at in ears.sent_at if reason == "confirmation"]
    assert asked == [("t", 1.0), ("t", 2.0), ("t", 3.0)]


def test_a_displacing_round_takes_the_place_of_the_next_one() -> None:
    ears = Ears()

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        one = check("t", interval=10)
        made = bench(loop, clock, [one], listener=ears)
        await asyncio.sleep(25)
        due = made.runner._entries["t/fake"].due
        before = len(ears.sent_at)
        made.runner.request(one, loop.time() + 1, "regular", always, displace=True)
        await asyncio.sleep(due - loop.time() + 5)
        await made.runner.stop()
        assert [round(at, 2) for _t, _r, at in ears.sent_at[before:]] == [26.0]
        assert made.runner._entries["t/fake"].due == pytest.approx(due + 10)

    on_virtual_time(scenario)


def test_references_have_rounds_and_go_ahead_of_all_budgets_when_asked_for() -> None:
    ears = Ears()

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        budgets = Budgets(packets_per_second=1, per_prefix_per_second=1)
        reference = check("r", interval=30, host="192.0.2.9")
        crowd = [check(f"t{n}", interval=10, host="192.0.2.1") for n in range(30)]
        made = bench(loop, clock, crowd, budgets=budgets, listener=ears)
        made.runner.update(crowd, [reference])
        await asyncio.sleep(40)
        made.runner.request(reference, 41.0, "reference", always)
        await asyncio.sleep(2)
        await made.runner.stop()

    on_virtual_time(scenario)
    of_reference = [at for target, reason, at in ears.sent_at if target == "r" and reason == "reference"]
    assert len(of_reference) >= 2
    assert 41.0 in [round(at, 2) for at in of_reference]
    others = [at for target, _reason, at in ears.sent_at if target != "r"]
    assert len(others) <= 42


def test_the_listener_is_told_of_clock_steps() -> None:
    ears = Ears()

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        made = bench(loop, clock, [check("t")], listener=ears)
        await asyncio.sleep(5)
        clock.step(3600)
        await asyncio.sleep(5)
        await made.runner.stop()

    on_virtual_time(scenario)
    assert [step for step in ears.looks if step is not None] == [pytest.approx(3600)]
