"""Deadlines that do not count the time in which the agent itself stood still.

A stalled event loop must not turn an answered probe into a timeout. So a deadline measures responsive time: it is put
off by as long as the loop stalled meanwhile, and before it cancels, the loop is turned once more so that what has
arrived is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

from prober.alarms import alarms_of

BEAT_SECONDS: Final = 0.05
TOLERATED_SECONDS: Final = 0.005  # what a healthy loop is late by now and then


class StallMeter:
    """Measures how long the event loop stood still: a timer every 50 ms, and how late it comes.

    `total_seconds` only grows; `longest_seconds` is the longest stall seen. `on_stall` is called with each stall
    (seconds).
    """

    def __init__(self, on_stall: Callable[[float], None] | None = None) -> None:
        self.on_stall = on_stall
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._total = 0.0
        self.longest_seconds = 0.0

    def start(self) -> None:
        """Begin to measure on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        """Stop measuring; the figures stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def total_seconds(self) -> float:
        """All stalls so far, the one that is just ending included."""
        if self._loop is None or self._timer is None:
            return self._total
        late = self._loop.time() - self._due
        return self._total + (late if late > TOLERATED_SECONDS else 0.0)

    def _arm(self) -> None:
        assert self._loop is not None
        self._due = self._loop.time() + BEAT_SECONDS
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        assert self._loop is not None
        late = self._loop.time() - self._due
        if late > TOLERATED_SECONDS:
            self._total += late
            self.longest_seconds = max(self.longest_seconds, late)
            if self.on_stall is not None:
                self.on_stall(late)
        self._arm()


class Deadline:
    """A time of responsive seconds: `async with Deadline(seconds, meter):` cancels its body after them: TimeoutError.
    What has no task has itself told instead, by `start`.

    At most another `seconds` are granted for stalls. `stalled_seconds` says how much the loop stood still since the
    start, and `exhausted` is true when even the grant was not enough, so that nothing can be said of the probe.
    """

    __slots__ = (
        "_alarm",
        "_alarms",
        "_began",
        "_cancelling",
        "_meter",
        "_over",
        "_seconds",
        "_stalled_before",
        "_task",
        "_turned",
        "expired",
    )

    def __init__(self, seconds: float, meter: StallMeter) -> None:
        self._seconds = seconds
        self._meter = meter
        self._turned = False
        self.expired = False

    @property
    def stalled_seconds(self) -> float:
        """How long the loop stood still since the start."""
        return self._meter.total_seconds - self._stalled_before

    @property
    def exhausted(self) -> bool:
        """Whether it was over though the loop had stalled for longer than could be granted."""
        return self.expired and self.stalled_seconds > self._seconds

    def start(self, over: Callable[[], object]) -> None:
        """Begin to measure; `over` is called once, unless `stop` is called before."""
        self._over: Callable[[], object] | None = over
        self._alarms = alarms = alarms_of(asyncio.get_running_loop())
        self._stalled_before = self._meter.total_seconds
        self._began = alarms.loop.time()
        self._alarm = alarms.after(self._seconds, self._fire)

    def stop(self) -> None:
        """It was in time. Idempotent."""
        self._alarm.cancel()
        self._over = None  # who may know of us: nothing is to be left to the garbage collector

    async def __aenter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.start(task.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _fire(self) -> None:
        stalled = min(self.stalled_seconds, self._seconds)
        left = self._seconds + stalled - (self._alarms.loop.time() - self._began)
        if left > TOLERATED_SECONDS:
            self._turned = False
            self._alarm = self._alarms.after(left, self._fire)
        elif not self._turned:
            # What arrived while we were late wakes its task in the next turn of the loop; give it that turn.
            self._turned = True
            self._alarm = self._alarms.after(0.001, self._fire)
        elif self._over is not None:
            self.expired = True
            self._over()
