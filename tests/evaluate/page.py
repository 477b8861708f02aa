"""docs/evaluation.md from what was measured: tables, and what they say. No figure is written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prober.judge.records import Settings
from prober.replay.score import Figures
from tests.evaluate.better import HOURS_A_YEAR, better
from tests.evaluate.expectation import LOSSES
from tests.evaluate.measure import RULES, together
from tests.evaluate.required import NONE, NOT_SHOWN, Requirement, requirements
from tests.evaluate.results import BURSTS, PERCENTS, Results, percentile, rows_of
from tests.evaluate.tables import covered, number, pair, share_of, table
from tests.evaluate.worlds import CASES, YEAR

WORDS: Final = """## What the words mean

Two ways lead to the figures.

- *End to end*: the real runner, judge and ledger live through a world on a virtual clock (`prober replay`), with the
  defaults: a round every 60 s, confirmations every 2 s, a timeout of 5 s, `false_outages_per_year: 0.01`.
- *Case by case*: the real judge on a clock that jumps over what is calm, for what a few target-years
  hold too little of.

Beside it are the rules that others use, in the same worlds: a probe sent at the same moment meets the same fate.

- *one failure*: a probe every 60 s; one that fails is an outage.
- *three in a row*: the same, down at the third failure (uptime-kuma with two retries, gatus).
- *15 s, for: 5m*: a sample every 15 s, an alert once all have failed for 5 minutes (blackbox_exporter).
- *Trinocular*: rounds of 11 minutes with up to 15 probes, a belief with A the long-term responsiveness, down below 0.1,
  up above 0.9; P(answer | down) is 0.01, as the published (1-l)/|b| never decides for a single host.

Their outages are dated as kindly as their data allow: from the first failed sample to the first good one after it, and
their bounds are the neighbours of these two.

- *target-year*: one check watched for a year. Time in which its vantage could not see is left out.
- *false*: a record in which nothing was true.
- *missed*: an outage that was in sight for 100 s or longer, and nothing was recorded.
- *delay*: from the true start until it is said. *Error*: of the headline duration. Both of what a rule found: one that
  misses the short ones is measured on the long ones. p50 / p99: half of them, and all but one in a hundred, are not
  above.
- *limits* of delay, duration and bounds are held against case by case, where there are many more outages; the tables of
  the worlds show the same from fewer, so that there a figure may lie beyond its limit by chance.
- *bounds*: the share of outages whose true start lay in (started_after, started_by], and the same for the end.
- *certain*: the lower end of what the share may be with 95 % confidence (Clopper and Pearson, two-sided).
"""

AGAIN: Final = """## How to repeat it

