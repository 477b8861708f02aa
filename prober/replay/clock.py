"""The clock of a world: time is a number that jumps from one timer to the next.

It stands in for the agent's clock and for the event loop's timers at once: nothing in a replay waits for anything but
time, and a task for each of a million probes would take most of the time that a replay takes.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class WorldTimer(list[Any]):
    """A call that is to come: when, which in the order of asking, what (None: forgotten), with what.

    A list, so that the heap compares it without calling anything; there are several for every probe.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Forget it. Idempotent."""
        self[2] = None


class WorldClock:
    """A `prober.clock.Clock`. `step` moves what the host believes to be the time of day."""

    def __init__(self, utc: float) -> None:
        self._time = 0.0
        self._offset = utc
        self._timers: list[WorldTimer] = []
        self._order = 0

    def now(self) -> float:
        return self._time

    def utc(self) -> float:
        return self._time + self._offset

    def step(self, seconds: float) -> None:
        """Set the host's clock forward, or back if negative."""
        self._offset += seconds

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> WorldTimer:
        """Call back at `when`, or as soon as possible. Calls of one moment come in the order of asking."""
        self._order = order = self._order + 1
        timer = WorldTimer((when, order, callback, arguments))
        heappush(self._timers, timer)
        return timer

    def run(self, until: float) -> None:
        """Let time pass."""
        timers = self._timers
        while timers and timers[0][0] <= until:
            when, _order, callback, arguments = heappop(timers)
            if callback is not None:
                if when > self._time:
                    self._time = when
                callback(*arguments)
        self._time = max(self._time, until)
