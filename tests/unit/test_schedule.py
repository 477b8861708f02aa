"""Phases, rounds and budgets: tables and properties."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.schedule import (
    Bucket,
    Budgets,
    budget_key,
    first_round,
    following_round,
    next_round,
    phase_seconds,
)

times = st.floats(min_value=0, max_value=4e9)
intervals = st.floats(min_value=1, max_value=86_400)
keys = st.text(min_size=1, max_size=30)


@given(keys, intervals, st.floats(min_value=0, max_value=0.999))
def test_phase_is_stable_and_within_the_interval(key: str, interval: float, stagger: float) -> None:
    phase = phase_seconds(key, interval, stagger)
    assert phase == phase_seconds(key, interval, stagger)
    assert 0 <= phase < interval


def test_phases_are_spread_evenly() -> None:
    tenths = [0] * 10
    for number in range(10_000):
        tenths[int(phase_seconds(f"target-{number}/icmp", 60) / 6)] += 1
    assert min(tenths) > 900
    assert max(tenths) < 1100


def test_vantages_are_staggered_by_their_share_of_the_interval() -> None:
    phases = sorted(phase_seconds("kcna.kp/icmp", 60, index / 3) for index in range(3))
    assert [b - a for a, b in itertools.pairwise(phases)] == pytest.approx([20, 20])


@given(times, keys, intervals)
def test_next_round_is_the_first_point_of_the_grid_after(after: float, key: str, interval: float) -> None:
    phase = phase_seconds(key, interval)
    due = next_round(after, phase, interval)
    assert after < due <= after + interval + 1e-3
    rounds = (due - phase) / interval
    assert rounds == pytest.approx(round(rounds), abs=1e-3)


@given(times, keys, intervals)
def test_rounds_neither_drift_nor_bunch(start: float, key: str, interval: float) -> None:
    phase = phase_seconds(key, interval)
    due = next_round(start, phase, interval)
    for late in (0.0, 0.01, interval * 0.4):
        following, missed = following_round(due, due + late, phase, interval)
        assert missed == 0
        assert following == pytest.approx(due + interval, abs=1e-3)
        due = following


@pytest.mark.parametrize(("late", "missed"), [(0.6, 1), (1.2, 2), (10.2, 11)])
def test_a_round_that_is_much_too_late_is_given_up(late: float, missed: int) -> None:
    due, interval = 1000.0, 60.0
    following, given_up = following_round(due, due + late * interval, phase=due % interval, interval_seconds=interval)
    assert given_up == missed
    assert following == due + missed * interval
    assert following > due + late * interval - interval / 2


def test_a_clock_stepped_back_doubles_no_round() -> None:
    # The grid now says that the round just made comes again in two seconds.
    following, missed = following_round(due=1000.0, now=1000.0, phase=1002.0 % 60, interval_seconds=60)
    assert missed == 0
    assert following == 1062.0


@given(times, keys, intervals, st.floats(min_value=0.001, max_value=0.5))
def test_the_first_round_leaves_time_for_its_result(start: float, key: str, interval: float, share: float) -> None:
    phase = phase_seconds(key, interval)
    first = first_round(start, phase, interval, interval * share)
    assert start <= first
    assert first + interval * share <= start + interval * 1.000001 + 1e-3
    assert first <= next_round(start, phase, interval)


@given(times, keys, intervals, st.floats(min_value=0.001, max_value=1))
def test_long_timeouts_do_not_bunch_the_start(start: float, key: str, interval: float, share: float) -> None:
    phase = phase_seconds(key, interval)
    due = next_round(start, phase, interval)
    first = first_round(start, phase, interval, interval * share)
    assert first - start >= (due - start) / 2 - 1e-3
    assert next_round(first, phase, interval) - first >= -1e-3


@pytest.mark.parametrize(
    ("host", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:ffff::1", True),
        ("2001:db8::1", "2001:db8:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("Example.org.", "example.org", True),
        ("a.example.org", "b.example.org", False),
    ],
)
def test_budgets_are_per_prefix_or_name(host: str, other: str, same: bool) -> None:
    assert (budget_key(host) == budget_key(other)) is same


@given(
    st.floats(min_value=0.1, max_value=1000),
    st.floats(min_value=1, max_value=100),
    st.lists(st.tuples(st.floats(min_value=0, max_value=5), st.integers(min_value=1, max_value=20)), max_size=60),
)
def test_a_bucket_never_lets_more_through_than_rate_and_burst(
    rate: float, burst: float, asked: list[tuple[float, int]]
) -> None:
    bucket, now, went = Bucket(rate, burst), 0.0, []
    for wait, packets in asked:
        now += wait
        at = bucket.earliest(now, packets)
        assert at >= now
        bucket.take(at, packets)
        went.append((at, packets))
    for i, (begin, _) in enumerate(went):
        total = 0
        for at, packets in went[i:]:
            total += packets
            # A probe of more packets than the burst goes in one piece, so it is allowed for once.
            allowed = max(burst, packets) + rate * (at - begin) + max((p for _, p in went), default=0)
            assert total <= allowed + 1e-6


@given(
    st.floats(min_value=0.1, max_value=100),
    st.floats(min_value=0.1, max_value=100),
    st.lists(
        st.tuples(st.floats(min_value=0, max_value=3), st.integers(0, 3), st.integers(1, 30), st.booleans()),
        max_size=80,
    ),
)
def test_what_goes_at_once_is_charged_as_in_two_steps(
    whole: float, prefix: float, asked: list[tuple[float, int, int, bool]]
) -> None:
    one, two, now = Budgets(whole, prefix), Budgets(whole, prefix), 0.0
    for wait, key, packets, shortly in asked:
        now += wait
        at = two.reserve(now, key, packets)
        last = max(at, two.reserve_whole(at, packets))
        if shortly and one.at_once(now, key, packets):
            assert last == pytest.approx(now, abs=1e-6)
        else:
            assert max(at, one.reserve_whole(one.reserve(now, key, packets), packets)) == pytest.approx(last, abs=1e-6)
        assert one._whole.free_at == pytest.approx(two._whole.free_at)
        assert one._prefixes[key].free_at == pytest.approx(two._prefixes[key].free_at)


def test_at_once_is_what_usually_goes() -> None:
    budgets = Budgets(packets_per_second=10, per_prefix_per_second=3)
    assert not budgets.at_once(0.0, "a", 1), "not charged before"
    assert [budgets.reserve(0.0, "a", 1), budgets.reserve_whole(0.0, 1)] == [0.0, 0.0]
    assert [budgets.at_once(0.0, "a", 1) for _ in range(3)] == [True, True, False]
    assert budgets.at_once(0.4, "a", 1)
    assert not budgets.at_once(0.4, "a", 1)


def test_budgets_are_exact_at_a_steady_rate() -> None:
    budgets = Budgets(packets_per_second=500, per_prefix_per_second=2)
    key = budget_key("192.0.2.1")
    went = [budgets.reserve(0.0, key, 1) for _ in range(10)]
    assert went == pytest.approx([0, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4])
    assert budgets.reserve(0.0, budget_key("192.0.3.1"), 1) == 0.0


def test_the_whole_is_bounded_over_all_prefixes() -> None:
    budgets = Budgets(packets_per_second=10, per_prefix_per_second=100)
    went = [budgets.reserve_whole(0.0, 1) for _ in range(30)]
    assert went[:10] == [0.0] * 10
    assert went[-1] == pytest.approx(2.0)


def test_a_rate_below_one_packet_a_second_still_lets_a_probe_go() -> None:
    budgets = Budgets(packets_per_second=500, per_prefix_per_second=0.1)
    key = budget_key("192.0.2.1")
    assert [budgets.reserve(0.0, key, 1) for _ in range(3)] == pytest.approx([0, 10, 20])


def test_other_rates_forgive_nothing() -> None:
    budgets = Budgets(packets_per_second=10, per_prefix_per_second=1)
    key = budget_key("192.0.2.1")
    for _ in range(5):
        budgets.reserve(0.0, key, 1)
    for _ in range(20):
        budgets.reserve_whole(0.0, 1)
    budgets.change(10, 1)
    assert budgets.reserve(0.0, key, 1) == pytest.approx(5)
    assert budgets.reserve_whole(0.0, 1) == pytest.approx(1.1)
    budgets.change(10, 10)
    assert budgets.reserve(0.0, key, 1) < 6


def test_idle_prefixes_are_forgotten() -> None:
    budgets = Budgets(packets_per_second=500, per_prefix_per_second=2)
    for number in range(10_000):
        budgets.reserve(float(number), budget_key(f"10.{number >> 8}.{number & 255}.1"), 1)
    assert len(budgets._prefixes) < 10


def test_bucket_starts_full() -> None:
    assert Bucket(1, 1).free_at == -math.inf
