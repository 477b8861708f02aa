"""Waiting for many times with one timer each length."""

from __future__ import annotations

import asyncio

from prober.alarms import QUEUES_MAX, Alarms, alarms_of
from tests.fakes import VirtualClock, VirtualLoop, on_virtual_time


def test_alarms_come_in_their_order_and_not_when_cancelled() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop, _clock: object) -> list[tuple[str, float]]:
        alarms, told = Alarms(loop), []
        loop.set_exception_handler(lambda _loop, context: told.append((str(context["exception"]), 0.0)))
        began = loop.time()

        def note(name: str) -> None:
            told.append((name, round(loop.time() - began, 6)))

        def again() -> None:
            alarms.after(1.25, lambda: note("from an alarm"))

        alarms.after(2.0, lambda: note("two"))
        alarms.after(1.0, lambda: note("one"))
        alarms.after(2.0, lambda: note("cancelled")).cancel()
        await asyncio.sleep(0.5)
        alarms.after(2.0, lambda: note("two and a half"))
        alarms.after(1.0, again)
        await asyncio.sleep(5.0)
        return told

    assert on_virtual_time(scenario) == [("one", 1.0), ("two", 2.0), ("two and a half", 2.5), ("from an alarm", 2.75)]


def test_alarms_with_slack_come_together_and_never_early() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop, _clock: object) -> list[float]:
        alarms, late = Alarms(loop), []
        for _ in range(10):
            due = loop.time() + 1.0
            alarms.after(1.0, lambda due=due: late.append((loop.time(), loop.time() - due)), slack=0.02)  # type: ignore[misc]
            await asyncio.sleep(0.001)
        await asyncio.sleep(2.0)
        assert all(-1e-6 <= by <= 0.0201 for _, by in late), late
        return [when for when, _ in late]

    moments = on_virtual_time(scenario)
    assert len(moments) == 10
    assert len(set(moments)) <= 2


def test_an_alarm_that_raises_stops_no_other() -> None:
    async def scenario(loop: asyncio.AbstractEventLoop, _clock: object) -> list[str]:
        alarms, told = Alarms(loop), []
        loop.set_exception_handler(lambda _loop, context: told.append(type(context["exception"]).__name__))
        alarms.after(1.0, lambda: [][0])
        alarms.after(1.0, lambda: told.append("the next"))
        await asyncio.sleep(2.0)
        return told

    assert on_virtual_time(scenario) == ["IndexError", "the next"]


def test_lengths_without_number_have_timers_of_their_own() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> int:
        alarms, told = Alarms(loop), []
        for n in range(2 * QUEUES_MAX):
            alarms.after(1.0 + n / 1e3, lambda n=n: told.append(n))  # type: ignore[misc]
        await asyncio.sleep(5.0)
        assert told == sorted(told)
        return len(told)

    assert on_virtual_time(scenario) == 2 * QUEUES_MAX


def test_a_loop_has_one_of_them() -> None:
    async def scenario(loop: VirtualLoop, _clock: VirtualClock) -> Alarms:
        assert alarms_of(loop) is alarms_of(loop)
        return alarms_of(loop)

    assert on_virtual_time(scenario) is not on_virtual_time(scenario)
