"""How well a check answers when it is up, and what follows: how many failures in a row are an outage.

A failure in a row of n is explained by an outage, or by loss. Down is said only when every explanation by loss that
this check's past allows has become too unlikely: that it answers as it does now (A, the lesser of its long-term
responsiveness and that of its last 60 regular probes), and that it answers as it did in some share w of the past
weeks (evenings of 20 % loss, a bad day a week), at the price -ln(w). Without the second, the start of every bad
evening is judged by the good day before it.
"""

from __future__ import annotations

from math import ceil, log, sqrt
from typing import Any, Final

SUCCESS_WHEN_DOWN: Final = 0.01  # e = P(success | down): what a stray answer is worth
LEAST: Final = 0.3  # below it a check is `degraded`
MOST: Final = 0.87  # no host is trusted more: nine failures at one a minute, so that a sudden 20 % loss is no outage
WINDOW: Final = 60  # regular probes
BLOCK: Final = 120  # regular probes to a remembered level: fewer, and chance alone would look like bad hours
LEVELS: Final = 12  # remembered levels, LEAST + i * STEP
STEP: Final = 0.05
CHANCE: Final = 0.0005  # so unlikely must k losses in a row be
MEMORY_SECONDS: Final = 7 * 86_400.0
LEVEL_MEMORY_BLOCKS: Final = 480.0  # 40 days at one a minute
SECONDS_PER_YEAR: Final = 31_556_952.0
SHORT_WINDOW: Final = 30  # regular probes: what a ramp has already become
SLACK: Final = 0.5  # standard deviations that the short window is given, so that chance alone rarely decides
_SHORT_MASK: Final = (1 << SHORT_WINDOW) - 1
_MASK: Final = (1 << WINDOW) - 1


def threshold(interval_seconds: float, false_outages_per_year: float) -> float:
    """h of the sequential test: ln of the chances a year that one false outage is allowed in."""
    return log(SECONDS_PER_YEAR / interval_seconds / false_outages_per_year)


def _ratio(answering: float) -> float:
    """What a failure adds to the test, if up means that such a share is answered."""
    return log((1.0 - SUCCESS_WHEN_DOWN) / (1.0 - answering))


def _losses(answering: float, price: float) -> int:
    """So many in a row are no chance."""
    return ceil((log(CHANCE) + price) / log(1.0 - answering) - 1e-9)


class Responsiveness:
    """What one check has taught. Learns from regular probes of an up check only; `learn` is O(1)."""

    __slots__ = ("_past", "answered", "block_failed", "block_size", "decay", "failed", "levels", "size", "window")

    def __init__(self, interval_seconds: float) -> None:
        self.decay = max(0.0, 1.0 - interval_seconds / MEMORY_SECONDS)
        self.answered = 1.0  # Beta(1, 1)
        self.failed = 1.0
        self.window = 0  # the last 60, the newest in bit 0, 1 = failed
        self.size = 0
        self.block_size = 0
        self.block_failed = 0
        self.levels: list[float] = []  # weight of each level, once there was a block
        self._past: tuple[float, int, int] | None = None  # a threshold, and what the levels need for it

    def learn(self, failed: bool, position: int = 0) -> None:
        """Count one regular probe. `position`: how many that were sent later have been counted before."""
        if failed:
            self.failed = self.failed * self.decay + 1.0
            self.answered *= self.decay
            self.block_failed += 1
        else:
            self.answered = self.answered * self.decay + 1.0
            self.failed *= self.decay
        if position == 0:
            self.window = (self.window << 1 | failed) & _MASK
        elif position < WINDOW:
            newer = self.window & ((1 << position) - 1)
            self.window = ((self.window >> position << 1 | failed) << position | newer) & _MASK
        if self.size < WINDOW:
            self.size += 1
        self.block_size += 1
        if self.block_size == BLOCK:
            self._remember()

    def _remember(self) -> None:
        level = 1.0 - self.block_failed / BLOCK
        self.block_size = self.block_failed = 0
        self._past = None
        keep = 1.0 - 1.0 / LEVEL_MEMORY_BLOCKS
        self.levels = [weight * keep for weight in self.levels] or [0.0] * LEVELS
        # the lower edge of the bin, with a little room: 0.9 is not below itself
        self.levels[max(0, min(LEVELS - 1, int((level - LEAST) / STEP + 1e-9)))] += 1.0

    @property
    def steady(self) -> float:
        """The lesser of the long-term responsiveness and that of the last 60, unclamped."""
        long_term = self.answered / (self.answered + self.failed)
        return min(long_term, (1.0 + self.size - self.window.bit_count()) / (2.0 + self.size))

    @property
    def value(self) -> float:
        """A as learned, unclamped: the steady one, or that of the last few if they show that it has become worse."""
        return self._value(self.steady)

    def _value(self, steady: float) -> float:
        last = min(self.size, SHORT_WINDOW)
        lately = (1.0 + last - (self.window & _SHORT_MASK).bit_count()) / (2.0 + last)
        lately += SLACK * sqrt(lately * (1.0 - lately) / (3.0 + last))
        return min(steady, lately)

    @property
    def long_term_loss(self) -> float:
        """The long-term share of regular probes that fail while up."""
        return self.failed / (self.answered + self.failed)

    @property
    def degraded(self) -> bool:
        """It answers so rarely that an outage takes very many failures to show."""
        return self.value < LEAST

    def past(self) -> list[tuple[float, float]]:
        """(A, price) of the levels that this check has shown, and how unlikely each one is now, as -ln(share)."""
        total = sum(self.levels)
        return [
            (MOST if index == LEVELS - 1 else LEAST + index * STEP, -log(weight / total))
            for index, weight in enumerate(self.levels)
            if weight > 0.002 * total
        ]

    def needed(self, h: float) -> tuple[int, int]:
        """(n, k): failures in a row that are an outage at threshold `h`, and that one true cause must be among."""
        if self._past is None or self._past[0] != h:
            past = self.past()
            failures = max((ceil((h - price) / _ratio(answering) - 1e-9) for answering, price in past), default=1)
            losses = max((_losses(answering, price) for answering, price in past), default=1)
            self._past = h, failures, losses
        _, failures, losses = self._past
        steady = self.steady
        failures = max(failures, 1, ceil(h / _ratio(max(LEAST, min(MOST, self._value(steady)))) - 1e-9))
        losses = max(losses, 1, _losses(max(LEAST, min(MOST, steady)), 0.0))
        return failures, losses

    def snapshot(self) -> list[Any]:
        """Plain values that `restore` takes."""
        return [self.answered, self.failed, self.window, self.size, self.block_size, self.block_failed, self.levels[:]]

    def restore(self, state: list[Any]) -> None:
        """Go on from a snapshot."""
        self.answered, self.failed, self.window, self.size, self.block_size, self.block_failed, levels = state
        self.levels = list(levels)
        self._past = None
