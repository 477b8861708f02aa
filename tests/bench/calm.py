"""How fast the machine is at this moment, what neighbours take of it, and waiting until they leave it alone.

Hosts that are shared ration the processor: after some minutes of work a virtual machine gets only a part of it. Ratios
of programs that are run in turn bear that; a share of a core, a start in seconds and lateness do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from statistics import mean

SAMPLES = 8
SLOWER_AT_MOST = 2.0
"""By so much the mean of the samples may be above the quickest one yet; a rationed machine is several times slower."""
PAUSE_SECONDS = 20.0
PATIENCE_SECONDS = 300.0
"""So long is waited before one measurement."""


def additions() -> float:
    """Seconds that a million additions take."""
    began, total = time.perf_counter(), 0
    for number in range(1_000_000):
        total += number
    return time.perf_counter() - began


def ticks() -> tuple[int, int]:
    """What the processors have spent by now, in ticks: for other virtual machines (steal), and in all."""
    spent = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return spent[7], sum(spent)


class Calm:
    """Waits before a measurement until the machine is as quick as it has been, or patience ends."""

    def __init__(
        self,
        say: Callable[[str], None],
        sample: Callable[[], float] = additions,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._say = say
        self._sample = sample
        self._sleep = sleep
        self.quickest = inf
        self.waited_seconds = 0.0

    def wait(self) -> None:
        """Wait, for PATIENCE_SECONDS at most."""
        left = PATIENCE_SECONDS
        while (slower := self._slower()) > SLOWER_AT_MOST and left > 0:
            self._say(f"the machine is {slower:.1f} times slower than before: waiting")
            self._sleep(PAUSE_SECONDS)
            self.waited_seconds += PAUSE_SECONDS
            left -= PAUSE_SECONDS

    def _slower(self) -> float:
        samples = [self._sample() for _ in range(SAMPLES)]
        self.quickest = min(self.quickest, *samples)
        return mean(samples) / self.quickest
