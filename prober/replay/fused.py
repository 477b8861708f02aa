"""What the vantages of a replayed world saw together, as `prober report` says it of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prober.judge.records import Scope
from prober.ledger_cli import duration, when
from prober.printable import printable
from prober.replay.run import Replayed
from prober.report.report import Record, Vantage, report
from prober.report.show import LEADING_COLUMNS, class_of, recorded, table
from prober.scopeviews import scope_labels

NARROW_COLUMNS: Final = 76
"""Below this width there is room for what happened, and not for who saw it."""


def fused(replayed: Replayed) -> list[Record]:
    """The fused outages and peninsulas of every scope, oldest first."""
    return list(report(_vantages(replayed), scopes=get_args(Scope)).records)


def fused_lines(replayed: Replayed) -> Iterator[str]:
    """Those of entities, networks and sites, as `prober report` prints them."""
    found = report(_vantages(replayed)).records
    if not found:
        yield "no outages"
        return
    yield from table(LEADING_COLUMNS, [recorded(one) for one in found])


def print_fused(replayed: Replayed, console: Console) -> None:
    """Those lines; in a terminal that is narrower than they are, a table that folds, of fewer columns."""
    lines = [Text(line) for line in fused_lines(replayed)]
    if not console.is_terminal or max(line.cell_len for line in lines) <= console.width:
        for line in lines:
            console.print(line, soft_wrap=True)
        return
    narrow = console.width < NARROW_COLUMNS
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown.add_column("start (UTC)", min_width=10)
    for title in ("what",) if narrow else ("kind", "scope", "name"):
        shown.add_column(title, overflow="fold", no_wrap=title in ("kind", "scope"))
    shown.add_column("duration", min_width=10)
    shown.add_column("class", no_wrap=True)
    for title in () if narrow else ("down from", "up from"):
        shown.add_column(title, overflow="fold")
    for one in report(_vantages(replayed)).records:
        seen = one.fused
        what = (str(seen.kind), one.scope, printable(one.name))
        names = [", ".join(map(printable, vantages)) or "-" for vantages in (seen.down, seen.up)]
        shown.add_row(
            when(seen.start.at),
            *map(Text, (" ".join(what),) if narrow else what),
            duration(seen),
            class_of(seen),
            *map(Text, () if narrow else names),
        )
    console.print(shown)


def _vantages(replayed: Replayed) -> list[Vantage]:
    world = replayed.world
    keys = scope_labels(world.entities)
    return [
        Vantage(
            one.vantage,
            tuple(one.outages),
            tuple(one.gaps),
            world.start,
            world.end,
            seen={key: ((world.start, world.end),) for key in keys if key not in one.never_up},
        )
        for one in replayed.witnesses
    ]
