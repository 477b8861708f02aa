"""A report: what several vantages saw of each scope, fused, and how much of the time it could be reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, TypeAlias

from prober.judge.records import Gap, GapCause, Outage, Scope
from prober.ledger import Note
from prober.report.fuse import Fused, Sight, fuse
from prober.report.spans import Span, clipped, common, length, union, without

Key: TypeAlias = tuple[Scope, str]
"""Scope and name."""

ORDER: Final[Mapping[Scope, int]] = {"entity": 0, "network": 1, "site": 2, "target": 3, "check": 4}
LEADING: Final[tuple[Scope, ...]] = ("entity", "network", "site")
"""The scopes that a report is about unless others are asked for."""


@dataclass(frozen=True, slots=True)
class Vantage:
    """What is known of one vantage: its records, and when it could see."""

    name: str
    outages: tuple[Outage, ...]
    gaps: tuple[Gap, ...]
    first: float  # its first word
    last: float  # its last word
    skew_seconds: float = 0.0  # how far its clock may be off
    seen: Mapping[Key, tuple[Span, ...]] | None = None  # when it watched and could see what; None: all, all the time
    entities: Mapping[Key, str] = field(default_factory=dict)

    def sees(self, key: Key) -> tuple[Span, ...]:
        """When it could see this scope."""
        awake = without([(self.first, self.last)] if self.last > self.first else [], self.blind())
        return awake if self.seen is None else common(awake, union(self.seen.get(key, ())))

    def blind(self) -> tuple[Span, ...]:
        """Its gaps."""
        return union((gap.begin, self.last if gap.end is None else gap.end) for gap in self.gaps)


@dataclass(frozen=True, slots=True)
class Record:
    """An outage or a peninsula of a scope."""

    scope: Scope
    name: str
    entity: str
    fused: Fused


@dataclass(frozen=True, slots=True)
class Availability:
    """How much of the time in which somebody could see a scope it could be reached. A peninsula is no outage."""

    scope: Scope
    name: str
    entity: str
    observed_seconds: float  # by any vantage, from `since` to `until`
    unobserved_seconds: float  # by none: counted neither as up nor as down
    down_seconds: float  # in outages, as their headlines say
    down_min_seconds: float  # as their bounds allow
    down_max_seconds: float
    peninsula_seconds: float
    outages: int
    peninsulas: int

    @property
    def ratio(self) -> float | None:
        """The share of the observed time that was no outage; None if nobody saw it."""
        return self._without(self.down_seconds)

    @property
    def ratio_min(self) -> float | None:
        """The least that the bounds allow."""
        return self._without(self.down_max_seconds)

    @property
    def ratio_max(self) -> float | None:
        """The most that the bounds allow."""
        return self._without(self.down_min_seconds)

    def _without(self, down: float) -> float | None:
        return None if self.observed_seconds <= 0 else max(0.0, 1.0 - down / self.observed_seconds)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, oldest first."""

    since: float
    until: float
    vantages: tuple[Vantage, ...]
    scopes: tuple[Scope, ...]
    records: tuple[Record, ...]
    islands: tuple[Gap, ...]  # a vantage was cut off: its own trouble, nobody's outage
    availability: tuple[Availability, ...]
    notes: tuple[str, ...] = ()  # on how it was made
    remarks: tuple[Note, ...] = ()  # from outside, oldest first

    @property
    def observed(self) -> bool:
        """Whether anything at all was seen in that time."""
        return any(
            without(clipped([(one.first, one.last)], self.since, self.until), one.blind()) for one in self.vantages
        )


def report(
    vantages: Sequence[Vantage],
    *,
    since: float | None = None,
    until: float | None = None,
    scopes: Collection[Scope] = (),
    name: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """The report from `since` (the first word of any vantage) to `until` (the last word of any). Unix seconds."""
    vantages = tuple(sorted(vantages, key=lambda one: one.name))
    since = min((one.first for one in vantages), default=0.0) if since is None else since
    until = max((one.last for one in vantages), default=since) if until is None else until
    until = max(since, until)
    scopes = tuple(sorted(scopes or LEADING, key=ORDER.__getitem__))
    entities = {key: entity for one in vantages for key, entity in one.entities.items()}
    entities |= {(outage.scope, outage.name): outage.entity for one in vantages for outage in one.outages}
    keys = {key for one in vantages for key in one.seen or ()} | entities.keys()
    records: list[Record] = []
    availability: list[Availability] = []
    for key in sorted(keys, key=lambda key: (ORDER[key[0]], entities.get(key, ""), key[1])):
        if key[0] not in scopes or (name is not None and key[1] != name):
            continue
        seen = [one.sees(key) for one in vantages]
        fused = fuse([_sight(one, key, spans) for one, spans in zip(vantages, seen, strict=True)], until=until)
        fused = [one for one in fused if one.start.at < until and _last(one) > since]
        records += [Record(*key, entities.get(key, ""), one) for one in fused]
        observed = clipped(union(span for spans in seen for span in spans), since, until)
        if observed or fused:
            availability.append(_availability(key, entities.get(key, ""), fused, observed, since, until))
    islands = [
        gap
        for one in vantages
        for gap in one.gaps
        if gap.cause is GapCause.OFFLINE and gap.begin < until and (gap.end is None or gap.end > since)
    ]
    return Report(
        since,
        until,
        vantages,
        scopes,
        tuple(sorted(records, key=lambda one: (one.fused.start.at, ORDER[one.scope], one.name))),
        tuple(sorted(islands, key=lambda gap: (gap.begin, gap.vantage))),
        tuple(availability),
        tuple(notes),
    )


def _sight(vantage: Vantage, key: Key, sees: Sequence[Span]) -> Sight:
    mine = tuple(outage for outage in vantage.outages if (outage.scope, outage.name) == key)
    return Sight(vantage.name, mine, without([(-inf, inf)], sees), vantage.skew_seconds)


def _last(fused: Fused) -> float:
    return inf if fused.end is None else fused.end.at


def _availability(
    key: Key, entity: str, fused: Sequence[Fused], observed: Sequence[Span], since: float, until: float
) -> Availability:
    def seconds(spans: Sequence[Span]) -> float:
        return length(common(union(clipped(spans, since, until)), observed))

    outages = [one for one in fused if one.kind == "outage"]
    peninsulas = [one for one in fused if one.kind == "peninsula"]

    def at(one: Fused) -> Span:
        return one.start.at, until if one.end is None else one.end.at

    def most(one: Fused) -> Span:
        # where a bound is missing the headline has to do: no time before the first look is claimed
        begin = one.start.at if one.start.after == -inf else one.start.after
        end = until if one.end is None else one.end.at if one.end.by == inf else one.end.by
        return begin, end

    def least(one: Fused) -> Span:
        return one.start.by, one.certain_until if one.end is None else one.end.after

    return Availability(
        *key,
        entity,
        length(observed),
        until - since - length(observed),
        seconds([at(one) for one in outages]),
        seconds([least(one) for one in outages]),
        seconds([most(one) for one in outages]),
        seconds([at(one) for one in peninsulas]),
        len(outages),
        len(peninsulas),
    )


def with_skew(vantages: Sequence[Vantage], seconds: float) -> list[Vantage]:
    """The same, their clocks believed to be off by so much at most (beside what is known of them)."""
    return [replace(one, skew_seconds=max(one.skew_seconds, seconds)) for one in vantages]
