"""Timers of many short waits: those of equal length stand in one queue, in the order in which they end, under one timer
of the event loop's.

The loop's own timers stand in one heap. To put one in and to take it out again, as every probe that is answered in time
does, costs more than the wait itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Final

QUEUES_MAX: Final = 256


class Alarm:
    """A callback that is due at a time; `cancel` is idempotent."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Queue:
    """Alarms after the same number of seconds each, so in order."""

    __slots__ = ("_alarms", "_loop", "_over", "_slack", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, slack: float, over: Callable[[], None]) -> None:
        self._loop = loop
        self._slack = slack
        self._over = over
        self._alarms: deque[Alarm] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, alarm: Alarm) -> None:
        self._alarms.append(alarm)
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        alarms = self._alarms
        while alarms and alarms[0].callback is None:
            alarms.popleft()
        if not alarms:
            self._over()
            return
        due = alarms[0].due
        if self._slack:
            due = max(due, ceil(due / self._slack) * self._slack)  # the product may be rounded down
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        alarms = self._alarms
        try:
            while alarms and (alarms[0].callback is None or alarms[0].due <= now):
                callback = alarms.popleft().callback
                if callback is not None:
                    callback()
        finally:  # a callback that raises must not stop the others
            self._timer = None
            self._arm()


class Alarms:
    """Those of one event loop; `alarms_of` has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queues: dict[tuple[float, float], _Queue] = {}

    def after(self, seconds: float, callback: Callable[[], None], *, slack: float = 0.0) -> Alarm:
        """Call it in so many seconds; up to `slack` later, so that several are called together: it is the wake-up of
        the loop that costs.
        """
        alarm = Alarm(self.loop.time() + seconds, callback)
        key = seconds, slack
        queue = self._queues.get(key)
        if queue is None:
            registered = len(self._queues) < QUEUES_MAX  # else it stands alone
            queue = _Queue(self.loop, slack, partial(self._queue_over, key) if registered else _nothing)
            if registered:
                self._queues[key] = queue
        queue.add(alarm)
        return alarm

    def _queue_over(self, key: tuple[float, float]) -> None:
        self._queues.pop(key, None)


def _nothing() -> None:
    """A queue of which nobody knows is over."""


_latest: Alarms | None = None


def alarms_of(loop: asyncio.AbstractEventLoop) -> Alarms:
    """Those of this loop, of which a process has one."""
    global _latest
    if _latest is None or _latest.loop is not loop:
        _latest = Alarms(loop)
    return _latest
