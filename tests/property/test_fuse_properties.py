"""Fusing: whatever the vantages' phases, bounds that hold the truth are fused into bounds that do, and no wider."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from prober.judge.records import Outage
from prober.report.fuse import Sight, fuse

UNTIL = 100_000.0
NAMES = "abcde"

grids = st.lists(
    st.tuples(st.floats(0, 60, exclude_max=True), st.floats(5, 60), st.integers(1, 4)), min_size=1, max_size=5
)
"""Of each vantage: its phase, its interval, and how many failures in a row prove something."""
truths = st.lists(st.tuples(st.floats(300, 3000), st.floats(300, 3000)), min_size=1, max_size=4)
"""Outages: how long it was up before, and how long it was down (longer than any run of four failures)."""


def witnessed(vantage: str, phase: float, interval: float, k: int, spans: list[tuple[float, float]]) -> Sight:
    """What an agent without loss makes of the truth: bounds by send times."""

    def after(moment: float, number: int) -> float:
        """The number-th probe at or after a moment (0: the last one before it)."""
        place = int((moment - phase) // interval)
        place += phase + place * interval < moment
        return phase + (place + number - 1) * interval

    outages = []
    for begin, end in spans:
        last_ok, first_fail, proof = after(begin, 0), after(begin, 1), after(begin, k)
        first_ok, last_fail, certain = after(end, 1), after(end, 0), after(end, 1 - k)
        outages.append(
            Outage(
                f"{vantage}{begin}", vantage, "network", "n", "e", last_ok, proof, (last_ok + first_fail) / 2, proof,
                max(certain, proof), first_ok, (last_fail + first_ok) / 2, ongoing=False,
            )
        )  # fmt: skip
    return Sight(vantage, tuple(outages), ((-inf, 0.0), (UNTIL, inf)))


def world(grid: list[tuple[float, float, int]], durations: list[tuple[float, float]]) -> tuple[
    list[Sight], list[tuple[float, float]]
]:  # fmt: skip
    spans, at = [], 300.0
    for up, down in durations:
        spans.append((at + up, at + up + down))
        at += up + down
    return [witnessed(name, *one, spans) for name, one in zip(NAMES, grid, strict=False)], spans


@given(grids, truths)
def test_the_truth_is_held_and_the_bounds_are_no_wider(
    grid: list[tuple[float, float, int]], durations: list[tuple[float, float]]
) -> None:
    sights, spans = world(grid, durations)
    found = fuse(sights, until=UNTIL)
    assert [one.kind for one in found] == ["outage"] * len(spans)
    for place, ((begin, end), record) in enumerate(zip(spans, found, strict=True)):
        assert record.end is not None
        assert record.start.after <= begin <= record.start.by
        assert record.end.after <= end <= record.end.by
        own = [sight.outages[place] for sight in sights]
        assert record.start.by - record.start.after <= min(one.started_by - (one.started_after or 0) for one in own)
        assert record.end.by - record.end.after <= min((one.ended_by or 0) - one.ended_after for one in own)
        assert record.start.after <= record.start.at <= record.start.by
        assert record.end.after <= record.end.at <= record.end.by
        assert record.duration_max_seconds is not None
        assert record.duration_min_seconds <= end - begin <= record.duration_max_seconds
        assert record.down == tuple(sight.vantage for sight in sights)


@given(grids, truths, st.floats(400, 20_000))
def test_a_report_that_ends_within_an_outage_knows_what_was_certain(
    grid: list[tuple[float, float, int]], durations: list[tuple[float, float]], until: float
) -> None:
    """Never beyond the truth, and as far as the whole record says: to the earlier of its end's bound and `until`."""
    sights, spans = world(grid, durations)
    whole = {record.start.at: record for record in fuse(sights, until=UNTIL)}
    for record in fuse(sights, until=until):
        same = whole[record.start.at]
        assert same.end is not None
        assert record.start == same.start
        if record.end is None:
            assert record.certain_until == min(until, same.end.after)
            assert any(begin <= record.start.by and record.certain_until <= end for begin, end in spans)
        else:
            assert record.end == same.end


@given(grids, truths, st.randoms(use_true_random=False))
def test_the_order_of_vantages_and_records_says_nothing(
    grid: list[tuple[float, float, int]], durations: list[tuple[float, float]], random: st.DataObject
) -> None:
    sights, _ = world(grid, durations)
    shuffled = [replace(sight, outages=tuple(random.sample(sight.outages, len(sight.outages)))) for sight in sights]  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fuse(shuffled, until=UNTIL) == fuse(sights, until=UNTIL)


spans = st.lists(st.tuples(st.floats(0, 5000), st.floats(0.1, 500)), max_size=4)


@st.composite
def anything(draw: st.DrawFn, vantage: str) -> Sight:
    """Any records that a ledger may hold: open bounds, abandoned, ongoing, in any relation to the gaps."""
    outages, at = [], draw(st.floats(0, 500))
    for number in range(draw(st.integers(0, 4))):
        gaps = [draw(st.floats(0.1, 400)) for _ in range(4)]
        after, by = at, at + gaps[0]
        start = after + gaps[0] * draw(st.floats(0, 1))
        low = by + gaps[1]
        high = low + gaps[2]
        how = draw(st.sampled_from(["ended", "abandoned", "unknown start", "ongoing"]))
        one = Outage(f"{number}", vantage, "network", "n", "e", after, by, start, by, low)
        if how == "ongoing":
            outages.append(one)
            break
        if how == "abandoned":
            outages.append(replace(one, ongoing=False))
        else:
            unknown = {"started_after": None, "start": by} if how == "unknown start" else {}
            outages.append(replace(one, ongoing=False, ended_by=high, end=(low + high) / 2, **unknown))  # type: ignore[arg-type]
        at = high + gaps[3]
    blind = tuple((begin, begin + long) for begin, long in draw(spans))
    return Sight(vantage, tuple(outages), ((-inf, 0.0), *blind, (UNTIL, inf)), draw(st.sampled_from([0.0, 3.0])))


@given(st.tuples(*(anything(name) for name in "abc")))
def test_whatever_is_on_record_comes_out_in_order(sights: tuple[Sight, ...]) -> None:
    found = fuse(sights, until=UNTIL)
    before = -inf
    for record in found:
        assert record.start.after <= record.start.at <= record.start.by
        assert record.start.at >= before
        assert record.down or record.unobserved_seconds or record.blind
        if record.end is not None:
            assert record.end.after <= record.end.by
            assert record.start.at <= record.end.at <= record.end.by
            before = record.end.at
        assert record.kind == "peninsula" or not set(record.up) - set(record.blind)
        assert record.duration_min_seconds >= 0
