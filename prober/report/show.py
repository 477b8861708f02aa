"""A report as Markdown that reads well in a terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, isfinite
from typing import Any, Final

from prober.judge.records import Gap, rfc3339
from prober.ledger import Note
from prober.ledger_cli import NOTE_TEXT_MAX, cell, duration, span, when
from prober.printable import printable
from prober.report.fuse import Fused
from prober.report.report import Availability, Record, Report, Vantage
from prober.report.spans import clipped, length

_MARKDOWN: Final = re.compile(r"[\\`*\[\]<>|#&!~]")
_NAME_MAX: Final = 60

LEADING_COLUMNS: Final = (
    "start (UTC)", "kind", "scope", "name", "duration", "class", "onset", "down from", "up from", "blind",
)  # fmt: skip
CSV_COLUMNS: Final = (
    "start", "end", "kind", "scope", "name", "entity", "class", "ongoing", "duration_seconds", "duration_min_seconds",
    "duration_max_seconds", "started_after", "started_by", "ended_after", "ended_by", "onset", "degraded_since",
    "down", "up", "blind", "unobserved_seconds",
)  # fmt: skip


def as_markdown(report: Report) -> str:
    """Tables with aligned columns: a document, and readable as it is."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    yield f"# Reachability from {when(report.since)} to {when(report.until)} UTC"
    yield ""
    yield from _vantages(report)
    yield ""
    yield "## Availability"
    yield ""
    if report.availability:
        columns = (
            "scope",
            "name",
            "availability",
            "bounds",
            "outages",
            "time in outages",
            "peninsulas",
            "not observed",
        )
        yield from table(columns, [available(one, name_of(one.name)) for one in report.availability])
        yield ""
        yield "Of the time in which any vantage could see. What nobody saw counts neither as up nor as down."
    else:
        yield "Nothing was observed."
    yield ""
    yield "## Outages and peninsulas"
    yield ""
    if report.records:
        yield from table(LEADING_COLUMNS, [recorded(one) for one in report.records])
    else:
        yield "None."
    yield ""
    yield "## Islands"
    yield ""
    if report.islands:
        yield "A vantage was cut off and saw nothing: its own trouble, nobody's outage."
        yield ""
        yield from table(("from (UTC)", "to (UTC)", "vantage", "duration"), [_island(gap) for gap in report.islands])
    else:
        yield "None."
    if report.remarks:
        yield ""
        yield "## Notes from outside"
        yield ""
        yield "What people have said of that time. Nothing above depends on it."
        yield ""
        yield from table(("from (UTC)", "to (UTC)", "entity", "note", "source"), map(_remark, report.remarks))
    for note in report.notes:
        yield ""
        yield f"Note: {note}"


def _vantages(report: Report) -> Iterator[str]:
    if not report.vantages:
        yield "No vantage has anything on record."
        return
    rows = []
    for one in report.vantages:
        heard = clipped([(one.first, one.last)], report.since, report.until)
        blind = length(clipped(one.blind(), *heard[0])) if heard else 0.0
        rows.append(
            (
                name_of(one.name),
                when(one.first),
                when(one.last),
                span(blind) if blind else "none",
                _skew(one),
            )
        )
    yield from table(("vantage", "first word (UTC)", "last word (UTC)", "blind", "clock off by at most"), rows)


def _skew(vantage: Vantage) -> str:
    if vantage.skew_seconds <= 0:
        return "taken as right"
    if vantage.skew_seconds < 1:
        return f"{ceil(vantage.skew_seconds * 1000)} ms"
    return span(ceil(vantage.skew_seconds * 10) / 10)


def available(one: Availability, name: str) -> tuple[str, ...]:
    """A line of the table of availability; `name` is escaped for where it stands."""
    bounds = "" if one.ratio is None else f"{percent(one.ratio_min)} to {percent(one.ratio_max)}"
    return (
        one.scope,
        name,
        percent(one.ratio),
        bounds,
        str(one.outages),
        span(one.down_seconds) if one.down_seconds else "none",
        f"{one.peninsulas}, {span(one.peninsula_seconds)}" if one.peninsulas else "0",
        span(one.unobserved_seconds) if one.unobserved_seconds >= 0.05 else "none",
    )


def percent(share: float | None) -> str:
    """`99.982 %`; never 100 % for less than that."""
    if share is None:
        return "not observed"
    if share >= 1.0:
        return "100 %"
    return f"{min(100 * share, 99.999):.3f} %"


def recorded(one: Record) -> tuple[str, ...]:
    """A record as a row of LEADING_COLUMNS."""
    fused = one.fused
    return (
        when(fused.start.at),
        fused.kind,
        one.scope,
        name_of(one.name),
        duration(fused),
        class_of(fused),
        str(fused.onset),
        _names(fused.down),
        _names(fused.up),
        _names(fused.blind),
    )


def class_of(fused: Fused) -> str:
    """As tables say it. A peninsula that lasted is none of class `outage` to a reader."""
    if fused.ongoing:
        return "ONGOING"
    return "-" if fused.kind == "peninsula" and fused.outage_class == "outage" else str(fused.outage_class)


def _island(gap: Gap) -> tuple[str, ...]:
    if gap.end is None:
        return when(gap.begin), "goes on", name_of(gap.vantage), "ONGOING"
    return when(gap.begin), when(gap.end), name_of(gap.vantage), span(gap.end - gap.begin)


