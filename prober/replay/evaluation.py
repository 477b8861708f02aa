"""Evaluates the recording rules (`prober.replay.rules`) over what was scraped of all agents, for every scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prober.config.worlds import World
from prober.judge.records import Scope
from prober.model import Entity
from prober.replay.rules import GONE, ONGOING, SEEN, STATE, ScopeRules, VantageHistory, Vote
from prober.replay.scrape import CLOSE_SCRAPES, KEEP_SCRAPES, LEADING, SCRAPE_SECONDS, Change, Tape
from prober.replay.spool import Spool
from prober.scopeviews import scope_labels
from prober.textformat import label

VANTAGE_STATE: Final = "vantage:prober_state:current"
VANTAGE_SEEN: Final = "vantage:prober_seen_timestamp_seconds:max"
WATCHED: Final = "scope_vantage:prober_watched:hold"
VOTE: Final = "scope_vantage:prober_vote:current"
LAST_VOTE: Final = "scope_vantage:prober_last_vote:hold"
INSIDE: Final = "scope:prober_inside:info"
_ALWAYS: Final = frozenset(
    {STATE, "scope:prober_vantages:count", "scope:prober_up:quorum", "scope:prober_votes_up:count"}
)
_LEADING_ONLY: Final = frozenset(
    {SEEN, "scope:prober_verdict:quorum", "scope:prober_shape:quorum", "scope:prober_votes:count"}
)
_NOT_OF_CHECKS: Final = frozenset({"scope:prober_vantages:count", "scope:prober_votes_up:count"})


def _inside(entities: Iterable[Entity]) -> Iterator[tuple[Scope, str]]:
    """The scopes that lie within their entity's own networks; all of an entity that has none."""
    for entity in entities:
        for (scope, name), _ in scope_labels([entity]).items():
            if not entity.networks:
                yield scope, name
        yield from (("network", network.name) for network in entity.networks)
        for target in entity.targets:
            if target.network:
                yield "target", target.name
        for site in entity.sites:
            networks = [target.network for target in entity.targets if target.site == site.name]
            if networks and all(networks):
                yield "site", site.name


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
        self._inside = set(_inside(world.entities))
        self._last: dict[int, float] = {}

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
            if key[0] in LEADING:
                self._of_witnesses(key, said[key], at, keep)
            if keep and key[0] != "check":
                inside = label("inside", "yes" if key in self._inside else "no")
                self._store(self._spool.series(INSIDE, self._labels[key] + inside), at, 1.0)
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

    def _of_witnesses(self, key: tuple[Scope, str], votes: Mapping[str, Vote], at: float, keep: bool) -> None:
        for name, vote in votes.items():
            labels = self._labels[key] + label("vantage", name)
            held = self._rules[key].last_votes.get(name)
            for family, value in ((WATCHED, 1.0), (VOTE, vote.current), (LAST_VOTE, held)):
                if value is None:
                    continue
                series = self._spool.series(family, labels)
                if keep or self._last.get(series) != value:
                    self._store(series, at, float(value))

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
            if key[0] != "check" and self._rules[key].start > 0:
                self._store(self._spool.series(ONGOING, self._labels[key]), at, at - self._rules[key].start)

    def _of_vantages(self, at: float) -> None:
        for vantage in self._vantages:
            state = vantage.state(at)
            if state is not None:
                labels = label("vantage", vantage.name)
                self._store(self._spool.series(VANTAGE_STATE, labels), at, state[0])
                self._store(self._spool.series(VANTAGE_SEEN, labels), at, state[1])
