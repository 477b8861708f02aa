"""docs/evaluation.md from what was measured: tables, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log, log1p
from typing import Final

from prober.replay.score import Figures
from tests.evaluate.expectation import LOSSES, Expected
from tests.evaluate.measure import OURS, RULES, Found, together
from tests.evaluate.required import Requirement, requirements
from tests.evaluate.worlds import CASES, YEAR

HOURS_A_YEAR: Final = YEAR / 3600.0


@dataclass(slots=True)
class Results:
    """Everything that was measured, by world."""

    years: dict[str, float]
    ours: dict[str, Found] = field(default_factory=dict)
    by_vantage: dict[tuple[str, int], Found] = field(default_factory=dict)
    theirs: dict[str, dict[str, Found]] = field(default_factory=dict)
    expected: dict[str, Expected] = field(default_factory=dict)
    fused: Figures | None = None


HEAD: Final = """# How good the judgement is

Written by `make evaluate`; do not edit. The figures are the same on every run of the same code. Took {took}.

Every world below is lived through by the real runner, judge and ledger on a virtual clock (`prober replay`), with the
defaults: a round every 60 s, confirmations every 2 s, a timeout of 5 s, `false_outages_per_year: 0.01`. Beside it are
the rules that others use, in the same world: a probe sent at the same moment meets the same fate.

- *one failure*: a probe every 60 s; one that fails is an outage.
- *three in a row*: the same, down at the third failure (uptime-kuma with two retries, gatus).
- *15 s, for: 5m*: a sample every 15 s, an alert once all have failed for 5 minutes (blackbox_exporter).
- *Trinocular*: rounds of 11 minutes with up to 15 probes, a belief with A the long-term responsiveness, down below 0.1,
  up above 0.9; P(answer | down) is 0.01, as the published (1-l)/|b| never decides for a single host.

Their outages are dated as kindly as their data allow: from the first failed sample to the first good one after it. An
outage counts as missed when it was in sight for 100 s or longer and nothing was recorded; as false when nothing of it
was true. Delays count from the true start; the error is that of the headline duration.
"""


def page(results: Results, took: str) -> str:
    """The whole document."""
    parts = [HEAD.format(took=took), *_required(results), *_expected(results), *_worlds(results), *_coverage(results)]
    parts += [*_bursts(results), *_observers(results), *_sudden(results), *_better(results)]
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if number == 0 else "--:" for number in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, without an exponent where that is readable."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them is not above; None without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def pair(values: Sequence[float]) -> str:
    """Median and 99th percentile, seconds."""
    return " / ".join("-" if (at := percentile(values, share)) is None else f"{at:.1f}" for share in (0.5, 0.99))


def _required(results: Results) -> Iterator[str]:
    yield "## What it has to reach\n"
    found: list[Requirement] = requirements(results)
    yield from _table(
        ("Figure", "Bound", "Found", ""),
        ((one.title, one.bound, one.shown, "" if one.met else "**missed**") for one in found),
    )


def _expected(results: Results) -> Iterator[str]:
    years = {len(one.batches) for one in results.expected.values()}
    yield "## False outages by loss alone, in 1,000 target-years of one check\n"
    span = " or ".join(map(str, sorted(years)))
    yield (
        f"The pure detector over {span} target-years of each kind of loss. Answered probes are jumped over:\n"
        "their number is geometric, what they teach has a closed form. Each lost probe that begins a run is counted\n"
        "with the probability that the next n - 1 are lost too: the exact expectation given what was learned, where a\n"
        "count would be 0 or 1. After the sign: one standard error, from the spread over target-years.\n"
    )
    yield from _table(
        ("Loss", "False outages in 1,000 target-years"),
        (
            (LOSSES[name][0], f"{number(one.per_thousand_years)} ± {number(one.error, 1)}")
            for name, one in results.expected.items()
        ),
    )


def rows_of(results: Results, name: str) -> Iterator[tuple[str, Figures, float]]:
    """(rule, figures, probes) of a world at the level of checks: ours, then the others'."""
    mine = results.ours[name]
    yield OURS, together(one for part, one in mine.figures.items() if not part.endswith("entity")), mine.probes
    for rule, found in results.theirs[name].items():
        yield rule, together(found.figures.values()), found.probes


