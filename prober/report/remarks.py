"""Notes from outside for a report: of several vantages, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Final

from prober.ledger.notes import NOTES_MAX, Note, notes_of
from prober.report.prometheus import Prometheus
from prober.report.report import Report

QUERY: Final = "max by (entity, text, source) (last_over_time(prober_note_timestamp_seconds[1d]))"


def of_ledgers(paths: Iterable[Path]) -> list[Note]:
    """The notes in these ledgers. Raises LedgerError."""
    return [note for path in paths for note in notes_of(path, limit=NOTES_MAX)]


async def of_prometheus(server: Prometheus, until: float) -> list[Note]:
    """The newest notes of each vantage, as it exported them last; without links and ends. Raises PrometheusError."""
    return [
        Note(
            id="",
            at=series.samples[-1][1],
            until=None,
            entity=series.labels.get("entity", ""),
            text=series.labels.get("text", ""),
            source=series.labels.get("source", ""),
            link="",
            added_at=series.samples[-1][1],
        )
        for series in await server.instant(QUERY, until)
        if series.samples
    ]


def about(report: Report, notes: Sequence[Note]) -> tuple[Note, ...]:
    """Those about the report's time and what it shows, oldest first, the same of several vantages once."""
    entities = {one.entity for one in report.availability} | {one.entity for one in report.records} | {""}
    found = {
        (note.at, note.until, note.entity, note.text, note.source, note.link): note
        for note in notes
        if note.entity in entities
        and note.at <= report.until
        and (note.at if note.until is None else note.until) >= report.since
    }
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or inf, *key[2:])))
