"""`prober note`: dated remarks from outside, kept beside what was measured."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prober.commands.options import (
    CONTEXT,
    NEGATIVE,
    TimeType,
    complete_entities,
    fail,
    or_exit,
    print_json,
)
from prober.printable import printable

if TYPE_CHECKING:
    from prober.ledger.notes import Note


@click.command(context_settings=CONTEXT, short_help="Keep a remark from outside beside the outages.")
@click.argument("text", required=False)
@click.option("--at", type=TimeType(), help="when it was: 2014-12-22T18:00:00Z, or 2h ago  [default: now]")
@click.option("--until", type=TimeType(), help="when it ended, if it is about a time")
@click.option("--entity", default="", help="which entity it is about  [default: all]", shell_complete=complete_entities)
@click.option("--source", default="", help="who says so")
@click.option("--link", default="", help="where: an http: or https: URL")
@click.option("--list", "listing", is_flag=True, help="list the notes, newest first")
@click.option("--since", type=TimeType(), help="with --list: only those about the time since then")
@click.option("--remove", metavar="ID", help="remove the note with this id")
@click.option("--data-dir", type=click.Path(path_type=Path), help="directory of the ledger  [default: the settings']")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="settings file, for its data_dir")
@click.option("--json", "to_json", is_flag=True, help="print JSON and nothing else")
def note(
    text: str | None,
    at: float | None,
    until: float | None,
    entity: str,
    source: str,
    link: str,
    listing: bool,
    since: float | None,
    remove: str | None,
    data_dir: Path | None,
    config: Path | None,
    to_json: bool,
) -> None:
    """Keep a remark from outside beside what was measured: a report of an attack, a maintenance window.

    It is shown beside the outages, on the page, in reports and on the dashboards, and never changes a verdict, a
    duration or a bound. The agent may be running or not. Exit 0: done; 1: there is no such note; 2: wrong usage.

    \b
    prober note "attack reported" --at 2014-12-22T18:00:00Z
    prober note "off the air" --entity north-korea --source "Dyn Research"
    prober note "moving the vantage" --at 2h --until 1h
    prober note "new transit" --link https://example.org/ticket/7
    prober note --list --since 30d
    prober note --remove 1a2b3c4d
    """
    actions = [text is not None, listing, remove is not None]
    if sum(actions) != 1:
        raise click.UsageError("give a text to keep, or --list, or --remove ID")
    if text is None and (at is not None or until is not None or entity or source or link):
        raise click.UsageError("--at, --until, --entity, --source and --link belong to a text")
    if since is not None and not listing:
        raise click.UsageError("--since belongs to --list")
    from prober.config import load_settings
    from prober.ledger import LedgerError

    directory = data_dir if data_dir is not None else or_exit(lambda: load_settings(config)).data_dir
    try:
        if text is not None:
            _add(directory, _made(directory, text, at, until, entity, source, link), to_json)
        elif remove is not None:
            _remove(directory, remove, to_json)
        else:
            _list(directory, since, to_json)
    except LedgerError as error:
        fail(f"prober note: {error}")


def _made(
    directory: Path, text: str, at: float | None, until: float | None, entity: str, source: str, link: str
) -> Note:
    from prober.ledger import BadNote, make_note
    from prober.ledger.notes import known_entities

    try:
        made = make_note(text, now=time.time(), at=at, until=until, entity=entity, source=source, link=link)
    except BadNote as error:
        fail(f"prober note: {error}")
    known = known_entities(directory)
    if made.entity and known and made.entity not in known:  # a slip of the pen would hide the note for good
        fail(f'prober note: the ledger has no entity "{made.entity}"; it has: {", ".join(known)}')
    return made


def _add(directory: Path, made: Note, to_json: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from prober.ledger import BadNote
    from prober.ledger.notes import add_note
    from prober.ledger_cli import note_line

    try:
        add_note(directory, made)
    except BadNote as error:
        fail(f"prober note: {error}")
    if to_json:
        print_json(made.to_json())
    else:
        Console(highlight=False).print(Text("noted: ").append_text(note_line(made)), soft_wrap=True)


def _remove(directory: Path, name: str, to_json: bool) -> None:
    from prober.ledger.notes import remove_note

    there = remove_note(directory, name)
    if to_json:
        print_json({"removed": there, "id": name})
    else:
        shown = printable(name, 40)
        click.echo(f"removed {shown}" if there else f"there is no note {shown}; prober note --list has their ids")
    if not there:
        sys.exit(NEGATIVE)


def _list(directory: Path, since: float | None, to_json: bool) -> None:
    from rich.console import Console

    from prober.ledger.notes import notes_of
    from prober.ledger_cli import print_notes

    found = notes_of(directory, since=since)
    if to_json:
        print_json([one.to_json() for one in found])
    elif found:
        print_notes(found, Console(highlight=False))
    else:
        click.echo("no notes")
