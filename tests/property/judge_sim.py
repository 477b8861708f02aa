"""A runner on a virtual clock over a scripted truth: drives the pure judge exactly as the agent does.

Regular rounds at stable phases; confirmations, members and references as the judge asks for them; a success is known
after the round-trip time, a loss after the timeout. No sockets, no sleeping.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Literal

from prober.failures import Failure, Operation
from prober.judge import Judge
from prober.judge.records import (
    Confirm,
    Decisions,
    Gap,
    GapClosed,
    Outage,
    OutageClosed,
    OutageOpened,
    OutageUpdated,
    ProbeMember,
    ProbeReference,
    Request,
    Settings,
)
from prober.model import Check, Entity, Observation, Reference, Target

Fate = Callable[[Check, float, random.Random], bool]
"""Is a probe of `check` that is sent at this time answered?"""


def make_check(target: str, interval: float = 60.0, timeout: float = 5.0, kind: str = "icmp", name: str = "") -> Check:
    return Check(target, name or kind, kind, interval, timeout, None)


def make_entity(count: int, interval: float = 60.0, timeout: float = 5.0, **more: Any) -> Entity:
    """An entity of `count` targets with one check each, and no networks."""
    names = [f"host{number:02d}" for number in range(count)]
    targets = tuple(Target(name, "land", (make_check(name, interval, timeout),)) for name in names)
    return Entity("land", targets=targets, **more)


def make_references(count: int = 3, interval: float = 60.0, timeout: float = 5.0) -> list[Reference]:
    return [
        Reference(f"ref{number}", f"AS{number}", (make_check(f"ref{number}", interval, timeout),))
        for number in range(count)
    ]


@dataclass
class Tally:
    regular: int = 0
    extra: int = 0
    references: int = 0
    opened: list[Outage] = field(default_factory=list)
    closed: list[Outage] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    updated: list[Outage] = field(default_factory=list)


class Sim:
    """One vantage. `phases` default to a spread by the seed; `budget` is probes a second per prefix, by `prefix_of`."""

    def __init__(
        self,
        entities: list[Entity],
        fate: Fate,
        *,
        references: list[Reference] | None = None,
        settings: Settings | None = None,
        seed: int = 1,
        rtt: float = 0.2,
        phases: dict[str, float] | None = None,
        budget: float | None = None,
        prefix_of: Callable[[Check], str] = lambda check: "",
        failure: Callable[[Check, float], tuple[Operation, Failure]] | None = None,
        judge: Judge | None = None,
        named: frozenset[str] = frozenset(),
    ) -> None:
        self.random = random.Random(seed)
        self.fate, self.rtt = fate, rtt
        references = make_references() if references is None else references
        self.judge = judge or Judge(entities, references, settings or Settings(), vantage="v", named=named)
        self.now = 0.0
        self.queue: list[tuple[float, int, int, Any]] = []
        self.serial = 0
        self.tally = Tally()
        self.skip: set[str] = set()
        self.failure = failure or (lambda check, at: (Operation.RECEIVE, Failure.TIMEOUT))
        self.budget, self.prefix_of = budget, prefix_of
        self.free_at: dict[str, float] = {}
        self.waiting: dict[str, deque[tuple[str, Any]]] = {}
        self.shuffle = False
        self.references = {check.key for reference in references for check in reference.checks}
        checks = [check for entity in entities for target in entity.targets for check in target.checks]
        for check in checks + [check for reference in references for check in reference.checks]:
            phase = (phases or {}).get(check.key, self.random.uniform(0, check.interval_seconds))
            self._push(phase, "regular", check)

    def _push(self, at: float, what: str, thing: Any) -> None:
        self.serial += 1
        rank = {"result": 0, "decide": 1, "regular": 2, "request": 3, "free": 4}[what]
        heappush(self.queue, (at, rank, self.serial, (what, thing)))

    def run(self, until: float) -> None:
        while self.queue and self.queue[0][0] <= until:
            self.now = self.queue[0][0]
            batch = []
            while self.queue and self.queue[0][0] <= self.now and self.queue[0][1] == 0:
                batch.append(heappop(self.queue)[3][1])
            if self.shuffle:
                self.random.shuffle(batch)
            for observation in batch:
                self.judge.observe(observation, self.now)
            if not batch:
                what, thing = heappop(self.queue)[3]
                getattr(self, f"_{what}")(thing)
            while self.judge.wake_at <= self.now and not (
                self.queue and self.queue[0][0] <= self.now and self.queue[0][1] == 0
            ):
                self.act(self.judge.decide(self.now))
            if self.judge.wake_at < float("inf") and self.judge.wake_at > self.now:
                self._wake(self.judge.wake_at)
        self.now = until

    _woken = -1.0

    def _wake(self, at: float) -> None:
        if at != self._woken:
            self._woken = at
            self._push(at, "decide", None)

    def _decide(self, _nothing: None) -> None:
        pass

    def act(self, decisions: Decisions) -> None:
        for event in decisions.events:
            if isinstance(event, OutageOpened):
                self.tally.opened.append(event.outage)
            elif isinstance(event, OutageClosed):
                self.tally.closed.append(event.outage)
            elif isinstance(event, OutageUpdated):
                self.tally.updated.append(event.outage)
            elif isinstance(event, GapClosed):
                self.tally.gaps.append(event.gap)
        for request in decisions.requests:
            self._push(max(self.now, request.at), "request", request)

    def _regular(self, check: Check) -> None:
        self._push(self.now + check.interval_seconds, "regular", check)
        if check.key in self.skip:
            self.skip.discard(check.key)
            return
        self._send(check, "reference" if check.key in self.references else "regular")

    def _request(self, request: Request) -> None:
        check = request.check
        if not isinstance(request, ProbeReference) and self.budget is not None:
            prefix = self.prefix_of(check)
            if self.free_at.get(prefix, 0.0) > self.now:
                self.waiting.setdefault(prefix, deque()).append(("request", request))
                self._push(self.free_at[prefix], "free", prefix)
                return
        if not self.judge.wants(request, self.now):
            return
        if isinstance(request, ProbeReference):
            self._send(check, "reference")
        elif isinstance(request, ProbeMember):
            self.skip.add(check.key)
            self._send(check, "regular")
        else:
            assert isinstance(request, Confirm)
            self._send(check, "confirmation")

    def _free(self, prefix: str) -> None:
        waiting = self.waiting.get(prefix)
        while waiting and self.free_at[prefix] <= self.now:
            what, thing = waiting.popleft()
            if what == "send":
                self._send(*thing)
            else:
                self._request(thing)
        if waiting:
            self._push(self.free_at[prefix], "free", prefix)

    def _send(self, check: Check, reason: Literal["regular", "confirmation", "reference"]) -> None:
        if self.budget is not None and reason != "reference":
            prefix = self.prefix_of(check)
            if self.free_at.get(prefix, 0.0) > self.now:
                self.waiting.setdefault(prefix, deque()).append(("send", (check, reason)))
                self._push(self.free_at[prefix], "free", prefix)
                return
            self.free_at[prefix] = self.now + 1.0 / self.budget
        if reason == "regular":
            self.tally.regular += 1
        elif reason == "confirmation":
            self.tally.extra += 1
        else:
            self.tally.references += 1
        self.judge.sent(check, self.now, reason)
        answered = self.fate(check, self.now, self.random)
        operation, failure = (None, None) if answered else self.failure(check, self.now)
        took = self.rtt if answered else check.timeout_seconds
        self._push(
            self.now + took,
            "result",
            Observation(check, self.now, self.now, answered, took, {}, {}, operation, failure, reason=reason),
        )
