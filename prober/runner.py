"""The only loop: starts every check's rounds when they are due, inside the budgets, and hands on what they saw.

Regular rounds of one check never overlap: a round that comes while the last one is still under way is skipped and
counted. A probe that raises is our own defect: isolated, counted, and logged once per cause.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from enum import IntEnum
from functools import partial
from heapq import heappop, heappush
from math import ceil, inf
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from prober.clock import Anchor, Clock, Timer
from prober.contract import Attempt, Direct, Io, Kind, ProbeFailure
from prober.deadline import Deadline, StallMeter
from prober.failures import Failure
from prober.logs import OncePerCause
from prober.model import Check, Observation
from prober.schedule import Budgets, budget_key, first_round, following_round, next_round, phase_seconds

log = logging.getLogger(__name__)

CLOCK_LOOK_SECONDS: Final = 1.0
SLOTS_LEAST: Final = 20
"""Slots in the interval of a check whose rounds begin with them; of shorter ones a slot would be too great a part."""
SLOT_PARTS: Final = 4
"""What does not lie on the schedule, such as confirmations, may begin at the quarters of a slot."""
EARLY_SECONDS: Final = 1e-5
"""By so much a timer may go off early, for the clocks are of different grain: to go to sleep again is not worth it."""

ADMITTED_AT_ONCE: Final = 64
"""Probes that waited for a place and are begun in one turn of the loop: thousands may fail at once."""

Sink: TypeAlias = Callable[[Observation], None]
Reason: TypeAlias = Literal["regular", "confirmation", "reference", "once"]


class Listener(Protocol):
    """Who follows every probe of the schedule from its start to its result: the judge's ears."""

    def sent(self, check: Check, at: float, reason: Reason) -> None:
        """A probe begins. It is followed by `observe` with the same `sent_at`, or by `withdrawn`."""

    def observe(self, observation: Observation) -> None:
        """What it saw."""

    def withdrawn(self, check: Check, at: float) -> None:
        """It will have no result."""

    def looked_at_clock(self, at: float, offset_seconds: float, stepped_seconds: float | None) -> None:
        """Unix time less the runner's clock, once a second; and by how much the host's clock was stepped, if it was."""


class _Entry:
    """A check on the schedule, a target's or a reference's."""

    __slots__ = (
        "address",
        "begin",
        "budget_key",
        "check",
        "due",
        "gone",
        "kind",
        "packets",
        "phase",
        "reason",
        "running",
        "slot_seconds",
        "successor",
        "task",
        "unlocated",
    )

    def __init__(self, check: Check, kind: Kind, phase: float, reason: Reason, slot_seconds: float) -> None:
        self.check = check
        self.reason: Reason = reason  # of its rounds
        self.kind = kind
        self.phase = phase
        self.begin: Direct | None = None  # its probe, where that needs no task; made when it is first probed
        self.task = kind.direct is None
        self.packets = kind.packets(check.options)
        self.budget_key = ""  # before the first probe
        self.address: str | None = None  # that was probed last, and charged for
        self.unlocated: str | None = None
        self.successor: _Entry | None = None  # waits until our round is over
        self.slot_seconds = slot_seconds if check.interval_seconds >= SLOTS_LEAST * slot_seconds else 0.0
        self.due = 0.0  # of the next round
        self.running = False  # a round of the schedule
        self.gone = False

    def charge_to_host(self) -> None:
        """Find out whom the packets are charged to, as far as the options tell. Not ahead of the first probe: to do it
        for thousands at once would put off all of them.
        """
        host = self.kind.host(self.check.options)
        self.budget_key = budget_key(host)
        # A name's packets are charged to the prefix of its address, which is looked up before the first of them.
        self.unlocated = host if "/" not in self.budget_key else None


class _Stage(IntEnum):
    """What a probe waits for."""

    DUE = 0
    PREFIX = 1
    WHOLE = 2
    PLACE = 3


class _Round:
    """A probe that is to be made."""

    __slots__ = ("due", "entry", "give_up", "reason", "scheduled", "stalled_before", "started", "wanted")

    def __init__(self, entry: _Entry, due: float, reason: Reason, wanted: Callable[[float], bool] | None) -> None:
        self.entry = entry
        self.due = due
        self.reason = reason
        self.wanted = wanted  # asked before each step of one that was asked for: is it still of use?
        self.scheduled = wanted is None  # or displaces one that is
        # of a probe without a task, when it is under way
        self.started = 0.0
        self.stalled_before = 0.0
        self.give_up: Callable[[], None] | None = None


