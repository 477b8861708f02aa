"""Nothing may be left behind: the tasks and descriptors of this process, compared before and after.

    async with assert_no_leaks():   # or `with assert_no_leaks():`
        await probe(...)

Start an in-process server outside the block if its handlers end by themselves, inside it (and close it inside) if they
would wait for ever: the server's accepted connections are descriptors of this process too.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Final, Self

from prober.net.readiness import of_loop

_PASSES: Final = 20  # of the loop: closing a transport takes a few, a leaked task does not end in any number


def descriptors() -> set[tuple[int, str]]:
    """This process's open descriptors with what they are. A socket's inode tells a reused number from the old one."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return found


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # no running loop
        return set()


class assert_no_leaks:
    """Context manager, plain or async. Raises AssertionError naming every task and descriptor that was left.

    It says nothing when the block raised: that error comes first. The async form gives the loop a few passes, so that
    transports that were closed can go away; it never waits.
    """

    def __enter__(self) -> Self:
        self._descriptors, self._tasks = descriptors(), _tasks()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and (left := self._left()):
            raise AssertionError("left behind: " + "; ".join(left))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        of_loop().close_idle()
        for _ in range(_PASSES):
            if kind is not None or not self._left():
                break
            await asyncio.sleep(0)
        self.__exit__(kind, exc, tb)

    def _left(self) -> list[str]:
        tasks = sorted(repr(task) for task in _tasks() - self._tasks)
        return [f"fd {number} {what}" for number, what in sorted(descriptors() - self._descriptors)] + tasks
