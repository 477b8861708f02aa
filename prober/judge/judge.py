"""The judge: fed with what was sent and what came back, it says what that means and what to probe next.

Feed everything that has arrived, then call `decide` once `wake_at` is due: observations of one moment have no order.
Every `now`, `at` and `sent_at` is the runner's clock, which never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from heapq import heappop, heappush
from math import inf
from operator import attrgetter
from typing import Any

from prober.failures import Failure, Side, side_of
from prober.judge.detector import Detector, Evidence
from prober.judge.observer import Observer
from prober.judge.outages import Book, moved
from prober.judge.records import (
    Confirm,
    Decisions,
    Event,
    Gap,
    GapCause,
    GapClosed,
    GapOpened,
    Outage,
    OutageUpdated,
    ProbeMember,
    ProbeReference,
    Request,
    Settings,
    StateChanged,
)
from prober.judge.rollup import Node
from prober.judge.trouble import Troubles
from prober.judge.watch import Change, Sliced, Watch
from prober.model import Check, Entity, Observation, Reference

SWEEP_SECONDS = 10.0  # what the runner never reported is given up after the check's timeout and two of these
MEMBERS_PER_CONFIRMATION = 10  # members of a scope in trouble are probed in turn, so many in a confirm_interval
VOIDS_TO_UNKNOWN = 2
AT_ONCE = 200  # checks looked at in one decision; when thousands go down together their records would hold the loop
GAPS_KEPT = 16  # an outage may have begun in one of them


_sent_at = attrgetter("sent_at")


@lru_cache(maxsize=1024)
def _of_resolver(label: str) -> bool:
    """Is a failure, as `operation/failure`, one that the resolver reported?"""
    return side_of(Failure(label.rpartition("/")[2])) is Side.RESOLVER


class Judge:
    """The verdicts of one vantage.

    `utc_offset`: Unix time minus the runner's clock. `named`: keys of the references' checks that ask the vantage's
    resolver for a name.
    """

    def __init__(
        self,
        entities: Iterable[Entity],
        references: Iterable[Reference],
        settings: Settings,
        *,
        vantage: str = "",
        utc_offset: float = 0.0,
        named: frozenset[str] = frozenset(),
    ) -> None:
        self.settings = settings
        self.vantage = vantage
        self.utc_offset = utc_offset
        self.wake_at = inf
        self.watch = Watch(entities, references, settings, named)
        self._book = Book(vantage, settings)
        self._active: dict[str, Detector] = {}  # down, or with failures under way
        self._suspects: set[str] = set()
        self._dirty: set[str] = set()  # to be looked at
        self._todo: list[str] = []  # before those, the first one last
        self._changed: set[str] = set()  # checks whose verdict may have changed
        self._rebuilt: list[Node] = []  # by the last reconfiguration
        self._restored: set[str] = set()
        self._again: set[str] = set()
        self._unsettled: set[str] = set()
        self._troubles = Troubles(self.watch)
        self._beside: list[tuple[Observer, float, bool]] = []
        self._gaps: deque[tuple[float, float, Observer | None]] = deque(maxlen=GAPS_KEPT)  # None: of all
        self._events: list[Event] = []
        self._sweep_at = 0.0
        self._sliced: Sliced | None = None  # the snapshot that is being made

    def prepared(
        self, entities: Iterable[Entity], references: Iterable[Reference], named: frozenset[str] | None = None
    ) -> Change:
        """What `reconfigure` is to be given. With thousands of checks it takes long, and may be made in a thread."""
        return self.watch.prepared(entities, references, named)

    def reconfigure(
        self, entities: Iterable[Entity], references: Iterable[Reference], now: float, prepared: Change | None = None
    ) -> None:
        """Take new targets, `prepared` from them if they are. The events follow at the next `decide`.

        A check stays the same while its key, kind and options do; then its outage, and all that it learned, go on.
        What is gone (a renamed target is gone, and another is new) has its open outages closed as abandoned: certain
        up to the last failure, the end unknown. What is new starts unknown. A scope's open outage goes on with those
        of its frozen members that are left, and is abandoned if none is.
        """
        change = prepared or self.prepared(entities, references)
        self._close_gaps_of_others(change, now)
        standing = self._book.standing(change.touched(), change.checks_gone())
        self.watch.change(change)
        gone = set(change.gone)
        self._rebuilt = [*(node for node in self._rebuilt if node not in gone), *change.rebuilt()]
        self._events += self._book.carry_over(self.watch, standing, self.utc_offset)
        detectors = self.watch.detectors
        for key in [key for key, one in self._active.items() if detectors.get(key) is not one]:
            del self._active[key]
        self._troubles.freed(self._troubles.by_entity)
        self._dirty |= self._active.keys()  # other references may see what the last ones did not
        for keys in (self._suspects, self._dirty, self._changed, self._restored, self._again):
            keys -= {key for key in keys if key not in detectors}
        self._beside = []
        self.wake_at = now

    def _close_gaps_of_others(self, change: Change, now: float) -> None:
        """References that are no longer asked cannot tell when a gap ends: it ends here. The others begin anew."""
        kept = {id(observer) for observer in change.observers.values()}
        for observer in self.watch.observers.values():
            if observer.gap is not None and id(observer) not in kept:
                self._events.append(
                    GapClosed(replace(observer.gap, end=max(observer.gap.begin, now + self.utc_offset)))
                )
                mine = [node for node in self._book.ongoing if self._watched_by(node, observer)]
                self._book.unobserved(mine, observer.gap_began, now)

    # what the runner tells

    def sent(self, check: Check, at: float, reason: str) -> None:
        """A probe was sent. Every one of them must be followed by `observe` or `withdrawn`."""
        if reason == "reference":
            for observer in self.watch.observers.values():
                observer.reach.sent(check.key, at)
                observer.names.sent(check.key, at)
            return
        detector = self.watch.detectors.get(check.key)
        if detector is None:
            return
        detector.flight.append(at)
        if at > detector.last_sent:
            detector.last_sent = at
        if reason == "regular":
            if detector.member_asked is None:
                detector.regular_at = at
            detector.member_asked = None
        if detector.run is not None:
            if detector.asked is not None and detector.asked <= at + 1e-9:
                detector.asked = None
            observer = self.watch.observer_of[detector.key]
            if not observer.offline:
                # also when all that failed is settled already: the next failure will want names beside it again
                resolver = any(evidence.resolver for evidence in detector.run.pending) or any(
                    map(_of_resolver, detector.run.failures)
                )
                self._beside.append((observer, at, resolver))
            if self._troubles.by_entity:
                self._troubles.gained(detector)
            self._mark(detector.key, at)

    def withdrawn(self, check: Check, at: float) -> None:
        """A probe that was reported as sent will have no result (it was cancelled)."""
        for observer in self.watch.observers.values():
            observer.reach.withdrawn(check.key, at)
            observer.names.withdrawn(check.key, at)
        detector = self.watch.detectors.get(check.key)
        if detector is not None and at in detector.flight:
            detector.flight.remove(at)
            self._troubles.contradict(detector)
            self._mark(check.key, at)

    def took_calmly(self, observation: Observation) -> bool:
        """Take in what nearly every probe sees, a success of a check that is up and calm: nothing follows from it.

        False: it was something else and is for `observe`.
        """
        detector = self.watch.detectors.get(observation.check.key)
        reason = observation.reason
        if (
            detector is None
            or not observation.success
            or not detector.observed
            or detector.run is not None
            or detector.down
            or reason == "reference"
            or reason == "once"
        ):
            return False
        sent_at = observation.sent_at
        flight = detector.flight
        if sent_at in flight:
            flight.remove(sent_at)
        self.watch.observer_of[detector.key].reach.note_success(sent_at)
        if self._troubles.by_entity:
            self._troubles.contradict(detector)  # at the next decision: this alone wakes nobody
        detector.succeeded_calmly(sent_at, reason == "regular", observation.duration_seconds)
        return True

    def observe(self, observation: Observation, now: float) -> None:
        """What a probe saw. Decisions follow at `decide`."""
        if self.took_calmly(observation):
            return
        if observation.reason == "reference":
            for observer in self.watch.observers.values():
                observer.reach.observe(observation)
                observer.names.observe(observation)
                if self._active or observer.gap is not None or observer.doubtful:
                    self.wake_at = min(self.wake_at, now)
            return
        detector = self.watch.detectors.get(observation.check.key)
        if detector is None or observation.reason == "once":
            return
        sent_at, run = observation.sent_at, detector.run
        before = detector.potential(), -run.first_at if run is not None else -inf
        if sent_at in detector.flight:
            detector.flight.remove(sent_at)
        lane = self.watch.observer_of[detector.key].reach
        if observation.success:
            lane.note_success(sent_at)
            if detector.succeeded(observation):
                self._restored.add(detector.key)
            self._changed.add(detector.key)
        else:
            lane.note_failure(sent_at)
            if observation.failure is not None and side_of(observation.failure) is Side.OURS:
                self._beside.append((self.watch.observer_of[detector.key], now, False))
                self._changed.add(detector.key)
            detector.failed(observation)
        # A loss of our own, or one that an answer overtook, is no failure that may count any more.
        if observation.success or (run is not None and (detector.potential(), -run.first_at) != before):
            self._troubles.contradict(detector)
        self._active[detector.key] = detector
        self._mark(detector.key, now)

    def gap(self, begin: float, end: float, cause: GapCause) -> None:
        """The agent did not run, or could not keep up, from `begin` to `end`: nothing was seen in it.

        The events follow at the next `decide`.
        """
        self._book.unobserved(list(self._book.ongoing), begin, end)
        self._gaps.append((begin, end, None))
        self._events.append(GapClosed(self._gap(begin, end, cause)))
        for detector in self.watch.detectors.values():
            detector.observed = False
        self._changed.update(self.watch.detectors)
        self.wake_at = min(self.wake_at, end)

    def clock_step(self, at: float, seconds: float) -> None:
        """UTC jumped by `seconds` at `at`: open outages keep their durations and move with the clock."""
        self.utc_offset += seconds
        self._events.append(GapClosed(self._gap(at, at, GapCause.CLOCK_STEP, seconds)))
        for node in self._book.ongoing:
            self._events.append(OutageUpdated(self._book.current(node, self.utc_offset)))
        self.wake_at = min(self.wake_at, at)

    def wants(self, request: Request, now: float) -> bool:
        """Ask before sending: is a request still of use? What was answered meanwhile needs no further proof."""
        if isinstance(request, ProbeReference):
            key = request.check.key
            for observer in self.watch.observers.values():
                for lane in (observer.reach, observer.names):
                    network = lane.by_check.get(key)
                    if network is not None and network.asked == request.at and network.asked_check == key:
                        return True
            return False
        detector = self.watch.detectors.get(request.check.key)
        if detector is None:
            return False
        if isinstance(request, ProbeMember):
            return detector.member_asked == request.at and detector.run is None
        return detector.asked == request.at

    # what follows

    def decide(self, now: float) -> Decisions:
        """Everything that follows from what has arrived up to `now`; with thousands of checks in trouble at once a part
        of it, and `wake_at` then asks for the next part at once.
        """
        requests: list[Request] = []
        self._observe_ourselves(now, requests)
        if now >= self._sweep_at:
            self._sweep(now)
        if self._unsettled:
            # The last call ended in a defect: what it was about is looked at again, and loses nothing.
            self._dirty |= self._unsettled & self.watch.detectors.keys()
            self._dirty |= self._troubles.freed(self._troubles.by_entity)
            self._changed |= self._unsettled & self.watch.detectors.keys()
        self._dirty |= self._troubles.freed()
        left = AT_ONCE
        while left and (self._todo or self._dirty):
            if not self._todo:
                self._todo, self._dirty = sorted(self._dirty, reverse=True), set()
            dirty = self._todo[: -left - 1 : -1]
            del self._todo[-left:]
            left -= len(dirty)
            self._troubles.new_pass()
            self._unsettled.update(dirty)
            opened = []
            for key in dirty:
                if self._settle(key, now):
                    opened.append(key)
            self._dirty |= self._troubles.freed()
            self._changed.update(opened)
            for entity in {self.watch.leaf(key).entity for key in opened}:
                self._troubles.opened(entity)
                # what has failed beside them may be enough now
                beside = self.watch.parts[entity].detectors.items()
                self._dirty.update(key for key, one in beside if not one.down and one.suspicious())
            for key in dirty:
                self._ask(key, now, requests)
        if self._changed or self._rebuilt:
            self._roll_up(now)
        self._probe_members(self._unsettled, now, requests)
        self._unsettled.clear()
        for observer, at, resolver in self._beside:
            requests += observer.reach.ask(at)
            if resolver:
                requests += observer.names.ask(at)
        self._beside.clear()
        events, self._events = tuple(self._events), []
        self.wake_at = self._sweep_at if self._active else inf
        if self.unfinished:
            self.wake_at = now
        for key in self._again:
            self._mark(key, now)
        self._again.clear()
        return Decisions(events, tuple(requests))

    def _mark(self, key: str, now: float) -> None:
        self._dirty.add(key)
        self.wake_at = min(self.wake_at, now)

    def _observe_ourselves(self, now: float, requests: list[Request]) -> None:
        for observer in self.watch.observers.values():
            if observer.reach.changed or observer.names.changed:
                # What is down, with nothing left to settle, hears of us only when we are cut off, or see again.
                turned = observer.turned()
                self._dirty.update(
                    key
                    for key, one in self._active.items()
                    if (turned or one.unsettled()) and self.watch.observer_of[key] is observer
                )
                observer.reach.changed = observer.names.changed = False
            lane = observer.reach
            if lane.failing:
                requests += lane.decide(now)
            if observer.names.failing:
                requests += observer.names.decide(now)
            if observer.offline and observer.gap is None:
                first = lane.first_failure if lane.first_failure is not None else now
                begin = first if lane.last_ok is None else (lane.last_ok + first) / 2
                silent = tuple(network.name for network in lane.silent)
                observer.gap = self._gap(begin, None, GapCause.OFFLINE, references=silent)
                observer.gap_began = begin
                self._events.append(GapOpened(observer.gap))
                self._unobserve(observer)
            elif not observer.offline and observer.gap is not None:
                back = lane.first_ok if lane.first_ok is not None else now
                end = back if lane.last_failure is None else (min(lane.last_failure, back) + back) / 2
                end = max(end, observer.gap_began)
                gap = self._gap(observer.gap_began, end, GapCause.OFFLINE, references=observer.gap.references)
                self._events.append(GapClosed(replace(gap, id=observer.gap.id)))
                observer.gap = None
                lane.caught_up()
                mine = [node for node in self._book.ongoing if self._watched_by(node, observer)]
                self._book.unobserved(mine, observer.gap_began, end)
                self._gaps.append((observer.gap_began, end, observer))

    def _watched_by(self, node: Node, observer: Observer) -> bool:
        return any(self.watch.observer_of.get(leaf.key) is observer for leaf in node.leaves())

    def _unobserve(self, observer: Observer) -> None:
        for key, detector in self.watch.detectors.items():
            if self.watch.observer_of[key] is observer:
                detector.observed = False
                self._changed.add(key)

    def _sweep(self, now: float) -> None:
        """Give up what the runner never reported, and ask again for what it never sent."""
        self._sweep_at = now + SWEEP_SECONDS
        for key, detector in self._active.items():
            flying = len(detector.flight)
            if flying:
                patience = detector.check.timeout_seconds + 2 * SWEEP_SECONDS
                detector.flight = [at for at in detector.flight if at > now - patience]
            again = len(detector.flight) < flying
            if again:
                self._troubles.contradict(detector)
            if detector.asked is not None and detector.asked < now - 3 * SWEEP_SECONDS:
                detector.asked = None
                again = True
            if again or detector.unsettled():
                self._dirty.add(key)
        for observer in self.watch.observers.values():
            observer.reach.sweep(now)
            observer.names.sweep(now)

    def _settle(self, key: str, now: float) -> bool:
        """Let the references settle what is pending, and open an outage if that is enough. True: it opened."""
        detector = self.watch.detectors.get(key)
        if detector is None:
            return False
        run, observer = detector.run, self.watch.observer_of[key]
        if detector.lessons:
            detector.lessons = [one for one in detector.lessons if self._lesson(detector, one, observer, now)]
        if run is None:
            if not detector.lessons:
                self._active.pop(key, None)
            return False
        self._active[key] = detector
        pending: list[Evidence] = []
        if len(run.pending) > 1:
            run.pending.sort(key=_sent_at)
        for evidence in run.pending:
            vouched = self._vouched(detector, evidence, observer, now)
            if vouched is None:
                pending.append(evidence)
            elif vouched:
                run.count(evidence)
                if not detector.observed:
                    detector.observed = True
                    self._changed.add(key)
            else:
                run.voids += 1
                self._troubles.contradict(detector)
                if run.voids >= VOIDS_TO_UNKNOWN and detector.observed:
                    detector.observed = False
                    self._changed.add(key)
        run.pending = pending
        if detector.down or run.total < run.k:
            return False
        enough = run.k if self._troubles.shared(detector) else run.needed
        if run.total < enough or detector.awaited(enough) or observer.blocked:
            return False
        if any(evidence.sent_at <= run.horizon for evidence in pending):
            return False
        if key in self._restored:
            self._again.add(key)  # first the record of the outage that has just ended, then the next one
            return False
        detector.open()
        return True

    def _vouched(self, detector: Detector, evidence: Evidence, observer: Observer, now: float) -> bool | None:
        vouched = observer.vouch(evidence.sent_at, beside=True, resolver=evidence.resolver)
        if vouched is None and evidence.regular:
            vouched = observer.vouch(evidence.sent_at, beside=False, resolver=evidence.resolver)
        if vouched is None and now - evidence.sent_at > detector.check.timeout_seconds + SWEEP_SECONDS:
            return False
        return vouched

    def _lesson(self, detector: Detector, evidence: Evidence, observer: Observer, now: float) -> bool:
        """Learn a lost probe if it was not us. True: not known yet."""
        vouched = observer.clear if evidence.late else self._vouched(detector, evidence, observer, now)
        if vouched:
            detector.lost(evidence.sent_at)
        return vouched is None

    def _ask(self, key: str, now: float, requests: list[Request]) -> None:
        """Ask for the next probe beside the regular ones, if one is needed."""
        detector = self.watch.detectors.get(key)
        if detector is None or detector.run is None:
            return
        run, observer = detector.run, self.watch.observer_of[key]
        if observer.offline:
            detector.asked = None
            return
        at = detector.next_probe(now)
        if at == inf or (detector.asked is not None and at >= detector.asked - 1e-9):
            return
        if not detector.down and not observer.blocked:
            potential = detector.potential()
            if potential >= run.needed or (potential >= run.k and self._troubles.holds(detector, potential)):
                return
        detector.asked = at
        requests.append(Confirm(detector.check, at))

    def _roll_up(self, now: float) -> None:
        """Carry changed verdicts up, members before scopes; open and close outages."""
        heap: list[tuple[int, str, str, int]] = []
        nodes: dict[int, Node] = {}

        def push(node: Node) -> None:
            if id(node) not in nodes:
                nodes[id(node)] = node
                heappush(heap, (node.level, node.scope or "", node.name, id(node)))

        for key in self._changed:
            push(self.watch.leaf(key))
        for node in self._rebuilt:
            push(node)
        while heap:
            node = nodes[heappop(heap)[3]]
            before = node.value
            node.value = node.evaluate()
            if node.value is not None:
                node.held = node.value
            if node.scope is not None:
                shown = node.shown
                self._record(node, now)
                if self._sliced is not None and (node.value != before or node.shown is not shown):
                    self._sliced.changed.add((node.scope, node.name))
            if node.value != before or node.leaf is not None:
                for parent in node.parents:
                    push(parent)
        self._changed.clear()
        self._rebuilt = []

    def _record(self, node: Node, now: float) -> None:
        assert node.scope is not None
        book = self._book
        # a check that answered is up even if nothing is known any more a moment later
        if node in book.ongoing and (node.value if node.leaf is None else not node.leaf.down):
            self._events.append(book.close(node, self.utc_offset))
            self._troubles.regrouped(node.entity)
        if node.value is False and node not in book.ongoing:
            gaps = [(begin, end) for begin, end, of in self._gaps if of is None or self._watched_by(node, of)]
            self._events.append(book.open(node, now, self.utc_offset, gaps))
        self._events += book.recovered(node, self.utc_offset)
        verdict = node.verdict()
        if verdict is not node.shown:
            node.shown = verdict
            self._events.append(StateChanged(node.scope, node.name, node.entity, verdict, node.held, now))

    def _probe_members(self, touched: set[str], now: float, requests: list[Request]) -> None:
        """A member in trouble, or back: see to the others of its scope, in turn. `touched`: what may have changed."""
        step = self.settings.confirm_interval_seconds / MEMBERS_PER_CONFIRMATION
        fresh = []
        for key in touched:
            detector = self._active.get(key)
            if detector is None or not detector.suspect():
                self._suspects.discard(key)
            elif key not in self._suspects:
                fresh.append(key)
        if not fresh and not self._restored:
            return
        fresh.sort()
        self._suspects.update(fresh)
        wanted: dict[str, Detector] = {}
        for key in fresh:
            run = self.watch.detectors[key].run
            since = run.first_at if run is not None else now
            todo = [self.watch.leaf(key)]
            while todo:
                node = todo.pop()
                for parent in node.parents:
                    wanted |= {
                        leaf.key: leaf
                        for leaf in parent.leaves()
                        if leaf.run is None and leaf.last_sent < since and leaf.member_asked is None
                    }
                    if all(leaf.suspect() for leaf in parent.leaves()):
                        todo.append(parent)
        for place, detector in enumerate(sorted(wanted.values(), key=lambda one: (one.last_sent, one.key))):
            detector.member_asked = now + place * step
            requests.append(ProbeMember(detector.check, detector.member_asked))
        wanted = {}
        for key in sorted(self._restored):
            todo = list(self.watch.leaf(key).parents)
            while todo:
                node = todo.pop()
                todo += node.parents
                wanted |= {leaf.key: leaf for leaf in node.leaves() if leaf.down}
        self._restored.clear()
        for place, detector in enumerate(sorted(wanted.values(), key=lambda one: (one.last_sent, one.key))):
            at = now + place * step
            if detector.asked is None or at < detector.asked:
                detector.asked = at
                requests.append(Confirm(detector.check, at))

    # views

    @property
    def unfinished(self) -> bool:
        """There was more than one decision looks at."""
        return bool(self._todo or self._dirty)

    @property
    def troubled(self) -> Collection[str]:
        """Keys of the checks that are down or have failures under way."""
        return self._active.keys()

    @property
    def observer_up(self) -> bool:
        """Every set of references that is trusted says that this vantage is online."""
        return not any(observer.offline for observer in self.watch.observers.values())

    def states(self, *, fresh: bool = False) -> list[StateChanged]:
        """What is known of every scope now, as the last change of each would say it; `fresh`: of those that the last
        reconfiguration brought.
        """
        nodes = self.watch.fresh if fresh else self.watch.scopes.values()
        return [
            StateChanged(node.scope, node.name, node.entity, node.verdict(), node.held, 0.0)
            for node in nodes
            if node.scope is not None
        ]

    def ongoing(self, places: Iterable[tuple[str, str]] | None = None) -> list[Outage]:
        """Every open outage as it stands now, in UTC; or those of `places` (scope and name) that are open."""
        book = self._book
        if places is None:
            return [book.current(node, self.utc_offset) for node in book.ongoing]
        nodes = (self.watch.scopes.get(place) for place in places)
        return [book.current(node, self.utc_offset) for node in nodes if node is not None and node in book.ongoing]

    def places_down(self) -> list[tuple[str, str]]:
        """Scope and name of all that has an open outage."""
        return [(outage.scope, outage.name) for outage in self._book.ongoing.values()]

    def detector(self, key: str) -> Detector | None:
        """The state of one check, to be read only."""
        return self.watch.detectors.get(key)

    def _gap(
        self,
        begin: float,
        end: float | None,
        cause: GapCause,
        step: float = 0.0,
        references: tuple[str, ...] = (),
    ) -> Gap:
        utc = self.utc_offset
        name = f"{cause}:{round((begin + utc) * 1000)}"
        return Gap(name, self.vantage, begin + utc, None if end is None else end + utc, cause, step, references)

    # snapshots

    def slices(self, size: int, *, history: bool, encode: Callable[[object], Any]) -> Sliced:
        """Begin a snapshot that is made bit by bit, for `snapshot`. Only the one begun last is good."""
        self._sliced = Sliced(self.watch, size, history=history, encode=encode)
        return self._sliced

    def snapshot(self, *, history: bool = True, sliced: Sliced | None = None) -> dict[str, Any]:
        """All state as plain JSON-able values. Without `history` it is small; take it with history now and then.

        What was `sliced` is taken as it is, but for checks that are in trouble by now: together with the records they
        must be of one moment.
        """
        if sliced is self._sliced:
            self._sliced = None
        return {
            "utc_offset": self.utc_offset,
            "watch": self.watch.snapshot(history, sliced, self._active),
            "book": self._book.snapshot(),
            "suspects": sorted(self._suspects),
        }

    def anew(self) -> Judge:
        """Another judge of the same, who knows nothing yet."""
        watch = self.watch
        return Judge(
            [part.entity for part in watch.parts.values()],
            watch.references,
            self.settings,
            vantage=self.vantage,
            utc_offset=self.utc_offset,
            named=watch.named,
        )

    def restore(
        self,
        snapshot: Mapping[str, Any] | None,
        now: float,
        *,
        ongoing: Sequence[Outage] | None = None,
        closed: Sequence[Outage] = (),
    ) -> None:
        """Go on from a snapshot, with the same or with changed targets. To be called once, on a fresh judge.

        The ledger knows better: `ongoing` are its open outages and `closed` those that ended lately (at least since
        the snapshot was taken), as `Outage` in UTC. What was opened or closed after the snapshot is taken from there;
        what stands on nothing that is configured now is abandoned. None: the snapshot is the latest. Events follow at
        `decide`. Whoever restores after a standstill reports it with `gap`.
        """
        shift = 0.0
        if snapshot is not None:
            shift = snapshot["utc_offset"] - self.utc_offset
            self.watch.restore(snapshot["watch"], shift, self.vantage)
            self._suspects = set(snapshot["suspects"]) & self.watch.detectors.keys()
        past = [moved(outage, -self.utc_offset) for outage in closed]
        present = None if ongoing is None else [moved(outage, -self.utc_offset) for outage in ongoing]
        book = None if snapshot is None else snapshot["book"]
        self._events += self._book.restore(book, shift, self.watch, present, past, self.utc_offset)
        for key, detector in self.watch.detectors.items():
            if detector.run is not None or detector.lessons:
                self._active[key] = detector
                self._dirty.add(key)
        if snapshot is not None or present:  # else nothing is known of anything, which needs no telling
            self._changed = set(self.watch.detectors)
        self.wake_at = now
