"""`prober report`: from where, from when to when, in what form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from prober.judge.records import Scope
from prober.ledger import Note
from prober.ledger_cli import span
from prober.printable import printable
from prober.report import remarks
from prober.report.history import from_prometheus
from prober.report.ledgers import from_ledgers
from prober.report.prometheus import Access, Prometheus
from prober.report.report import LEADING, ORDER, Report, Vantage, report, with_skew
from prober.report.show import as_csv, as_json, as_markdown

PROMETHEUS_SINCE_SECONDS: Final = 30 * 86_400.0
"""How far back a Prometheus is asked unless `--since` says otherwise."""
NAMES_SHOWN: Final = 12


class NoSuchName(Exception):
    """Nothing on record has the name that was asked for; the text is one line."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for. Times are Unix seconds."""

    since: float | None = None
    until: float | None = None
    scopes: tuple[Scope, ...] = ()
    name: str | None = None
    skew_seconds: float = 0.0


def of_ledgers(paths: Sequence[Path], question: Question) -> Report:
    """The report over these ledgers. Raises LedgerError and NoSuchName."""
    if question.skew_seconds:
        words = f"clocks were taken to be off by {span(question.skew_seconds)} at most (--clock-skew)"
    else:
        words = "clocks were taken as right; --clock-skew says by how much they may be off"
    notes = [f"a ledger does not say how far its vantage's clock was off: {words}."]
    vantages = from_ledgers(paths)
    _known(vantages, question)
    found = _report(vantages, question, question.since, question.until, notes)
    return replace(found, remarks=remarks.about(found, remarks.of_ledgers(paths)))


def of_prometheus(access: Access, question: Question) -> Report:
    """The report over what a Prometheus has. Raises PrometheusError and NoSuchName."""
    until = time.time() if question.until is None else min(question.until, time.time())
    since = until - PROMETHEUS_SINCE_SECONDS if question.since is None else question.since
    vantages, notes, noted = asyncio.run(_asked(access, since, until, question.scopes, question.name))
    _known(vantages, question)
    if any(ORDER[scope] >= ORDER["target"] for scope in question.scopes):
        notes.append("Prometheus does not hold the bounds of targets and checks; ledgers do (--ledger).")
    found = _report(vantages, question, since, until, notes)
    return replace(found, remarks=remarks.about(found, noted))


def _known(vantages: Sequence[Vantage], question: Question) -> None:
    """Refuse a name that nothing has: empty tables would read as if all were well."""
    if question.name is None or not vantages:
        return
    keys = {key for one in vantages for key in (*(one.seen or ()), *one.entities)}
    keys |= {(outage.scope, outage.name) for one in vantages for outage in one.outages}
    asked = question.scopes or LEADING
    if any(scope in asked and name == question.name for scope, name in keys):
        return
    words = f'nothing of scope {" or ".join(asked)} has the name "{printable(question.name)[:100]}"'
    if others := [scope for scope in get_args(Scope) if (scope, question.name) in keys]:
        raise NoSuchName(f"{words}; there is a {others[0]} of that name: --scope {others[0]}")
    names = sorted({name for scope, name in keys if scope in asked})
    if 0 < len(names) <= NAMES_SHOWN:
        words += f"; there is {', '.join(printable(name)[:100] for name in names)}"
    raise NoSuchName(words)


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
