"""How many false outages loss alone makes: the pure detector over hundreds of target-years.

A run of failures begins at a lost regular probe and is a false outage when the next n - 1 probes, sent within a minute,
are lost too. n is what the detector asks for at that moment, so each beginning is counted with the probability
loss ** (n - 1): the exact expectation given what was learned, where a count would be 0 or 1. In between it jumps over
the answered probes, whose number is geometric; what they teach has a closed form.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Final

from prober.judge.records import Settings
from prober.judge.responsiveness import BLOCK, WINDOW, Responsiveness, threshold

INTERVAL: Final = 60.0
ROUNDS_A_YEAR: Final = 525_949
DAY: Final = 1440  # rounds
HOUR: Final = 60
STEP: Final = 10  # rounds in a step of a ramp
WARM_UP: Final = 14 * DAY

Stretches = Callable[[], Iterator[tuple[int, float]]]
"""(rounds, loss) one after the other, for ever."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one kind of loss: false outages expected in each batch of a target-year."""

    batches: tuple[float, ...]

    @property
    def per_thousand_years(self) -> float:
        """The mean, in 1,000 target-years."""
        return 1000.0 * sum(self.batches) / len(self.batches)

    @property
    def error(self) -> float:
        """Its standard error, from the spread of the batches."""
        count = len(self.batches)
        mean = sum(self.batches) / count
        spread = sum((one - mean) ** 2 for one in self.batches) / max(1, count - 1)
        return 1000.0 * sqrt(spread / count)


def _constant(loss: float) -> Stretches:
    def stretches() -> Iterator[tuple[int, float]]:
        while True:
            yield 30 * DAY, loss

    return stretches


def _evenings() -> Iterator[tuple[int, float]]:
    while True:
        yield from ((19 * HOUR, 0.01), (4 * HOUR, 0.2), (HOUR, 0.01))


def _weekly() -> Iterator[tuple[int, float]]:
    while True:
        yield from ((6 * DAY, 0.01), (DAY, 0.3))


def _ramp(hours: int, low: float, high: float, calm: float) -> Stretches:
    steps = hours * HOUR // STEP

    def stretches() -> Iterator[tuple[int, float]]:
        while True:
            yield 7 * DAY - hours * HOUR, calm
            for step in range(steps):
                yield STEP, low + (high - low) * (step + 0.5) / steps

    return stretches


def _sudden() -> Iterator[tuple[int, float]]:
    while True:
        yield from ((30 * DAY - 3 * HOUR, 0.01), (3 * HOUR, 0.5))


LOSSES: Final[dict[str, tuple[str, Stretches]]] = {
    "1": ("1 %", _constant(0.01)),
    "5": ("5 %", _constant(0.05)),
    "20": ("20 %", _constant(0.2)),
    "30": ("30 %", _constant(0.3)),
    "evenings": ("evenings of 20 % (19 to 23 h), else 1 %", _evenings),
    "weekly": ("a day of 30 % a week, else 1 %", _weekly),
    "ramp-24": ("a ramp of 5 to 60 % in 24 h a week, else 1 %", _ramp(24, 0.05, 0.6, 0.01)),
    "ramp-6": ("a ramp of 1 to 60 % in 6 h a week, else 1 %", _ramp(6, 0.01, 0.6, 0.01)),
    "ramp-steep": ("a ramp of 0 to 60 % in 6 h a week, else 0.5 %", _ramp(6, 0.0, 0.6, 0.005)),
    "sudden-50": ("50 % at once for 3 h a month, else 1 %", _sudden),
}


def expect(name: str, years: int, seed: int) -> Expected:
    """Drive one check's detector through so many years of a kind of loss, after two weeks in which it learns."""
    chance = random.Random(f"{name}/{seed}")
    learner = Responsiveness(INTERVAL)
    h = threshold(INTERVAL, Settings().false_outages_per_year)
    batches = [0.0] * years
    at = -WARM_UP
    for rounds, loss in LOSSES[name][1]():
        end = at + rounds
        scale = log1p(-loss)
        while True:
            answered = int(log(1.0 - chance.random()) / scale)
            if at + answered >= end:
                teach_answers(learner, end - at)
                at = end
                break
            teach_answers(learner, answered)
            at += answered + 1
            if 0 <= at < years * ROUNDS_A_YEAR:
                batches[at // ROUNDS_A_YEAR] += loss ** (learner.needed(h)[0] - 1)
            learner.learn(True)
        if at >= years * ROUNDS_A_YEAR:
            return Expected(tuple(batches))
    raise AssertionError("losses go on for ever")


def teach_answers(learner: Responsiveness, count: int) -> None:
    """As `learn(False)` so many times."""
    while count > 0:
        step = min(count, BLOCK - learner.block_size - 1)
        if step:
            kept = learner.decay**step
            learner.answered = learner.answered * kept + (1.0 - kept) / (1.0 - learner.decay)
            learner.failed *= kept
            learner.window = learner.window << step & (1 << WINDOW) - 1
            learner.size = min(WINDOW, learner.size + step)
            learner.block_size += step
            count -= step
        if count:
            learner.learn(False)  # may end a block
            count -= 1
