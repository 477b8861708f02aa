"""`prober report`: from where, from when to when, in what form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from prober.judge.records import Scope
from prober.ledger import Note
from prober.ledger_cli import span
from prober.report import remarks
from prober.report.history import from_prometheus
from prober.report.ledgers import from_ledgers
from prober.report.prometheus import Access, Prometheus
from prober.report.report import ORDER, Report, Vantage, report, with_skew
from prober.report.show import as_csv, as_json, as_markdown

PROMETHEUS_SINCE_SECONDS: Final = 30 * 86_400.0
"""How far back a Prometheus is asked unless `--since` says otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for. Times are Unix seconds."""

    since: float | None = None
    until: float | None = None
    scopes: tuple[Scope, ...] = ()
    name: str | None = None
    skew_seconds: float = 0.0


def of_ledgers(paths: Sequence[Path], question: Question) -> Report:
    """The report over these ledgers. Raises LedgerError."""
    if question.skew_seconds:
        words = f"clocks were taken to be off by {span(question.skew_seconds)} at most (--clock-skew)"
    else:
        words = "clocks were taken as right; --clock-skew says by how much they may be off"
    notes = [f"a ledger does not say how far its vantage's clock was off: {words}."]
    found = _report(from_ledgers(paths), question, question.since, question.until, notes)
    return replace(found, remarks=remarks.about(found, remarks.of_ledgers(paths)))


def of_prometheus(access: Access, question: Question) -> Report:
    """The report over what a Prometheus has. Raises PrometheusError."""
    until = time.time() if question.until is None else min(question.until, time.time())
    since = until - PROMETHEUS_SINCE_SECONDS if question.since is None else question.since
    vantages, notes, noted = asyncio.run(_asked(access, since, until, question.scopes, question.name))
    if any(ORDER[scope] >= ORDER["target"] for scope in question.scopes):
        notes.append("Prometheus does not hold the bounds of targets and checks; ledgers do (--ledger).")
    found = _report(vantages, question, since, until, notes)
    return replace(found, remarks=remarks.about(found, noted))


async def _asked(
    access: Access, since: float, until: float, scopes: Collection[Scope], name: str | None
) -> tuple[list[Vantage], list[str], list[Note]]:
    async with Prometheus(access) as server:
        vantages, notes = await from_prometheus(server, since=since, until=until, scopes=scopes, name=name)
        return vantages, notes, await remarks.of_prometheus(server, until)


def _report(
    vantages: Sequence[Vantage], question: Question, since: float | None, until: float | None, notes: Sequence[str]
) -> Report:
    return report(
        with_skew(vantages, question.skew_seconds),
        since=since,
        until=until,
        scopes=question.scopes,
        name=question.name,
        notes=notes,
    )


def rendered(found: Report, form: str) -> str:
    """The report as `md`, `html`, `csv` or `json`."""
    if form == "html":
        from prober.report.html import as_html  # the templates' library is not loaded for the others

        return as_html(found)
    return {"md": as_markdown, "csv": as_csv, "json": as_json}[form](found)
