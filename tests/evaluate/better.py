"""Where another rule is better, as the figures say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prober.replay.score import Figures
from tests.evaluate.measure import OURS, RULES
from tests.evaluate.results import Results, percentile, rows_of
from tests.evaluate.tables import number, table
from tests.evaluate.worlds import CASES, YEAR

HOURS_A_YEAR: Final = YEAR / 3600.0


def better(results: Results) -> Iterator[str]:
    """By rule and figure: in how many worlds which one is better, and where another one most clearly."""
    if not results.ours:
        return
    yield "## Where another rule is better\n"
    yield "In so many worlds it is better than prober / prober is better than it.\n"
    rows, clearest = [], []
    for rule in RULES:
        cells = [rule]
        for title, value in FIGURES.items():
            won, lost = [], 0
            for name in results.ours:
                by_rule = {one: (figures, probes) for one, figures, probes in rows_of(results, name)}
                mine, other = value(*by_rule[OURS]), value(*by_rule[rule])
                if mine is None or other is None:
                    continue
                lost += other > mine + 1e-9
                if other < mine - 1e-9:
                    won.append((mine - other, name, mine, other))
            cells.append(f"{len(won)} / {lost}")
            if won:
                _, name, mine, other = max(won)
                clearest.append(
                    f"- {rule}, {title}: {number(other)} where prober has {number(mine)} ({CASES[name].title})."
                )
        rows.append(cells)
    yield from table(("Rule", *FIGURES), rows)
    if clearest:
        yield "Most clearly:\n"
        yield from clearest
        yield ""


def _uncovered(values: Sequence[bool]) -> float | None:
    return 1.0 - sum(values) / len(values) if values else None


FIGURES: Final[dict[str, Callable[[Figures, float], float | None]]] = {
    "false outages a target-year": lambda one, probes: (
        one.false_outages / one.target_years if one.target_years else None
    ),
    "missed": lambda one, probes: float(one.missed) if one.true_outages else None,
    "delay p50, s": lambda one, probes: percentile(one.delays, 0.5),
    "delay p99, s": lambda one, probes: percentile(one.delays, 0.99),
    "error of the duration p50, s": lambda one, probes: percentile(one.errors, 0.5),
    "error of the duration p99, s": lambda one, probes: percentile(one.errors, 0.99),
    "share of starts outside the bounds": lambda one, probes: _uncovered(one.starts),
    "share of ends outside the bounds": lambda one, probes: _uncovered(one.ends),
    "probes a host and hour": lambda one, probes: (
        probes / (one.target_years * HOURS_A_YEAR) if one.target_years else None
    ),
}
