"""Outages as `prober outages` prints them: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Final, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prober.judge.records import Gap, Onset, Outage, OutageClass, rfc3339
from prober.ledger import Note
from prober.printable import printable

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_MINUTES_ENOUGH_SECONDS: Final = 30.0
"""Bounds this far from the headline or further: its seconds say nothing."""
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for a formula (OWASP, CSV injection)."""
NAME_MAX: Final = 200
NOTE_TEXT_MAX: Final = 2_000
"""What a note may have is kept whole; a row that somebody else wrote is cut."""
NOTES_SHOWN: Final = 20
_PIPE_COLUMNS: Final = 200
_WIDE_COLUMNS: Final = 120
"""From this width on, nothing needs to be wrapped."""
_LABEL_ENOUGH: Final = 15
"""`connect/timeout`: so much of a failure has room on one line"""
_LABEL_COLUMNS: Final = 100
"""from this width on."""
_ALL_COLUMNS: Final = 80
"""Below this width there is no room for onset and failures."""
_NARROW_COLUMNS: Final = 60
"""Below this one, what was unreachable is one column."""


class Lasting(Protocol):
    """What has a duration with bounds: one vantage's outage, or what several made of it."""

    @property
    def ongoing(self) -> bool: ...

    @property
    def duration_seconds(self) -> float | None: ...

    @property
    def duration_min_seconds(self) -> float: ...

    @property
    def duration_max_seconds(self) -> float | None: ...


def span(seconds: float, *, smallest: int = 1) -> str:
    """`4.2 s`, `31 s`, `12 min 5 s`, `9 h 31 min`, `2 d 4 h`: rounded to `smallest` seconds, from 10 h on to more."""
    if seconds < 9.95 and smallest == 1:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    rest = round(seconds / smallest) * smallest
    if rest >= 86_400:  # two units: beyond a day they end with hours
        rest = round(seconds / 3_600) * 3_600
    elif rest >= 3_600 and smallest < 60 and rest >= 36_000:
        rest = round(seconds / 60) * 60
    parts = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or f"0 {'s' if smallest == 1 else 'min'}"


def duration(outage: Lasting) -> str:
    """The headline with how far the truth may be from it: `9 h 31 min (±30 s)`.

    `9 h so far` while it goes on (what is certain), `at least 9 h` where a bound is missing.
    """
    headline, longest = outage.duration_seconds, outage.duration_max_seconds
    if outage.ongoing:
        return f"{_at_least(outage)} so far"
    if headline is None:
        return f"at least {_at_least(outage)}"
    if longest is None:
        return f"{span(headline)} (at least {_at_least(outage)})"
    error = max(headline - outage.duration_min_seconds, longest - headline, 0.0)
    coarse = error >= _MINUTES_ENOUGH_SECONDS and headline >= 60
    return f"{span(headline, smallest=60 if coarse else 1)} (±{_error(error)})"


def _at_least(outage: Lasting) -> str:
    """What is certain, rounded down."""
    return _rounded_down(outage.duration_min_seconds)


def _rounded_down(seconds: float) -> str:
    size = 60 if seconds >= 3_600 else 1
    return span(max(0.0, seconds) // size * size)


def _error(seconds: float) -> str:
    """Rounded up: bounds may be called wider than they are, never narrower."""
    if seconds < 10:
        return span(ceil(seconds * 10) / 10)
    size, unit = next(((size, unit) for size, unit in reversed(_UNITS) if seconds <= 100 * size), _UNITS[0])
    return f"{ceil(seconds / size)} {unit}"


def when(utc: float) -> str:
    """`2014-12-22 16:15:00`, UTC."""
    return (rfc3339(float(round(utc))) or "").replace("T", " ").removesuffix("Z")


def outages_table(outages: Iterable[Outage], *, width: int, now: float | None = None) -> Table:
    """A table that fits into `width` characters (40 or more), without cutting anything but long names.

    With the vantage if there are several; below 80 without onset and failures. What goes on is counted up to `now`
    (Unix seconds), as `prober status` counts it; without it, as far as it is certain.
    """
    outages = list(outages)
    several = len({outage.vantage for outage in outages}) > 1
    label_max = _LABEL_ENOUGH if width >= _LABEL_COLUMNS else 0
    wide, all_columns, narrow = width >= _WIDE_COLUMNS, width >= _ALL_COLUMNS, width < _NARROW_COLUMNS
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="bold")
    table.add_column("start (UTC)", no_wrap=wide, min_width=10)
    if narrow:
        table.add_column("what", overflow="fold")
    else:
        if several:
            table.add_column("vantage", overflow="fold")
        table.add_column("scope", no_wrap=True)
        table.add_column("name", overflow="fold", ratio=None if wide else 1)
    table.add_column("duration", no_wrap=wide, min_width=10 if narrow else 12)
    table.add_column("class", no_wrap=True)
    if all_columns:
        table.add_column("onset", no_wrap=wide, min_width=6)
        table.add_column("failures", min_width=10, overflow="fold")
    for outage in outages:
        vantage = [Text(printable(outage.vantage))] if several else []
        what = [*vantage, Text(outage.scope), Text(printable(outage.name), style="bold")]
        late = [
            Text(str(outage.onset), style="yellow" if outage.onset is Onset.PROGRESSIVE else ""),
            Text(_failures(outage.failures, 1_000 if wide else label_max)),
        ]
        table.add_row(
            Text(when(outage.start)),
            *([Text(" ").join(what)] if narrow else what),
            Text(_so_far(outage, now), style="bold red") if outage.ongoing else Text(duration(outage)),
            _class(outage),
            *(late if all_columns else []),
        )
    return table


