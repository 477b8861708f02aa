"""`prober status`: is anything down, and can that be trusted?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prober.commands.options import (
    CONTEXT,
    NEGATIVE,
    ListenType,
    complete_entities,
    fail,
    or_exit,
    print_json,
)
from prober.printable import printable

if TYPE_CHECKING:
    from prober.config import Settings
    from prober.config.settings import Listen
    from prober.model import Entity


@click.command(context_settings=CONTEXT, short_help="Is anything down now, and can that be trusted?")
@click.argument("entities", nargs=-1, metavar="[ENTITY]...", shell_complete=complete_entities)
@click.option("--url", help="ask the agent at this URL, and nobody else")
@click.option("--listen", type=ListenType(), help="ask the agent that listens here  [default: the settings']")
@click.option("--basic-auth-file", type=click.Path(path_type=Path), help="user:password for it, on one line")
@click.option("--ca-file", type=click.Path(path_type=Path), help="the CA that has signed its certificate")
@click.option("--data-dir", type=click.Path(path_type=Path), help="read the ledger in this directory, ask no agent")
@click.option("--vantage", help="whose records, if the ledger has several vantages'  [default: the first]")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file: listen, data_dir, targets")
@click.option("--json", "to_json", is_flag=True, help="print JSON and nothing else")
def status(
    entities: tuple[str, ...],
    url: str | None,
    listen: Listen | None,
    basic_auth_file: Path | None,
    ca_file: Path | None,
    data_dir: Path | None,
    vantage: str | None,
    config: Path | None,
    to_json: bool,
) -> None:
    """Say in a sentence whether each ENTITY can be reached now, what is down, and whether the vantage can tell.

    Asks the running agent; when none runs, reads what it wrote last into its ledger.
    Exit 0: all is known to be up; 1: an entity, a network or a site is down, or it is not known; 2: wrong usage, or
    nothing that could be asked.

    \b
    prober status                              the agent on this host
    prober status north-korea --json           for a program
    prober status --data-dir /var/lib/prober   what its ledger says
    prober status --url https://tokyo.example.org --basic-auth-file login
    """
    from rich.console import Console

    from prober.config import load_settings
    from prober.status import all_up, chosen, show

    if sum(way is not None for way in (url, listen, data_dir)) > 1:
        raise click.UsageError("--url, --listen and --data-dir exclude each other: choose one")
    if data_dir is not None and (basic_auth_file is not None or ca_file is not None):
        raise click.UsageError("--basic-auth-file and --ca-file are for an agent; --data-dir asks none")
    if data_dir is None and vantage is not None:
        raise click.UsageError("--vantage is for a ledger of several vantages: name it with --data-dir")
    settings = or_exit(lambda: load_settings(config))
    found = _found(url, listen, basic_auth_file, ca_file, data_dir, vantage, settings)
    try:
        found = chosen(found, entities)
    except KeyError as missing:
        known = ", ".join(entity["name"] for entity in found["entities"])
        fail(f"prober status: there is no entity {missing.args[0]}; there is: {printable(known, 500) or 'none'}")
    if to_json:
        print_json(found)
    else:
        show(found, Console(highlight=False))
    if not all_up(found):
        sys.exit(NEGATIVE)


def _found(
    url: str | None,
    listen: Listen | None,
    basic_auth_file: Path | None,
    ca_file: Path | None,
    data_dir: Path | None,
    vantage: str | None,
    settings: Settings,
) -> dict[str, Any]:
    from prober.ledger import LedgerError
    from prober.report.prometheus import PrometheusError, access
    from prober.status import NobodyThere, NoStatus, of_agent, of_ledger

    nobody = ""
    if data_dir is None:
        named = url is not None or listen is not None
        try:
            asked = url if url is not None else _url(settings.listen if listen is None else listen, settings)
            way = access(asked, basic_auth_file=basic_auth_file, option="--url")
            return of_agent(way.url, way.headers, ca_file)
        except NobodyThere as error:
            if named:
                fail(f"prober status: {error}; is the agent running?")
            nobody = str(error)
        except (NoStatus, PrometheusError) as error:
            fail(f"prober status: {error}")
    directory = settings.data_dir if data_dir is None else data_dir
    try:
        return of_ledger(directory, _configured(settings), vantage)
    except LedgerError as error:
        fail(f"prober status: {error}" + (f" (and no agent: {nobody})" if nobody else ""))


def _url(listen: Listen, settings: Settings) -> str:
    """Where an agent that listens so can be asked on this host."""
    from prober.config.settings import Listen

    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    scheme = "http"
    if settings.web.config_file is not None:
        from prober.web.webconfig import read_web_config

        if or_exit(lambda: read_web_config(settings.web.config_file or Path())).tls is not None:
            scheme = "https"
    return f"{scheme}://{Listen(host, listen.port)}"


def _configured(settings: Settings) -> tuple[Entity, ...]:
    """Titles, and which network is whose; a ledger of other targets can do without."""
    from prober.config import ConfigError, load

    try:
        return load(settings).entities
    except ConfigError:
        return ()
