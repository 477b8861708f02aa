"""The agent's clock. Intervals are measured on CLOCK_BOOTTIME, which no one sets and which goes on in suspend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What the runner needs of time. A replay exchanges it for a virtual one."""

    def now(self) -> float:
        """Seconds on a clock that never jumps; its zero means nothing."""
        ...

    def utc(self) -> float:
        """Unix time, as the host believes it; may be stepped."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at `when` on the scale of `now()`."""
        ...


class SystemClock:
    """The host's clocks, on the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        # The loop counts on CLOCK_MONOTONIC, which stops in suspend: convert at the moment of arming.
        return self._loop.call_at(self._loop.time() + when - self.now(), callback)


class Anchor:
    """What to add to `clock.now()` to get Unix time; notices when the host's clock was stepped.

    Slewing is followed silently; a jump of more than `step_seconds` between two looks is a step.
    """

    def __init__(self, clock: Clock, step_seconds: float = 0.5) -> None:
        self._clock = clock
        self._step_seconds = step_seconds
        self.offset_seconds = clock.utc() - clock.now()

    def look(self) -> float | None:
        """Follow the host's clock. Returns by how many seconds it was stepped, or None."""
        offset = self._clock.utc() - self._clock.now()
        moved = offset - self.offset_seconds
        self.offset_seconds = offset
        return moved if abs(moved) > self._step_seconds else None
