"""The series that the shipped recording rules (deploy/prometheus/rules/fused.yml) would have recorded.

One evaluation a scrape, in the order of the rules; a rule that reads its own series reads the evaluation before. It is
the same arithmetic over the same changes, so that a replay can be looked at without a Prometheus that evaluates; a test
has a real one evaluate the rules and compares. What only rules and alerts read of each other is left out, and so is of
targets and checks, of which there are many, what no panel asks for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prober.config.worlds import World
from prober.judge.records import Scope
from prober.replay.scrape import CLOSE_SCRAPES, KEEP_SCRAPES, LEADING, SCRAPE_SECONDS, Change, Tape
from prober.replay.spool import Spool
from prober.scopes import scope_labels
from prober.textformat import label

FORGET_SECONDS: Final = 604_800.0
BLIP_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 120.0
SEES, OFFLINE, GONE = 1.0, 2.0, 0.0

STATE: Final = "scope:prober_state:quorum"
SINCE: Final = "scope:prober_state_since_timestamp_seconds:quorum"
SEEN: Final = "scope:prober_seen_timestamp_seconds:max"
ONGOING: Final = "scope:prober_outage_seconds:quorum"
VANTAGE_STATE: Final = "vantage:prober_state:current"
VANTAGE_SEEN: Final = "vantage:prober_seen_timestamp_seconds:max"
WATCHED: Final = "scope_vantage:prober_watched:hold"
_ALWAYS: Final = frozenset(
    {STATE, "scope:prober_vantages:count", "scope:prober_up:quorum", "scope:prober_votes_up:count"}
)
_LEADING_ONLY: Final = frozenset({SEEN, "scope:prober_verdict:quorum", "scope:prober_votes:count"})
_NOT_OF_CHECKS: Final = frozenset({"scope:prober_vantages:count", "scope:prober_votes_up:count"})


class VantageHistory:
    """One vantage's tape, asked for a moment after the other."""

    def __init__(self, tape: Tape) -> None:
        self.name = tape.vantage
        self.tape = tape
        self._begins = [begin for begin, _ in tape.heard]
        self._observed_at = [at for at, _ in tape.observer]

    def state(self, at: float) -> tuple[float, float] | None:
        """(state, when it was heard last); None: not known, or forgotten."""
        life = bisect_right(self._begins, at) - 1
        if life < 0:
            return None
        last = self.tape.heard[life][1]
        if at <= last:
            place = bisect_right(self._observed_at, at) - 1
            online = place < 0 or self.tape.observer[place][1]
            return (SEES if online else OFFLINE), at
        return (GONE, last) if at - last < FORGET_SECONDS else None

    def moments(self) -> Iterator[float]:
        """When its state changes."""
        for begin, last in self.tape.heard:
            yield from (begin, last, last + SCRAPE_SECONDS)
        yield from self._observed_at


@dataclass(slots=True)
class Vote:
    """What a vantage says of a scope at an evaluation. `change` None: it is gone."""

    change: Change | None
    last: bool | None = None  # its last vote, held

    @property
    def current(self) -> bool | None:
        """True: reaches it; None: no vote."""
        return None if self.change is None or not self.change.observed else self.change.up


