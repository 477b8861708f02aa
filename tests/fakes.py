"""Plain stand-ins for what a test does not care about."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from prober.contract import Attempt, EchoReply, Family, Io, Kind, ProbeFailure, SendEcho
from prober.failures import Failure, Operation
from prober.net.echo import EchoSocket

T = TypeVar("T")


class NoResolver:
    """A resolver that must not be asked: the test gives addresses only."""

    async def resolve(self, name: str, family: Family) -> str:
        raise ProbeFailure(Operation.RESOLVE, Failure.RESOLVER_UNREACHABLE, f"nobody was to resolve {name}")

    def server(self) -> tuple[str, int]:
        raise ProbeFailure(Operation.RESOLVE, Failure.RESOLVER_UNREACHABLE, "there is none")


class _Jumps(selectors.DefaultSelector):
    """Waits for nothing: where the loop would sleep, virtual time jumps."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is not None and timeout > 0:
            self._jump(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a number that jumps from one timer to the next."""

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__(_Jumps(self.jump))

    def time(self) -> float:
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let time pass; within a callback it is a stall of the loop."""
        # At the least what a float resolves: else rounding could keep a timer for ever a hair's breadth away.
        self._virtual += max(seconds, 1e-9)


class VirtualClock:
    """The runner's clock on a VirtualLoop. `step` moves what the host believes to be the time of day."""

    def __init__(self, loop: VirtualLoop, utc: float = 1_700_000_000.0) -> None:
        self._loop = loop
        self._offset = utc

    def now(self) -> float:
        return self._loop.time()

    def utc(self) -> float:
        return self._loop.time() + self._offset

    def step(self, seconds: float) -> None:
        self._offset += seconds

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_at(when, callback)


def on_virtual_time(scenario: Callable[[VirtualLoop, VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario to its end on a loop of its own whose time is virtual."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(scenario(loop, VirtualClock(loop)))


async def probe_as_runner(kind: Kind, options: Any, attempt: Attempt, io: Io) -> None:
    """One probe, without a task where the kind and these options allow it. Raises ProbeFailure."""
    begin = kind.direct(options, io) if kind.direct is not None else None
    if begin is None:
        await kind.probe(options, attempt, io)
        return
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    give_up = begin(attempt, over.set_result)
    try:
        failure = await over
    finally:
        if give_up is not None:
            give_up()
    if failure is not None:
        raise failure


def sends_return_late(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The process is held up for so long inside each call that sends an echo request."""
    send = EchoSocket.send

    def slowly(*args: Any) -> None:
        send(*args)
        time.sleep(seconds)

    monkeypatch.setattr(EchoSocket, "send", slowly)


class NoPinger:
    """A pinger that must not be asked."""

    def prepare(self, address: str, **_options: object) -> SendEcho:
        raise AssertionError(f"nobody was to ping {address}")

    def echo(self, address: str, **_options: object) -> asyncio.Future[EchoReply]:
        raise AssertionError(f"nobody was to ping {address}")
