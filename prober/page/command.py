"""`prober page`: the status page of a ledger, without an agent and without a probe."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prober.model import Entity
from prober.page.ledger import open_ledger
from prober.page.site import Site
from prober.web import PageOnly, WebConfig, WebFace


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown, and where."""

    ledger: Path
    entities: tuple[Entity, ...] = ()
    vantage: str | None = None
    at: float | None = None  # Unix time; None: as of the ledger's last word
    host: str = "127.0.0.1"
    port: int = 9911
    web: WebConfig | None = None


async def serve(wanted: Wanted, told: Callable[[list[str], float, str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `told` learns where, as of when and of which vantage it is.

    Raises LedgerError and prober.web.CannotListen.
    """
    source = open_ledger(wanted.ledger, wanted.entities, wanted.vantage, wanted.at)
    facts = source.facts()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with WebFace(PageOnly(Site(source)), wanted.web) as face:
        await face.start(wanted.host, wanted.port)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            told(face.urls, facts.now, facts.vantage)
            await stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
