"""A probe's coroutine without a task, for as long as it waits for nothing but a socket of its own.

A task costs a future, a handle and a place in the loop's queue with every wait: together a fifth of an HTTP probe. Here
the readiness of the socket goes on with the coroutine itself. Where more is to be waited for (a name, certificates),
the coroutine says so, and becomes a task on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Final

from prober.contract import Attempt, Done, ProbeFailure
from prober.deadline import Deadline, StallMeter

_TASK: Final = "a task"


@coroutine
def resumed() -> Generator[None, None, None]:
    """Wait until `attempt.resume` is called, which must have been handed to who calls it."""
    yield


@coroutine
def in_task(attempt: Attempt) -> Generator[str, None, None]:
    """Go on in a task, before anything is awaited that needs one. Nothing, if the probe has one."""
    if attempt.resume is not None:
        yield _TASK


class Drive:
    """Runs a probe's coroutine under the attempt's deadline. `done` is told how it ended, unless it was given up."""

    __slots__ = ("_attempt", "_coroutine", "_deadline", "_done", "_overdue", "_task")

    def __init__(self, probe: Coroutine[Any, None, None], attempt: Attempt, done: Done, meter: StallMeter) -> None:
        self._coroutine = probe
        self._attempt = attempt
        self._done: Done | None = done
        self._deadline = Deadline(attempt.timeout_seconds, meter)
        self._task: asyncio.Task[None] | None = None
        self._overdue: ProbeFailure | None = None

    def begin(self) -> Callable[[], None]:
        """Go as far as it goes at once. Returns what gives it up."""
        self._attempt.resume = self._resume
        self._deadline.start(self._expire)
        self._resume()
        return self.give_up

    def give_up(self) -> None:
        """Leave nothing behind; a task ends with the next turn of the loop. Idempotent."""
        self._detach()
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.cancel()

    def _resume(self) -> None:
        try:
            wanted = self._coroutine.send(None)
        except StopIteration:
            self._over(None)
        except Exception as error:  # the probe's failure, or a defect of ours: the runner tells them apart
            self._over(error)
        else:
            if wanted is _TASK:
                self._become_task()
            elif wanted is not None:
                self._coroutine.close()
                self._over(RuntimeError(f"a probe without a task waits for {wanted!r}"))

    def _become_task(self) -> None:
        self._attempt.resume = None
        self._task = asyncio.get_running_loop().create_task(self._coroutine)  # goes on where the coroutine stands
        self._task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            if error is None or isinstance(error, Exception):  # the rest ends the process
                self._over(error)
        else:  # overdue; or given up, and nobody is told; or cancelled by somebody who has no business with it
            self._over(self._overdue or RuntimeError("its task was cancelled"))

    def _expire(self) -> None:
        overdue = self._attempt.overdue(self._deadline)
        if self._task is None:
            self._coroutine.close()
            self._over(overdue)
        else:
            self._overdue = overdue
            self._task.cancel()

    def _over(self, error: Exception | None) -> None:
        done = self._done
        self._detach()
        if done is not None:
            done(error)

    def _detach(self) -> None:
        """We, the attempt and the deadline know of each other: nothing is to be left to the garbage collector."""
        self._done = self._attempt.resume = None
        self._deadline.stop()
