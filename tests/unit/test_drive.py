"""A probe's coroutine without a task: how it goes on, how it ends, and that its deadline is a task's. Virtual time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from prober.contract import Attempt, Direct, Done, Io, ProbeFailure
from prober.deadline import Deadline, StallMeter
from prober.failures import Failure, Operation
from prober.model import Check, Observation
from prober.net.drive import Drive, in_task, resumed
from prober.probes import PROBES
from prober.runner import Runner
from prober.schedule import Budgets
from tests.fakes import NoPinger, NoResolver, VirtualClock, VirtualLoop, on_virtual_time

Probe = Callable[[Attempt], Coroutine[Any, Any, None]]


class Driven:
    """One probe on a virtual loop, with a timeout of a second, and what was told of it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.attempt = Attempt(1.0)
        self.attempt.operation = Operation.RECEIVE
        self.meter = StallMeter()
        self.meter.start()
        self.told: list[tuple[float, Exception | None]] = []

    def begin(self, probe: Probe) -> Callable[[], None]:
        return Drive(probe(self.attempt), self.attempt, self._done, self.meter).begin()

    def ready(self) -> None:
        """Its socket is."""
        assert self.attempt.resume is not None
        self.attempt.resume()

    def _done(self, error: Exception | None) -> None:
        self.told.append((self.loop.time(), error))

    def failure(self) -> tuple[Operation, Failure]:
        """Why it failed; nothing else may have been told."""
        ((_, error),) = self.told
        assert isinstance(error, ProbeFailure), error
        return error.operation, error.failure


async def two_waits(attempt: Attempt) -> None:
    await resumed()
    await resumed()


async def endless(attempt: Attempt) -> None:
    while True:
        await resumed()


async def endless_in_task(attempt: Attempt) -> None:
    await in_task(attempt)
    await asyncio.sleep(100)


def driven(scenario: Callable[[Driven], Coroutine[Any, Any, None]]) -> None:
    async def on_loop(loop: VirtualLoop, _clock: VirtualClock) -> None:
        probe = Driven(loop)
        await scenario(probe)
        probe.meter.stop()

    on_virtual_time(on_loop)


def test_it_goes_on_with_each_call_and_ends_once() -> None:
    async def scenario(it: Driven) -> None:
        before = asyncio.all_tasks()
        it.begin(two_waits)
        it.ready()
        assert it.told == []
        it.ready()
        assert it.told == [(0.0, None)]
        assert it.attempt.resume is None
        assert asyncio.all_tasks() == before
        await asyncio.sleep(5.0)  # nor does the deadline tell anything any more
        assert len(it.told) == 1

    driven(scenario)


@pytest.mark.parametrize("waits", [0, 1])
@pytest.mark.parametrize("error", [ProbeFailure(Operation.CONNECT, Failure.REFUSED), ZeroDivisionError()], ids=repr)
def test_what_it_raises_is_told(waits: int, error: Exception) -> None:
    async def failing(attempt: Attempt) -> None:
        for _ in range(waits):
            await resumed()
        raise error

    async def scenario(it: Driven) -> None:
        it.begin(failing)
        for _ in range(waits):
            it.ready()
        assert it.told == [(0.0, error)]

    driven(scenario)


@pytest.mark.parametrize("probe", [endless, endless_in_task])
@pytest.mark.parametrize(
    ("operation", "failure"),
    [
        (Operation.RECEIVE, Failure.TIMEOUT),
        (Operation.RESOLVE, Failure.RESOLVER_TIMEOUT),
        (Operation.PREPARE, Failure.LOOP_STALLED),
    ],
)
def test_one_that_takes_too_long_says_what_it_was_doing(probe: Probe, operation: Operation, failure: Failure) -> None:
    async def scenario(it: Driven) -> None:
        it.attempt.operation = operation
        it.begin(probe)
        await asyncio.sleep(5.0)
        assert it.failure() == (operation, failure)
        assert it.told[0][0] == pytest.approx(1.0, abs=0.01)
        assert it.attempt.resume is None

    driven(scenario)


@pytest.mark.parametrize("probe", [endless, endless_in_task])
@pytest.mark.parametrize(
    ("at", "stall", "failure", "over"),
    [(0.8, 0.5, Failure.TIMEOUT, 1.5), (0.5, 5.0, Failure.LOOP_STALLED, 5.5)],
    ids=["puts the deadline off", "more than can be granted is our own failure"],
)
def test_a_stall(probe: Probe, at: float, stall: float, failure: Failure, over: float) -> None:
    async def scenario(it: Driven) -> None:
        it.begin(probe)
        it.loop.call_later(at, it.loop.jump, stall)
        await asyncio.sleep(10.0)
        assert it.failure() == (Operation.RECEIVE, failure)
        assert it.told[0][0] == pytest.approx(over, abs=0.06)

    driven(scenario)


def test_what_arrived_during_a_stall_counts() -> None:
    async def scenario(it: Driven) -> None:
        def stall() -> None:
            it.loop.jump(2.0)
            it.loop.call_soon(it.ready)  # as the selector would, on what the kernel holds

        it.begin(two_waits)
        it.ready()
        it.loop.call_later(0.9, stall)
        await asyncio.sleep(5.0)
        assert [error for _, error in it.told] == [None]

    driven(scenario)


