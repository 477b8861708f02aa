"""The only loop: starts every check's rounds when they are due, inside the budgets, and hands on what they saw.

Regular rounds of one check never overlap: a round that comes while the last one is still under way is skipped and
counted. A probe that raises is our own defect: isolated, counted, and logged once per cause.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from prober.clock import Anchor, Clock, Timer
from prober.contract import Attempt, Io, Kind, ProbeFailure
from prober.deadline import Deadline, StallMeter
from prober.failures import Failure, Operation
from prober.logs import OncePerCause
from prober.model import Check, Observation
from prober.schedule import Budgets, budget_key, first_round, following_round, phase_seconds

log = logging.getLogger(__name__)

CLOCK_LOOK_SECONDS: Final = 1.0

Sink: TypeAlias = Callable[[Observation], None]
Reason: TypeAlias = Literal["regular", "confirmation", "reference", "once"]


class _Entry:
    """A check on the schedule."""

    __slots__ = ("budget_key", "check", "due", "gone", "kind", "packets", "phase", "round_due", "running")

    def __init__(self, check: Check, kind: Kind, phase: float) -> None:
        self.check = check
        self.kind = kind
        self.phase = phase
        self.packets = kind.packets(check.options)
        self.budget_key: Hashable = budget_key(kind.host(check.options))
        self.due = 0.0  # of the next round
        self.round_due = 0.0  # of the round under way
        self.running = False
        self.gone = False


class Figures:
    """What the runner counts about itself. `lateness` gets every start's seconds after its due time."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter({"previous_round_running": 0, "missed": 0})
        self.exceptions: Counter[str] = Counter()
        self.clock_steps = 0
        self.in_flight = 0
        self.lateness: Callable[[float], None] = lambda _seconds: None