class Difference(NamedTuple):
    """What makes one set of checks of another: those that are new or other than before, and keys of what is no more."""

    put: list[Check]
    gone: list[str]


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

    `stagger` in [0, 1) shifts all phases (vantage index/of). The listener, then each of `sinks` gets every observation.
    `slot_seconds`: rounds begin at its multiples, those of one slot together, for to wake up costs as much as several
    probes. `after_slot` is told after each batch of starts how many seconds it will be until the next.
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
        listener: Listener | None = None,
        look_seconds: float = CLOCK_LOOK_SECONDS,
        slot_seconds: float = 0.0,
        after_slot: Callable[[float], None] | None = None,
    ) -> None:
        self._clock = clock
        self._io = replace(io, meter=meter)
        self._kinds = kinds
        self._budgets = budgets
        self.concurrency = concurrency  # places for probes that hold a descriptor
        self._meter = meter
        self._hearers = ((listener.observe,) if listener is not None else ()) + tuple(sinks)
        self._stagger = stagger
        self._listener = listener
        self._look_seconds = look_seconds
        self._slot_seconds = slot_seconds
        self._after_slot = after_slot
        self._anchor = Anchor(clock)
        self._entries: dict[str, _Entry] = {}
        self._references: dict[str, _Entry] = {}
        self._heap: list[tuple[float, int, _Stage, list[_Entry] | _Round]] = []
        self._slots: dict[float, list[_Entry]] = {}  # those on the heap, by when they are due
        self._order = itertools.count()
        self._waiting: deque[_Round] = deque()  # for one of the `concurrency` places
        self._holding = 0
        self._admitting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._taskless: set[_Round] = set()  # under way
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._look_timer: Timer | None = None
        self._running = False
        self._once = OncePerCause(log)
        self.figures = Figures()
        self.beginning = False
        """Probes are begun at this moment: for threads, which look at it to keep out of the way."""

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
        for round_ in list(self._taskless):
            self._taskless.discard(round_)
            try:
                if round_.give_up is not None:
                    round_.give_up()
            except Exception as error:  # the others are to be given up all the same
                self.defect(round_.entry.check.kind, error)
            self._end(round_, round_.started, None)
        await asyncio.sleep(0)  # what has become a task meanwhile ends in this turn

    def update(self, checks: Iterable[Check], references: Iterable[Check] = ()) -> None:
        """Run these checks from now on. A check that stays as it was keeps its schedule; a new one begins at once.

        `references` have rounds of their own too, but are no targets: their observations have the reason `reference`.
        """
        self.change(*self.prepared(checks, references))

    def prepared(self, checks: Iterable[Check], references: Iterable[Check]) -> tuple[Difference, Difference]:
        """What `change` is to be given. With thousands of checks it takes long, and may be made in a thread."""
        return _difference(self._entries, checks), _difference(self._references, references)

    def change(self, checks: Difference, references: Difference) -> None:
        """`update`, as it was prepared."""
        self._schedule(self._entries, checks, "regular")
        self._schedule(self._references, references, "reference")
        self._arm()

    def _schedule(self, entries: dict[str, _Entry], difference: Difference, reason: Reason) -> None:
        now, offset = self._clock.now(), self._anchor.offset_seconds
        for check in difference.put:
            old = entries.get(check.key)
            phase = phase_seconds(check.key, check.interval_seconds, self._stagger)
            entry = _Entry(check, self._kinds[check.kind], phase, reason, self._slot_seconds)
            if old is None:
                start = first_round(now + offset, phase, check.interval_seconds, check.timeout_seconds)
            else:  # changed: it keeps to the grid, so that reloads bring no rounds, and lets the old round end first
                start = next_round(now + offset, phase, check.interval_seconds)
                if old.running:
                    entry.running, old.successor = True, entry
                old.gone = True
            entries[check.key] = entry
            self._put_down(entry, start - offset)
        for key in difference.gone:
            entries.pop(key).gone = True

    def request(
        self, check: Check, at: float, reason: Reason, wanted: Callable[[float], bool], *, displace: bool = False
    ) -> None:
        """Probe `check` at `at`, unless `wanted` says by then that it is of no use any more.

        A reference goes ahead of all budgets, since a failure counts only with a reference beside it; it is charged all
        the same. `displace`: in the place of the check's next regular round.
        """
        entry = (self._references if reason == "reference" else self._entries).get(check.key)
        if entry is not None:
            round_ = _Round(entry, at, reason, wanted)
            round_.due = self._push(at, _Stage.DUE if displace else _Stage.PREFIX, round_)
            self._arm()

    # -- the schedule --------------------------------------------------------------------------------------------------

    def _push(self, at: float, stage: _Stage, round_: _Round) -> float:
        """Put a round on the heap. Returns when it goes on: at the quarter of a slot that follows `at`."""
        begins = _slot(at, self._slot_seconds / SLOT_PARTS)
        heappush(self._heap, (begins, next(self._order), stage, round_))
        return begins

    def _put_down(self, entry: _Entry, at: float) -> None:
        """The entry's next regular round begins with the slot that follows `at`; one put down before counts no more."""
        entry.due = due = _slot(at, entry.slot_seconds)
        slot = self._slots.get(due)
        if slot is None:
            slot = self._slots[due] = []
            heappush(self._heap, (due, next(self._order), _Stage.DUE, slot))
        slot.append(entry)

    def _arm(self) -> None:
        if not self._running or not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        heap = self._heap
        now = self._clock.now()
        until = now + EARLY_SECONDS if self._slot_seconds else now
        self.beginning = True
        try:
            while heap and heap[0][0] <= until:
                at, _order, stage, item = heappop(heap)
                if isinstance(item, _Round):
                    self._step(item, stage, now)
                    continue
                del self._slots[at]
                self._begin_slot(item, at, now)
        finally:
            self.beginning = False
            self._arm()
        if self._after_slot is not None:
            self._after_slot(self._timer_at - now if self._timer is not None else inf)

    def _begin_slot(self, slot: list[_Entry], at: float, now: float) -> None:
        # Echo requests first: the kernel times them, and what our own clock times is looked at the sooner then.
        for entry in sorted(slot, key=_holds_descriptor):
            if entry.due != at or entry.gone:
                continue
            try:
                self._due(entry, now)
            except Exception as error:  # a defect of ours costs the check this round, and the others nothing
                self._over(entry)
                self.defect("schedule", error)

    def _due(self, entry: _Entry, now: float) -> None:
        """A regular round is due: put down the next one, then see to this one."""
        due = entry.due
        offset = self._anchor.offset_seconds
        following, missed = following_round(due + offset, now + offset, entry.phase, entry.check.interval_seconds)
        self._put_down(entry, following - offset)
        if missed:
            # The host slept, or we did: go on at the next point of the grid, not with all checks at once.
            self.figures.skipped["missed"] += missed
        elif entry.running:
            self.figures.skipped["previous_round_running"] += 1
        else:
            entry.running = True
            self._step(_Round(entry, due, entry.reason, None), _Stage.PREFIX, now)

    def _displace(self, round_: _Round, now: float) -> None:
        """A regular round that was asked for takes the place of the next one on the grid."""
        entry = round_.entry
        if entry.running or (round_.wanted is not None and not round_.wanted(now)):
            return
        entry.running = True
        offset = self._anchor.offset_seconds
        interval = entry.check.interval_seconds
        self._put_down(entry, next_round(max(now, entry.due) + offset, entry.phase, interval) - offset)
        round_.wanted = None
        round_.scheduled = True
        self._step(round_, _Stage.PREFIX, now)

    def _step(self, round_: _Round, stage: _Stage, now: float) -> None:
        """Go as far as the budgets let this probe go now: its prefix first, then the whole, then a place."""
        entry = round_.entry
        if stage is _Stage.DUE:
            self._displace(round_, now)
            return
        if entry.gone or (round_.wanted is not None and not round_.wanted(now)):
            if round_.scheduled:
                self._over(entry)
            return
        if not entry.budget_key:
            entry.charge_to_host()
        if round_.reason == "reference" and not round_.scheduled:
            self._budgets.charge(now, entry.budget_key, entry.packets)
            self._start(round_)
            return
        if entry.unlocated is not None:
            host, entry.unlocated = entry.unlocated, None
            self._find_prefix(round_, host)
            return
        if stage is _Stage.PREFIX:
            if self._budgets.at_once(now, entry.budget_key, entry.packets):
                stage = _Stage.PLACE
            elif (at := self._budgets.reserve(now, entry.budget_key, entry.packets)) > now:
                self._push(at, _Stage.WHOLE, round_)
                return
        if stage is not _Stage.PLACE:
            at = self._budgets.reserve_whole(now, entry.packets)
            if at > now:
                self._push(at, _Stage.PLACE, round_)
                return
        if entry.kind.holds_descriptor and self._holding >= self.concurrency:
            self._waiting.append(round_)
        else:
            self._start(round_)

    def _start(self, round_: _Round) -> None:
        if round_.entry.kind.holds_descriptor:
            self._holding += 1
        self.figures.in_flight += 1
        self._launch(round_)

    def _launch(self, round_: _Round) -> None:
        entry = round_.entry
        if entry.begin is None and not entry.task:
            entry.begin = self._direct(entry)
            entry.task = entry.begin is None
        if entry.begin is None:
            self._hold(self._make(round_))
        else:
            self._make_directly(round_, entry.begin)

    def _direct(self, entry: _Entry) -> Direct | None:
        try:
            return None if entry.kind.direct is None else entry.kind.direct(entry.check.options, self._io)
        except Exception as error:  # then with a task, where the defect will show in the observation
            self.defect(entry.check.kind, error)
            return None

    def _hold(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _find_prefix(self, round_: _Round, host: str) -> None:
        self._hold(self._locate(round_, host))

    async def _locate(self, round_: _Round, host: str) -> None:
        """Find out which prefix the first probe of a name is to be charged to, then go on.

        Where that fails, the probe will say why, and is charged to the name.
        """
        entry = round_.entry
        try:
            async with asyncio.timeout(entry.check.timeout_seconds):
                entry.budget_key = budget_key(await self._io.resolver.resolve(host, "any"))
                entry.address = None
        except (ProbeFailure, TimeoutError):
            self._located(round_, again=host)
        except Exception as error:  # a defect in resolving must not cost the check its rounds
            self.defect("locate", error)
            self._located(round_, again=host)
        else:
            self._located(round_, again=None)

    def _located(self, round_: _Round, again: str | None) -> None:
        self._step(round_, _Stage.PREFIX, self._clock.now())
        round_.entry.unlocated = again
        self._arm()

    async def _make(self, round_: _Round) -> None:
        """One probe, from its start to its observation."""
        started = self._clock.now()
        observation: Observation | None = None
        try:
            self._begin(round_, started)
            observation = await self.execute(round_.entry.check, round_.reason, started)
        finally:
            self._end(round_, started, observation)

    def _make_directly(self, round_: _Round, begin: Direct) -> None:
        """The same without a task: two calls."""
        entry = round_.entry
        round_.started = started = self._clock.now()
        self._begin(round_, started)
        attempt = Attempt(entry.check.timeout_seconds)
        self._taskless.add(round_)
        if entry.kind.holds_descriptor:  # echo requests are timed by the kernel
            round_.stalled_before = self._meter.total_seconds
        try:
            give_up = begin(attempt, partial(self._landed, round_, attempt))
        except Exception as error:
            self._landed(round_, attempt, error)
        else:
            if round_ in self._taskless:
                round_.give_up = give_up

    def _landed(self, round_: _Round, attempt: Attempt, error: Exception | None) -> None:
        if round_ in self._taskless:
            self._taskless.discard(round_)
            round_.give_up = None  # it knows of us, and we of it: nothing is to be left to the garbage collector
            entry, started = round_.entry, round_.started
            if error is None or isinstance(error, ProbeFailure):
                failed = error
            else:  # a probe's defect never stops the agent
                failed = self._internal_error(entry.check, attempt, error)
            stalled = self._meter.total_seconds - round_.stalled_before if entry.kind.holds_descriptor else 0.0
            self._end(round_, started, self._seen(entry.check, round_.reason, started, attempt, failed, stalled))
            if failed is not None:  # frames and the failure know of each other, too
                failed.__traceback__ = failed.__context__ = failed.__cause__ = None

    def _begin(self, round_: _Round, started: float) -> None:
        """Tell that a probe begins."""
        if round_.scheduled:
            late = started - round_.due
            self.figures.lateness(late if late > 0.0 else 0.0)
        if self._listener is not None:
            try:
                self._listener.sent(round_.entry.check, started, round_.reason)
            except Exception as error:  # as in `_emit`
                self.defect("sink", error)

    def _end(self, round_: _Round, started: float, observation: Observation | None) -> None:
        """Give its place to the next one, and tell what it saw (None: it was cancelled)."""
        entry = round_.entry
        if round_.scheduled:
            self._over(entry)
        self.figures.in_flight -= 1
        if entry.kind.holds_descriptor:
            self._holding -= 1
        if observation is None or entry.gone:
            if self._listener is not None:
                self._tell(self._listener.withdrawn, entry.check, started)
        else:
            address = observation.address
            if address is not None and address != entry.address:
                entry.address, entry.budget_key = address, budget_key(address)
            self._emit(observation)
        if self._waiting:
            self._next_waiting()

    def _over(self, entry: _Entry) -> None:
        """A round of the schedule is over: its check, or what took the check's place meanwhile, may have the next."""
        entry.running = False
        while entry.gone and entry.successor is not None:
            entry = entry.successor
            entry.running = False

    def _next_waiting(self) -> None:
        if self._admitting:
            return  # a probe that failed at once has made room: the loop below us will see it
        self._admitting = True
        left = ADMITTED_AT_ONCE
        try:
            while self._running and self._waiting and self._holding < self.concurrency:
                if not left:
                    asyncio.get_running_loop().call_soon(self._next_waiting)
                    break
                left -= 1
                round_ = self._waiting.popleft()
                if round_.entry.gone or (round_.wanted is not None and not round_.wanted(self._clock.now())):
                    if round_.scheduled:
                        self._over(round_.entry)
                    continue
                self._start(round_)
        finally:
            self._admitting = False

    def _emit(self, observation: Observation) -> None:
        for hears in self._hearers:
            try:
                hears(observation)
            except Exception as error:  # a defect in one listener must cost neither the probe nor the other listeners
                self.defect("sink", error)

    def _tell(self, hears: Callable[..., None], *arguments: object) -> None:
        try:
            hears(*arguments)
        except Exception as error:  # as in `_emit`
            self.defect("sink", error)

    def _look(self) -> None:
        stepped = self._anchor.look()
        if stepped is not None:
            self.figures.clock_steps += 1
            log.warning("the host's clock was stepped", extra={"seconds": round(stepped, 3)})
        if self._listener is not None:
            self._tell(self._listener.looked_at_clock, self._clock.now(), self._anchor.offset_seconds, stepped)
        self._look_timer = self._clock.call_at(self._clock.now() + self._look_seconds, self._look)

    # -- one probe -----------------------------------------------------------------------------------------------------

    async def execute(self, check: Check, reason: Reason = "once", started: float | None = None) -> Observation:
        """Probe once, now, outside schedule and budgets, and return what was seen. Cancelling leaves nothing behind."""
        kind = self._kinds[check.kind]
        attempt = Attempt(check.timeout_seconds)
        started = self._clock.now() if started is None else started
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
                    failed = attempt.overdue(deadline)
        except ProbeFailure as failure:
            failed = failure
        except Exception as error:  # a probe's defect never stops the agent
            failed = self._internal_error(check, attempt, error)
        if failed is not None:
            failed.__traceback__ = None  # as in `_landed`
        return self._seen(check, reason, started, attempt, failed, self._meter.total_seconds - stalled_before)

    def _internal_error(self, check: Check, attempt: Attempt, error: Exception) -> ProbeFailure:
        self.defect(check.kind, error)
        return ProbeFailure(attempt.operation, Failure.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _seen(
        self,
        check: Check,
        reason: Reason,
        started: float,
        attempt: Attempt,
        failed: ProbeFailure | None,
        stalled_seconds: float,
    ) -> Observation:
        seconds = attempt.measured_seconds
        if seconds is None:
            seconds = time.perf_counter() - attempt.started - attempt.listened_seconds
        return Observation(
            check,
            started,
            started + self._anchor.offset_seconds,
            failed is None,
            seconds,
            attempt.phases,
            attempt.facts,
            None if failed is None else failed.operation,
            None if failed is None else failed.failure,
            "" if failed is None else failed.detail,
            attempt.address,
            stalled_seconds,
            reason,
        )

    def defect(self, where: str, error: Exception) -> None:
        """Count a defect of the agent that was caught at `where`, and log it once per cause."""
        self.figures.exceptions[where] += 1
        self._once.error(
            f"{where}:{type(error).__name__}:{_place(error)}", "a defect of the agent", error=error, where=where
        )


def _difference(entries: Mapping[str, _Entry], checks: Iterable[Check]) -> Difference:
    wanted = {check.key: check for check in checks}
    put = []
    for key, check in wanted.items():
        old = entries.get(key)
        if old is None or (old.check is not check and old.check != check):
            put.append(check)
    return Difference(put, [key for key in entries if key not in wanted])


def _slot(at: float, slot_seconds: float) -> float:
    """The first multiple of `slot_seconds` that is not before `at`; `at` itself without slots."""
    return ceil(at / slot_seconds - 1e-6) * slot_seconds if slot_seconds else at


def _holds_descriptor(entry: _Entry) -> bool:
    return entry.kind.holds_descriptor


def _place(error: Exception) -> str:
    """File and line where an exception was raised: what tells one cause from another."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback is not None else "?"
