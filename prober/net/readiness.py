"""Waiting for the sockets of many short probes: one epoll for all of them, which the event loop watches as one.

The loop's own readers and timers are made for connections that live. A probe's socket is waited for once or twice, and
two handles, a selector key, two system calls and a place in a heap for that cost more than all else that the probe
does. Here a socket costs one call to be registered and none to be forgotten, since closing it does that. How long is
waited for them `alarms` measures.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final

from prober.alarms import alarms_of

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
ONCE: Final = select.EPOLLONESHOT
"""Told of once; then `watch` again."""

IDLE_SECONDS: Final = 1.0
EVENTS_MAX: Final = 1024


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
        self.after: Final = alarms_of(loop).after
        self._idle: asyncio.TimerHandle | None = None

    def watch(self, descriptor: int, events: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor is: again and again, or with ONCE once. Errors make it ready, too.

        Raises OSError if the kernel watches no more.
        """
        epoll = self._epoll or self._open()
        self._serial += 1
        known = self._watched.get(descriptor)
        if known is None:
            self._watched[descriptor] = _Watch(ready, self._serial)
        else:
            known.ready, known.serial = ready, self._serial
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

    def close_idle(self) -> None:
        """Leave nothing open, if nobody waits."""
        if not self._watched and self._epoll is not None:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

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


_latest: Readiness | None = None


def of_loop() -> Readiness:
    """That of the running loop, of which a process has one."""
    global _latest
    loop = asyncio.get_running_loop()
    if _latest is None or _latest.loop is not loop:
        _latest = Readiness(loop)
    return _latest