def _worlds(results: Results) -> Iterator[str]:
    yield "## World by world, single checks\n"
    yield (
        "Delay and error in seconds, p50 / p99. Probes are those to the hosts, per host and hour, with confirmations\n"
        "and the denser rounds during outages.\n"
    )
    for name in results.ours:
        yield f"### {CASES[name].title}\n"
        yield from _table(
            ("Rule", "false outages a target-year", "missed", "delay", "error of the duration", "probes"),
            (
                (
                    rule,
                    number(figures.false_outages / figures.target_years),
                    f"{figures.missed:,} of {figures.true_outages:,}",
                    pair(figures.delays),
                    pair(figures.errors),
                    f"{probes / (results.years[name] * HOURS_A_YEAR):.1f}",
                )
                for rule, figures, probes in rows_of(results, name)
            ),
        )
        entity = results.ours[name].figures.get("entity")
        if entity is not None:
            yield (
                f"The entity itself: {entity.missed} of {entity.true_outages} outages missed, "
                f"{entity.false_outages} false, "
                f"delay {pair(entity.delays)} s, error {pair(entity.errors)} s.\n"
            )
        if name == "three" and results.fused is not None:
            fused = results.fused
            yield (
                f"Fused as `prober report` does: {fused.missed} of {fused.true_outages} missed, error of the duration "
                f"{pair(fused.errors)} s.\n"
            )


def least(good: int, cases: int) -> float:
    """The share that is certain with 95 % confidence, one-sided (Clopper and Pearson)."""
    if cases == 0:
        return 0.0
    bad = cases - good
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(bad, cases, middle) > 0.05 else (low, middle)
    return 1.0 - high


def _at_most(bad: int, cases: int, share: float) -> float:
    """P(no more than `bad` of `cases`), each with this probability."""
    if share >= 1.0:
        return 1.0 if bad >= cases else 0.0
    if share <= 0.0:
        return 1.0
    whole = lgamma(cases + 1)
    return sum(
        exp(whole - lgamma(n + 1) - lgamma(cases - n + 1) + n * log(share) + (cases - n) * log1p(-share))
        for n in range(bad + 1)
    )


def covered(values: Sequence[bool]) -> tuple[str, str, str]:
    """Share, cases, and what is certain, as text."""
    if not values:
        return "-", "0", "-"
    good = sum(values)
    return f"{100 * good / len(values):.3f} %", f"{len(values):,}", f"{100 * least(good, len(values)):.3f} %"


def _coverage(results: Results) -> Iterator[str]:
    yield "## Do the bounds hold the truth?\n"
    yield "The last column of each: what is certain with 95 % confidence (one-sided, Clopper and Pearson).\n"
    rows = []
    for name, found in results.ours.items():
        figures = together(one for part, one in found.figures.items() if not part.endswith("entity"))
        if figures.starts:
            rows.append((CASES[name].title, *covered(figures.starts), *covered(figures.ends)))
    if results.fused is not None:
        rows.append(("the same, fused", *covered(results.fused.starts), *covered(results.fused.ends)))
    head = ("World", "starts held", "cases", "at least", "ends held", "cases", "at least")
    yield from _table(head, rows)


def _bursts(results: Results) -> Iterator[str]:
    rows = []
    for name in ("bursts-5", "bursts-10"):
        for part, one in sorted(results.ours[name].figures.items()) if name in results.ours else ():
            if part.startswith("q"):
                true = one.certain_true_seconds / one.certain_seconds if one.certain_seconds else None
                long = one.long_records_true / one.long_records if one.long_records else None
                rows.append(
                    (
                        f"{part[1:]} % in runs of {name.partition('-')[2]} s",
                        number(one.records / one.target_years),
                        "-" if true is None else f"{100 * true:.2f} %",
                        f"{one.long_records:,}",
                        "-" if long is None else f"{100 * long:.1f} %",
                    )
                )
    if rows:
        yield "## Loss in bursts: short true outages\n"
        head = (
            "Loss",
            "records a target-year",
            "recorded span that was true",
            "class `outage`",
            "with a true run >= 60 s",
        )
        yield from _table(head, rows)


