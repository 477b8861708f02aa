"""A process that lives on a ledger until it is killed: opens and closes outages, and says what was acknowledged.

    python -m tests.contract.ledger_agent DATA_DIR FIRST_NUMBER

On stdout, each flushed: `opening N`, `opened N`, `closing N`, `closed N`, `shown SECONDS` (what a metric would say).
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

from prober.judge.records import GapCause, GapClosed, OutageClosed, OutageOpened, Verdict
from prober.ledger import Ledger
from tests.ledgers import BEGIN, ended, gap, outage, state

SECONDS = 540.0
"""Certain in every outage that this process closes."""


def say(text: str) -> None:
    print(text, flush=True)


async def live(directory: Path, number: int) -> None:
    ledger = await Ledger.open(directory, now=time.monotonic(), utc=time.time(), boot="one")
    if ledger.absence is not None:
        begin = ledger.absence.begin
        ledger.record([GapClosed(gap(begin, begin + ledger.absence.seconds, GapCause.STOPPED))])
    ledger.track([state("n", Verdict.UP, 0.0)], time.monotonic())
    for open_ in ledger.restore().open_outages:  # they go on, and end now
        await ledger.append([OutageClosed(ended(open_, 600))])
    while True:
        one = outage("n", BEGIN + 1000 * number)
        say(f"opening {number}")
        await ledger.append([OutageOpened(one)])
        say(f"opened {number}")
        ledger.snapshot({"checks": {str(n): list(range(100)) for n in range(number % 50)}}, time.time())
        ledger.heartbeat(time.monotonic(), time.time(), [replace(one, ended_after=BEGIN + 1000 * number + 300)])
        say(f"closing {number}")
        await ledger.append([OutageClosed(ended(one, 600))])
        say(f"closed {number}")
        say(f"shown {ledger.totals('network', 'n').outage_seconds}")
        number += 1


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