class Runner:
    """Runs the checks. `start()` on a running loop, `update()` whenever the set of checks changes, `stop()` at the end.

    `stagger` in [0, 1) shifts all phases (vantage index/of). Every observation goes to each of `sinks` in order.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        io: Io,
        kinds: Mapping[str, Kind],
        budgets: Budgets,
        concurrency: int,
        meter: StallMeter,
        sinks: Iterable[Sink],
        stagger: float = 0.0,
    ) -> None:
        self._clock = clock
        self._io = io
        self._kinds = kinds
        self._budgets = budgets
        self._concurrency = concurrency
        self._meter = meter
        self._sinks = tuple(sinks)
        self._stagger = stagger
        self._anchor = Anchor(clock)
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, int, Callable[[_Entry, float], None], _Entry]] = []
        self._order = itertools.count()
        self._waiting: deque[_Entry] = deque()  # for one of the `concurrency` places
        self._holding = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._look_timer: Timer | None = None
        self._running = False
        self._once = OncePerCause(log)
        self.figures = Figures()

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to run what `update` has set."""
        self._running = True
        self._look()
        self._arm()

    async def stop(self) -> None:
        """Stop; probes under way are cancelled and leave no observation."""
        self._running = False
        for timer in (self._timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._look_timer = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def update(self, checks: Iterable[Check], limits: tuple[Budgets, int] | None = None) -> None:
        """Run these checks from now on. A check that stays as it was keeps its schedule; a new one begins at once."""
        if limits is not None:
            self._budgets, self._concurrency = limits
        now = self._clock.now()
        entries: dict[str, _Entry] = {}
        for check in checks:
            old = self._entries.get(check.key)
            if old is not None and old.check == check:
                entries[check.key] = old
                continue
            kind = self._kinds[check.kind]
            entry = _Entry(check, kind, phase_seconds(check.key, check.interval_seconds, self._stagger))
            offset = self._anchor.offset_seconds
            start = first_round(now + offset, entry.phase, check.interval_seconds, check.timeout_seconds)
            entry.due = start - offset
            entries[check.key] = entry
            self._push(entry.due, self._due, entry)
        for key, entry in self._entries.items():
            if entries.get(key) is not entry:
                entry.gone = True
        self._entries = entries
        self._arm()

    # -- the schedule --------------------------------------------------------------------------------------------------

    def _push(self, at: float, step: Callable[[_Entry, float], None], entry: _Entry) -> None:
        heapq.heappush(self._heap, (at, next(self._order), step, entry))

    def _arm(self) -> None:
        if not self._running or not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        heap = self._heap
        now = self._clock.now()
        while heap and heap[0][0] <= now:
            _at, _order, step, entry = heapq.heappop(heap)
            if not entry.gone:
                step(entry, now)
        self._arm()

    def _due(self, entry: _Entry, now: float) -> None:
        """A regular round is due: put down the next one, then ask the prefix's budget for this one."""
        due = entry.due
        offset = self._anchor.offset_seconds
        interval = entry.check.interval_seconds
        following, missed = following_round(due + offset, now + offset, entry.phase, interval)
        entry.due = following - offset
        self._push(entry.due, self._due, entry)
        if missed:
            # The host slept, or we did: go on at the next point of the grid, not with all checks at once.
            self.figures.skipped["missed"] += missed
        elif entry.running:
            self.figures.skipped["previous_round_running"] += 1
        else:
            entry.running = True
            entry.round_due = due
            at = self._budgets.reserve(now, entry.budget_key, entry.packets)
            self._at(at, now, self._ask_whole, entry)

    def _ask_whole(self, entry: _Entry, now: float) -> None:
        """The prefix's budget allows it: ask that of the whole agent."""
        at = self._budgets.reserve_whole(now, entry.packets)
        self._at(at, now, self._ask_place, entry)

    def _at(self, at: float, now: float, step: Callable[[_Entry, float], None], entry: _Entry) -> None:
        if at <= now:
            step(entry, now)
        else:
            self._push(at, step, entry)

    def _ask_place(self, entry: _Entry, _now: float) -> None:
        """The packets are granted: ask for one of the places, if the probe needs descriptors."""
        if entry.kind.holds_descriptor and self._holding >= self._concurrency:
            self._waiting.append(entry)
        else:
            self._start(entry)

    def _start(self, entry: _Entry) -> None:
        if entry.kind.holds_descriptor:
            self._holding += 1
        self.figures.in_flight += 1
        task = asyncio.get_running_loop().create_task(self._regular(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _regular(self, entry: _Entry) -> None:
        """One regular round, from its start to its observation."""
        try:
            self.figures.lateness(max(0.0, self._clock.now() - entry.round_due))
            observation = await self.execute(entry.check)
            if not entry.gone:
                if observation.address is not None:
                    entry.budget_key = budget_key(observation.address)
                self._emit(observation)
        finally:
            entry.running = False
            self.figures.in_flight -= 1
            if entry.kind.holds_descriptor:
                self._holding -= 1
                self._next_waiting()

    def _next_waiting(self) -> None:
        while self._running and self._waiting and self._holding < self._concurrency:
            entry = self._waiting.popleft()
            if not entry.gone:
                self._start(entry)

    def _emit(self, observation: Observation) -> None:
        for sink in self._sinks:
            try:
                sink(observation)
            except Exception as error:  # a defect in one reader must not cost the others the observation
                self._defect("sink", error)

    def _look(self) -> None:
        stepped = self._anchor.look()
        if stepped is not None:
            self.figures.clock_steps += 1
            log.warning("the host's clock was stepped", extra={"seconds": round(stepped, 3)})
        self._look_timer = self._clock.call_at(self._clock.now() + CLOCK_LOOK_SECONDS, self._look)

    # -- one probe -----------------------------------------------------------------------------------------------------

    async def execute(self, check: Check, reason: Reason = "regular") -> Observation:
        """Probe once, now, outside schedule and budgets, and return what was seen. Cancelling leaves nothing behind."""
        kind = self._kinds[check.kind]
        attempt = Attempt(check.timeout_seconds)
        started = self._clock.now()
        utc = started + self._anchor.offset_seconds
        stalled_before = self._meter.total_seconds
        failed: ProbeFailure | None = None
        try:
            if kind.times_itself(check.options):
                await kind.probe(check.options, attempt, self._io)
            else:
                deadline = Deadline(check.timeout_seconds, self._meter)
                try:
                    async with deadline:
                        await kind.probe(check.options, attempt, self._io)
                except TimeoutError:
                    if not deadline.expired:
                        raise
                    failed = _overdue(attempt, deadline)
        except ProbeFailure as failure:
            failed = failure
        except Exception as error:  # a probe's defect never stops the agent
            self._defect(check.kind, error)
            failed = ProbeFailure(attempt.operation, Failure.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        return Observation(
            check=check,
            sent_at=started,
            utc=utc,
            success=failed is None,
            duration_seconds=time.perf_counter() - attempt.started - attempt.listened_seconds,
            phases=attempt.phases,
            facts=attempt.facts,
            operation=failed.operation if failed else None,
            failure=failed.failure if failed else None,
            detail=failed.detail if failed else "",
            address=attempt.address,
            stalled_seconds=self._meter.total_seconds - stalled_before,
            reason=reason,
        )

    def _defect(self, where: str, error: Exception) -> None:
        self.figures.exceptions[where] += 1
        self._once.error(
            f"{where}:{type(error).__name__}:{_place(error)}", "a defect of the agent", error=error, where=where
        )


def _overdue(attempt: Attempt, deadline: Deadline) -> ProbeFailure:
    """What it means that a probe did not end in time, by what it was doing."""
    if deadline.exhausted:
        return ProbeFailure(attempt.operation, Failure.LOOP_STALLED, f"stalled {deadline.stalled_seconds:.3f} s")
    if attempt.operation is Operation.PREPARE:
        return ProbeFailure(attempt.operation, Failure.LOOP_STALLED, "our own preparations took all the time")
    if attempt.operation is Operation.RESOLVE:
        return ProbeFailure(attempt.operation, Failure.RESOLVER_TIMEOUT)
    return ProbeFailure(attempt.operation, Failure.TIMEOUT)


def _place(error: Exception) -> str:
    """File and line where an exception was raised: what tells one cause from another."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback is not None else "?"
