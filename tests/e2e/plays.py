"""Scenarios that are played side by side, each with vantages of its own: together they take as long as the longest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeAlias

from tests.e2e.country import Vantage

Stage: TypeAlias = Callable[[ExitStack, str, str], Callable[[], None]]
"""Builds what the scenario of a name needs, under a label that nobody else has, and returns the scenario to play."""


class Plays:
    """What is under way, by name.

    What failed is played again when it is asked for again (a rerun of the test): alone, and on a new stage. The
    failure of a busy machine would else only be told twice.
    """

    def __init__(self, stack: ExitStack, names: Iterable[str], stage: Stage) -> None:
        plays = {name: stage(stack, name, _label(name)) for name in names}
        pool = stack.enter_context(ThreadPoolExecutor(len(plays)))
        self._begun: dict[str, Future[None]] = {name: pool.submit(play) for name, play in plays.items()}
        self._asked: set[str] = set()
        self._stage = stage

    def result(self, name: str) -> None:
        """Wait until it has been played. Raises what it raised."""
        if name not in self._asked:
            self._asked.add(name)
            self._begun[name].result()
            return
        with ExitStack() as stack:
            self._stage(stack, name, f"{_label(name)}-again")()


def when_ready(vantages: Iterable[Vantage], play: Callable[[], None]) -> Callable[[], None]:
    """The same play, begun as soon as the agents of these vantages are ready, which were started before."""

    def begin() -> None:
        for vantage in vantages:
            vantage.agent.ready()
        play()

    return begin


def _label(name: str) -> str:
    return name.replace("_", "-")
