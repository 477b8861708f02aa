"""What a Prometheus would have scraped of a replayed agent.

It is looked at every SCRAPE_SECONDS, as the shipped configuration has it. Samples are kept where a state changed, and
else as seldom as panels allow: Prometheus looks back five minutes for the last one. A zero that says "none" is not
repeated (but of entities), and of targets and checks, of which there are many, what no panel asks for is left out.
A counter has its zero at the first scrape of each life and at the one before it first grows: `increase` sees no more
than what grew between two samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Final

from prober.config.worlds import World
from prober.judge.records import Outage, Scope, StateChanged, Verdict
from prober.judging import Judging
from prober.metrics import CHECK_FAMILIES, TARGET_FAMILIES
from prober.model import Observation
from prober.replay.clock import WorldClock
from prober.replay.ledger import StepLedger
from prober.replay.spool import Spool
from prober.runner import Figures
from prober.scopes import ENTITY_NETWORKS, SCOPE_FAMILIES, VANTAGE_FAMILIES, state_word
from prober.scopeviews import Moment, ScopeView, look, look_back, scope_labels
from prober.selfmetrics import AgentCollector, ReloadFigures
from prober.state import CheckState, State
from prober.textformat import Labels, label

SCRAPE_SECONDS: Final = 15.0
KEEP_SCRAPES: Final = 19
"""A sample at least every 285 s."""
CLOSE_SCRAPES: Final = 4
"""And every minute of what charts take the least or the most of, interval by interval."""
LEADING: Final = frozenset({"entity", "network", "site"})
CLOCK: Final = "prober_clock_timestamp_seconds"
RTT: Final = "probe_icmp_duration_seconds"

_CLOSE: Final = frozenset({"prober_up", "prober_observed"})
_ALWAYS: Final = frozenset({"prober_up", "prober_observed"})
_OF_CHECKS: Final = frozenset(
    {
        "probe_success",
        "probe_duration_seconds",
        "prober_probes_total",
        "prober_probe_failures_total",
        "prober_check_last_run_timestamp_seconds",
        "prober_loss_ratio",
    }
)
FAILURES: Final = "prober_probe_failures_total"
FAILING_SECONDS: Final = 30.0
STARTED: Final = "process_start_time_seconds"

_CLOSE_OF_VANTAGES: Final = frozenset({"prober_observer_up"})
_LEADING_ONLY: Final = frozenset({"prober_state_seconds_total"})
_TITLES: Final = "prober_scope_info"
_COUNTERS: Final = frozenset(family.name for family in SCOPE_FAMILIES if family.type == "counter")


@dataclass(slots=True)
class Change:
    """What a vantage says of a scope from one scrape on."""

    at: float  # Unix time of the scrape
    up: bool | None
    observed: bool
    started_after: float  # of the ongoing outage; 0: none
    started_by: float
    start: float
    ended_after: float  # the latest of past outages; 0: none
    ended_by: float
    past: tuple[tuple[float, float], ...]  # (ended_by, seconds) of each


@dataclass(slots=True)
class Tape:
    """All that was scraped of one vantage. Times are Unix seconds."""

    vantage: str
    spool: Spool
    changes: dict[tuple[Scope, str], list[Change]] = field(default_factory=dict)
    heard: list[tuple[float, float]] = field(default_factory=list)  # first and last scrape of each life
    observer: list[tuple[float, bool]] = field(default_factory=list)


class Scraper:
    """Scrapes the agent of one vantage, through all its lives."""

    def __init__(self, world: World, vantage: str, spool: Path, keep_scrapes: int = KEEP_SCRAPES) -> None:
        self.tape = Tape(vantage, Spool(spool))
        self._world = world
        self._keep = keep_scrapes
        self._all = keep_scrapes == 1
        self._close = min(CLOSE_SCRAPES, keep_scrapes)
        self._common = label("vantage", vantage)
        self._tail = label("instance", f"{vantage}:9911") + label("job", "prober")
        self._scopes = scope_labels(world.entities)
        self._fresh()

    def _fresh(self) -> None:
        self._last: dict[int, float] = {}
        self._version = -1
        self._state = State(self._world.entities)
        self._settling = True
        self._success: dict[str, bool] = {}
        self._failed: dict[str, tuple[int, float]] = {}  # by check: failures, and when there were fewer last

    def attend(
        self,
        clock: WorldClock,
        judging: Judging,
        ledger: StepLedger,
        figures: Figures,
        until: float,
        quiet_from: float,
    ) -> None:
        """Scrape this life of the agent until `until`; no heartbeat is asked for from `quiet_from` on."""
        self._fresh()
        loaded = ReloadFigures(True, clock.utc())
        self._agent = AgentCollector(
            clock=clock, figures=figures, state=self._state, unmatched=Counter(), reload=loaded
        )
        self._started = clock.utc()
        first = ceil(clock.now() / SCRAPE_SECONDS) * SCRAPE_SECONDS
        if first < until:
            self.tape.heard.append((self._world.start + first, self._world.start + first))
            clock.call_at(first, self._scrape, clock, judging, ledger, until, quiet_from)

    def observe(self, observation: Observation) -> None:
        """A sink of the runner."""
        self._state.observe(observation)

    def _scrape(self, clock: WorldClock, judging: Judging, ledger: StepLedger, until: float, quiet_from: float) -> None:
        now = clock.now()
        number = round(now / SCRAPE_SECONDS)
        first = not self._last
        keep, close = first or number % self._keep == 0, first or number % self._close == 0
        at = self._world.start + now
        self.tape.heard[-1] = self.tape.heard[-1][0], at
        if keep and now < quiet_from:
            judging.write_heartbeat()  # totals are counted up to it
            ledger.flush()
        if close or keep:
            self._vantage(judging, at, keep)
            self._put(CLOCK, self._common + self._tail, at, judging.utc(), True)
        if keep:
            self._own(at)
        changed = ledger.recorded != self._version or self._settling
        self._settling = ledger.recorded != self._version
        self._version = ledger.recorded
        if changed or keep or close:
            self._all_scopes(judging, at, keep, close, changed)
        self._checks(self._state, at, keep)
        if number * SCRAPE_SECONDS + SCRAPE_SECONDS < until:
            following = (number + 1) * SCRAPE_SECONDS
            clock.call_at(following, self._scrape, clock, judging, ledger, until, quiet_from)

    def _put(self, family: str, labels: Labels, at: float, value: float, keep: bool) -> None:
        """Keep a sample if it says something new, or if it is time."""
        series = self.tape.spool.series(family, labels)
        if keep or self._last.get(series) != value:
            self._last[series] = value
            self.tape.spool.put(series, at, value)

    def _vantage(self, judging: Judging, at: float, keep: bool) -> None:
        for family in VANTAGE_FAMILIES:
            if keep or family.name in _CLOSE_OF_VANTAGES:
                self._put(family.name, self._common + self._tail, at, family.read(judging), True)

    def _own(self, at: float) -> None:
        """What the agent says of itself. What it costs is not known: nothing ran but this replay."""
        for metric in self._agent.collect():
            for sample in metric.samples:
                if sample.name != CLOCK:
                    further = "".join(label(name, value) for name, value in sample.labels.items())
                    self._put(sample.name, self._common + further + self._tail, at, sample.value, True)
        self._put(STARTED, self._common + self._tail, at, self._started, True)

    def _all_scopes(self, judging: Judging, at: float, keep: bool, close: bool, changed: bool) -> None:
        moment = Moment()
        moment.take(judging.utc(), judging.ledger.elapsed)
        for (scope, name), labels in self._scopes.items():
            if not (keep or changed) and scope != "entity":
                continue
            view = ScopeView((scope, name), moment)
            look(judging, (view,))
            look_back(judging, (view,))
            new = changed and self._note(view.key, view.state, view.ongoing, view.past, at)
            if not (new or keep or (close and scope == "entity")):
                continue
            own = self._common + labels
            for family in SCOPE_FAMILIES:
                due = keep or (close and scope == "entity" and family.name in _CLOSE)
                if scope == "check" and family.name in _ALWAYS:
                    due = self._all  # what the vantages say of single checks is shown by no panel: changes are enough
                if family.name == _TITLES or (family.name in _LEADING_ONLY and scope not in LEADING):
                    continue
                for further, value in family.read(view):
                    full = own + further + self._tail
                    series = self.tape.spool.series(family.name, full)
                    counts = family.name in _COUNTERS
                    if value == 0 and family.name not in _ALWAYS and scope != "entity":
                        if self._last.get(series, 0.0 if not counts else None) == 0:
                            continue  # a zero that says "none" is not repeated
                        self._put(family.name, full, at, value, True)
                        continue
                    if counts and value > 0 and self._last.get(series) == 0:
                        self.tape.spool.put(series, at - SCRAPE_SECONDS, 0.0)
                    self._put(family.name, full, at, value, due)
        if keep or changed:
            self._networks(judging, at, keep)
        up = bool(judging.judge.observer_up)
        if changed or not self.tape.observer:
            self._observer(up, judging, at)

    def _observer(self, up: bool, judging: Judging, at: float) -> None:
        if not self.tape.observer or self.tape.observer[-1][1] != up:
            self.tape.observer.append((at, up))
            self._vantage(judging, at, False)

    def _note(
        self,
        key: tuple[Scope, str],
        shown: StateChanged | None,
        outage: Outage | None,
        past: Iterable[Outage],
        at: float,
    ) -> bool:
        """What the rules read of it; whether that is new."""
        past = list(past)
        change = Change(
            at,
            None if shown is None else shown.up,
            shown is not None and shown.verdict is not Verdict.UNKNOWN,
            0.0 if outage is None else outage.started_after or 0.0,
            0.0 if outage is None else outage.started_by,
            0.0 if outage is None else outage.start,
            max((one.ended_after for one in past), default=0.0),
            max((one.ended_by or 0.0 for one in past), default=0.0),
            tuple((one.ended_by or 0.0, one.duration_seconds or 0.0) for one in past),
        )
        changes = self.tape.changes.setdefault(key, [])
        before = changes[-1] if changes else None
        if before is not None and not self._first_of_life(before.at):
            change.at = before.at
            if change == before:
                return False
            change.at = at
        changes.append(change)
        return True

    def _first_of_life(self, before: float) -> bool:
        return before < self.tape.heard[-1][0]

    def _networks(self, judging: Judging, at: float, keep: bool) -> None:
        for entity in self._world.entities:
            counts = {"up": 0, "down": 0, "unknown": 0}
            for network in entity.networks:
                counts[state_word(judging.shown.get(("network", network.name)))] += 1
            for state, count in counts.items():
                labels = self._common + label("entity", entity.name) + label("state", state) + self._tail
                self._put(ENTITY_NETWORKS[0], labels, at, float(count), keep)

    def _failing(self, one: CheckState, at: float) -> bool:
        """Whether a probe failed within the last scrapes: charts by the minute need several samples to see that."""
        failed = sum(one.failures.values())
        if failed != self._failed.get(one.check.key, (0, 0.0))[0]:
            self._failed[one.check.key] = failed, at
        return failed > 0 and at - self._failed[one.check.key][1] <= FAILING_SECONDS

    def _reasons(self, one: CheckState, own: Labels, at: float) -> None:
        for (operation, failure), count in one.failures.items():
            labels = own + label("operation", operation) + label("failure", failure)
            series = self.tape.spool.series(FAILURES, labels)
            if series in self._last:
                self.tape.spool.put(series, at - SCRAPE_SECONDS, self._last[series])
            self._put(FAILURES, labels, at, float(count), True)

    def _checks(self, state: State, at: float, keep: bool) -> None:
        targets: set[str] = set()
        for one in state:
            check = one.check
            if one.last is None:
                continue
            flipped = self._success.get(check.key) is not one.last.success
            failing = self._failing(one, at)
            if not (keep or flipped or failing):
                continue
            self._success[check.key] = one.last.success
            common = self._common + label("target", check.target)
            own = common + label("check", check.name) + label("kind", check.kind) + self._tail
            if failing:
                self._reasons(one, own, at)
            if not keep:
                if flipped:
                    self._put("probe_success", own, at, float(one.last.success), True)
                continue
            for family in CHECK_FAMILIES:
                if family.name in _OF_CHECKS:
                    for further, value in family.read(one):
                        self._put(family.name, own + further, at, value, True)
            if check.kind == "icmp" and one.last.success:
                self._put(RTT, own + label("phase", "rtt"), at, one.last.duration_seconds, True)
            if check.target not in targets:
                targets.add(check.target)
                for family in TARGET_FAMILIES:
                    for further, value in family.read(one):
                        self._put(family.name, common + further + self._tail, at, value, True)
