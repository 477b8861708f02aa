"""The judge at work: hears of every probe, decides, has the decisions written down, shown and carried out.

Order is everything: an event is on the disk before anything shows it. Only while the disk cannot be written do verdicts
go on without it, since a full disk must not make the agent blind; `prober_ledger_writable` says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from math import inf
from typing import Any, Final, Protocol, cast

from prober.clock import Clock, Timer
from prober.contract import Kind
from prober.judge.judge import Judge
from prober.judge.records import (
    Event,
    Gap,
    GapCause,
    GapClosed,
    GapOpened,
    Outage,
    OutageClosed,
    OutageOpened,
    ProbeMember,
    ProbeReference,
    Request,
    Scope,
    Settings,
    StateChanged,
)
from prober.judge.watch import Change, Sliced
from prober.ledger import Encoded, Ledger
from prober.model import Check, Entity, Observation, Reference

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 5.0
BEAT_SLICE: Final = 100
BEAT_OUTAGES: Final = 2_500
"""A heartbeat tells how far up to so many open outages are certain, a slice in each turn of the loop; of more, the next
ones follow with the next heartbeat."""
SNAPSHOT_SECONDS: Final = 10.0
SNAPSHOT_VERSION: Final = 4
"""To be raised when the shape of a snapshot changes: one of another shape is no use."""
SNAPSHOT_CHECKS: Final = 2_000
"""Up to so many checks a snapshot is made that often; of more, the less often, down to a sixth."""
SNAPSHOT_SLICE: Final = 50
SLICE_SECONDS: Final = 0.01
TROUBLED_MANY: Final = 300
PRUNE_SECONDS: Final = 3600.0
AFTER_DEFECT_SECONDS: Final = 1.0
START_WRITE_SECONDS: Final = 5.0
STANDSTILL_SECONDS: Final = 10.0
"""An agent that was not there for so long (suspended, stopped, starved) was not watching: a gap, cause overload."""
HISTORY_CHECKS: Final = 1_000
"""Up to so many checks a snapshot holds the history of loss and round trips, for the onset; else it is learned anew."""
FLAP_MEMORY_SECONDS: Final = 86_400.0


class Hands(Protocol):
    """Who carries out what the judge asks for."""

    def request(
        self, check: Check, at: float, reason: Any, wanted: Callable[[float], bool], *, displace: bool = False
    ) -> None: ...


class Judging:
    """A judge, its ledger and its hands. A `Listener` of the runner."""

    def __init__(
        self,
        *,
        vantage: str,
        settings: Settings,
        kinds: dict[str, Kind],
        entities: Iterable[Entity],
        references: Iterable[Reference],
        clock: Clock,
        ledger: Ledger,
        retention_seconds: float | None = None,
    ) -> None:
        self._clock = clock
        self._kinds = kinds
        self.ledger = ledger
        self._retention_seconds = retention_seconds
        references = tuple(references)
        self.judge = Judge(
            entities,
            references,
            settings,
            vantage=vantage,
            utc_offset=clock.utc() - clock.now(),
            named=named_references(references, kinds),
        )
        self._hands: Hands | None = None
        self._early: tuple[Request, ...] = ()  # asked for while restoring, before there were hands
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._beats: dict[str, Timer] = {}
        self._running = False
        self._sliced: Sliced | None = None  # the snapshot that is being made
        self._untold: list[tuple[str, str]] = []  # open outages that a heartbeat has not told of yet
        self._looked_at = clock.now()
        self.on_defect: Callable[[str, Exception], None] = _raise
        """What to do with a defect that was caught; the app counts and logs it."""
        self.shown: dict[tuple[Scope, str], StateChanged] = {}
        """What is known of every scope, as far as it may be shown."""
        self.version = 0
        """Another one whenever something that is shown has changed."""

    # -- life ----------------------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Go on from what the ledger holds. Once, before `start`."""
        now, judge, ledger = self._clock.now(), self.judge, self.ledger
        restored, absence = ledger.restore(), ledger.absence
        step = absence.step_seconds if absence is not None and absence.exact else 0.0
        judge.utc_offset -= step  # the records are on the clock of then; stepping it below moves them
        closed = []
        if restored.snapshot_at is not None:
            recent = await ledger.outages(since=restored.snapshot_at - FLAP_MEMORY_SECONDS)
            closed = [outage for outage in recent if not outage.ongoing]
        snapshot = restored.snapshot
        if snapshot is not None and snapshot.get("version") != SNAPSHOT_VERSION:
            log.warning("the snapshot is of another version of the agent; what was learned is learned anew")
            snapshot = None
        try:
            judge.restore(snapshot, now, ongoing=restored.open_outages, closed=closed)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            if snapshot is None:
                raise
            # It costs what was learned, and never the start: the records are in the ledger.
            why = f"{type(error).__name__}: {error}"
            log.warning("the snapshot cannot be read; what was learned is learned anew", extra={"error": why})
            judge = self.judge = judge.anew()
            judge.restore(None, now, ongoing=restored.open_outages, closed=closed)
        events: list[Event] = self._settle_gaps(restored.open_gaps, absence.begin - step if absence else None)
        if abs(step) > 0.5:
            judge.clock_step(now, step)
        else:
            judge.utc_offset += step
        if absence is not None:
            judge.gap(now - absence.seconds, now, GapCause.STOPPED)
        decisions = judge.decide(now)
        self._early = decisions.requests
        events += decisions.events
        if ledger.writable:
            # A disk that turns out to be full must not keep the agent from starting: the events wait, and are told of.
            with suppress(TimeoutError):
                async with asyncio.timeout(START_WRITE_SECONDS):
                    await ledger.append(events)
        else:
            ledger.record(events)
        states = judge.states()
        self.version += 1
        self.shown = {(state.scope, state.name): state for state in states}
        ledger.track(states, now)
        if restored.last_heartbeat is not None:
            log.info(
                "restored from the ledger",
                extra={
                    "open_outages": len(judge.ongoing()),
                    "absent_seconds": round(absence.seconds, 3) if absence else None,
                    "learned": snapshot is not None,
                },
            )

    def _settle_gaps(self, open_gaps: Iterable[Gap], end: float | None) -> list[Event]:
        """Snapshot and ledger may differ by what happened between them; of gaps, the ledger is right."""
        known = {gap.id: gap for gap in open_gaps}
        for observer in self.judge.watch.observers.values():
            if observer.gap is not None and observer.gap.id not in known:
                observer.gap = None
            elif observer.gap is not None:
                del known[observer.gap.id]
        return [GapClosed(replace(gap, end=max(gap.begin, end or gap.begin))) for gap in known.values()]

    def start(self, hands: Hands, *, rhythm: bool = True) -> None:
        """Begin to decide; `hands` carries out. Without `rhythm` heartbeats and snapshots are the caller's matter."""
        self._hands = hands
        self._running = True
        self._looked_at = self._clock.now()
        for request in self._early:
            self._carry_out(request)
        if rhythm:
            self._beat()
            self._snapshot()
            if self._retention_seconds is not None:
                self._prune()
        self._stir()

    def halt(self) -> None:
        """Stop deciding, at once and without a word to the ledger: what a killed agent does."""
        self._running = False
        self._sliced = None
        for timer in (self._timer, *self._beats.values()):
            if timer is not None:
                timer.cancel()

    async def stop(self) -> None:
        """Stop deciding and leave everything in the ledger as it is now."""
        self.halt()
        self.write_snapshot()
        self.write_heartbeat()

    def prepared(self, entities: Iterable[Entity], references: Iterable[Reference]) -> Change:
        """What `reconfigure` is to be given. May be called in a thread."""
        references = tuple(references)
        return self.judge.prepared(entities, references, named_references(references, self._kinds))

    def reconfigure(
        self, entities: Iterable[Entity], references: Iterable[Reference], prepared: Change | None = None
    ) -> None:
        """Take new targets; what an open outage becomes is said in `Judge.reconfigure`."""
        now = self._clock.now()
        references = tuple(references)
        self._decide()  # what has come of those that may be gone
        while self.judge.unfinished:
            self._decide()
        self.judge.reconfigure(entities, references, now, prepared or self.prepared(entities, references))
        self._decide()
        self._stir()
        gone = self.judge.watch.gone
        fresh = self.judge.states(fresh=True)
        self.ledger.retrack(fresh, gone, now)
        for scope, name in gone:
            self.shown.pop((cast(Scope, scope), name), None)
        self._show(fresh)
        if self._sliced is not None:
            self._sliced = None  # what was said is of another configuration
            self._snapshot()

    # -- a listener of the runner --------------------------------------------------------------------------------------

    def sent(self, check: Check, at: float, reason: str) -> None:
        self.judge.sent(check, at, reason)
        if self.judge.wake_at < inf:
            self._stir()

    def observe(self, observation: Observation) -> None:
        if not self.judge.took_calmly(observation):
            self.judge.observe(observation, self._clock.now())
            self._stir()

    def withdrawn(self, check: Check, at: float) -> None:
        self.judge.withdrawn(check, at)
        self._stir()

    def looked_at_clock(self, at: float, offset_seconds: float, stepped_seconds: float | None) -> None:
        since, self._looked_at = self._looked_at, at
        if at - since > STANDSTILL_SECONDS:
            self.judge.gap(since, at, GapCause.OVERLOAD)
        if stepped_seconds is not None:
            self.judge.clock_step(at, stepped_seconds)
        else:
            self.judge.utc_offset = offset_seconds
        self._stir()

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        """Have `decide` called when the judge wants to be woken: after all that arrives in this turn of the loop."""
        wake_at = self.judge.wake_at
        if not self._running or wake_at == inf:
            return
        if self._timer is not None:
            if self._timer_at <= wake_at:
                return
            self._timer.cancel()
        self._arm(wake_at)

    def _arm(self, at: float) -> None:
        # `at` may have passed. Then the timer stays as it is, whatever arrives before it fires: it must not be put off.
        self._timer_at = at
        self._timer = self._clock.call_at(max(at, self._clock.now()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        try:
            self._decide()
        except Exception as error:  # a defect of the judge must not end the judging: it is asked again
            self.on_defect("judge", error)
            self._arm(self._clock.now() + AFTER_DEFECT_SECONDS)
        else:
            self._stir()

    def _decide(self) -> None:
        decisions = self.judge.decide(self._clock.now())
        for request in decisions.requests:
            self._carry_out(request)
        if decisions.events:
            self._record(decisions.events)

    def _carry_out(self, request: Request) -> None:
        if self._hands is None:
            return
        wanted = partial(self.judge.wants, request)
        if isinstance(request, ProbeReference):
            self._hands.request(request.check, request.at, "reference", wanted)
        elif isinstance(request, ProbeMember):
            self._hands.request(request.check, request.at, "regular", wanted, displace=True)
        else:
            self._hands.request(request.check, request.at, "confirmation", wanted)

    def _record(self, events: tuple[Event, ...]) -> None:
        for event in events:
            _log_event(event)
        if self.ledger.writable:
            self.ledger.record(events, partial(self._show, events))
        else:
            self.ledger.record(events)
            self._show(events)

    def _show(self, events: Iterable[Event]) -> None:
        self.version += 1
        for event in events:
            if isinstance(event, StateChanged):
                self.shown[event.scope, event.name] = event

    # -- the ledger's rhythm -------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        self._again(HEARTBEAT_SECONDS, self._beat)
        if (told := self._beats.get(self._tell.__name__)) is not None:
            told.cancel()  # a loop that stood still may not be through with the last heartbeat
        if not self._untold:
            self._untold = self.judge.places_down()[::-1]
        self._tell(BEAT_OUTAGES)

    def _tell(self, left: int) -> None:
        places = self._untold[: -BEAT_SLICE - 1 : -1]
        del self._untold[-BEAT_SLICE:]
        self.ledger.heartbeat(self._clock.now(), self._clock.utc(), self.judge.ongoing(places))
        if self._untold and left > BEAT_SLICE:
            self._again(SLICE_SECONDS, self._tell, left - BEAT_SLICE)

    def _snapshot(self) -> None:
        """Make a snapshot, a slice in each turn of the loop: thousands of checks would hold it for too long."""
        # (A loop that is late may not be through with the last one, which is as good.)
        # With many checks in trouble at once a snapshot costs much, and the ledger's records say most of it; with very
        # many checks a snapshot would cost as much as their probes.
        calm = len(self.judge.troubled) <= TROUBLED_MANY
        share = len(self.judge.watch.detectors) / SNAPSHOT_CHECKS
        self._again(SNAPSHOT_SECONDS * (min(6.0, max(1.0, share)) if calm else 6.0), self._snapshot)
        if self._sliced is not None:
            return
        # Encoded here and not by the ledger's thread: whoever computes in a thread gets the interpreter at each of the
        # loop's system calls, and keeps it for a while then.
        self._sliced = self.judge.slices(SNAPSHOT_SLICE, history=self._with_history, encode=Encoded.of)
        self._slice(self._sliced)

    def _slice(self, sliced: Sliced) -> None:
        if sliced is not self._sliced:
            return  # begun anew since
        if sliced.step():
            self._again(SLICE_SECONDS, self._slice, sliced)
        else:
            self._sliced = None
            self.write_snapshot(sliced)

    def _prune(self) -> None:
        if self._retention_seconds is not None:
            self.ledger.prune_soon(self._clock.utc() - self._retention_seconds)
        self._again(PRUNE_SECONDS, self._prune)

    def _again(self, seconds: float, callback: Callable[..., None], *arguments: object) -> None:
        if (before := self._beats.get(callback.__name__)) is not None:
            before.cancel()
        call = partial(callback, *arguments)
        self._beats[callback.__name__] = self._clock.call_at(self._clock.now() + seconds, call)

    def write_heartbeat(self) -> None:
        """A sign of life, with how far the open outages are certain by now."""
        self.ledger.heartbeat(self._clock.now(), self._clock.utc(), self.judge.ongoing())

    def write_snapshot(self, sliced: Sliced | None = None) -> None:
        """All that the judge knows, for the next start."""
        state = self.judge.snapshot(history=self._with_history, sliced=sliced)
        self.ledger.snapshot(state | {"version": SNAPSHOT_VERSION, "vantage": self.judge.vantage}, self._clock.utc())

    @property
    def _with_history(self) -> bool:
        return len(self.judge.watch.detectors) <= HISTORY_CHECKS

    # -- views ---------------------------------------------------------------------------------------------------------

    @property
    def reference_count(self) -> int:
        """References that can vouch for this vantage; 0: nothing does."""
        return len(self.judge.watch.references)

    def utc(self) -> float:
        """Unix time on the clock that the records are on."""
        return self._clock.now() + self.judge.utc_offset

    def ongoing(self) -> list[Outage]:
        """The open outages that may be shown: those on the disk; while that fails, those that we know of."""
        return self.ledger.ongoing() if self.ledger.writable else self.judge.ongoing()

    def ongoing_at(self, places: Sequence[tuple[Scope, str]]) -> Iterable[Outage | None]:
        """The same of each of these scopes; None: it has none."""
        if self.ledger.writable:
            return self.ledger.ongoing_at(places)
        known = {(outage.scope, outage.name): outage for outage in self.judge.ongoing(places)}
        return map(known.get, places)


def _raise(_where: str, error: Exception) -> None:
    raise error


def named_references(references: Iterable[Reference], kinds: dict[str, Kind]) -> frozenset[str]:
    """Keys of the references' checks that ask the vantage's resolver for a name: they vouch for the resolver."""
    named = set()
    for reference in references:
        for check in reference.checks:
            try:
                ip_address(kinds[check.kind].host(check.options).partition("%")[0])
            except ValueError:
                named.add(check.key)
    return frozenset(named)


def _log_event(event: Event) -> None:
    """Tell the log what happened; states of single scopes are for the metrics."""
    if isinstance(event, OutageOpened):
        outage = event.outage
        log.warning("outage", extra=_of(outage) | {"failures": " ".join(outage.failures), "onset": outage.onset})
    elif isinstance(event, OutageClosed):
        outage = event.outage
        log.info(
            "outage over" if outage.ended_by is not None else "outage no longer watched",
            extra=_of(outage)
            | {
                "class": outage.outage_class,
                "seconds": None if outage.duration_seconds is None else round(outage.duration_seconds, 1),
                "at_least": round(outage.duration_min_seconds, 1),
                "at_most": None if outage.duration_max_seconds is None else round(outage.duration_max_seconds, 1),
            },
        )
    elif isinstance(event, GapOpened):
        silent = " ".join(event.gap.references)
        log.warning("this vantage cannot see", extra={"cause": event.gap.cause, "silent": silent})
    elif isinstance(event, GapClosed) and event.gap.end is not None:
        seconds = round(event.gap.end - event.gap.begin, 1)
        log.info("gap in what this vantage saw", extra={"cause": event.gap.cause, "seconds": seconds})


def _of(outage: Outage) -> dict[str, Any]:
    return {"scope": outage.scope, "scope_name": outage.name, "entity": outage.entity}