def _observers(results: Results) -> Iterator[str]:
    rows = []
    for (name, _), found in sorted(results.by_vantage.items()):
        if name not in ("offline", "poor-sight", "troubles"):
            continue
        figures = together(found.figures.values())
        vantage = next(iter(found.figures)).partition("/")[0]
        error = (
            f"{100 * (found.gap_seconds / found.blind_seconds - 1):+.2f} %"
            if found.gaps and found.blind_seconds
            else "-"
        )
        rows.append((vantage, f"{figures.target_years:.2f}", f"{figures.false_outages}", f"{figures.missed}", error))
    if rows:
        yield "## Observers in trouble\n"
        yield "Gaps: seconds recorded as offline, against the true ones.\n"
        yield from _table(("Vantage", "target-years", "false outages", "missed", "error of the gaps"), rows)


def _sudden(results: Results) -> Iterator[str]:
    expected = results.expected.get("sudden-50")
    if expected is None:
        return
    yield "## What a sudden 50 % loss does\n"
    share = expected.per_thousand_years / (1000.0 * YEAR / (30 * 86_400.0))
    yearly = f"{number(expected.per_thousand_years)} ± {number(expected.error, 1)}"
    yield (
        "From one moment to the next half of the probes are lost, on a path that lost 1 %. Until that is learned,\n"
        f"a run of nine losses is taken for an outage: about {100 * share:.1f} % of such events open a false one\n"
        "(expectation: "
        f"{yearly} in 1,000 target-years with an event every 30 days)."
    )
    if "sudden-50" in results.ours:
        figures = together(results.ours["sudden-50"].figures.values())
        events = figures.target_years * YEAR / (4 * 86_400.0)
        yield (
            f"Counted end to end: {figures.false_outages} false records ({figures.false_blips} of them blips) in about "
            f"{events:.0f} events of 3 h."
        )
    yield ""


def _better(results: Results) -> Iterator[str]:
    """By rule and figure: in how many worlds another one is better, and where most clearly."""
    yield "## Where another rule is better\n"
    rows = []
    for rule in RULES:
        for title, value in FIGURES.items():
            found = []
            for name in results.ours:
                by_rule = {one: (figures, probes) for one, figures, probes in rows_of(results, name)}
                mine, other = value(*by_rule[OURS]), value(*by_rule[rule])
                if mine is not None and other is not None and other < mine - 1e-9:
                    found.append((mine - other, name, mine, other))
            if found:
                _, name, mine, other = max(found)
                rows.append(
                    (
                        rule,
                        title,
                        f"{len(found)} of {len(results.ours)}",
                        f"{number(other)} against {number(mine)}",
                        CASES[name].title,
                    )
                )
    yield from _table(("Rule", "better at", "in worlds", "most clearly", "in"), rows)
    yield (
        "One failure is told sooner, at the price of its false outages. A sample every 15 s dates more closely what\n"
        "lasts longer than five minutes, with four times the probes. Trinocular sends the fewest probes and misses\n"
        "what is shorter than its rounds. While an observer is offline the others record outages of everything.\n"
    )


FIGURES: Final[dict[str, Callable[[Figures, float], float | None]]] = {
    "false outages a target-year": lambda one, probes: (
        one.false_outages / one.target_years if one.target_years else None
    ),
    "missed": lambda one, probes: float(one.missed) if one.true_outages else None,
    "delay p50, s": lambda one, probes: percentile(one.delays, 0.5),
    "delay p99, s": lambda one, probes: percentile(one.delays, 0.99),
    "error of the duration p50, s": lambda one, probes: percentile(one.errors, 0.5),
    "error of the duration p99, s": lambda one, probes: percentile(one.errors, 0.99),
    "probes a host and hour": lambda one, probes: (
        probes / (one.target_years * HOURS_A_YEAR) if one.target_years else None
    ),
}
