"""Spans of time: from (inclusive), to (exclusive), Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Span: TypeAlias = tuple[float, float]


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """In order, empty ones dropped, those that touch or overlap made one."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if begin >= end:
            continue
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)


def clipped(spans: Iterable[Span], begin: float, end: float) -> tuple[Span, ...]:
    """What of them lies between `begin` and `end`."""
    return tuple((max(low, begin), min(high, end)) for low, high in spans if min(high, end) > max(low, begin))


def common(some: Sequence[Span], others: Sequence[Span]) -> tuple[Span, ...]:
    """What is in both; each in order and without overlaps (`union`)."""
    found: list[Span] = []
    first = second = 0
    while first < len(some) and second < len(others):
        begin, end = max(some[first][0], others[second][0]), min(some[first][1], others[second][1])
        if begin < end:
            found.append((begin, end))
        if some[first][1] <= others[second][1]:
            first += 1
        else:
            second += 1
    return tuple(found)


def without(spans: Sequence[Span], taken: Sequence[Span]) -> tuple[Span, ...]:
    """What is left of `spans`; each in order and without overlaps (`union`)."""
    left: list[Span] = []
    place = 0
    for begin, end in spans:
        while place < len(taken) and taken[place][1] <= begin:
            place += 1
        at = place
        while at < len(taken) and taken[at][0] < end:
            if taken[at][0] > begin:
                left.append((begin, taken[at][0]))
            begin = max(begin, taken[at][1])
            at += 1
        if begin < end:
            left.append((begin, end))
    return tuple(left)


def length(spans: Iterable[Span]) -> float:
    """Seconds in all."""
    return sum(end - begin for begin, end in spans)