@dataclass(slots=True)
class ScopeRules:
    """The rules of one scope, with what they remember."""

    scope: Scope
    verdict: int | None = None
    shape: int | None = None
    since: float | None = None
    seen: float = 0.0
    seeing: bool = False
    noticed: float = 0.0
    last_started_after: float = 0.0
    last_started_by: float = 0.0
    last_ended_after: float | None = None
    last_ended_by: float | None = None
    started_after: float = 0.0
    started_by: float = 0.0
    last_votes: dict[str, bool] = field(default_factory=dict)
    counts: tuple[int, int, int] = (0, 0, 0)  # vantages, up, down

    def vote(self, votes: Mapping[str, Vote], at: float) -> None:
        """The rules up to `scope:prober_up:quorum`."""
        self.last_votes = {name: value for name, value in self.last_votes.items() if name in votes}
        said = {name: vote.current for name, vote in votes.items()}
        self.last_votes |= {name: value for name, value in said.items() if value is not None}
        up = sum(value is True for value in said.values())
        down = sum(value is False for value in said.values())
        self.counts = len(votes), up, down
        if up + down:
            self.seen = at
        elif self.seeing:
            self.seen = at - SCRAPE_SECONDS  # as the evaluation before said
        self.seeing = bool(up + down)
        if up:
            self.verdict = 2 if down else 1
        elif self.verdict == 2 and any(value for name, value in self.last_votes.items() if votes[name].current is None):
            self.verdict = 2
        elif down:
            self.verdict = 0

    @property
    def up(self) -> int | None:
        return None if self.verdict is None else int(self.verdict > 0)

    def conclude(self, votes: Mapping[str, Vote], at: float, some_network_down: bool) -> None:
        """The rules after it."""
        before = self.shape
        self.shape = 3 if self.scope == "entity" and self.verdict == 1 and some_network_down else self.verdict
        if self.shape is not None and (self.since is None or self.shape != before):
            self.since = at
        if self.up is None:
            return
        if self.up and 0 < self.started_by <= at - BLIP_SECONDS:
            self.noticed = at
            self.last_started_after, self.last_started_by = self.started_after, self.started_by
        self._ended(votes, at)
        opening = [vote.change for vote in votes.values() if vote.current is False and vote.change is not None]
        if self.up:
            self.started_after = self.started_by = 0.0
        elif self.started_by <= 0:
            self.started_after = max((change.started_after for change in opening), default=0.0)
            agreeing = [change.started_by for change in opening if change.started_by > self.started_after]
            self.started_by = min(agreeing, default=0.0)

    def _ended(self, votes: Mapping[str, Vote], at: float) -> None:
        settled = self.noticed <= at - SETTLE_SECONDS
        heard = [vote.change for vote in votes.values() if vote.change is not None]
        mine = [change for change in heard if change.ended_by > self.last_started_by > 0]
        if self.last_ended_by is None or not settled:
            self.last_ended_by = min((change.ended_by for change in mine), default=self.noticed)
        if self.last_ended_after is None or not settled:
            before = [change.ended_after for change in mine if change.ended_after < self.last_ended_by]
            self.last_ended_after = max(before, default=0.0)

    def settles(self, at: float) -> bool:
        """Whether an evaluation may differ from the one before though nothing has changed."""
        return self.noticed > at - SETTLE_SECONDS - 2 * SCRAPE_SECONDS

    def series(self, at: float) -> Iterator[tuple[str, float]]:
        """What is recorded of it."""
        vantages, up, down = self.counts
        if not vantages:
            return
        yield "scope:prober_vantages:count", vantages
        yield "scope:prober_votes:count", up + down
        yield "scope:prober_votes_up:count", up
        yield "scope:prober_votes_down:count", down
        yield SEEN, self.seen
        if self.verdict is None or self.up is None or self.shape is None or self.since is None:
            yield STATE, 6
            return
        yield STATE, self.shape if up + down else 5 - self.up
        yield "scope:prober_verdict:quorum", self.verdict
        yield "scope:prober_up:quorum", self.up
        yield SINCE, self.since
        yield "scope:prober_outage_started_after_timestamp_seconds:max", self.started_after
        yield "scope:prober_outage_started_by_timestamp_seconds:min", self.started_by
        middle = (self.started_by + (self.started_after if self.started_after > 0 else self.started_by)) / 2
        yield ONGOING, at - middle if self.started_by > 0 else 0.0
        by, after = self.last_ended_by or 0.0, self.last_ended_after or 0.0
        yield "scope:prober_last_outage_noticed_timestamp_seconds:max", self.noticed
        yield "scope:prober_last_outage_started_after_timestamp_seconds:max", self.last_started_after
        yield "scope:prober_last_outage_started_by_timestamp_seconds:min", self.last_started_by
        yield "scope:prober_last_outage_ended_by_timestamp_seconds:min", by
        yield "scope:prober_last_outage_ended_after_timestamp_seconds:max", after
        begin = self.last_started_after if self.last_started_after > 0 else self.last_started_by
        seconds = (by + (after if after > 0 else by) - self.last_started_by - begin) / 2
        yield "scope:prober_last_outage_seconds:quorum", seconds
        if after > 0 and self.last_started_after > 0:
            margin = (by - after + self.last_started_by - self.last_started_after) / 2
            yield "scope:prober_last_outage_margin_seconds:quorum", margin


