"""Waiting for the sockets of many short probes: one epoll for all of them, which the event loop watches as one.

The loop's own readers and timers are made for connections that live. A probe's socket is waited for once or twice, and
two handles, a selector key, two system calls and a place in a heap for that cost more than all else that the probe
does. Here a socket costs one call to be registered and none to be forgotten, since closing it does that; and waits of
equal length stand in one queue, in the order in which they end, under one timer.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Final

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
ONCE: Final = select.EPOLLONESHOT
"""Told of once; then `watch` again."""

IDLE_SECONDS: Final = 1.0
QUEUES_MAX: Final = 256
EVENTS_MAX: Final = 1024


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
        self._timer = self._loop.call_at(ceil(due / self._slack) * self._slack if self._slack else due, self._fire)

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


class _Watch:
    """Who is told of a descriptor."""

    __slots__ = ("ready", "serial")

    def __init__(self, ready: Callable[[], None], serial: int) -> None:
        self.ready = ready
        self.serial = serial


class Readiness:
    """What the probes of one event loop wait for; `of_loop` has it. It opens when needed, and closes when idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll: select.epoll | None = None
        self._watched: dict[int, _Watch] = {}
        self._serial = 0
        self._queues: dict[tuple[float, float], _Queue] = {}
        self._idle: asyncio.TimerHandle | None = None

    def watch(self, descriptor: int, events: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor is: again and again, or with ONCE once. Errors make it ready, too.

        Raises OSError if the kernel watches no more.
        """
        epoll = self._epoll or self._open()
        self._serial += 1
        known = descriptor in self._watched
        self._watched[descriptor] = _Watch(ready, self._serial)
        if known:
            try:
                epoll.modify(descriptor, events)
                return
            except FileNotFoundError:  # it was closed, and is another one now
                pass
        try:
            epoll.register(descriptor, events)
        except FileExistsError:
            epoll.modify(descriptor, events)
        except BaseException:  # the kernel's list may be full
            self.forget(descriptor)
            raise

    def forget(self, descriptor: int) -> None:
        """No more of it. The caller closes the descriptor at once, and with that it is gone from the kernel's list."""
        self._watched.pop(descriptor, None)
        if not self._watched and self._idle is None and self._epoll is not None:
            self._idle = self.loop.call_later(IDLE_SECONDS, self._close_if_idle)

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

    def close_idle(self) -> None:
        """Leave nothing open, if nobody waits."""
        if not self._watched and self._epoll is not None:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _queue_over(self, key: tuple[float, float]) -> None:
        self._queues.pop(key, None)

    def _open(self) -> select.epoll:
        self._epoll = select.epoll()
        self.loop.add_reader(self._epoll.fileno(), self._look)
        return self._epoll

    def _close_if_idle(self) -> None:
        self._idle = None
        self.close_idle()

    def _look(self) -> None:
        if self._epoll is None:
            return
        newest, watched = self._serial, self._watched
        for descriptor, _events in self._epoll.poll(0, EVENTS_MAX):
            watch = watched.get(descriptor)
            # What was registered since then is another socket with the number of one that was closed.
            if watch is not None and watch.serial <= newest:
                try:
                    watch.ready()
                except Exception as error:  # as the loop does it: the others have their turn
                    self.loop.call_exception_handler({"message": "defect of a probe", "exception": error})


def _nothing() -> None:
    """A queue of which nobody knows is over."""


_latest: Readiness | None = None


def of_loop() -> Readiness:
    """That of the running loop, of which a process has one."""
    global _latest
    loop = asyncio.get_running_loop()
    if _latest is None or _latest.loop is not loop:
        _latest = Readiness(loop)
    return _latest
