"""The outages of one scope as several vantages saw them, made one record. Pure: times are Unix seconds.

A vantage that sees has a vote; one that is blind (offline, stopped, not yet there) has none. While all votes say down
it is an `outage`; while they disagree it is a `peninsula` (Baltra and Heidemann, "What is the Internet? Partial
connectivity", 2021: reachable from some of the network and not from the rest), and it stays one while the vantage that
reached it has merely lost its sight. While nobody sees, what was known is held.

Vantages whose bounds have a moment in common saw the same beginning (or end): it lies in what their bounds have in
common, which is the less the better they are staggered. Where bounds contradict each other the vantages do differ, and
nothing is averaged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from math import inf
from typing import Final, Literal, TypeAlias

from prober.judge.records import Onset, Outage, OutageClass
from prober.report.spans import Span, union

Kind: TypeAlias = Literal["outage", "peninsula"]

LOOK_BACK: Final = 64
"""Groups of edges that are compared with the next one: bounds overlap with neighbours only."""
_MILLISECOND: Final = 0.001
"""Finer than that no time is kept."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one vantage says of one scope."""

    vantage: str
    outages: tuple[Outage, ...]
    blind: tuple[Span, ...] = ()  # when it could not see: gaps, and the time before its first and after its last word
    skew_seconds: float = 0.0  # how far its clock may be from true time, either way: its bounds are that much wider


@dataclass(frozen=True, slots=True)
class Edge:
    """A beginning or an end: in (after, by], most likely `at`."""

    after: float  # -inf: nobody knows
    by: float  # inf: not yet, or nobody knows
    at: float


@dataclass(frozen=True, slots=True)
class Fused:
    """What all vantages together know of one outage, or peninsula."""

    kind: Kind
    start: Edge
    end: Edge | None  # None: it goes on
    down: tuple[str, ...]  # vantages that saw it down, sorted
    up: tuple[str, ...]  # that reached it meanwhile
    blind: tuple[str, ...]  # that could not see for some of it
    witnesses: tuple[Outage, ...] = field(repr=False)
    certain_until: float = -inf  # of one that goes on at the report's end: how far it is certain so far
    unobserved_seconds: float = 0.0  # while nobody could see
    skew_seconds: float = 0.0  # by how much, at most, the witnesses' clocks have widened each bound

    @property
    def ongoing(self) -> bool:
        """Whether it goes on."""
        return self.end is None

    @property
    def duration_seconds(self) -> float | None:
        """The headline; None while it goes on, and where nobody knows when it ended."""
        if self.end is None or self.end.by == inf:
            return None
        return max(0.0, self.end.at - self.start.at)

    @property
    def duration_min_seconds(self) -> float:
        """The shortest duration that the bounds allow (of one that goes on: so far)."""
        return max(0.0, (self.certain_until if self.end is None else self.end.after) - self.start.by)

    @property
    def duration_max_seconds(self) -> float | None:
        """The longest one; None if a bound is missing, or while it goes on."""
        if self.end is None or self.end.by == inf or self.start.after == -inf:
            return None
        return self.end.by - self.start.after

    @property
    def onset(self) -> Onset:
        """Progressive if any vantage saw it come."""
        return Onset.PROGRESSIVE if any(one.onset is Onset.PROGRESSIVE for one in self.witnesses) else Onset.ABRUPT

    @property
    def degraded_since(self) -> float | None:
        """The earliest that any vantage noticed."""
        return min((one.degraded_since for one in self.witnesses if one.degraded_since is not None), default=None)

    @property
    def outage_class(self) -> OutageClass:
        """`outage` if even the shortest duration reaches what every witness calls more than a blip.

        By the witnesses' own clocks: one that is off moves both ends of what it saw, and makes it no shorter.
        """
        blip = max((one.blip_seconds for one in self.witnesses), default=60.0)
        certain = (self.certain_until if self.end is None else self.end.after) - self.start.by + 2 * self.skew_seconds
        return OutageClass.OUTAGE if max(0.0, certain) >= blip - _MILLISECOND else OutageClass.BLIP


