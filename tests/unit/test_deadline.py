"""Deadlines count responsive time only. Virtual time: a stall is a jump of the clock inside a callback."""

from __future__ import annotations

import asyncio

import pytest

from prober.deadline import Deadline, StallMeter
from tests.fakes import VirtualClock, VirtualLoop, on_virtual_time


def started() -> StallMeter:
    meter = StallMeter()
    meter.start()
    return meter


def test_a_body_that_ends_in_time_is_left_alone() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> None:
        async with Deadline(1.0, started()) as deadline:
            await asyncio.sleep(0.9)
        assert not deadline.expired

    on_virtual_time(scenario)


def test_a_body_that_takes_too_long_is_cancelled() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> None:
        deadline = Deadline(1.0, started())
        with pytest.raises(TimeoutError):
            async with deadline:
                await asyncio.sleep(10)
        assert loop.time() == pytest.approx(1.0, abs=0.01)
        assert deadline.expired
        assert not deadline.exhausted

    on_virtual_time(scenario)


@pytest.mark.parametrize("stall_at", [0.1, 0.8, 0.99])
def test_a_stall_is_not_counted(stall_at: float) -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> float:
        loop.call_later(stall_at, loop.jump, 0.5)
        with pytest.raises(TimeoutError):
            async with Deadline(1.0, started()) as deadline:
                await asyncio.sleep(10)
        assert deadline.stalled_seconds == pytest.approx(0.5, abs=0.06)
        return loop.time()

    assert on_virtual_time(scenario) == pytest.approx(1.5, abs=0.06)


def test_what_arrived_during_a_stall_counts() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> str:
        answer: asyncio.Future[str] = loop.create_future()

        def stall() -> None:
            loop.jump(2.0)
            loop.call_soon(answer.set_result, "answered")  # as the selector would, on what the kernel holds

        loop.call_later(0.9, stall)
        async with Deadline(1.0, started()):
            return await answer

    assert on_virtual_time(scenario) == "answered"


def test_more_stall_than_can_be_granted_is_said() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> None:
        loop.call_later(0.5, loop.jump, 5.0)
        deadline = Deadline(1.0, started())
        with pytest.raises(TimeoutError):
            async with deadline:
                await asyncio.sleep(100)
        assert deadline.exhausted
        assert loop.time() < 8

    on_virtual_time(scenario)


def test_an_outer_cancellation_passes_through() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> None:
        async def body() -> None:
            async with Deadline(1.0, started()):
                await asyncio.sleep(10)

        task = asyncio.create_task(body())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    on_virtual_time(scenario)


def test_an_error_of_the_body_passes_through() -> None:
    async def scenario(_loop: VirtualLoop, _clock: VirtualClock) -> None:
        with pytest.raises(KeyError):
            async with Deadline(1.0, started()):
                raise KeyError

    on_virtual_time(scenario)


def test_deadlines_of_one_length_share_a_timer() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> int:
        meter = started()
        deadlines = [Deadline(1.0, meter) for _ in range(100)]
        over: list[float] = []
        for deadline in deadlines:
            deadline.start(lambda: over.append(loop.time()))
            await asyncio.sleep(0.001)
        timers = len(loop._scheduled)  # type: ignore[attr-defined]
        for deadline in deadlines[::2]:
            deadline.stop()
        await asyncio.sleep(2.0)
        assert [deadline.expired for deadline in deadlines] == [False, True] * 50
        assert over == pytest.approx([1.001 + 0.001 * n for n in range(1, 100, 2)], abs=0.002)
        return timers

    assert on_virtual_time(scenario) < 5


def test_one_that_has_no_task_is_told_once_and_not_after_it_was_stopped() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> list[str]:
        told: list[str] = []
        meter = started()
        late, early = Deadline(1.0, meter), Deadline(1.0, meter)
        late.start(lambda: told.append("late"))
        early.start(lambda: told.append("early"))
        loop.call_later(1.0005, early.stop)  # in the turn that it was still given
        await asyncio.sleep(5.0)
        assert not early.expired
        return told

    assert on_virtual_time(scenario) == ["late"]


def test_the_meter_measures_every_stall() -> None:
    heard: list[float] = []

    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> float:
        meter = StallMeter(heard.append)
        meter.start()
        for _ in range(3):
            await asyncio.sleep(1)
            loop.jump(0.3)
            await asyncio.sleep(0)
        await asyncio.sleep(1)
        meter.stop()
        assert meter.longest_seconds == pytest.approx(0.3, abs=0.06)
        return meter.total_seconds

    assert on_virtual_time(scenario) == pytest.approx(0.9, abs=0.16)
    assert len(heard) == 3
