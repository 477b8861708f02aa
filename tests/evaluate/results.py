"""What was measured, put together, and the few numbers that the tables are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, fsum, lgamma, log, log1p
from typing import Any, Final

from prober.replay.score import Figures
from tests.evaluate.expectation import LOSSES, Expected
from tests.evaluate.longruns import LongRuns
from tests.evaluate.measure import OURS, RULES, Found, fused, together
from tests.evaluate.worlds import CASES

PERCENTS: Final = (1, 5, 20, 30)
FUSED_PERCENT: Final = 20
BURSTS: Final = tuple((mean, percent) for mean in (5, 10) for percent in PERCENTS)


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    years: dict[str, float] = field(default_factory=dict)  # by world, end to end
    ours: dict[str, Found] = field(default_factory=dict)
    by_vantage: dict[tuple[str, int], Found] = field(default_factory=dict)
    theirs: dict[str, dict[str, Found]] = field(default_factory=dict)
    fused: Figures | None = None  # of the world with three vantages
    expected: dict[str, Expected] = field(default_factory=dict)
    dense: dict[int, Figures] = field(default_factory=dict)  # by loss, %
    staggered: Figures = field(default_factory=Figures)
    bursts: dict[tuple[int, int], LongRuns] = field(default_factory=dict)  # by mean and loss


def gather(years: dict[str, float], done: dict[tuple[str, str, int], Any]) -> Results:
    """Put the pieces together, in the order of the lists."""
    results = Results(years=years)
    for name in years:
        mine, others = Found(), {rule: Found() for rule in RULES}
        for index in range(CASES[name].vantages):
            mine.add(done["ours", name, index])
            results.by_vantage[name, index] = done["ours", name, index]
            for rule, found in done["theirs", name, index].items():
                others[rule].add(found)
        results.ours[name], results.theirs[name] = mine, others
    if "three" in years:
        results.fused = fused(years["three"], results.ours["three"].outages)

    def parts(kind: str, name: str) -> list[Any]:
        return [done[key] for key in sorted(done) if key[:2] == (kind, name)]

    for name in LOSSES:
        results.expected[name] = Expected(tuple(year for part in parts("expected", name) for year in part.batches))
    for percent in PERCENTS:
        results.dense[percent] = together(parts("dense", str(percent)))
    results.staggered = together(parts("staggered", str(FUSED_PERCENT)))
    for mean, percent in BURSTS:
        several = parts("bursts", f"{mean}/{percent}")
        rates = tuple(rate for part in several for rate in part.rates)
        results.bursts[mean, percent] = LongRuns(together(part.figures for part in several), rates)
    return results


def of_checks(found: Found) -> Figures:
    """The figures of a world's single checks."""
    return together(one for part, one in found.figures.items() if not part.endswith("entity"))


def rows_of(results: Results, name: str) -> Iterator[tuple[str, Figures, float]]:
    """(rule, figures, probes) of a world at the level of checks: ours, then the others'."""
    mine = results.ours[name]
    yield OURS, of_checks(mine), mine.probes
    for rule, found in results.theirs[name].items():
        yield rule, together(found.figures.values()), found.probes


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them is not above; None without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def long_share(bursts: Sequence[LongRuns]) -> float | None:
    """Of `outage` records from these kinds of loss, each as often as it comes: how many had a long run."""
    records = fsum(one.a_year for one in bursts)
    true = fsum(
        one.a_year * one.figures.long_records_true / one.figures.long_records
        for one in bursts
        if one.figures.long_records
    )
    return true / records if records else None


def at_least(good: int, cases: int, doubt: float = 0.025) -> float:
    """The lower end of what the share may be, but for `doubt` (Clopper and Pearson)."""
    return 1.0 - at_most(cases - good, cases, doubt)


def at_most(good: int, cases: int, doubt: float = 0.025) -> float:
    """The upper end."""
    if cases == 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _no_more_than(good, cases, middle) > doubt else (low, middle)
    return high


def _no_more_than(count: int, cases: int, share: float) -> float:
    """P(no more than `count` of `cases`), each with this probability."""
    if count >= cases or share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    if 2 * count > cases:  # the shorter sum
        return 1.0 - _no_more_than(cases - count - 1, cases, 1.0 - share)
    whole = lgamma(cases + 1)
    return fsum(
        exp(whole - lgamma(n + 1) - lgamma(cases - n + 1) + n * log(share) + (cases - n) * log1p(-share))
        for n in range(count + 1)
    )