def fuse(sights: Iterable[Sight], *, until: float) -> list[Fused]:
    """The fused records of one scope, oldest first. Beyond `until` nothing is known."""
    sights = sorted(sights, key=lambda sight: sight.vantage)
    downs = _downs(sights)
    blind = {sight.vantage: _Blind(sight) for sight in sights}
    moments = {until, *(down.start.at for down in downs)}
    moments |= {down.end.at for down in downs if down.end is not None}
    moments |= {edge for one in blind.values() for span in one.spans for edge in span}
    runs: list[_Run] = []
    previous: Kind | None = None
    last_vote: dict[str, bool] = {}  # vantage -> whether it reached it
    unseen_since: float | None = None  # since when nobody sees
    coming = sorted(downs, key=lambda down: down.start.at, reverse=True)
    holding: list[_Down] = []
    known = sorted(moment for moment in moments if -inf < moment <= until)
    said_down: set[str] = set()
    said_up: set[str] = set()
    for begin, end in pairwise(known):
        middle = (begin + end) / 2
        while coming and coming[-1].start.at <= middle:
            holding.append(coming.pop())
        holding = [down for down in holding if down.end is None or middle < down.end.at]
        cannot = {vantage for vantage, one in blind.items() if one.at(middle)}
        said_down = {down.vantage for down in holding} - cannot
        said_up = blind.keys() - cannot - said_down
        kind: Kind | None
        if said_down or said_up:
            unseen_since = None
            kind = None
            if said_down:
                # who reached it has merely lost its sight: nothing says that it changed
                lost = previous == "peninsula" and any(last_vote.get(vantage) for vantage in cannot)
                kind = "peninsula" if said_up or lost else "outage"
            last_vote |= dict.fromkeys(said_down, False) | dict.fromkeys(said_up, True)
        else:
            unseen_since = begin if unseen_since is None else unseen_since
            kind = previous if holding else None
            if any(down.start.at >= unseen_since for down in holding):
                kind = kind or "outage"  # its headline lies where nobody saw; who came back found it down
        if kind is not None:
            if previous is not kind or not runs:
                runs.append(_Run(kind, begin))
            runs[-1].go_on(end, said_down, said_up, cannot, holding)
        if previous is not None and kind is not None and previous is not kind:
            # who was blind came back and reaches it, and may have done so all the time
            runs[-2].doubted = bool(said_up & runs[-2].blind)
        previous = kind
    edges = {down.start.at: down.start for down in downs}
    edges |= {down.end.at: down.end for down in downs if down.end is not None}
    certain = _certain_until(previous, holding, coming, said_down, said_up, until)
    return [_fused(run, edges, until, certain) for run in runs]


class _Blind:
    """When a vantage has no vote on this scope."""

    def __init__(self, sight: Sight) -> None:
        spans = list(sight.blind)
        outages = sorted(sight.outages, key=lambda outage: outage.start)
        for outage, later in zip_longest(outages, outages[1:]):
            if not outage.ongoing and outage.ended_by is None:  # abandoned: it was watched no longer
                again = inf if later is None else later.start if later.started_after is None else later.started_after
                spans.append((outage.ended_after, again))
        for earlier, outage in zip([None, *outages], outages):  # noqa: B905
            if outage.started_after is None:  # never seen up before
                since = -inf if earlier is None else earlier.ended_after if earlier.end is None else earlier.end
                spans.append((since, outage.start))
        self.spans = union(spans)
        self._begins = [begin for begin, _ in self.spans]

    def at(self, moment: float) -> bool:
        place = bisect_right(self._begins, moment) - 1
        return place >= 0 and moment < self.spans[place][1]


@dataclass(slots=True, eq=False)
class _Down:
    """One vantage's outage, with edges that it shares with those who saw the same."""

    vantage: str
    outage: Outage
    start: Edge
    end: Edge | None
    skew: float

    @property
    def certain_until(self) -> float:
        """How far it is certain: to its last failure, which the clock may have stamped too late."""
        return self.outage.ended_after - self.skew if self.end is None else self.end.after


@dataclass(slots=True)
class _Run:
    """Time in a row of one kind."""

    kind: Kind
    begin: float
    end: float = 0.0
    down: set[str] = field(default_factory=set)
    up: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    downs: dict[int, _Down] = field(default_factory=dict)
    unobserved: float = 0.0
    seen_until: float = -inf  # how far somebody who saw said so
    doubted: bool = False

    def go_on(self, end: float, down: set[str], up: set[str], blind: set[str], holding: Iterable[_Down]) -> None:
        begin, self.end = self.end or self.begin, end
        self.down |= down
        self.up |= up
        self.blind |= blind
        self.downs |= {id(one): one for one in holding}
        if down or up:
            self.seen_until = end
        else:
            self.unobserved += end - begin


def _downs(sights: Sequence[Sight]) -> list[_Down]:
    found = [
        _Down(sight.vantage, outage, _start_of(outage, skew), _end_of(outage, skew), skew)
        for sight in sights
        for skew in (sight.skew_seconds,)
        for outage in sight.outages
    ]
    starts = [_Group(down, down.start) for down in found]
    for group in _same(starts):
        edge = _common_start(group)
        for down in group.members:
            down.start = edge
    ends = [_Group(down, down.end) for down in found if down.end is not None]
    for group in _same(ends):
        edge = _common_end(group)
        for down in group.members:
            down.end = edge
    for down in found:  # bounds that are wide may leave an end before its start
        if down.end is not None and down.end.at < down.start.at:
            at = min(max(down.start.at, down.end.after), down.end.by)
            down.end = Edge(down.end.after, down.end.by, at)
    return found


def _start_of(outage: Outage, skew: float) -> Edge:
    after = -inf if outage.started_after is None else outage.started_after - skew
    return Edge(after, outage.started_by + skew, outage.start)


def _end_of(outage: Outage, skew: float) -> Edge | None:
    if outage.ongoing:
        return None
    by = inf if outage.ended_by is None else outage.ended_by + skew
    # an abandoned outage is certain up to its last failure, and nobody looked afterwards
    return Edge(outage.ended_after - skew, by, outage.ended_after if outage.end is None else outage.end)


