"""A scope's outages and its vantage's gaps as a strip. Pure; times are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from prober.judge.records import Gap
from prober.ledger.read import Mark
from prober.ledger_cli import span, when
from prober.page.words import counted
from prober.report.show import percent
from prober.report.spans import Span, clipped, common, length, union, without

Kind: TypeAlias = Literal["up", "outage", "blip", "degraded", "blind"]

RANGES: Final = {
    "24h": (86_400, "24 hours"),
    "7d": (7 * 86_400, "7 days"),
    "30d": (30 * 86_400, "30 days"),
    "90d": (90 * 86_400, "90 days"),
}
"""What a strip may span, in seconds and in words."""

CLOSE_SHARE: Final = 0.0012
"""Marks nearer than this share of the strip (a pixel or so) are drawn as one."""
CROWDED_SHARE: Final = 0.003
"""Likewise where there are many."""
HEIGHTS: Final[dict[Kind, tuple[int, int]]] = {
    "up": (72, 100),
    "outage": (4, 100),
    "blip": (55, 100),
    "degraded": (45, 100),
    "blind": (4, 96),
}
"""Top and bottom of each kind, in percent of the strip's height."""
ID_MAX: Final = 200
"""A longer id of an outage is not repeated in a mark; the table of outages has it."""

_TICKS: Final = ((6 * 3600, 86_400), (86_400, 7 * 86_400), (5 * 86_400, 30 * 86_400), (15 * 86_400, 90 * 86_400))


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a strip. Shares are percent of its width."""

    kind: Kind
    x: float
    width: float
    title: str
    outage: str = ""  # id, if it is one alone


@dataclass(frozen=True, slots=True)
class Strip:
    """A scope in a window of time."""

    watched: tuple[tuple[float, float], ...]  # x and width of the time in which it was watched and could be seen
    pieces: tuple[Piece, ...]
    dense: tuple[tuple[Kind, str], ...]  # of what there is too much of for pieces: a shape for all
    summary: str  # the strip in words
    availability: str  # of the observed time; empty: nothing was observed


def strip(
    marks: Sequence[Mark],
    gaps: Iterable[Gap],
    *,
    begin: float,
    now: float,
    watched_since: float | None,
    weak: Sequence[Mark] = (),
    most: int = 120,
) -> Strip:
    """The strip from `begin` to `now`, with at most `most` pieces of a kind: more are one shape.

    `watched_since`: None where that is not known: then from `begin`. `weak`: outages of parts, that make the whole
    partial.
    """
    window: Span = (begin, now)
    blind = union((gap.begin, now if gap.end is None else gap.end) for gap in gaps)
    watched = clipped([(begin if watched_since is None else watched_since, now)], *window)
    observed = without(watched, blind)
    whole = [(mark, _clip(mark.start, _end(mark, now), window)) for mark in marks]
    shown = [(mark, at) for mark, at in whole if at is not None]
    down = union(at for mark, at in shown)
    degraded = [(mark.degraded_since, mark.start) for mark in marks if mark.degraded_since is not None]
    degraded += [(mark.start, _end(mark, now)) for mark in weak]
    worse = without(clipped(union(degraded), *window), down)
    unseen = without(clipped(blind, *watched[0]) if watched else (), down)

    drawn: list[tuple[Kind, list[Piece]]] = [
        ("blind", _pieces("blind", "Not observed", unseen, window, most)),
        ("degraded", _pieces("degraded", "Degraded", worse, window, most)),
    ]
    groups: dict[Kind, list[tuple[list[Mark], float, float]]] = {"blip": [], "outage": []}
    for group, low, high in _grouped(shown, window, most):
        groups[_kind(group)].append((group, low, high))
    for kind, several in groups.items():
        told = len(several) <= most  # of a shape for all, no part says anything
        drawn.append(
            (
                kind,
                [
                    Piece(
                        kind,
                        _share(low, window),
                        _share(high, window) - _share(low, window),
                        _told(group, low, high, now) if told else "",
                        _only(group) if told else "",
                    )
                    for group, low, high in several
                ],
            )
        )
    seen = union([*observed, *clipped(down, *window)])
    ratio = 1 - length(common(down, seen)) / length(seen) if seen else None
    calm = [(_share(low, window), _share(high, window) - _share(low, window)) for low, high in observed]
    dense: list[tuple[Kind, str]] = [(kind, _path(kind, pieces)) for kind, pieces in drawn if len(pieces) > most]
    if len(calm) > most:
        dense.insert(0, ("up", _path("up", [Piece("up", *at, "") for at in calm])))
        calm = []
    return Strip(
        tuple(calm),
        tuple(piece for _, pieces in drawn if len(pieces) <= most for piece in pieces),
        tuple(dense),
        _summary(shown, worse, unseen, ratio),
        percent(ratio) if ratio is not None else "",
    )


def _share(at: float, window: Span) -> float:
    return 100 * (at - window[0]) / (window[1] - window[0])


def _pieces(kind: Kind, word: str, spans: Sequence[Span], window: Span, most: int) -> list[Piece]:
    joined = _joined(spans, window, most)
    told = len(joined) <= most  # of a shape for all, no part says anything
    return [
        Piece(
            kind,
            _share(low, window),
            _share(high, window) - _share(low, window),
            f"{word} for {span(high - low)}, {_from_to(low, high)}" if told else "",
        )
        for low, high in joined
    ]


def _path(kind: Kind, pieces: Iterable[Piece]) -> str:
    """Many pieces as one shape, in a box of 1000 times 100."""
    top, bottom = HEIGHTS[kind]
    return "".join(
        f"M{10 * p.x:.0f} {top}h{max(10 * p.width, 1):.0f}V{bottom}h-{max(10 * p.width, 1):.0f}z" for p in pieces
    )


def ticks(begin: float, now: float) -> list[tuple[float, str]]:
    """Where (percent) the strip's axis has a date or an hour, UTC."""
    step = next((step for step, reach in _TICKS if now - begin <= reach * 1.01), _TICKS[-1][0])
    at = (int(begin) // step + 1) * step
    if step > 86_400:  # counted back from today, not from 1970
        at = int(now) // 86_400 * 86_400 - int(now - begin) // step * step
    found = []
    while at < now:
        share = 100 * (at - begin) / (now - begin)
        if 5 <= share <= 92:
            moment = datetime.fromtimestamp(at, UTC)
            hours = step < 86_400 and moment.hour
            found.append((share, f"{moment:%H:%M}" if hours else f"{moment.day} {moment:%b}"))
        at += step
    return found


def _end(mark: Mark, now: float) -> float:
    if mark.ongoing:
        return now
    return mark.ended_after if mark.end is None else mark.end


def _clip(low: float, high: float, window: Span) -> Span | None:
    low, high = max(low, window[0]), min(max(high, low), window[1])
    return (low, high) if high >= low else None


def _closeness(count: int, window: Span, most: int) -> float:
    """How near to each other is one: the more there are, the more are drawn as one."""
    return (window[1] - window[0]) * (CLOSE_SHARE if count <= most else CROWDED_SHARE)


def _joined(spans: Sequence[Span], window: Span, most: int) -> list[Span]:
    near = _closeness(len(spans), window, most)
    found: list[Span] = []
    for low, high in spans:
        if found and low - found[-1][1] < near:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def _grouped(shown: Sequence[tuple[Mark, Span]], window: Span, most: int) -> list[tuple[list[Mark], float, float]]:
    near = _closeness(len(shown), window, most)
    found: list[tuple[list[Mark], float, float]] = []
    for mark, (low, high) in sorted(shown, key=lambda item: item[1]):
        if found and low - found[-1][2] < near:
            group, first, last = found[-1]
            group.append(mark)
            found[-1] = (group, first, max(last, high))
        else:
            found.append(([mark], low, high))
    return found


def _kind(group: Sequence[Mark]) -> Kind:
    # What has just begun is not long enough yet to be more than a blip, and is the most urgent of all.
    return "outage" if any(mark.outage_class == "outage" or mark.ongoing for mark in group) else "blip"


def _only(group: Sequence[Mark]) -> str:
    return group[0].id if len(group) == 1 and len(group[0].id) <= ID_MAX else ""


def _told(group: Sequence[Mark], low: float, high: float, now: float) -> str:
    if len(group) > 1:
        return f"{_counts(group)}, {_from_to(low, high)}"
    mark = group[0]
    if mark.ongoing:
        return f"Outage, goes on since {when(mark.start)} UTC"
    seconds = max(0.0, _end(mark, now) - mark.start)
    return f"{mark.outage_class.capitalize()}, {span(seconds)}, {_from_to(mark.start, _end(mark, now))}"


def _from_to(low: float, high: float) -> str:
    first, last = when(low), when(high)
    same_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if same_day else last} UTC"


def _counts(marks: Iterable[Mark]) -> str:
    kinds = [_kind([mark]) for mark in marks]
    outages, blips = kinds.count("outage"), kinds.count("blip")
    texts = [counted(outages, "outage")] if outages else []
    texts += [counted(blips, "blip")] if blips else []
    return ", ".join(texts)


def _rough(seconds: float) -> str:
    """A sum of headlines is no better than their bounds."""
    return span(seconds, smallest=60 if seconds >= 600 else 1)


def _summary(
    shown: Sequence[tuple[Mark, Span]], worse: Sequence[Span], unseen: Sequence[Span], ratio: float | None
) -> str:
    parts = []
    if shown:
        parts.append(f"{_counts(mark for mark, _ in shown)}, {_rough(length(union(at for _, at in shown)))} in all")
        if any(mark.ongoing for mark, _ in shown):
            parts.append("one goes on")
    elif ratio is not None:
        parts.append("no outage")
    if worse:
        parts.append(f"degraded {_rough(length(worse))}")
    if unseen:
        parts.append(f"not observed {_rough(length(unseen))}")
    if ratio is None:
        parts.append("not observed")
    return "; ".join(parts)
