"""The gate of /probe: rates, places, a queue with an end, and budgets that are the others' first."""

from __future__ import annotations

import asyncio

import pytest

from prober.blackbox.admission import CLIENTS_MAX, Admission, Overloaded
from prober.blackbox.history import LOG_CHARACTERS_MAX, REMEMBERED_MAX, History, Past, Report, bounded
from prober.config.settings import ProbeEndpoint
from prober.schedule import Budgets


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def gate(now: Time, **limits: float) -> Admission:
    return Admission(Budgets(100.0, 2.0), now, ProbeEndpoint.model_validate({"enabled": True, **limits}))


def admitted(admission: Admission, client: str, requests: int) -> int:
    count = 0
    for _ in range(requests):
        try:
            admission.heed_rate(client)
        except Overloaded as error:
            assert error.status == 429  # noqa: PT017
        else:
            count += 1
    return count


def test_one_client_cannot_take_what_is_for_all() -> None:
    now = Time()
    admission = gate(now, requests_per_second=10.0, requests_per_second_per_client=4.0)
    assert admitted(admission, "192.0.2.1", 100) == 4
    assert admitted(admission, "192.0.2.2", 100) == 4
    assert admitted(admission, "192.0.2.3", 100) == 2
    now.seconds += 1.0
    assert admitted(admission, "192.0.2.1", 100) == 4


def test_a_64_of_ipv6_is_one_client() -> None:
    admission = gate(Time(), requests_per_second=100.0, requests_per_second_per_client=3.0)
    assert sum(admitted(admission, f"2001:db8::{n:x}", 1) for n in range(100)) == 3
    assert admitted(admission, "2001:db8:0:1::1", 1) == 1


def test_clients_are_forgotten() -> None:
    admission = gate(Time(), requests_per_second=1e6, requests_per_second_per_client=1.0)
    assert admitted(admission, "192.0.2.1", 5) == 1
    for n in range(CLIENTS_MAX):
        admission.heed_rate(f"10.0.{n // 250}.{n % 250}")
    assert admitted(admission, "192.0.2.1", 5) == 1


async def test_places_are_taken_in_order_and_given_back() -> None:
    admission = gate(now := Time(), concurrency=2, queue=10)
    await admission.take_place(now.seconds + 10)
    await admission.take_place(now.seconds + 10)
    order: list[int] = []

    async def next_one(number: int) -> None:
        await admission.take_place(now.seconds + 10)
        order.append(number)

    tasks = [asyncio.create_task(next_one(n)) for n in range(4)]
    await asyncio.sleep(0)
    assert admission.in_flight == 2
    tasks[1].cancel()
    await asyncio.sleep(0)
    for _ in range(3):
        admission.leave_place()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == [0, 2, 3]
    assert admission.in_flight == 2
    for _ in range(2):
        admission.leave_place()
    assert admission.in_flight == 0
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_place_that_was_given_to_a_cancelled_request_is_not_lost() -> None:
    admission = gate(now := Time(), concurrency=1, queue=10)
    await admission.take_place(now.seconds + 10)
    waiting = asyncio.create_task(admission.take_place(now.seconds + 10))
    await asyncio.sleep(0)
    admission.leave_place()  # to the waiting one, which does not know it yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert admission.in_flight == 0


async def test_who_waits_in_vain_is_told() -> None:
    admission = gate(now := Time(), concurrency=1, queue=10)
    await admission.take_place(now.seconds + 10)
    with pytest.raises(Overloaded, match=r"probe_endpoint\.concurrency") as caught:
        await admission.take_place(now.seconds)
    assert caught.value.status == 503
    admission.leave_place()
    assert admission.in_flight == 0


async def test_the_queue_has_an_end() -> None:
    admission = gate(Time(), concurrency=1, queue=1)
    await admission.take_place(2_000.0)
    async with admission.waiting_room():
        with pytest.raises(Overloaded, match=r"probe_endpoint\.queue"):
            async with admission.waiting_room():
                pass
    assert admission.waiting == 0


async def test_the_budgets_are_the_scheduled_checks_first() -> None:
    now = Time()
    budgets = Budgets(100.0, 2.0)
    admission = Admission(budgets, now, ProbeEndpoint(enabled=True))
    await admission.budget("a", 1.0, now.seconds)
    with pytest.raises(Overloaded, match="leave no room") as caught:  # half of a burst of two is taken
        await admission.budget("a", 1.0, now.seconds)
    assert caught.value.status == 503
    assert budgets.reserve(now.seconds, "a", 1.0) == now.seconds, "the other half is the schedule's"
    for number in range(200):
        if budgets.spare(now.seconds, number, 1.0) > now.seconds:
            break
    assert number < 50, "half of a second's packets"
    assert budgets.reserve_whole(now.seconds, 40.0) == now.seconds


async def test_a_budget_is_waited_for() -> None:
    budgets = Budgets(100.0, 20.0)
    loop = asyncio.get_running_loop()
    admission = Admission(budgets, loop.time, ProbeEndpoint(enabled=True))
    begin = loop.time()
    for _ in range(13):
        await admission.budget("a", 1.0, begin + 60.0)
    assert loop.time() - begin > 0.1  # ten at once, then twenty a second


def test_spare_prefixes_are_forgotten() -> None:
    budgets = Budgets(1e6, 2.0)
    for number in range(5_000):
        budgets.spare(1_000.0 + number, number, 1.0)
    assert len(budgets._prefixes) < 10


def past(number: int, success: bool) -> Past:
    return Past(number, 0.0, "m", f"t{number}", success, 0.1, "" if success else "why", Report("l", "m", "c"))


def test_failed_probes_are_remembered_longer() -> None:
    history = History()
    for number in range(500):
        history.add(past(history.number(), success=number % 100 != 0))
    assert history.by_number(0) is not None
    assert history.by_number(1) is None
    assert history.by_number(450) is not None
    assert history.by_target("t200") is not None
    assert [p.number for p in history][:2] == [499, 498]
    assert len(list(history)) == REMEMBERED_MAX + 4
    for _ in range(500):
        history.add(past(history.number(), success=False))
    assert len(list(history)) == 2 * REMEMBERED_MAX


def test_a_log_is_cut() -> None:
    text = bounded(["x" * 1_000] * 100)
    assert len(text) < LOG_CHARACTERS_MAX + 100
    assert text.endswith("more lines")
    assert bounded(["a", "b"]) == "a\nb"
