"""How an outage began: out of the blue, or after loss or round-trip times had risen.

Each check keeps a history in buckets of probes that double in width with age: about 50 buckets hold two days, fine
where it is recent. A cumulative sum run backwards from the outage finds since when "degraded" explains the history
better than "as always" does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from math import log
from statistics import median
from typing import Final

FIRST_WIDTH: Final = 20  # probes in the finest bucket
PER_LEVEL: Final = 12  # buckets of one width before two become one of twice the width
PROOF: Final = 8.0  # log-likelihood ratio from which a degradation is believed: about 1 in 3,000 by chance
SLOW_FACTOR: Final = 1.5  # a bucket is slow when its mean round-trip time is that much above the usual one
SLOW_WEIGHT: Final = 2.0  # what a slow bucket counts; round-trip times in a bucket are not independent of each other
PARTS: Final = 4
PART_PROBES: Final = 240  # the least that a part must hold
_FIELDS: Final = 4  # start, probes, failures, sum of durations of the successes


class History:
    """Loss and duration of one check's probes while it was up."""

    __slots__ = ("failures", "levels", "look_back", "probes", "seconds", "start")

    def __init__(self, look_back_seconds: float) -> None:
        self.look_back = look_back_seconds
        self.levels: list[array[float]] = []  # finest first; oldest first within each
        self.start = 0.0
        self.probes = 0
        self.failures = 0
        self.seconds = 0.0

    def add(self, sent_at: float, failed: bool, duration_seconds: float) -> None:
        """Count one probe. O(1), rarely more."""
        if self.probes == 0:
            self.start = sent_at
        self.probes += 1
        if failed:
            self.failures += 1
        else:
            self.seconds += duration_seconds
        if self.probes >= FIRST_WIDTH:
            self._push(0, (self.start, float(self.probes), float(self.failures), self.seconds), sent_at)
            self.probes = self.failures = 0
            self.seconds = 0.0

    def _push(self, level: int, bucket: Sequence[float], now: float) -> None:
        if level == len(self.levels):
            if bucket[0] < now - self.look_back:
                return
            self.levels.append(array("d"))
        held = self.levels[level]
        held.extend(bucket)
        if len(held) > PER_LEVEL * _FIELDS:
            first, second = held[:_FIELDS], held[_FIELDS : 2 * _FIELDS]
            del held[: 2 * _FIELDS]
            self._push(level + 1, (first[0], first[1] + second[1], first[2] + second[2], first[3] + second[3]), now)

    def buckets(self, now: float) -> Iterator[tuple[float, float, float, float]]:
        """(start, probes, failures, seconds), newest first, within the look-back."""
        if self.probes:
            yield self.start, float(self.probes), float(self.failures), self.seconds
        for held in self.levels:
            for at in range(len(held) - _FIELDS, -1, -_FIELDS):
                if held[at] < now - self.look_back:
                    return
                yield held[at], held[at + 1], held[at + 2], held[at + 3]

    def degraded_since(self, now: float, long_term_loss: float) -> float | None:
        """The start of the degradation that runs up to now; None: there was none."""
        buckets = list(self.buckets(now))
        if not buckets:
            return None
        # the long-term level may itself have learned the degradation: the best part of the look-back has not
        usual = min(
            long_term_loss,
            median(failures / probes for _, probes, failures, _ in buckets),  # buckets are finer where it is recent
            _best_part(buckets),
        )
        usual = max(0.01, min(0.5, usual))
        degraded = min(0.9, max(3.0 * usual, usual + 0.08))
        lost, answered = log(degraded / usual), log((1.0 - degraded) / (1.0 - usual))
        since = _peak(
            (start, failures * lost + (probes - failures) * answered) for start, probes, failures, _ in buckets
        )
        means = [seconds / (probes - failures) for _, probes, failures, seconds in buckets if probes > failures]
        if means:
            slow = SLOW_FACTOR * median(sorted(means)[: (len(means) + 1) // 2])
            slower = _peak(
                (start, SLOW_WEIGHT if seconds > slow * (probes - failures) else -SLOW_WEIGHT)
                for start, probes, failures, seconds in buckets
                if probes > failures
            )
            since = min((at for at in (since, slower) if at is not None), default=None)
        return since

    def snapshot(self) -> list[list[float]]:
        """Plain values that `restore` takes."""
        return [[self.start, self.probes, self.failures, self.seconds], *(held.tolist() for held in self.levels)]

    def restore(self, state: list[list[float]], shift: float) -> None:
        """Go on from a snapshot; `shift` is added to every time."""
        start, probes, failures, self.seconds = state[0]
        self.start, self.probes, self.failures = start + shift, int(probes), int(failures)
        self.levels = [array("d", held) for held in state[1:]]
        for held in self.levels:
            for at in range(0, len(held), _FIELDS):
                held[at] += shift


def _best_part(buckets: Sequence[tuple[float, float, float, float]]) -> float:
    """The loss in the best quarter of the look-back, of four in a row: so long that chance alone hardly lowers it."""
    whole = sum(probes for _, probes, _, _ in buckets)
    if whole < PARTS * PART_PROBES:
        return 1.0
    best, probes, failures = 1.0, 0.0, 0.0
    for _, sent, lost, _ in buckets:
        probes, failures = probes + sent, failures + lost
        if probes >= whole / PARTS:
            best = min(best, failures / probes)
            probes = failures = 0.0
    return best


def _peak(scores: Iterator[tuple[float, float]]) -> float | None:
    """Where the running sum, from now backwards, is highest, if that is proof enough."""
    total, best, where = 0.0, PROOF, None
    for start, score in scores:
        total += score
        if total >= best:
            best, where = total, start
    return where