class Evaluation:
    """All rules over all tapes, from the world's start to its end."""

    def __init__(self, world: World, tapes: Sequence[Tape], spool: Spool, keep_scrapes: int = KEEP_SCRAPES) -> None:
        self._world = world
        self._spool = spool
        self._keep, self._close = keep_scrapes, min(CLOSE_SCRAPES, keep_scrapes)
        self._vantages = [VantageHistory(tape) for tape in tapes]
        self._labels = scope_labels(world.entities)
        # networks before entities: an entity's shape reads their verdicts
        self._keys = sorted(self._labels, key=lambda key: key[0] == "entity")
        self._rules = {key: ScopeRules(key[0]) for key in self._keys}
        self._networks = {entity.name: [network.name for network in entity.networks] for entity in world.entities}
        self._places = {(vantage.name, key): -1 for vantage in self._vantages for key in self._keys}
        self._last: dict[int, float] = {}
        self._last_votes: dict[tuple[Scope, str], dict[str, Vote]] = {}

    def run(self) -> Iterator[float]:
        """Put what is recorded into the spool; the time that is reached, now and then. Raises OSError."""
        start, end = self._world.start, self._world.end
        changing = {moment for vantage in self._vantages for moment in vantage.moments()}
        touched: dict[float, set[tuple[Scope, str]]] = {}
        for vantage in self._vantages:
            for key, changes in vantage.tape.changes.items():
                for change in changes:
                    touched.setdefault(change.at, set()).add(key)
        everything = set(self._keys)
        unsettled: set[tuple[Scope, str]] = set()
        number = 0
        while (at := start + number * SCRAPE_SECONDS) < end:
            keep, close = number % self._keep == 0, number % self._close == 0
            whole = keep or at in changing
            busy = everything if whole else touched.get(at, set()) | unsettled
            if any(scope == "network" for scope, _ in busy):
                busy = busy | {key for key in self._keys if key[0] == "entity"}
            if busy:
                unsettled = self._evaluate(at, busy, keep)
            if close:
                self._closely(at, number)
            if close or at in changing:
                self._of_vantages(at)
            if keep:
                yield at
            number += 1

    def _evaluate(self, at: float, busy: set[tuple[Scope, str]], keep: bool) -> set[tuple[Scope, str]]:
        states = [(vantage, vantage.state(at)) for vantage in self._vantages]
        ordered = [key for key in self._keys if key in busy]
        said: dict[tuple[Scope, str], dict[str, Vote]] = {}
        for key in ordered:
            votes = said[key] = {}
            for vantage, state in states:
                if state is not None:
                    votes[vantage.name] = Vote(self._change(vantage, key, at) if state[0] != GONE else None)
            self._rules[key].vote(votes, at)
        for key in ordered:
            rules = self._rules[key]
            down = key[0] == "entity" and any(
                self._rules["network", name].up == 0 for name in self._networks.get(key[1], ())
            )
            rules.conclude(said[key], at, down)
            self._record(key, rules.series(at), at, keep)
            if keep and key[0] in LEADING:
                for vantage, state in states:
                    if state is not None:
                        labels = self._labels[key] + label("vantage", vantage.name)
                        self._store(self._spool.series(WATCHED, labels), at, 1.0)
        # what was noticed now is read by the next evaluation
        return {key for key in ordered if self._rules[key].settles(at)}

    def _change(self, vantage: VantageHistory, key: tuple[Scope, str], at: float) -> Change | None:
        changes = vantage.tape.changes.get(key, [])
        place = self._places[vantage.name, key]
        while place + 1 < len(changes) and changes[place + 1].at <= at:
            place += 1
        self._places[vantage.name, key] = place
        return changes[place] if place >= 0 else None

    def _record(self, key: tuple[Scope, str], values: Iterator[tuple[str, float]], at: float, keep: bool) -> None:
        labels, leading = self._labels[key], key[0] in LEADING
        for name, value in values:
            if (not leading and name in _LEADING_ONLY) or (key[0] == "check" and name in _NOT_OF_CHECKS):
                continue
            series = self._spool.series(name, labels)
            if value == 0 and not leading and name not in _ALWAYS and not (name == ONGOING and key[0] == "target"):
                if self._last.get(series, 0.0) == 0:
                    continue  # a zero that says "none" is not repeated
            elif not keep and name == ONGOING:
                if (value > 0) == (self._last.get(series, 0.0) > 0):
                    continue  # it grows by itself
            elif not keep and (name == SEEN or self._last.get(series) == value):
                continue
            self._store(series, at, value)

    def _store(self, series: int, at: float, value: float) -> None:
        self._last[series] = value
        self._spool.put(series, at, value)

    def _closely(self, at: float, number: int) -> None:
        """Charts take the worst state of each interval: there must be a sample in it. Of checks every other one."""
        for key in self._keys:
            if key[0] == "check" and number % (2 * self._close) and self._keep > 1:
                continue
            series = self._spool.series(STATE, self._labels[key])
            if series in self._last:
                self._spool.put(series, at, self._last[series])

    def _of_vantages(self, at: float) -> None:
        for vantage in self._vantages:
            state = vantage.state(at)
            if state is not None:
                labels = label("vantage", vantage.name)
                self._store(self._spool.series(VANTAGE_STATE, labels), at, state[0])
                self._store(self._spool.series(VANTAGE_SEEN, labels), at, state[1])
