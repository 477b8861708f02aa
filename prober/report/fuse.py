"""The outages of one scope as several vantages saw them, made one record. Pure: times are Unix seconds.

A vantage that sees has a vote; one that is blind (offline, stopped) has none. While all votes say down it is an
`outage`; while they disagree it is a `peninsula` (Baltra and Heidemann, "What is the Internet? Partial connectivity",
2021: reachable from some of the network and not from the rest). Vantages whose bounds have a moment in common saw the
same beginning (or end): it lies in what their bounds have in common, which is the less the better they are staggered.
Where bounds contradict each other the vantages do differ, and nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Literal, TypeAlias

from prober.judge.records import Onset, Outage, OutageClass

Span: TypeAlias = tuple[float, float]
Kind: TypeAlias = Literal["outage", "peninsula"]


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
    unobserved_seconds: float = 0.0  # while nobody could see

    @property
    def duration_seconds(self) -> float | None:
        """The headline; None while it goes on."""
        return None if self.end is None else max(0.0, self.end.at - self.start.at)

    @property
    def duration_min_seconds(self) -> float | None:
        """The shortest duration that the bounds allow; None while it goes on."""
        return None if self.end is None else max(0.0, self.end.after - self.start.by)

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

    def outage_class(self, now: float) -> OutageClass:
        """`outage` if even the shortest duration is longer than what witnesses call a blip; `now` is the end so far."""
        certain = now - self.start.by if self.end is None else self.end.after - self.start.by
        blip = max((one.blip_seconds for one in self.witnesses), default=60.0)
        return OutageClass.OUTAGE if certain >= blip else OutageClass.BLIP


def fuse(sights: Iterable[Sight], *, until: float) -> list[Fused]:
    """The fused records of one scope, oldest first. Beyond `until` nothing is known."""
    sights = sorted(sights, key=lambda sight: sight.vantage)
    downs = _downs(sights)
    moments = {until}
    for down in downs:
        moments |= {down.start.at, until if down.end is None else down.end.at}
    for sight in sights:
        moments |= {edge for span in sight.blind for edge in span}
    runs: list[_Run] = []
    previous: Kind | None = None
    known = sorted(moment for moment in moments if moment <= until)
    for begin, end in pairwise(known):
        middle = (begin + end) / 2
        blind = {sight.vantage for sight in sights if any(a <= middle < b for a, b in sight.blind)}
        open_ = [down for down in downs if down.holds(middle)]
        voting = [down for down in open_ if down.vantage not in blind]
        said_down = {down.vantage for down in voting}
        said_up = {sight.vantage for sight in sights} - blind - said_down
        kind: Kind | None
        if not said_down and not said_up:
            kind = previous if open_ else None  # nobody sees: what was known is held
        elif said_down:
            kind = "peninsula" if said_up else "outage"
        else:
            kind = None
        if kind is not None:
            if previous is not kind or not runs:
                runs.append(_Run(kind, begin))
            run = runs[-1]
            run.end = end
            run.down |= said_down
            run.up |= said_up
            run.blind |= blind
            run.downs |= {id(down): down for down in open_}
            run.unobserved += 0.0 if said_down or said_up else end - begin
        previous = kind
    return [_fused(run, until) for run in runs]


@dataclass(slots=True)
class _Down:
    """One vantage's outage, with edges that it shares with those who saw the same."""

    vantage: str
    outage: Outage
    start: Edge
    end: Edge | None

    def holds(self, moment: float) -> bool:
        return self.start.at <= moment and (self.end is None or moment < self.end.at)


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


def _downs(sights: Sequence[Sight]) -> list[_Down]:
    found = [
        _Down(sight.vantage, outage, _start_of(outage, sight.skew_seconds), _end_of(outage, sight.skew_seconds))
        for sight in sights
        for outage in sight.outages
    ]
    for group in _same([(down.vantage, down.start, down) for down in found]):
        edge = _common([down.start for down in group], start=True)
        for down in group:
            down.start = edge
    for group in _same([(down.vantage, down.end, down) for down in found if down.end is not None]):
        edge = _common([down.end for down in group if down.end is not None], start=False)
        for down in group:
            down.end = edge
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


def _same(edges: Iterable[tuple[str, Edge, _Down]]) -> Iterable[list[_Down]]:
    """Groups of edges, at most one a vantage, that have a moment in common."""
    groups: list[tuple[float, float, set[str], list[_Down]]] = []
    for vantage, edge, down in sorted(edges, key=lambda item: (item[1].at, item[0])):
        best: int | None = None
        for place in range(len(groups) - 1, max(-1, len(groups) - 9), -1):
            after, by, vantages, _members = groups[place]
            if vantage not in vantages and max(after, edge.after) < min(by, edge.by):
                best = place
                break
        if best is None:
            groups.append((edge.after, edge.by, {vantage}, [down]))
        else:
            after, by, vantages, members = groups[best]
            groups[best] = (max(after, edge.after), min(by, edge.by), vantages | {vantage}, [*members, down])
    return [members for _after, _by, _vantages, members in groups]


def _common(edges: Sequence[Edge], *, start: bool) -> Edge:
    """What is left when all are right: the intersection. The headline lies between the raw neighbours of all."""
    if len(edges) == 1:
        return edges[0]
    after, by = max(edge.after for edge in edges), min(edge.by for edge in edges)
    if start:
        # a headline is the middle of last_ok and the first failure: the failure is as far behind it
        raw = [2 * edge.at - edge.after for edge in edges if edge.after > -inf]
        near = min((moment for moment in raw if moment > after), default=None)
        at = (after + near) / 2 if near is not None and after > -inf else min(edge.at for edge in edges)
    else:
        raw = [2 * edge.at - edge.by for edge in edges if edge.by < inf]
        near = max((moment for moment in raw if moment < by), default=None)
        at = (by + near) / 2 if near is not None and by < inf else max(edge.at for edge in edges)
    return Edge(after, by, min(max(at, after), by))


def _fused(run: _Run, until: float) -> Fused:
    downs = sorted(run.downs.values(), key=lambda down: (down.start.at, down.vantage))
    starts = [down.start for down in downs if down.start.at == run.begin]
    # it began with something else than an outage of its own: a dissenter went blind, or came back
    start = starts[0] if starts else Edge(max(down.start.after for down in downs), run.begin, run.begin)
    ends = [down.end for down in downs if down.end is not None and down.end.at == run.end]
    end: Edge | None
    if ends:
        end = ends[0]
    elif run.end >= until:
        end = None
    else:
        end = Edge(run.begin, run.end, run.end)
    return Fused(
        run.kind,
        start,
        end,
        tuple(sorted(run.down)),
        tuple(sorted(run.up)),
        tuple(sorted(run.blind)),
        tuple(down.outage for down in downs),
        run.unobserved,
    )
