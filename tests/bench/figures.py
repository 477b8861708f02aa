"""The arithmetic of the bench, pure: medians, paired ratios, percentiles. A test holds it to known answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

PARTS: Final = ("cost", "accuracy", "scale", "outage", "curve")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of probes cost one program."""

    probes: float
    cpu_seconds: float
    memory_bytes: float = 0.0

    @property
    def per_probe(self) -> float:
        """CPU seconds of a probe."""
        return self.cpu_seconds / self.probes if self.probes else float("nan")


@dataclass(slots=True)
class Results:
    """All that was measured, by part. What is not there was not measured."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Program -> why it took no part."""
    rounds: list[dict[str, dict[str, Cost]]] = field(default_factory=list)
    """Of each round: kind -> program -> cost. A round is a pair: one after the other, on the same work."""
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    """Program -> seconds that it reported beyond the wire's, of each probe."""
    in_flight: float = 0.0
    scale: dict[str, float] = field(default_factory=dict)
    outage: dict[str, float] = field(default_factory=dict)
    curve: dict[int, Cost] = field(default_factory=dict)
    """Checks -> cost at about a thousand probes a second, without scrapes."""
    scrapes: dict[int, float] = field(default_factory=dict)
    """Checks -> CPU seconds of a scrape."""
    start: dict[str, float] = field(default_factory=dict)
    """Of the most checks: seconds to the first probe, and what a reload did."""


def ratios(rounds: Iterable[Mapping[str, Mapping[str, Cost]]], kind: str, ours: str, theirs: str) -> list[float]:
    """Our cost per probe by theirs, round by round; rounds that lack one of them are left out."""
    return [
        one[kind][ours].per_probe / one[kind][theirs].per_probe
        for one in rounds
        if ours in one.get(kind, {}) and theirs in one.get(kind, {}) and one[kind][theirs].cpu_seconds > 0
    ]


def per_probe(rounds: Iterable[Mapping[str, Mapping[str, Cost]]], kind: str, program: str) -> list[float]:
    """CPU seconds per probe of a program, round by round."""
    return [one[kind][program].per_probe for one in rounds if program in one.get(kind, {})]


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(values) if values else None


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def within(before: Mapping[float, float], after: Mapping[float, float], share: float) -> tuple[float, float]:
    """Between which bounds a quantile of a cumulative histogram (upper bound -> count) lies, of what was added.

    A histogram tells no more. (0, 0) if nothing was added.
    """
    added = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    total = max(added.values(), default=0.0)
    low = 0.0
    for bound, count in added.items():
        if total and count >= share * total:
            return low, bound
        low = bound
    return 0.0, 0.0
