"""The limits that the judgement has to keep, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prober.replay.score import Figures
from tests.evaluate.expectation import LOSSES
from tests.evaluate.measure import together
from tests.evaluate.results import BURSTS, Results, at_least, long_share, of_checks, percentile

MET, NOT_MET, NOT_SHOWN, NONE = "met", "**not met**", "met, more cases would be needed to be certain", "no cases"

NO_FALSE: Final = 3.0
DELAYS: Final = {5: 85.0, 20: 95.0, 30: 105.0}
ENTITY_DELAYS: Final = {5: 110.0, 20: 170.0}
ONE_VANTAGE: Final = ((0.5, 18.0), (0.99, 45.0))
THREE_VANTAGES: Final = ((0.5, 8.0), (0.99, 25.0))
COVERAGE: Final = 0.999
SPAN_TRUE, LONG_TRUE = 0.98, 0.95
GAP_ERROR: Final = 1.0
PROBES: Final = {1: 1.02, 5: 1.08, 20: 1.30, 30: 1.50}


@dataclass(frozen=True, slots=True)
class Requirement:
    """A figure with its limit."""

    title: str
    bound: str
    shown: str
    of: str
    verdict: str

    @property
    def met(self) -> bool:
        """It is not contradicted."""
        return self.verdict in (MET, NOT_SHOWN)


def _most(title: str, found: float | None, bound: float, of: str, unit: str = "", form: str = ".1f") -> Requirement:
    shown = "-" if found is None else f"{found:{form}}{unit}"
    verdict = NONE if found is None else MET if found <= bound else NOT_MET
    return Requirement(title, f"at most {bound:g}{unit}", shown, of, verdict)


def _none(title: str, found: int, of: str) -> Requirement:
    return Requirement(title, "0", f"{found:,}", of, NOT_MET if found else MET)


def _covered(title: str, values: Sequence[bool], of: str) -> Requirement:
    cases, good = len(values), sum(values)
    bound = f"at least {100 * COVERAGE:g} %"
    if not cases:
        return Requirement(title, bound, "-", of, NONE)
    low = at_least(good, cases)
    verdict = MET if low >= COVERAGE else NOT_SHOWN if good >= COVERAGE * cases else NOT_MET
    return Requirement(title, bound, f"{100 * good / cases:.3f} % (certain: {100 * low:.3f} %)", of, verdict)


def _share(title: str, found: float | None, bound: float, of: str) -> Requirement:
    shown = "-" if found is None else f"{100 * found:.2f} %"
    verdict = NONE if found is None else MET if found >= bound else NOT_MET
    return Requirement(title, f"at least {100 * bound:g} %", shown, of, verdict)


def requirements(results: Results) -> list[Requirement]:
    """Those whose worlds were run."""
    return [
        *_false(results),
        *_missed(results),
        *_delays(results),
        *_errors(results),
        *_coverage(results),
        *_bursts(results),
        *_observers(results),
        *_probes(results),
    ]


def _years(figures: Figures) -> str:
    return f"{figures.target_years:.3g} target-years end to end"


def _outages(values: Sequence[object]) -> str:
    return f"{len(values):,} outages"


def _false(results: Results) -> Iterator[Requirement]:
    for name, one in results.expected.items():
        if name != "sudden-50":
            of = f"expectation over {len(one.batches)} target-years"
            yield _most(
                f"False outages in 1,000 target-years, {LOSSES[name][0]}",
                one.per_thousand_years,
                NO_FALSE,
                of,
                form=".2g",
            )
    for name, found in results.ours.items():
        if name != "sudden-50":
            figures = together(found.figures.values())
            yield _none(f"False outages, world `{name}`", figures.false_outages, _years(figures))


def _missed(results: Results) -> Iterator[Requirement]:
    title = "Missed outages of 100 s or longer"
    for name, found in results.ours.items():
        figures = together(found.figures.values())
        if name not in WITHOUT_OUTAGES:
            yield _none(f"{title}, world `{name}`", figures.missed, f"{figures.true_outages:,} end to end")
    for percent, figures in results.dense.items():
        yield _none(f"{title}, {percent} % loss", figures.missed, f"{figures.true_outages:,} outages")
    figures = together(one.figures for one in results.bursts.values())
    yield _none(f"{title}, loss in bursts", figures.missed, f"{figures.true_outages:,} runs of loss")


WITHOUT_OUTAGES: Final = ("sudden-50", "ramps")


def _delays(results: Results) -> Iterator[Requirement]:
    for percent, bound in DELAYS.items():
        delays = results.dense[percent].delays
        title = f"Detection delay p99, one check, {percent} % loss"
        yield _most(title, percentile(delays, 0.99), bound, _outages(delays), " s")
    for percent, bound in ENTITY_DELAYS.items():
        if f"entity-{percent}" in results.ours:
            delays = results.ours[f"entity-{percent}"].figures.get("entity", Figures()).delays
            title = f"Detection delay p99, entity of 60, {percent} % loss"
            yield _most(title, percentile(delays, 0.99), bound, f"{len(delays):,} end to end", " s")


def _errors(results: Results) -> Iterator[Requirement]:
    for title, errors, bounds in (
        ("one vantage", results.dense[20].errors, ONE_VANTAGE),
        ("three staggered", results.staggered.errors, THREE_VANTAGES),
    ):
        for share, bound in bounds:
            words = f"Error of the duration p{100 * share:.0f}, 20 % loss, {title}"
            yield _most(words, percentile(errors, share), bound, _outages(errors), " s")


def _coverage(results: Results) -> Iterator[Requirement]:
    for title in ("starts", "ends"):
        by_loss = {percent: one.starts if title == "starts" else one.ends for percent, one in results.dense.items()}
        for percent, values in by_loss.items():
            yield _covered(f"Coverage of the bounds, {title}, {percent} % loss", values, _outages(values))
        values = [held for several in by_loss.values() for held in several]
        yield _covered(f"Coverage of the bounds, {title}, all four", values, _outages(values))


def _bursts(results: Results) -> Iterator[Requirement]:
    for mean in (5, 10):
        if f"bursts-{mean}" in results.ours:
            one = of_checks(results.ours[f"bursts-{mean}"])
            share = one.certain_true_seconds / one.certain_seconds if one.certain_seconds else None
            title = f"Recorded span in true runs of loss, bursts of {mean} s"
            yield _share(title, share, SPAN_TRUE, f"{one.records:,} records end to end")
    for title, means in (("both means", (5, 10)), ("mean 10 s alone", (10,)), ("mean 5 s alone", (5,))):
        several = [results.bursts[kind] for kind in BURSTS if kind[0] in means]
        count = sum(one.figures.long_records for one in several)
        yearly = sum(one.a_year for one in several) / len(several)
        of = f"{count:,} records, weighted ({yearly:.2g} a target-year)"
        yield _share(f"`outage` records with a true run of 60 s or longer, {title}", long_share(several), LONG_TRUE, of)


def _observers(results: Results) -> Iterator[Requirement]:
    if "offline" not in results.ours:
        return
    figures = together(results.ours["offline"].figures.values())
    before = together(results.ours["loss-5"].figures.values()).false_outages if "loss-5" in results.ours else 0
    title = "Additional false outages, observers offline 5 % of the time"
    yield _none(title, max(0, figures.false_outages - before), _years(figures))
    if "troubles" in results.ours:
        restarts = results.by_vantage["troubles", 1]
        figures = together(restarts.figures.values())
        yield _none("Additional false outages, restarts daily", figures.false_outages, _years(figures))
    seen = results.by_vantage["offline", 2]
    error = 100 * abs(seen.gap_seconds / seen.blind_seconds - 1) if seen.gaps else None
    yield _most(
        "Error of the gaps, offline 5 % of the time, mean 300 s", error, GAP_ERROR, f"{seen.gaps:,} gaps", " %", ".2f"
    )


def _probes(results: Results) -> Iterator[Requirement]:
    for percent, most in PROBES.items():
        if f"loss-{percent}" in results.ours:
            quiet = results.ours[f"loss-{percent}"].figures.get("q", Figures())
            found = quiet.probes / quiet.regular if quiet.regular else None
            title = f"Probes per regular round, {percent} % loss"
            yield _most(title, found, most, f"{quiet.regular:,} rounds end to end", form=".3f")
