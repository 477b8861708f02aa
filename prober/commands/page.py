"""`prober page`: the status page of a ledger, without an agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from prober.commands.options import CONTEXT, ListenType, TimeType, fail, or_exit
from prober.printable import printable


@click.command(context_settings=CONTEXT, short_help="Serve the status page of a ledger, without probing.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="directory of the ledger  [default: the settings']")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file: data_dir, targets, web.yml")
@click.option("--targets", "-t", multiple=True, type=click.Path(path_type=Path), help="targets file, for its titles")
@click.option("--listen", type=ListenType(), help="address and port to serve on  [default: 127.0.0.1:9911]")
@click.option("--at", type=TimeType(), help="as of then: 2014-12-22T20:00:00Z, or 30d ago  [default: its last word]")
@click.option("--vantage", help="whose records, if the ledger has several vantages'  [default: the first]")
def page(
    data_dir: Path | None,
    config: Path | None,
    targets: tuple[Path, ...],
    listen: Any,
    at: float | None,
    vantage: str | None,
) -> None:
    """Serve the status page of a ledger, read-only and without probing: of a replay, a copy, or a moment in the past.

    A running agent serves its own page, live; see --listen of prober run.

    \b
    prober page --data-dir data                          the ledger as it stands
    prober page --data-dir data --at 2014-12-22T20:00:00Z  as it was then
    prober page --data-dir nk-2014 -t targets/incidents/north-korea-2014.yml

    The last is of what `prober replay targets/incidents/2014-12-north-korea.yml --ledger nk-2014` leaves.
    """
    import asyncio

    from prober.config import load, load_settings
    from prober.ledger import LedgerError
    from prober.ledger_cli import when
    from prober.logs import logging_to
    from prober.page.command import Wanted, serve
    from prober.web.listener import CannotListen
    from prober.web.webconfig import read_web_config

    def read() -> Wanted:
        settings = load_settings(config)
        web_file = settings.web.config_file
        named = targets or (settings.targets if "targets" in settings.model_fields_set else ())
        where = listen if listen is not None else settings.listen
        return Wanted(
            ledger=data_dir if data_dir is not None else settings.data_dir,
            entities=load(settings.model_copy(update={"targets": named})).entities if named else (),
            vantage=vantage,
            at=at,
            host=where.host,
            port=where.port,
            web=read_web_config(web_file) if web_file is not None else None,
        )

    def told(urls: list[str], now: float, whose: str) -> None:
        click.echo(f"{' '.join(urls)} shows {printable(whose)} as of {when(now)} UTC; Ctrl-C ends it", err=True)

    wanted = or_exit(read)
    try:
        with logging_to(sys.stderr, level="warning"):
            asyncio.run(serve(wanted, told))
    except (LedgerError, CannotListen) as error:
        fail(f"prober page: {error}")