def _remark(note: Note) -> tuple[str, ...]:
    where = ", ".join(text_of(text, NOTE_TEXT_MAX) for text in (note.source, note.link) if text)
    until = "" if note.until is None else when(note.until)
    return when(note.at), until, name_of(note.entity) or "all", text_of(note.text, NOTE_TEXT_MAX), where


def _names(vantages: Iterable[str]) -> str:
    return ", ".join(map(name_of, vantages)) or "-"


def name_of(text: str) -> str:
    """A name as Markdown text: nothing in it is markup, or steers a terminal."""
    return text_of(text, _NAME_MAX)


def text_of(text: str, length_max: int) -> str:
    """Any text as Markdown text of so many characters at most."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", printable(text, length_max))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table with columns that line up in a terminal."""
    everything = [list(columns), *map(list, rows)]
    widths = [max(_width(row[place]) for row in everything) for place in range(len(columns))]

    def line(cells: Iterable[str]) -> str:
        padded = (text + " " * (width - _width(text)) for text, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    yield line(everything[0])
    yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    for row in everything[1:]:
        yield line(row)


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


# -- for programs ------------------------------------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON-able values; times RFC 3339 in UTC, durations in seconds, null: not known."""
    return {
        "since": rfc3339(report.since),
        "until": rfc3339(report.until),
        "scopes": list(report.scopes),
        "vantages": [
            {
                "vantage": one.name,
                "first": rfc3339(one.first),
                "last": rfc3339(one.last),
                "clock_skew_seconds": one.skew_seconds,
                "gaps": [gap.to_json() for gap in sorted(one.gaps, key=lambda gap: gap.begin)],
            }
            for one in report.vantages
        ],
        "outages": fused_json(report.records),
        "islands": [gap.to_json() for gap in report.islands],
        "availability": [
            {
                "scope": one.scope,
                "name": one.name,
                "entity": one.entity,
                "availability": one.ratio,
                "availability_min": one.ratio_min,
                "availability_max": one.ratio_max,
                "observed_seconds": _seconds(one.observed_seconds),
                "unobserved_seconds": _seconds(one.unobserved_seconds),
                "outage_seconds": _seconds(one.down_seconds),
                "outage_min_seconds": _seconds(one.down_min_seconds),
                "outage_max_seconds": _seconds(one.down_max_seconds),
                "peninsula_seconds": _seconds(one.peninsula_seconds),
                "outages": one.outages,
                "peninsulas": one.peninsulas,
            }
            for one in report.availability
        ],
        "notes": list(report.notes),
        "remarks": [note.to_json() for note in report.remarks],
    }


def fused_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Fused outages and peninsulas; `witnesses`: what each vantage says itself."""
    return [_record_json(one) for one in records]


def _record_json(one: Record) -> dict[str, Any]:
    fused = one.fused
    end = fused.end
    return {
        "kind": fused.kind,
        "scope": one.scope,
        "name": one.name,
        "entity": one.entity,
        "started_after": rfc3339(fused.start.after),
        "started_by": rfc3339(fused.start.by),
        "ended_after": rfc3339(fused.certain_until if end is None else end.after),
        "ended_by": None if end is None else rfc3339(end.by),
        "start": rfc3339(fused.start.at),
        "end": rfc3339(end.at) if end is not None and isfinite(end.by) else None,
        "duration_seconds": _seconds(fused.duration_seconds),
        "duration_min_seconds": _seconds(fused.duration_min_seconds),
        "duration_max_seconds": _seconds(fused.duration_max_seconds),
        "class": str(fused.outage_class),
        "onset": str(fused.onset),
        "degraded_since": rfc3339(fused.degraded_since),
        "ongoing": fused.ongoing,
        "unobserved_seconds": _seconds(fused.unobserved_seconds),
        "down": list(fused.down),
        "up": list(fused.up),
        "blind": list(fused.blind),
        "witnesses": [
            {
                "vantage": seen.vantage,
                "started_after": rfc3339(seen.started_after),
                "started_by": rfc3339(seen.started_by),
                "ended_after": rfc3339(seen.ended_after),
                "ended_by": rfc3339(seen.ended_by),
                "duration_seconds": _seconds(seen.duration_seconds),
            }
            for seen in fused.witnesses
        ],
    }


def _seconds(value: float | None) -> float | None:
    """To the millisecond, as times are."""
    return None if value is None else round(value, 3)


def as_json(report: Report) -> str:
    """`to_json`, printed."""
    text = json.dumps(to_json(report), indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.split("\n"))) + "\n"  # within a text, an escape means the same


def as_csv(report: Report) -> str:
    """RFC 4180, with a header: outages, peninsulas, and islands (their name is the vantage's)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    rows = [(one.fused.start.at, _record_json(one)) for one in report.records]
    rows += [(gap.begin, _island_json(gap)) for gap in report.islands]
    for _, values in sorted(rows, key=lambda row: row[0]):
        writer.writerow([cell(_joined(values.get(column))) for column in CSV_COLUMNS])
    return text.getvalue()


def _joined(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


def _island_json(gap: Gap) -> dict[str, Any]:
    return {
        "kind": "island",
        "scope": "vantage",
        "name": gap.vantage,
        "start": rfc3339(gap.begin),
        "end": rfc3339(gap.end),
        "ongoing": gap.end is None,
        "duration_seconds": _seconds(None if gap.end is None else gap.end - gap.begin),
        "down": [],
        "up": [],
        "blind": [gap.vantage],
    }
