"""Loss in bursts: what a record of class `outage` is worth, of which there may be one in a thousand years.

Such a record needs failures without an answer for more than a minute, and how long at least is known beforehand. So
every case is drawn on the condition that each probe up to then is lost, which is exact: a state that has no memory is
drawn anew from one probe to the next. How rare the condition is has a closed form.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import exp, fsum
from typing import Final

from prober.judge.records import Settings
from prober.replay.score import Figures, compare
from prober.replay.truth import Span
from tests.evaluate.drive import INTERVAL, RTT, Driven, record_of, teach
from tests.evaluate.expectation import ROUNDS_A_YEAR, WARM_UP

ROUNDS_BETWEEN: Final = 600


@dataclass(frozen=True, slots=True)
class LongRuns:
    """Of one kind of loss. `rates`: of each case, how many like it a target-year has."""

    figures: Figures
    rates: tuple[float, ...]

    @property
    def a_year(self) -> float:
        """`outage` records in a target-year."""
        cases = len(self.rates)
        return fsum(self.rates) / cases * self.figures.long_records / cases if cases else 0.0


class Runs:
    """A Markov chain of two states in continuous time, drawn as far as it is looked at."""

    def __init__(self, chance: random.Random, mean: float, loss: float) -> None:
        self._chance = chance
        self._mean = mean
        self._between = mean * (1.0 - loss) / loss
        self._loss = loss
        self.begins: list[float] = []
        self.ends: list[float] = []

    def _kept(self, seconds: float) -> float:
        """How much of what it was it still is, so long after."""
        return exp(-seconds * (1.0 / self._mean + 1.0 / self._between))

    def lost_after(self, seconds: float) -> float:
        """P(lost) so long after it was good."""
        return self._loss * (1.0 - self._kept(seconds))

    def hit(self, at: float, good_at: float) -> None:
        """It is lost at `at` and was good at `good_at`: draw the run that it is in, and nothing else."""
        while True:
            begin = at - self._chance.expovariate(1.0 / self._mean)
            if begin > good_at and self._chance.random() < 1.0 - self.lost_after(begin - good_at):
                break
        self.begins = [begin]
        self.ends = [at + self._chance.expovariate(1.0 / self._mean)]

    def stay(self, at: float, then: float) -> float:
        """It is lost at `at`. Draw what follows on the condition that it is lost `then` too; how likely that was."""
        kept = bisect_right(self.begins, at)
        while True:
            del self.begins[kept:], self.ends[kept - 1 :]
            self.ends.append(at + self._chance.expovariate(1.0 / self._mean))
            if self.lost(then):
                return self._loss + (1.0 - self._loss) * self._kept(then - at)

    def spans(self) -> list[Span]:
        """Every run from the last `hit` on, as far as it was drawn."""
        return list(zip(self.begins, self.ends, strict=True))

    def lost(self, at: float) -> bool:
        """Is it, at a time that is not before the last `hit`?"""
        while self.ends[-1] <= at:
            begin = self.ends[-1] + self._chance.expovariate(1.0 / self._between)
            self.begins.append(begin)
            self.ends.append(begin + self._chance.expovariate(1.0 / self._mean))
        return at < self.ends[bisect_right(self.begins, at) - 1]


def schedule() -> list[float]:
    """When the judge probes a check that answers no more, in seconds from the first round that is lost."""
    sent: list[float] = []

    def lost(at: float) -> bool:
        sent.append(at)
        return at < 300.0

    driven = Driven(lost)
    driven.detector.ever_up = driven.detector.observed = True
    driven.live(400.0)
    return sent


def long_runs(mean: int, percent: int, cases: int, batch: int) -> LongRuns:
    """One check with loss in runs of this mean length: so many cases of which some become `outage` records."""
    chance = random.Random(f"long runs/{mean}/{percent}/{batch}")
    runs = Runs(chance, float(mean), percent / 100)
    offsets = schedule()
    driven = Driven(lambda at: runs.lost(at))
    detector = driven.detector
    detector.ever_up = detector.observed = True
    often = runs.lost_after(INTERVAL)
    rates: list[float] = []
    spans: list[Span] = []
    teach(driven, chance, WARM_UP, often)
    for _ in range(cases):
        number = driven.round + ROUNDS_BETWEEN
        teach(driven, chance, ROUNDS_BETWEEN - 1, often)
        detector.learned.learn(False)  # the round before is answered
        detector.last_ok = driven.due(number - 1)
        at = driven.due(number)
        runs.hit(at, detector.last_ok)
        _, k = detector.learned.needed(detector.threshold)
        likely = often
        for before, after in condition(offsets, k):
            likely *= runs.stay(at + before, at + after)
        rates.append(likely * ROUNDS_A_YEAR)
        driven.skip(number)
        driven.live(at + RTT)
        # a run may have been drawn that nobody has looked at
        spans += [(begin, end) for begin, end in runs.spans() if begin <= detector.last_ok]
    figures = Figures()
    compare(figures, driven.now, (), spans, map(record_of, driven.records))
    return LongRuns(figures, tuple(rates))


def condition(offsets: list[float], k: int) -> list[Span]:
    """From probe to probe, as long as none of them can be answered if it is to be an `outage`.

    The k-th failure and the k-th-last lie a blip apart at least, and probes never follow one another faster than the
    confirmations do.
    """
    settings = Settings()
    least = offsets[k - 1] + settings.blip_seconds + (k - 1) * settings.confirm_interval_seconds
    return [(before, after) for before, after in pairwise(offsets) if after <= least]
