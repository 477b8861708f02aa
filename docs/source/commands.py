"""docs/commands.md: what `--help` says, of every command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from prober.cli import cli

WIDTH: Final = 100

TEXT: Final = """\
# Commands

Written by `make docs` from what `--help` says. Do not edit it.

Exit codes: 0 fine; 1 a negative result (a probe that failed, nothing observed); 2 wrong usage or configuration, said in
one line. `--json` prints JSON alone on stdout.
"""


def text() -> str:
    """The whole document."""
    return "\n".join([TEXT, *(f"## {path}\n\n```text\n{help}\n```\n" for path, help in _helps(cli, "prober"))])


def _helps(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    name = path if parent is None else path.rpartition(" ")[2]
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    context.terminal_width = WIDTH  # not this terminal's
    context.max_content_width = WIDTH
    yield path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _helps(inner, f"{path} {name}", context)
