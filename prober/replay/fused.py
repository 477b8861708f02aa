"""What the vantages of a replayed world saw together, as `prober report` says it of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prober.judge.records import Scope
from prober.replay.run import Replayed
from prober.report.report import Record, Vantage, report
from prober.report.show import LEADING_COLUMNS, recorded, table
from prober.scopes import scope_labels


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
