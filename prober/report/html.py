"""A report as one HTML file: availability, plots as inline SVG, outages with their bounds, notes. To read, send, print.

No script, no style sheet, picture or font from elsewhere: a Content-Security-Policy in the file itself forbids them.
Every text goes through `printable`, then through the template's own escaping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log10
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from prober import __version__
from prober.judge.records import Gap
from prober.ledger import Note
from prober.ledger_cli import NOTE_TEXT_MAX, duration, span, when
from prober.printable import printable
from prober.report.fuse import Fused
from prober.report.report import Availability, Key, Record, Report, Vantage
from prober.report.show import available, percent
from prober.report.spans import Span, clipped, length, union, without
from prober.sentence import day

NAME_MAX: Final = 80
LANES_MAX: Final = 40
"""Scopes in the plot over time; the tables have all."""
POINTS_MAX: Final = 500
"""Outages in the plot of durations: the longest."""
TICKS_MAX: Final = 7
WIDTH, LANE, LEFT, RIGHT = 1000.0, 22.0, 210.0, 36.0
PLOT: Final = WIDTH - LEFT - RIGHT
HEIGHT: Final = 220.0
THIN: Final = 1.5
"""Units of the picture: what is shorter is drawn so wide, or a blip of a month's report could not be seen."""
_STEPS: Final = (
    60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000,
    7_776_000, 31_536_000,
)  # fmt: skip
_DECADES: Final = ((1, "1 s"), (60, "1 min"), (3_600, "1 h"), (86_400, "1 d"), (2_592_000, "30 d"))


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in a lane."""

    x: float
    width: float
    kind: str  # outage, peninsula, unseen, edge
    title: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """A scope over time."""

    y: float
    scope: str
    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """An outage in the plot of durations: from least to most, and the headline."""

    x: float
    y: float
    low: float
    high: float
    kind: str
    title: str


def as_html(report: Report) -> str:
    """The whole document."""
    environment = Environment(
        loader=PackageLoader("prober.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["text"] = lambda text: printable(str(text), NAME_MAX)
    environment.filters["long"] = lambda text: printable(str(text), NOTE_TEXT_MAX)
    page = environment.get_template("report.html").render(_values(report))
    return page.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written to a file


def _values(report: Report) -> dict[str, Any]:
    scale = _Scale(report.since, report.until)
    lanes = list(_lanes(report, scale))
    points = list(_points(report.records, scale))
    return {
        "version": __version__,
        "title": f"Reachability, {day(report.since)} to {day(report.until)}",
        "since": when(report.since),
        "until": when(report.until),
        "vantages": [_vantage(one, report) for one in report.vantages],
        "lines": [_line(one) for one in report.availability if one.scope == report.scopes[0]],
        "availability": [available(one, one.name) for one in report.availability],
        "records": [_record(one) for one in report.records],
        "islands": [_island(gap) for gap in report.islands],
        "remarks": [_remark(number, note) for number, note in enumerate(report.remarks, 1)],
        "notes": report.notes,
        "lanes": lanes,
        "lanes_left_out": max(0, len(report.availability) - LANES_MAX),
        "lanes_height": len(lanes) * LANE,
        "ticks": list(_ticks(report.since, report.until, scale)),
        "marks": [Tick(scale.x(max(report.since, note.at)), str(n)) for n, note in enumerate(report.remarks, 1)],
        "points": points,
        "points_left_out": max(0, sum(_drawn(one.fused) for one in report.records) - POINTS_MAX),
        "decades": [Tick(_height(seconds), text) for seconds, text in _DECADES],
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "width": WIDTH,
        "height": HEIGHT,
        "lane": LANE,
    }


class _Scale:
    """From Unix time to the picture."""

    def __init__(self, since: float, until: float) -> None:
        self._since, self._until = since, max(until, since + 1)

    def x(self, at: float) -> float:
        share = (min(max(at, self._since), self._until) - self._since) / (self._until - self._since)
        return round(LEFT + share * PLOT, 1)

    def bar(self, begin: float, end: float, kind: str, title: str = "") -> Bar:
        left, right = self.x(begin), self.x(end)
        wide = max(round(right - left, 1), THIN)
        return Bar(min(left, LEFT + PLOT - wide), wide, kind, title)


def _ticks(since: float, until: float, scale: _Scale) -> Iterator[Tick]:
    """Round moments in UTC, TICKS_MAX at most."""
    step = next((step for step in _STEPS if (until - since) / step <= TICKS_MAX), _STEPS[-1] * 10)
    at = since // step * step
    while at <= until:
        if at >= since:
            text = when(at)
            yield Tick(scale.x(at), text[:10] if step >= 86_400 else f"{text[8:10]}. {text[11:16]}")
        at += step


# -- plots -------------------------------------------------------------------------------------------------------------


def _lanes(report: Report, scale: _Scale) -> Iterator[Lane]:
    records: dict[Key, list[Fused]] = {}
    for record in report.records:
        records.setdefault((record.scope, record.name), []).append(record.fused)
    for place, one in enumerate(report.availability[:LANES_MAX]):
        key = one.scope, one.name
        seen = union(span for vantage in report.vantages for span in vantage.sees(key))
        unseen = without([(report.since, report.until)], clipped(seen, report.since, report.until))
        bars = [scale.bar(*span, "unseen", _title("not observed", span)) for span in _apart(unseen, scale)]
        for fused in records.get(key, ()):
            bars += _bars(fused, report.until, scale)
        yield Lane(place * LANE, one.scope, one.name, tuple(bars))


def _bars(fused: Fused, until: float, scale: _Scale) -> Iterator[Bar]:
    """What is certain in full, and its edges, within which it began and ended, paler."""
    end_at = until if fused.end is None else fused.end.at
    begin = fused.start.at if fused.start.after == -inf else fused.start.after
    end = end_at if fused.end is None or fused.end.by == inf else fused.end.by
    title = f"{fused.kind}, {_title(duration(fused), (fused.start.at, end_at))}"
    if scale.x(end) - scale.x(begin) > 4 * THIN:
        yield scale.bar(begin, end, "edge", title)
        begin, end = min(fused.start.by, end_at), max(fused.start.by, end_at if fused.end is None else fused.end.after)
    yield scale.bar(begin, end, fused.kind, title)


def _apart(spans: Iterable[Span], scale: _Scale) -> list[Span]:
    """Those that the picture cannot hold apart made one: a vantage may have been blind a thousand times."""
    joined: list[Span] = []
    for begin, end in spans:
        if joined and scale.x(begin) - scale.x(joined[-1][1]) < THIN:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def _title(what: str, span_: Span) -> str:
    return f"{what}: {when(span_[0])} to {when(span_[1])} UTC"


def _drawn(fused: Fused) -> bool:
    return fused.duration_seconds is not None


def _points(records: Sequence[Record], scale: _Scale) -> Iterator[Point]:
    over = [one for one in records if _drawn(one.fused)]
    longest = sorted(over, key=lambda one: one.fused.duration_seconds or 0.0, reverse=True)[:POINTS_MAX]
    for one in sorted(longest, key=lambda one: one.fused.start.at):
        fused = one.fused
        seconds = fused.duration_seconds or 0.0
        most = seconds if fused.duration_max_seconds is None else fused.duration_max_seconds
        yield Point(
            scale.x(fused.start.at),
            _height(seconds),
            _height(fused.duration_min_seconds),
            _height(most),
            fused.kind,
            f"{printable(one.name, NAME_MAX)}: {duration(fused)}, {when(fused.start.at)} UTC",
        )


def _height(seconds: float) -> float:
    """From 1 s at the bottom to 30 d at the top, logarithmic."""
    share = log10(min(max(seconds, 1.0), 2_592_000)) / log10(2_592_000)
    return round(HEIGHT * (1 - share), 1)


# -- tables ------------------------------------------------------------------------------------------------------------


def _line(one: Availability) -> dict[str, str]:
    """What matters of a leading scope."""
    outages = "no outage" if not one.outages else "1 outage" if one.outages == 1 else f"{one.outages} outages"
    return {
        "name": one.name,
        "ratio": percent(one.ratio),
        "rest": f"{outages}, {span(one.down_seconds)} in all" if one.outages else outages,
    }


def _record(one: Record) -> dict[str, Any]:
    fused = one.fused
    end = fused.end
    reasons: dict[str, int] = {}
    for witness in fused.witnesses:
        for label, count in witness.failures.items():
            reasons[label] = reasons.get(label, 0) + count
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    return {
        "kind": fused.kind,
        "scope": one.scope,
        "name": one.name,
        "class": "ongoing" if fused.ongoing else str(fused.outage_class) if fused.kind == "outage" else "",
        "start": when(fused.start.at),
        "start_bounds": _bounds(fused.start.after, fused.start.by),
        "end": "goes on" if end is None else "not known" if end.by == inf else when(end.at),
        "end_bounds": "" if end is None else _bounds(end.after, end.by),
        "duration": duration(fused),
        "onset": str(fused.onset)
        + (f" since {when(fused.degraded_since)}" if fused.degraded_since is not None else ""),
        "down": list(fused.down),
        "up": list(fused.up),
        "blind": list(fused.blind),
        "reasons": [f"{label} ({count})" for label, count in most],
    }


def _bounds(after: float, by: float) -> str:
    if after == -inf:
        return f"by {when(by)}"
    if by == inf:
        return f"after {when(after)}"
    low, high = when(after), when(by)
    return f"{low} to {high[11:] if low[:10] == high[:10] else high}"


def _vantage(one: Vantage, report: Report) -> list[str]:
    heard = clipped([(one.first, one.last)], report.since, report.until)
    blind = length(clipped(one.blind(), *heard[0])) if heard else 0.0
    skew = f"{one.skew_seconds:.3g} s" if one.skew_seconds > 0 else "taken as right"
    return [one.name, when(one.first), when(one.last), span(blind) if blind else "none", skew]


def _island(gap: Gap) -> list[str]:
    if gap.end is None:
        return [when(gap.begin), "goes on", gap.vantage, ""]
    return [when(gap.begin), when(gap.end), gap.vantage, span(gap.end - gap.begin)]


def _remark(number: int, note: Note) -> dict[str, str]:
    # The ledger takes no other links; a row that somebody else wrote is shown, and leads nowhere.
    good = note.link.isprintable() and note.link.startswith(("https://", "http://")) and bool(_host(note.link))
    return {
        "number": str(number),
        "at": when(note.at),
        "until": "" if note.until is None else when(note.until),
        "entity": note.entity,
        "text": note.text,
        "source": note.source,
        "link": note.link if good else "",
        "shown": note.link,
    }


def _host(link: str) -> str:
    try:
        return urlsplit(link).hostname or ""
    except ValueError:
        return ""