@pytest.mark.parametrize("first", [resumed, lambda: asyncio.sleep(100)], ids=["without", "with a task"])
@pytest.mark.parametrize("end", ["given up", "overdue"])
def test_what_it_holds_is_given_back_when_it_is_ended(first: Callable[[], Any], end: str) -> None:
    given_back: list[float] = []

    async def holding(attempt: Attempt) -> None:
        if first is not resumed:
            await in_task(attempt)
        try:
            await first()
        finally:
            given_back.append(asyncio.get_running_loop().time())

    async def scenario(it: Driven) -> None:
        before = asyncio.all_tasks()
        give_up = it.begin(holding)
        await asyncio.sleep(0.5)
        if end == "given up":
            give_up()
            give_up()
        await asyncio.sleep(5.0)
        assert given_back == pytest.approx([0.5 if end == "given up" else 1.0], abs=0.01)
        assert [when for when, _ in it.told] == ([] if end == "given up" else given_back)
        assert asyncio.all_tasks() == before

    driven(scenario)


def test_it_becomes_a_task_where_it_stands() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def growing(attempt: Attempt) -> None:
        await resumed()
        await in_task(attempt)
        tasks.append(asyncio.current_task())
        await in_task(attempt)  # it has one
        assert attempt.resume is None
        async with asyncio.timeout(10):
            await asyncio.sleep(0.5)

    async def scenario(it: Driven) -> None:
        it.begin(growing)
        it.ready()
        await asyncio.sleep(2.0)
        ((when, error),) = it.told
        assert error is None
        assert when == pytest.approx(0.5)
        assert tasks
        assert tasks[0] not in (None, asyncio.current_task())

    driven(scenario)


def test_a_task_that_fails_is_told() -> None:
    async def failing(attempt: Attempt) -> None:
        await in_task(attempt)
        attempt.fail(Failure.NXDOMAIN, operation=Operation.RESOLVE)

    async def scenario(it: Driven) -> None:
        it.begin(failing)
        await asyncio.sleep(5.0)
        assert it.failure() == (Operation.RESOLVE, Failure.NXDOMAIN)

    driven(scenario)


def test_a_task_that_somebody_else_cancels_is_a_defect_and_no_success() -> None:
    async def scenario(it: Driven) -> None:
        before = asyncio.all_tasks()
        it.begin(endless_in_task)
        await asyncio.sleep(0.1)
        (task,) = asyncio.all_tasks() - before
        task.cancel()
        await asyncio.sleep(5.0)
        ((_, error),) = it.told
        assert isinstance(error, RuntimeError), "who is not told keeps a place for ever"

    driven(scenario)


def test_when_the_runner_has_stopped_there_is_no_task_left() -> None:
    def direct(_options: object, io: Io) -> Direct:
        return lambda attempt, done: Drive(endless_in_task(attempt), attempt, done, io.meter).begin()

    kind = replace(PROBES["http"], direct=direct)
    options = kind.options(url="http://192.0.2.1/")

    async def scenario(_loop: VirtualLoop, clock: VirtualClock) -> None:
        before = asyncio.all_tasks()
        seen: list[Observation] = []
        runner = Runner(
            clock=clock,
            io=Io(NoResolver(), NoPinger(), "test"),
            kinds={"http": kind},
            budgets=Budgets(1e6, 1e6),
            concurrency=10,
            meter=StallMeter(),
            sinks=[seen.append],
        )
        runner.update([Check(f"t{n}", "http", "http", 60.0, 50.0, options) for n in range(5)])
        runner.start()
        await asyncio.sleep(60.0)
        assert len(asyncio.all_tasks() - before) >= 4
        await runner.stop()
        assert asyncio.all_tasks() == before

    on_virtual_time(scenario)


def test_to_wait_for_anything_else_without_a_task_is_a_defect() -> None:
    async def wrong(attempt: Attempt) -> None:
        await asyncio.get_running_loop().create_future()

    async def scenario(it: Driven) -> None:
        it.begin(wrong)
        ((_, error),) = it.told
        assert isinstance(error, RuntimeError)

    driven(scenario)


def test_under_the_runner_its_deadline_knows_of_stalls() -> None:
    def direct(_options: object, io: Io) -> Direct:
        def begin(attempt: Attempt, done: Done) -> Callable[[], None]:
            attempt.operation = Operation.RECEIVE
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            began.append(loop.time())
            loop.call_later(0.8, loop.jump, 0.5)
            return Drive(endless(attempt), attempt, done, io.meter).begin()

        return begin

    began: list[float] = []
    kind = replace(PROBES["http"], direct=direct)
    options = kind.options(url="http://192.0.2.1/")

    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> tuple[float, Observation]:
        seen: asyncio.Future[tuple[float, Observation]] = loop.create_future()
        meter = StallMeter()
        meter.start()
        runner = Runner(
            clock=clock,
            io=Io(NoResolver(), NoPinger(), "test"),
            kinds={"http": kind},
            budgets=Budgets(1e6, 1e6),
            concurrency=10,
            meter=meter,
            sinks=[lambda observation: seen.set_result((loop.time(), observation))],
        )
        runner.update([Check("t", "http", "http", 60.0, 1.0, options)])
        runner.start()
        try:
            return await seen
        finally:
            await runner.stop()
            meter.stop()

    ended, observation = on_virtual_time(scenario)
    assert ended - began[0] == pytest.approx(1.5, abs=0.06)
    assert (observation.operation, observation.failure) == (Operation.RECEIVE, Failure.TIMEOUT)
    assert observation.stalled_seconds == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("end", ["itself", "given up", "overdue"])
def test_nothing_is_left_to_the_garbage_collector(end: str) -> None:
    """Thousands of probes a second would have it run all the time. Nor does anything wait for the deadline's time."""

    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, Drive | Deadline)]

    async def scenario(it: Driven) -> None:
        before = alive()  # other tests'
        give_up = it.begin(endless if end == "overdue" else two_waits)
        if end == "itself":
            it.ready()
            it.ready()
        elif end == "given up":
            give_up()
        else:
            await asyncio.sleep(2.0)
        del give_up
        assert len(alive()) == len(before)

    gc.collect()
    gc.disable()
    try:
        driven(scenario)
    finally:
        gc.enable()
