"""The bounds that the judgement has to keep, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prober.replay.score import Figures
from tests.evaluate.measure import together

if TYPE_CHECKING:
    from tests.evaluate.page import Results


@dataclass(frozen=True, slots=True)
class Requirement:
    """A figure with its bound."""

    title: str
    bound: str
    shown: str
    met: bool


def _most(title: str, found: float | None, bound: float, unit: str = "", form: str = ".1f") -> Requirement:
    shown = "-" if found is None else f"{found:{form}}{unit}"
    return Requirement(title, f"at most {bound:g}{unit}", shown, found is not None and found <= bound)


def _least(title: str, found: float | None, bound: float) -> Requirement:
    shown = "-" if found is None else f"{100 * found:.3f} %"
    return Requirement(title, f"at least {100 * bound:g} %", shown, found is not None and found >= bound)


def requirements(results: Results) -> list[Requirement]:
    """Those whose worlds were run."""
    return list(_all(results))


def _at(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _checks(results: Results, name: str) -> Figures:
    return together(one for part, one in results.ours[name].figures.items() if not part.endswith("entity"))


def _all(results: Results) -> Iterator[Requirement]:
    for name, one in results.expected.items():
        if name != "sudden-50":
            yield _most(f"False outages in 1,000 target-years, {name}", one.per_thousand_years, 3, form=".3g")
    for name in results.ours:
        if name not in ("sudden-50",):
            figures = _checks(results, name)
            if not name.startswith("bursts"):
                title = f"False outages end to end in {figures.target_years:.2g} target-years, {name}"
                yield _most(title, float(figures.false_outages), 0, form=".0f")
            if figures.true_outages and not name.startswith("bursts"):
                yield _most(
                    f"Missed of {figures.true_outages:,} of 100 s or longer, {name}",
                    float(figures.missed),
                    0,
                    form=".0f",
                )
    found: float | None
    for percent, bound in ((5, 85), (20, 95), (30, 105)):
        if f"loss-{percent}" in results.ours:
            found = _at(_checks(results, f"loss-{percent}").delays, 0.99)
            yield _most(f"Detection delay p99, one check, {percent} % loss", found, bound, " s")
    for percent, latest in ((5, 110), (20, 170)):
        if f"entity-{percent}" in results.ours:
            found = _at(results.ours[f"entity-{percent}"].figures["entity"].delays, 0.99)
            yield _most(f"Detection delay p99, entity of 60, {percent} % loss", found, latest, " s")
    if "loss-20" in results.ours:
        errors = _checks(results, "loss-20").errors
        for share, bound in ((0.5, 18), (0.99, 45)):
            yield _most(
                f"Error of the duration p{100 * share:.0f}, 20 % loss, one vantage", _at(errors, share), bound, " s"
            )
    if results.fused is not None:
        for share, bound in ((0.5, 8), (0.99, 25)):
            title = f"Error of the duration p{100 * share:.0f}, 20 % loss, three fused"
            yield _most(title, _at(results.fused.errors, share), bound, " s")
    lossy = [name for name in ("loss-0", "loss-1", "loss-5", "loss-20", "loss-30") if name in results.ours]
    if lossy:
        figures = together(_checks(results, name) for name in lossy)
        for title, values in (("starts", figures.starts), ("ends", figures.ends)):
            held = sum(values) / len(values) if values else None
            yield _least(f"Coverage of the bounds, {title}, {len(values):,} cases up to 30 % loss", held, 0.999)
    for name in ("bursts-5", "bursts-10"):
        if name in results.ours:
            figures = _checks(results, name)
            if figures.certain_seconds:
                true = figures.certain_true_seconds / figures.certain_seconds
                yield _least(f"Recorded span in true runs of loss, {name}", true, 0.98)
            if figures.long_records:
                long = figures.long_records_true / figures.long_records
                yield _least(f"`outage` records ({figures.long_records}) with a true run >= 60 s, {name}", long, 0.95)
    if ("offline", 2) in results.by_vantage:
        seen = results.by_vantage["offline", 2]
        if seen.gaps:
            error = 100 * abs(seen.gap_seconds / seen.blind_seconds - 1)
            yield _most("Error of the gaps, offline 5 % of the time, mean 300 s", error, 1, " %", ".2f")
    for percent, most in ((1, 1.02), (5, 1.08), (20, 1.30), (30, 1.50)):
        if f"loss-{percent}" in results.ours:
            quiet = results.ours[f"loss-{percent}"].figures["q"]
            yield _most(f"Probes a regular round, {percent} % loss", quiet.probes / quiet.regular, most, form=".3f")