`make evaluate` writes this page; {took}. The figures are the same on every run of the same code.
`make evaluate ARGS=--quick` prints it from small worlds and few cases in about a minute,
`ARGS="--worlds loss-20 three --target-years 0.1"` with these worlds alone, and few cases.
"""


def page(results: Results, took: str) -> str:
    """The whole document."""
    found = requirements(results)
    parts = ["# How good the judgement is\n", "Written by `make evaluate`; do not edit.\n"]
    parts += [*_summary(results, found), *_required(found), WORDS, *_expected(results), *_dense(results)]
    parts += [*_worlds(results), *_bursts(results), *_observers(results), *_sudden(results), *better(results)]
    return "\n".join([*parts, AGAIN.format(took=f"it took {took}")])


def _summary(results: Results, found: Sequence[Requirement]) -> Iterator[str]:
    yield "## In short\n"
    missed = [one for one in found if not one.met and one.verdict != NONE]
    doubtful = [one for one in found if one.verdict == NOT_SHOWN]
    empty = [one for one in found if one.verdict == NONE]
    are = "is" if len(missed) == 1 else "are"
    yield f"- Of {len(found)} limits {sum(one.met for one in found)} are met, {len(missed)} {are} not."
    yield from (f"  - Not met: {one.title}: {one.shown} where {one.bound} is asked for ({one.of})." for one in missed)
    yield from (
        f"  - Met, but not certain from so many cases: {one.title}: {one.shown} ({one.of})." for one in doubtful
    )
    yield from (f"  - Without a case: {one.title}." for one in empty)
    whole = together(together(one.figures.values()) for one in results.ours.values())
    yield (
        f"- End to end in {whole.target_years:.3g} target-years: "
        f"{whole.false_outages:,} false {'outage' if whole.false_outages == 1 else 'outages'}, "
        f"{whole.missed:,} of {whole.true_outages:,} missed."
    )
    for rule in RULES:
        theirs = together(together(one[rule].figures.values()) for one in results.theirs.values())
        yield (
            f"  - {rule}, in the same worlds: {number(theirs.false_outages)} false outages, "
            f"{theirs.missed:,} of {theirs.true_outages:,} missed."
        )
    yield from (
        f"- At {percent} % loss half of the outages are told within {number(percentile(one.delays, 0.5), 2)} s and "
        f"99 % within {number(percentile(one.delays, 0.99))} s; the error of the duration is {pair(one.errors)} s "
        "(p50 / p99)."
        for percent, one in results.dense.items()
        if percent in (1, 20)
    )
    yield ""


def _required(found: Sequence[Requirement]) -> Iterator[str]:
    yield "## What it has to reach\n"
    yield from table(
        ("Figure", "Limit", "Found", "from", ""),
        ((one.title, one.bound, one.shown, one.of, one.verdict) for one in found),
    )


def _expected(results: Results) -> Iterator[str]:
    years = {len(one.batches) for one in results.expected.values()}
    yield "## False outages by loss alone, in 1,000 target-years of one check\n"
    yield (
        f"The pure detector over {' or '.join(map(str, sorted(years)))} target-years of each kind of loss. Answered\n"
        "probes are jumped over: their number is geometric, what they teach has a closed form. Each lost probe that\n"
        "begins a run is counted with the probability that the next n - 1 are lost too: the exact expectation given\n"
        "what was learned, where a count would be 0 or 1. After the sign: one standard error, from the spread over\n"
        "the years.\n"
    )
    yield from table(
        ("Loss", "False outages in 1,000 target-years"),
        (
            (LOSSES[name][0], f"{number(one.per_thousand_years)} ± {number(one.error, 1)}")
            for name, one in results.expected.items()
        ),
    )


def _dense(results: Results) -> Iterator[str]:
    yield "## Case by case: delay, duration and bounds\n"
    yield (
        "Outages of 100 to 600 s with independent loss, at any moment between two rounds; half an hour to ten hours\n"
        "lie between them. Seconds, p50 / p99. In brackets: 95 % confidence (Clopper and Pearson).\n"
    )
    cases = [(f"{percent} % loss", results.dense[percent]) for percent in PERCENTS]
    cases.append(("three staggered vantages, 20 % loss, fused", results.staggered))
    yield from table(
        ("Loss", "outages", "missed", "delay", "error of the duration", "starts held", "ends held"),
        (
            (
                title,
                f"{one.true_outages:,}",
                f"{one.missed:,}",
                pair(one.delays),
                pair(one.errors),
                covered(one.starts),
                covered(one.ends),
            )
            for title, one in cases
        ),
    )


def _worlds(results: Results) -> Iterator[str]:
    yield "## World by world, single checks, end to end\n"
    yield (
        "Delay and error in seconds, p50 / p99. Probes are those to the hosts, per host and hour, with confirmations\n"
        "and the denser rounds during outages.\n"
    )
    for name in results.ours:
        yield f"### {CASES[name].title}\n"
        yield f"World `{name}`, {results.years[name]:g} target-years.\n"
        yield from table(
            (
                "Rule",
                "false outages a target-year",
                "missed",
                "delay",
                "error of the duration",
                "bounds held, starts / ends",
                "probes",
            ),
            (
                (
                    rule,
                    number(figures.false_outages / figures.target_years if figures.target_years else None),
                    f"{figures.missed:,} of {figures.true_outages:,}",
                    pair(figures.delays),
                    pair(figures.errors),
                    f"{share_of(sum(figures.starts), len(figures.starts))} / "
                    f"{share_of(sum(figures.ends), len(figures.ends))}",
                    f"{probes / (results.years[name] * HOURS_A_YEAR):.1f}",
                )
                for rule, figures, probes in rows_of(results, name)
            ),
        )
        entity = results.ours[name].figures.get("entity")
        if entity is not None:
            yield (
                f"The entity itself: {entity.missed} of {entity.true_outages} outages missed, "
                f"{entity.false_outages} false, delay {pair(entity.delays)} s, error {pair(entity.errors)} s, "
                f"starts held {covered(entity.starts)}, ends {covered(entity.ends)}.\n"
            )
        if name == "three" and results.fused is not None:
            fused = results.fused
            yield (
                f"Fused as `prober report` does: {fused.missed} of {fused.true_outages} missed, error of the duration "
                f"{pair(fused.errors)} s, starts held {covered(fused.starts)}, ends {covered(fused.ends)}.\n"
            )


def _bursts(results: Results) -> Iterator[str]:
    yield "## Loss in bursts: short true outages\n"
    rows = []
    for mean, percent in BURSTS:
        found = results.ours.get(f"bursts-{mean}")
        one = Figures() if found is None else found.figures.get(f"q{percent}", Figures())
        several = results.bursts[mean, percent]
        long = several.figures
        rows.append(
            (
                f"{percent} % in runs of {mean} s",
                number(one.records / one.target_years if one.target_years else None),
                share_of(one.certain_true_seconds, one.certain_seconds),
                number(several.a_year if several.rates else None, 2),
                f"{long.long_records:,}",
                share_of(long.long_records_true, long.long_records, 1),
            )
        )
    yield (
        "A run of loss is a short outage, and is recorded as one where it is seen. The first two columns are end to\n"
        "end; the others from cases drawn on the condition that a record of class `outage` is possible at all.\n"
    )
    head = (
        "Loss",
        "records a target-year",
        "recorded span that was true",
        "`outage` records a target-year",
        "judged",
        "with a true run of 60 s or longer",
    )
    yield from table(head, rows)
    yield (
        "An `outage` record without a true run of 60 s is several runs whose answers in between were shorter than the\n"
        "time between two probes: nobody who probes every 2 s can tell it from one run.\n"
    )


def _observers(results: Results) -> Iterator[str]:
    names = [name for name in ("offline", "poor-sight", "troubles") if name in results.ours]
    if not names:
        return
    yield "## Observers in trouble\n"
    yield "Gaps: seconds recorded as offline, against the true ones.\n"
    rows = []
    for name in names:
        for index, vantage in enumerate(CASES[name].make(3600.0).vantages):
            found = results.by_vantage[name, index]
            figures = together(found.figures.values())
            offline = found.blind_seconds and name != "troubles"  # there it is the agent that stands still
            error = f"{100 * (found.gap_seconds / found.blind_seconds - 1):+.2f} %" if offline else "-"
            rows.append(
                (
                    f"{name}: {vantage}",
                    f"{figures.target_years:.2f}",
                    f"{figures.false_outages}",
                    f"{figures.missed} of {figures.true_outages}",
                    f"{found.gaps:,}",
                    error,
                )
            )
    yield from table(("World: vantage", "target-years", "false outages", "missed", "gaps", "error of the gaps"), rows)


def _sudden(results: Results) -> Iterator[str]:
    expected = results.expected["sudden-50"]
    yield "## What a sudden 50 % loss does\n"
    share = expected.per_thousand_years / (1000.0 * YEAR / (30 * 86_400.0))
    yearly = f"{number(expected.per_thousand_years)} ± {number(expected.error, 1)}"
    yield (
        "From one moment to the next half of the probes are lost for 3 h, on a path that lost 1 %. Until that is\n"
        f"learned, a run of losses is taken for an outage: about {100 * share:.1f} % of such events open a false one\n"
        f"(expectation: {yearly} in 1,000 target-years with an event every 30 days).\n"
    )
    allowed = 1000.0 * Settings().false_outages_per_year
    beyond = [LOSSES[name][0] for name, one in results.expected.items() if one.per_thousand_years > allowed]
    yield (
        f"More than the {allowed:g} that `false_outages_per_year` allows in 1,000 target-years come of: "
        f"{'; '.join(beyond) or 'nothing here'}.\n"
    )
    if "sudden-50" in results.ours:
        events = together(results.ours["sudden-50"].figures.values()).target_years * YEAR / (4 * 86_400.0)
        said = [f"{rule}: {number(figures.false_outages)}" for rule, figures, _probes in rows_of(results, "sudden-50")]
        mine = together(results.ours["sudden-50"].figures.values())
        yield (
            f"Counted end to end, false records in about {events:,.0f} events of 3 h and the time between: "
            f"{', '.join(said)}.\n"
            f"{mine.false_blips} of ours of class `blip`. That world has an event every four days, so that at most of\n"
            "them what was learned at the last one is still known: it says more of the other rules than of ours, for\n"
            "which the expectation above counts."
        )
    yield ""
