"""Records for tests of the ledger, and an agent's life with it in few words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prober.judge.records import Gap, GapCause, Outage, Scope, StateChanged, Verdict
from prober.ledger import Ledger

BEGIN = 1_419_264_900.0
"""2014-12-22T16:15:00Z"""


def outage(name: str = "star-kp-176", begin: float = BEGIN, scope: Scope = "network", **changes: Any) -> Outage:
    """An outage that was opened at `begin`, one probe interval wide."""
    first = Outage(
        id=f"{scope}:{name}:{round(begin * 1000)}",
        vantage="hanover",
        scope=scope,
        name=name,
        entity="north-korea",
        started_after=begin - 30,
        started_by=begin + 30,
        start=begin,
        detected_at=begin + 60,
        ended_after=begin + 60,
        failures={"receive/timeout": 3},
        members={"up": 0, "down": 2, "unknown": 1},
        frozen=("175.45.176.71", "kcna.kp"),
    )
    return replace(first, **changes)


def ended(opened: Outage, seconds: float, **changes: Any) -> Outage:
    """The same, over after `seconds` (headline), give or take 30 s."""
    end = opened.start + seconds
    last = max(end - 30, opened.ended_after)
    return replace(opened, ended_after=last, ended_by=end + 30, end=end, ongoing=False, **changes)


def gap(begin: float = BEGIN, end: float | None = None, cause: GapCause = GapCause.OFFLINE) -> Gap:
    """A gap from `begin` on."""
    return Gap(f"{cause}:{round(begin * 1000)}", "hanover", begin, end, cause, references=("r1", "r2"))


def state(
    name: str, verdict: Verdict, at: float, *, held: bool | None = None, scope: Scope = "network"
) -> StateChanged:
    """A change of verdict. `held`: what `up` says of unknown and partial."""
    up = verdict is Verdict.UP if verdict in (Verdict.UP, Verdict.DOWN) else held
    return StateChanged(scope, name, "north-korea", verdict, up, at)


@asynccontextmanager
async def opened(directory: Path, *, now: float = 1000.0, utc: float = BEGIN, **options: Any) -> AsyncIterator[Ledger]:
    """A ledger for the length of a block, quick to try again."""
    quick: dict[str, Any] = {"boot": "boot-1", "retry_seconds": 0.05}
    ledger = await Ledger.open(directory, now=now, utc=utc, **(quick | options))
    try:
        yield ledger
    finally:
        await ledger.close()