def _class(outage: Outage) -> Text:
    if outage.ongoing:
        return Text("ONGOING", style="bold red")
    return Text(str(outage.outage_class), style="red" if outage.outage_class is OutageClass.OUTAGE else "dim")


def _so_far(outage: Outage, now: float | None) -> str:
    return duration(outage) if now is None else f"{_rounded_down(now - outage.start)} so far"


def _failures(failures: Mapping[str, int], label_max: int) -> str:
    """The most frequent ones. One that is longer than `label_max` has its operation on a line of its own."""
    most = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    labels = [printable(label) for label, _ in most[:2]]
    labels = [label if len(label) <= label_max else label.replace("/", "/\n") for label in labels]
    shown = ", ".join(f"{label} {count}" for label, (_, count) in zip(labels, most, strict=False))
    return shown + (f", +{len(most) - 2}" if len(most) > 2 else "")


def print_outages(
    outages: Sequence[Outage],
    gaps: Sequence[Gap],
    console: Console,
    notes: Sequence[Note] = (),
    now: float | None = None,
) -> None:
    """The table, a line on what this vantage could not see, and the notes. In a pipe: a line for each outage.

    `now` as in `outages_table`.
    """
    if outages:
        page = console if console.is_terminal else Console(file=console.file, width=_PIPE_COLUMNS, color_system=None)
        page.print(outages_table(outages, width=page.width, now=now))
    else:
        console.print("no outages", highlight=False)
    vantages = sorted({outage.vantage for outage in outages} | {gap.vantage for gap in gaps})
    for vantage in vantages:
        if line := blind_line(gap for gap in gaps if gap.vantage == vantage):
            where = f"{printable(vantage)}: " if len(vantages) > 1 else ""
            console.print(Text(f"{where}{line}", style="dim"), soft_wrap=not console.is_terminal)
    if notes:
        console.print(Text("notes from outside (UTC):", style="bold"))
        print_notes(notes[:NOTES_SHOWN], console)
        if len(notes) > NOTES_SHOWN:
            console.print(f"and {len(notes) - NOTES_SHOWN} more: prober note --list", style="dim")


def note_line(note: Note) -> Text:
    """`2014-12-22 18:00:00  north-korea  Dyn Research: ... (source, link)  [1a2b3c4d]`."""
    line = Text(when(note.at))
    if note.until is not None:
        line.append(f" to {when(note.until)}")
    line.append(f"  {printable(note.entity, NAME_MAX) or 'all'}", style="bold")
    line.append(f"  {printable(note.text, NOTE_TEXT_MAX)}")
    if where := ", ".join(printable(text, NOTE_TEXT_MAX) for text in (note.source, note.link) if text):
        line.append(f" ({where})", style="dim")
    return line.append(f"  [{printable(note.id, NAME_MAX)}]", style="dim")


def print_notes(notes: Iterable[Note], console: Console) -> None:
    """A line for each; a terminal breaks it between words."""
    for note in notes:
        console.print(note_line(note), soft_wrap=not console.is_terminal)


def blind_line(gaps: Iterable[Gap]) -> str:
    """`nothing known in 3 gaps (offline 2, stopped 1), 12 min in all`; empty if there was none."""
    causes: dict[str, int] = {}
    seconds, going_on = 0.0, False
    for gap in gaps:
        if gap.end == gap.begin:  # a clock step: nothing was missed
            continue
        causes[str(gap.cause)] = causes.get(str(gap.cause), 0) + 1
        seconds += 0.0 if gap.end is None else max(0.0, gap.end - gap.begin)
        going_on |= gap.end is None
    if not causes:
        return ""
    count = sum(causes.values())
    listed = ", ".join(f"{cause} {number}" for cause, number in sorted(causes.items()))
    tail = ", one goes on" if going_on else ""
    where = f"{count} {'gap' if count == 1 else 'gaps'} ({listed})"
    return f"nothing known in {where}, {span(seconds)} in all{tail}"


def as_json(outages: Iterable[Outage]) -> str:
    """A list, as /api/v1/outages has it."""
    return json.dumps([outage.to_json() for outage in outages], indent=2, ensure_ascii=False)


CSV_COLUMNS: Final = (
    "start", "end", "scope", "name", "entity", "vantage", "class", "ongoing", "duration_seconds",
    "duration_min_seconds", "duration_max_seconds", "started_after", "started_by", "ended_after", "ended_by",
    "detected_at", "onset", "degraded_since", "restored_first", "restored_full", "flaps", "unobserved_seconds",
    "failures", "members", "note", "id",
)  # fmt: skip
"""Everything that an outage's JSON has, what people look for first."""


def as_csv(outages: Iterable[Outage]) -> str:
    """RFC 4180, with a header; empty where a value is not known. No cell is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for outage in outages:
        values = outage.to_json()
        writer.writerow([cell(values[column]) for column in CSV_COLUMNS])
    return text.getvalue()


def cell(value: Any) -> str | int | float:
    """A value as a cell of CSV: no text is a formula to a spreadsheet, none has control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        value = " ".join(f"{key}={count}" for key, count in value.items())
    text = printable(str(value))
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
