"""The judge of one check on a clock that jumps: what is rare in a year can be looked at thousands of times.

The judge is the real one, with references that always answer, and what it asks for is sent when it asks. What the
runner adds (budgets, the ledger, other checks) is left to the worlds that go end to end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import exp, inf, log
from typing import Any, Final

from prober.failures import Failure, Operation
from prober.judge.judge import Judge
from prober.judge.records import Outage, OutageClass, OutageClosed, ProbeReference, Request, Settings
from prober.model import Check, Observation
from prober.replay.clock import WorldClock, WorldTimer
from prober.replay.score import Figures, Record, compare
from prober.replay.truth import Span
from tests.evaluate.expectation import WARM_UP, teach_answers
from tests.evaluate.measure import fuse_all
from tests.evaluate.worlds import REFERENCES, host

INTERVAL: Final = 60.0
TIMEOUT: Final = 5.0
RTT: Final = 0.1
LEAD_IN: Final = 3  # rounds that are lived through before something happens
SHORTEST, LONGEST = 100.0, 600.0
STAGGERED: Final = ("first", "second", "third")

Lost = Callable[[float], bool]
"""Is a probe that is sent then lost?"""


class Driven:
    """A judge that watches one check: lives through what is interesting, is taught the rest."""

    def __init__(self, lost: Lost, phase: float = 0.0, vantage: str = "driven") -> None:
        entity = host("o", 1)
        self.check: Check = entity.targets[0].checks[0]
        self.judge = Judge([entity], REFERENCES, Settings(), vantage=vantage)
        detector = self.judge.detector(self.check.key)
        assert detector is not None
        self.detector = detector
        self.records: list[Outage] = []  # of the check, closed
        self.round = 0  # the next regular round, on the grid of the phase
        self._phase = phase
        self._lost = lost
        self._clock = WorldClock(0.0)
        self._wake: WorldTimer | None = None
        self._wake_at = inf

    @property
    def now(self) -> float:
        """Where it stands."""
        return self._clock.now()

    def due(self, number: int) -> float:
        """When a regular round is sent."""
        return self._phase + number * INTERVAL

    def number(self, at: float) -> int:
        """The first regular round that is not before `at`."""
        return int(-((self._phase - at) // INTERVAL))

    @property
    def calm(self) -> bool:
        """Up, and nothing under way."""
        detector = self.detector
        known = detector.run is None and detector.observed and not detector.down
        return known and not detector.flight and self.judge.wake_at == inf

    def live(self, until: float) -> None:
        """Send every round up to `until` and on until it is calm again."""
        while self.due(self.round) < until or not self.calm:
            at = self.due(self.round)
            self._clock.run(at - 1e-6)  # what comes back in between
            if at >= until and self.calm:
                return
            self._clock.run(at)
            self.round += 1
            self._send(self.check, "regular", self._lost(at))

    def skip(self, number: int) -> None:
        """Go on with this round. What the rounds between would have taught is the caller's to teach."""
        assert self.calm
        assert number >= self.round
        self.round = number

    def _send(self, check: Check, reason: Any, lost: bool) -> None:
        at = self._clock.now()
        self.judge.sent(check, at, reason)
        took = TIMEOUT if lost else RTT
        seen = Observation(check, at, at, not lost, took, {}, {}, reason=reason)
        if lost:
            seen = seen._replace(operation=Operation.RECEIVE, failure=Failure.TIMEOUT)
        self._clock.call_at(at + took, self._land, seen)
        self._stir()

    def _land(self, seen: Observation) -> None:
        self.judge.observe(seen, self._clock.now())
        self._stir()

    def _stir(self) -> None:
        wake_at = self.judge.wake_at
        if wake_at == inf or (self._wake is not None and self._wake_at <= wake_at):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = max(wake_at, self._clock.now())
        self._wake = self._clock.call_at(self._wake_at, self._decide)

    def _decide(self) -> None:
        self._wake = None
        decisions = self.judge.decide(self._clock.now())
        for request in decisions.requests:
            self._clock.call_at(request.at, self._carry_out, request)
        for event in decisions.events:
            if isinstance(event, OutageClosed) and event.outage.scope == "check":
                self.records.append(event.outage)
        self._stir()

    def _carry_out(self, request: Request) -> None:
        if not self.judge.wants(request, self._clock.now()):
            return
        if isinstance(request, ProbeReference):
            self._send(request.check, "reference", False)
        else:
            self._send(request.check, "confirmation", self._lost(self._clock.now()))


def record_of(outage: Outage) -> Record:
    """As the score compares it; the judge's clock is the truth's."""
    return Record(
        after=-inf if outage.started_after is None else outage.started_after,
        started_by=outage.started_by,
        start=outage.start,
        detected_at=outage.detected_at,
        ended_after=outage.ended_after,
        ended_by=inf if outage.ended_by is None else outage.ended_by,
        end=outage.end,
        long=outage.outage_class is OutageClass.OUTAGE,
    )


# -- short outages, one after the other --------------------------------------------------------------------------------


def _outages(chance: random.Random, count: int) -> Iterator[Span]:
    """Half an hour to ten hours lie between them: what is learned in the last hour is another one each time."""
    at = WARM_UP * INTERVAL
    for _ in range(count):
        at += chance.uniform(1800.0, 36_000.0)
        end = at + exp(chance.uniform(log(SHORTEST), log(LONGEST)))
        yield at, end
        at = end


def teach(driven: Driven, chance: random.Random, rounds: int, loss: float) -> None:
    """What so many rounds teach that nobody looks at. A run of losses among them ends before it is an outage."""
    while rounds > 0:
        answered = int(log(1.0 - chance.random()) / log(1.0 - loss)) if loss else rounds
        teach_answers(driven.detector.learned, min(answered, rounds))
        if answered < rounds:
            driven.detector.learned.learn(True)
        rounds -= answered + 1


def _through(spans: list[Span], loss: float, chance: random.Random, phase: float, vantage: str) -> Driven:
    """One vantage's judge through these outages, with independent loss."""
    down = (0.0, 0.0)

    def lost(at: float) -> bool:
        return down[0] <= at < down[1] or chance.random() < loss

    driven = Driven(lost, phase, vantage)
    driven.live(LEAD_IN * INTERVAL)
    for span in spans:
        down = span
        first = max(driven.round, driven.number(span[0]) - LEAD_IN)
        teach(driven, chance, first - driven.round, loss)
        driven.skip(first)
        driven.live(span[1] + INTERVAL)
    return driven


def dense(percent: int, count: int, batch: int) -> Figures:
    """So many short outages of one check at this loss, scored."""
    chance = random.Random(f"dense/{percent}/{batch}")
    spans = list(_outages(chance, count))
    driven = _through(spans, percent / 100, chance, 0.0, "driven")
    figures = Figures()
    compare(figures, driven.now, (), spans, map(record_of, driven.records))
    return figures


def staggered(percent: int, count: int, batch: int) -> Figures:
    """The same, seen by three staggered vantages that lose independently, and fused."""
    spans = list(_outages(random.Random(f"staggered/{percent}/{batch}"), count))
    records: list[Outage] = []
    until = 0.0
    for index, vantage in enumerate(STAGGERED):
        chance = random.Random(f"staggered/{percent}/{batch}/{vantage}")
        driven = _through(spans, percent / 100, chance, index * INTERVAL / len(STAGGERED), vantage)
        records += driven.records
        until = max(until, driven.now)
    whole = Figures()
    fuse_all(whole, STAGGERED, records, spans, until)
    return whole
