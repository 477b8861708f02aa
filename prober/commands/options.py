"""What commands have in common: kinds of options, how they end, what they print.

Commands import what they need when they run, not at the top: the configuration with all kinds of checks takes the
better part of a second, and is of no use to `prober --version`, to --help and to half of the commands.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, get_args

import click

from prober.printable import printable
from prober.shard import Shard, parse_shard

if TYPE_CHECKING:
    from prober.model import Entity

T = TypeVar("T")

NEGATIVE: Final = 1
"""The exit code of a negative result; 0: fine."""
USAGE: Final = 2
"""The exit code of wrong usage, of a bad configuration, and where nothing could be read."""

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def fail(message: str) -> NoReturn:
    """End with exit code 2 and one or more lines on stderr."""
    with suppress(OSError):  # the exit code says it, too
        click.echo("\n".join(map(printable, message.split("\n"))), err=True)
    sys.exit(USAGE)


def or_exit(read: Callable[[], T]) -> T:
    """What `read` reads; problems of the configuration end the command."""
    from prober.config.problems import ConfigError

    try:
        return read()
    except ConfigError as error:
        fail(str(error))


def print_json(found: object) -> None:
    """JSON and nothing else. What is not printable stands inside a text, where an escape means the same."""
    text = json.dumps(found, indent=2, ensure_ascii=False)
    click.echo("\n".join(printable(line) for line in text.split("\n")))


class WordType(click.Choice[str]):
    """One of the words that some part of the program has, which is imported when they are asked for."""

    def __init__(self, words: Callable[[], Iterable[str]]) -> None:
        super().__init__(())
        self._words = words

    @property
    def choices(self) -> tuple[str, ...]:
        """The words."""
        return tuple(self._words())

    @choices.setter
    def choices(self, _none: object) -> None:
        """click's own constructor sets some."""


def scope_words() -> Iterable[str]:
    """The scopes, from the country to the check."""
    from prober.judge.records import Scope

    return get_args(Scope)


class ListenType(click.ParamType[Any]):
    """`host:port`, as the setting `listen`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from prober.config.settings import parse_listen

        try:
            return parse_listen(printable(value) if isinstance(value, str) else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ShardType(click.ParamType[Any]):
    """`2/4`: the second of four parts."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Shard):
            return value
        try:
            return parse_shard(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType[float]):
    """`5s`, `500ms`; seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        from prober.duration import parse_duration

        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class TimeType(click.ParamType[float]):
    """A moment in RFC 3339, or how long ago (`30d`, `12h`); Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        from prober.api import parse_since
        from prober.duration import parse_duration

        with suppress(ValueError):
            return time.time() - parse_duration(str(value))
        try:
            return parse_since(str(value))
        except ValueError as error:
            self.fail(f"{error}, or how long ago: 30d", param, ctx)


# -- completion --------------------------------------------------------------------------------------------------------


def completing(names: Callable[[tuple[Entity, ...]], list[str]]) -> Callable[..., list[str]]:
    """A `shell_complete` that offers names out of the targets that the command line so far is about."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        with suppress(Exception):  # whoever presses Tab wants no error in the middle of a line
            from prober.config import load, load_settings

            settings = load_settings(_path(ctx.params.get("config")))
            targets = ctx.params.get("targets")
            if targets:
                settings = settings.model_copy(update={"targets": tuple(map(Path, targets))})
            found = dict.fromkeys(names(load(settings).entities))
            return [name for name in found if name.startswith(incomplete)]
        return []

    return complete


def _path(given: object) -> Path | None:
    return None if given is None else Path(str(given))


def entity_names(entities: tuple[Entity, ...]) -> list[str]:
    """Names of entities."""
    return [entity.name for entity in entities]


def target_names(entities: tuple[Entity, ...]) -> list[str]:
    """Names of targets."""
    return [target.name for entity in entities for target in entity.targets]


def scope_names(entities: tuple[Entity, ...]) -> list[str]:
    """Names of entities, networks, sites and targets."""
    return [
        name
        for entity in entities
        for name in (
            entity.name,
            *(network.name for network in entity.networks),
            *(site.name for site in entity.sites),
            *(target.name for target in entity.targets),
        )
    ]


complete_entities: Final = completing(entity_names)
complete_targets: Final = completing(target_names)
complete_scopes: Final = completing(scope_names)