class _Group:
    """Edges, at most one a vantage, that have a moment in common."""

    __slots__ = ("after", "at", "by", "members", "vantages")

    def __init__(self, down: _Down, edge: Edge) -> None:
        self.after, self.by, self.at = edge.after, edge.by, edge.at
        self.vantages = {down.vantage}
        self.members = [down]

    def fits(self, other: _Group) -> bool:
        if not self.vantages.isdisjoint(other.vantages) or max(self.after, other.after) >= min(self.by, other.by):
            return False
        if -inf in (self.after, other.after) or inf in (self.by, other.by):
            # An open bound has a moment in common with anything; so these must have been down at the same time.
            return all(_met(one.outage, another.outage) for one in self.members for another in other.members)
        return True

    def add(self, other: _Group) -> None:
        self.after, self.by = max(self.after, other.after), min(self.by, other.by)
        self.vantages |= other.vantages
        self.members += other.members


def _met(one: Outage, other: Outage) -> bool:
    """Whether each was still down when the other certainly was."""

    def last(outage: Outage) -> float:
        return inf if outage.ongoing else outage.ended_after if outage.ended_by is None else outage.ended_by

    return one.started_by <= last(other) and other.started_by <= last(one)


def _same(edges: Iterable[_Group]) -> list[_Group]:
    """Those that have a moment in common made one: each joins the nearest that fits."""
    groups: list[_Group] = []
    for edge in sorted(edges, key=lambda group: (group.at, group.after, group.by, group.members[0].vantage)):
        fitting = next((group for group in reversed(groups[-LOOK_BACK:]) if group.fits(edge)), None)
        if fitting is None:
            groups.append(edge)
        else:
            fitting.add(edge)
    return groups


def _common_start(group: _Group) -> Edge:
    """What is left when all are right; the headline lies between the last answer and the next failure of all."""
    outages = [down.outage for down in group.members]
    answers = [one.started_after for one in outages if one.started_after is not None]
    if len(outages) == 1 or not answers:
        return Edge(group.after, group.by, min(down.start.at for down in group.members))
    # a vantage's headline is the middle of its last answer and its first failure: that is as far behind it
    answer = max(answers)
    failures = [2 * one.start - one.started_after for one in outages if one.started_after is not None]
    failure = min((moment for moment in failures if moment > answer), default=group.by)
    return Edge(group.after, group.by, min(max((answer + failure) / 2, group.after), group.by))


def _common_end(group: _Group) -> Edge:
    outages = [down.outage for down in group.members]
    known = [(one.end, one.ended_by) for one in outages if one.end is not None and one.ended_by is not None]
    if len(outages) == 1 or not known:
        return Edge(group.after, group.by, max(down.end.at for down in group.members if down.end is not None))
    answer = min(by for _, by in known)
    failures = [2 * at - by for at, by in known]
    failure = max((moment for moment in failures if moment < answer), default=group.after)
    return Edge(group.after, group.by, min(max((answer + failure) / 2, group.after), group.by))


def _certain_until(
    kind: Kind | None, holding: Iterable[_Down], coming: Iterable[_Down], down: set[str], up: set[str], until: float
) -> float:
    """How far what there is at `until` is certain. What ended (or changed) later was certain up to that bound.

    An outage is over as soon as one who sees reaches it; a peninsula when nobody who sees is down, or nobody is up.
    """
    holding = list(holding)
    certain = max((one.certain_until for one in holding), default=-inf)
    if kind == "outage":
        voting = [one.end.after for one in holding if one.end is not None and one.vantage in down]
        return min(until, certain, *voting)
    changes = {vantage: inf for vantage in up}  # until when each of those who reach it certainly does
    for one in coming:
        if one.vantage in up:
            changes[one.vantage] = min(changes[one.vantage], one.start.after)
    return min(until, certain, max(changes.values(), default=inf))


def _fused(run: _Run, edges: Mapping[float, Edge], until: float, certain_until: float) -> Fused:
    witnesses = sorted(run.downs.values(), key=lambda down: (down.start.at, down.vantage))
    start = edges.get(run.begin)
    if start is None:  # a dissenter went blind, or who was blind came back: for those who see it begins here
        after = max((down.start.after for down in witnesses), default=-inf)
        by = max(run.begin, min((down.start.by for down in witnesses), default=run.begin))
        start = Edge(min(after, run.begin), by, run.begin)
    end = edges.get(run.end)
    if end is None and run.end < until:
        end = Edge(run.begin if run.doubted else run.seen_until, run.end, run.end)
    return Fused(
        run.kind,
        start,
        end,
        tuple(sorted(run.down)),
        tuple(sorted(run.up)),
        tuple(sorted(run.blind)),
        tuple(down.outage for down in witnesses),
        certain_until=certain_until if end is None else -inf,
        unobserved_seconds=run.unobserved,
        skew_seconds=max((down.skew for down in witnesses), default=0.0),
    )
