"""What is wrong with a configuration: one line per problem, all problems of all files at once.

A line is `FILE:LINE: KEY.PATH: what is wrong; remedy`. It never holds a line break or a control character, whatever the
file holds, so that it can be read by people, editors and log collectors alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from prober.printable import printable

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where in a document: keys of mappings and positions in lists."""

_KEY_LENGTH_MAX: Final = 60
_MESSAGE_LENGTH_MAX: Final = 600
_PLAIN_KEY: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Code(StrEnum):
    """The kinds of problem that this package finds by itself; `messages.MESSAGES` has those that pydantic finds."""

    # the file
    NOT_FOUND = "not_found"
    DIRECTORY = "directory"
    UNREADABLE = "unreadable"
    FILE_TOO_LARGE = "file_too_large"
    FILE_TWICE = "file_twice"
    NOT_UTF8 = "not_utf8"
    CONTROL_CHARACTER = "control_character"
    EMPTY = "empty"
    NOT_A_MAPPING = "not_a_mapping"
    KIND_OF_FILE = "kind_of_file"
    # YAML
    SYNTAX = "syntax"
    DUPLICATE_KEY = "duplicate_key"
    COMPLEX_KEY = "complex_key"
    MERGE_KEY = "merge_key"
    TAG = "tag"
    ALIAS = "alias"
    TOO_MANY_VALUES = "too_many_values"
    TOO_DEEP = "too_deep"
    DOCUMENTS = "documents"
    # values
    NAME = "name"
    TITLE = "title"
    COUNTRY = "country"
    PREFIX = "prefix"
    LISTEN = "listen"
    CONTACT = "contact"
    FILE_PATH = "file_path"
    OPT_OUT = "opt_out"
    VANTAGE = "vantage"
    ALLOW = "allow"
    NO_MODULES = "no_modules"
    DURATION = "duration"  # raised by prober.duration
    REGEX = "regex"  # raised by prober.regex
    # blackbox.yml
    BLACKBOX_VALUE = "blackbox_value"
    BLACKBOX_UNSUPPORTED = "blackbox_unsupported"
    # checks
    CHECK_WITHOUT_KIND = "check_without_kind"
    CHECK_OF_TWO_KINDS = "check_of_two_kinds"
    CHECK_UNKNOWN_KEY = "check_unknown_key"
    COMMON_KEY_INSIDE_KIND = "common_key_inside_kind"
    OPTION_BESIDE_KIND = "option_beside_kind"
    DUPLICATE_CHECK = "duplicate_check"
    TIMEOUT_OVER_INTERVAL = "timeout_over_interval"
    TIMEOUT_TOO_SHORT = "timeout_too_short"
    # names and references
    DUPLICATE_TARGET = "duplicate_target"
    DUPLICATE_NETWORK = "duplicate_network"
    DUPLICATE_SITE = "duplicate_site"
    DUPLICATE_REFERENCE = "duplicate_reference"
    REFERENCE_IS_TARGET = "reference_is_target"
    UNKNOWN_NETWORK = "unknown_network"
    UNKNOWN_SITE = "unknown_site"
    UNKNOWN_REFERENCE = "unknown_reference"
    OUTSIDE_NETWORK = "outside_network"
    ENTITIES_DISAGREE = "entities_disagree"
    # worlds
    MOMENT = "moment"
    CLOCK_STEP = "clock_step"
    RAMP = "ramp"
    WORLD_TIMES = "world_times"
    CONDITION = "condition"
    OBSERVER = "observer"
    DUPLICATE_VANTAGE = "duplicate_vantage"
    UNKNOWN_NAME = "unknown_name"
    MATCHES_NOTHING = "matches_nothing"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; 0 means the file as a whole. `code` names the kind of problem."""

    file: str
    line: int
    key: str
    message: str
    code: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return one_line(": ".join(part for part in (place, self.key, self.message) if part))


class ConfigError(Exception):
    """Files that cannot be used. `problems` holds every one of them; the text is one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Without repetitions; files in the order in which they were met, problems of a file by line."""
    distinct = list(dict.fromkeys(problems))
    rank: dict[str, int] = {}
    for problem in distinct:
        rank.setdefault(problem.file, len(rank))
    return sorted(distinct, key=lambda problem: (rank[problem.file], problem.line, problem.key))


def raise_if_any(problems: Sequence[Problem]) -> None:
    """Raise ConfigError if there are problems."""
    if problems:
        raise ConfigError(in_order(problems))


def key_path(path: KeyPath) -> str:
    """`("targets", 3, "checks")` as `targets[3].checks`; keys with unusual characters are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and _PLAIN_KEY.issuperset(part) and len(part) <= _KEY_LENGTH_MAX:
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text


def quoted(value: object) -> str:
    """A value out of a file as an error repeats it: in quotes, cut when long."""
    text = str(value)
    return f'"{text}"' if len(text) <= _KEY_LENGTH_MAX else f'"{text[:_KEY_LENGTH_MAX]}..."'


def listed(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    items = list(words)
    return f" {last} ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def one_line(text: str) -> str:
    """`text` with everything that is not printable escaped, cut when very long."""
    text = printable(text)
    return text if len(text) <= _MESSAGE_LENGTH_MAX else text[: _MESSAGE_LENGTH_MAX - 3] + "..."
