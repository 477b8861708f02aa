"""From the bytes of a YAML file to a `Document`.

The data are built straight from the parser's events, not from composed nodes: 100,000 checks (1.3 million events) take
some seconds instead of a quarter of a minute, and a line number costs one integer per key.

The dialect is the YAML 1.2 core schema without tags and merge keys: `NO` is Norway's code and not false, `22:15` is
text and not 1335. Every value is one that JSON has, so that a JSON schema describes the files truly.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from prober.config.document import Document, Map, Seq, Value
from prober.config.problems import Code, ConfigError, KeyPath, Problem, key_path, quoted

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
VALUES_MAX: Final = 5_000_000
"""Keys and values in a file, with every alias counted as often as it is used."""
DEPTH_MAX: Final = 32

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is some ten times as fast


def read_document(file: Path) -> Document:
    """Read and parse `file`. Raises ConfigError when there is nothing to go on with."""
    return parse_document(str(file), read_bytes(file))


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe that nobody writes into would hold a reload for ever. It reads as empty."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def read_bytes(file: Path) -> bytes:
    """The bytes of a file of at most FILE_BYTES_MAX. Raises ConfigError."""
    try:
        with open(file, "rb", opener=_at_once) as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise _whole(str(file), Code.NOT_FOUND, "no such file; check the path") from None
    except IsADirectoryError:
        raise _whole(str(file), Code.DIRECTORY, "a directory, not a file; name the files in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        message = f"cannot be read: {reason}; check the path and who may read it"
        raise _whole(str(file), Code.UNREADABLE, message) from None
    if len(data) > FILE_BYTES_MAX:
        message = f"larger than {FILE_BYTES_MAX // 1024 // 1024} MiB; split it into several files"
        raise _whole(str(file), Code.FILE_TOO_LARGE, message)
    return data


def parse_document(file: str, data: bytes, dialect: type[Builder] | None = None) -> Document:
    """Parse the bytes of `file`, in another dialect of YAML than ours if its builder is given. Raises ConfigError."""
    text = _decode(file, data)
    builder = (dialect or Builder)(file)
    try:
        root = builder.build(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax(file, text, error) from None
    if root is None:
        raise _whole(file, Code.EMPTY, "the file holds nothing; see the shipped files for what belongs there")
    if not isinstance(root, Map):
        message = 'the file must hold a mapping; begin with lines like "entity: example"'
        raise ConfigError([*builder.problems, Problem(file, 1, "", message, Code.NOT_A_MAPPING)])
    return Document(file, root, builder.problems)


def _whole(file: str, code: Code, message: str) -> ConfigError:
    return ConfigError([Problem(file, 0, "", message, code)])


# What YAML 1.2 (5.1) does not allow, which the parser would report without a line; and what only YAML 1.1,
# and so the parser, takes for a line break: an editor would count other lines.
_NOT_ALLOWED: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def _decode(file: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise ConfigError([Problem(file, line, "", message, Code.NOT_UTF8)]) from None
    if match := _NOT_ALLOWED.search(text):
        line = text.count("\n", 0, match.start()) + 1
        message = (
            f"the character U+{ord(match.group()):04X} may not stand here; remove it, or escape it in double quotes"
        )
        raise ConfigError([Problem(file, line, "", message, Code.CONTROL_CHARACTER)])
    return text


_REMEDIES: Final = (
    ("mapping values are not allowed", 'a ":" where no key may stand; indent the line, or put the text in quotes'),
    ("cannot start any token", "a character that no value may start with; put the text in quotes, indent with spaces"),
    ("unexpected end of stream", "a quote that is opened here is never closed; close it"),
    ("could not find expected ':'", 'a line that is neither "key: value" nor a list item; add the ":" or remove it'),
    ("undefined alias", "an alias without its anchor; write the anchor (&name) before the alias (*name)"),
    ("duplicate anchor", "an anchor that is there already; give it another name"),
)
"""Reasons of libyaml and of PyYAML's own parser, in which the two agree, in plain words."""


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    problem = error.problem or "not YAML"
    mark = error.problem_mark or error.context_mark
    if "unexpected end of stream" in problem and error.context_mark is not None:
        mark = error.context_mark  # where the quote opens, not the end of the file
    known = (text for part, text in _REMEDIES if part in problem)
    message = next(known, f"{problem}; check indentation, brackets and quotes")
    line = mark.line + 1 if mark is not None else 1
    if line > 1 and line > (last := text.count("\n") + text.count("\r") + 1):
        line = last  # libyaml counts the end of a file without a final line break as a line of its own
    return ConfigError([Problem(file, line, "", f"not valid YAML: {message}", Code.SYNTAX)])


class _Frame:
    """A mapping or list that is still open."""

    __slots__ = ("anchor", "at", "container", "height", "key", "key_line", "map", "merges", "size_before")

    def __init__(self, container: Map | Seq, anchor: str | None, at: str | int, size_before: int) -> None:
        self.container = container
        self.map = container if type(container) is Map else None  # the same, for a list nothing
        self.at = at  # key or position in the container around it
        self.anchor = anchor
        self.size_before = size_before
        self.height = 1  # levels of mappings and lists, this one included, aliases expanded
        self.key: str | None = None  # of a mapping: the key whose value comes next
        self.key_line = 0
        self.merges = False  # of a mapping: it has a key "<<"


class Builder:
    """Turns the events of one stream into data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._whole = Seq(0)
        self._stack = [_Frame(self._whole, None, "", 0)]  # the outermost is the stream: a list of one value
        self._anchors: dict[str, tuple[Value, int, int]] = {}  # value, size, height
        self._size = 0  # keys and values so far, aliases expanded

    def build(self, text: str) -> Value:
        """The root value. Raises ConfigError, or yaml.MarkedYAMLError for bad syntax."""
        loader = _LOADER(text)
        try:
            self._take(iter(loader.get_event, None))
        finally:
            loader.dispose()
        return self._whole[0] if self._whole else None

    def _take(self, events: Iterator[Any]) -> None:
        """Subclasses of yaml.Event, told apart by type(), which is faster. What most events need is done in place."""
        documents = 0
        stack = self._stack
        for event in events:
            kind = type(event)
            if kind is ScalarEvent:
                self._size += 1
                frame = stack[-1]
                key, around = frame.key, frame.map
                text = event.value
                if key is None and around is not None:
                    # A key is text, however it looks: `176:` names the network "176".
                    if event.tag is not None:
                        raise self.tagged(event)
                    if text == "<<":
                        frame.merges = True
                        if event.implicit[0]:
                            self.merge_key(event)
                    frame.key = text
                    frame.key_line = event.start_mark.line + 1
                    continue
                value = self.scalar(event, text, event.implicit[0])
                if event.anchor is not None:
                    self._anchors[event.anchor] = (value, 1, 0)
                if key is None or around is None or key in around:
                    self._add(event, value)
                else:
                    around[key] = value
                    around.lines.append(frame.key_line)
                    frame.key = None
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                frame = stack[-1]
                if frame.merges:
                    assert frame.map is not None
                    self.merge(frame.map, event)
                stack.pop()
                if frame.anchor is not None:
                    self._anchors[frame.anchor] = (frame.container, self._size - frame.size_before, frame.height)
                if (outer := stack[-1]).height <= frame.height:
                    outer.height = frame.height + 1
            elif kind is MappingStartEvent:
                self._open(event, Map(event.start_mark.line + 1))
            elif kind is SequenceStartEvent:
                self._open(event, Seq(event.start_mark.line + 1))
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                documents += 1
                if documents > 1:
                    message = 'a second document starts here; a file holds one: remove the "---"'
                    raise self.error(event, Code.DOCUMENTS, message)

    def scalar(self, event: ScalarEvent, text: str, plain: bool) -> Value:
        """What a scalar means; `plain`: it stands without quotes and tag. Raises ConfigError."""
        if event.tag is not None:
            raise self.tagged(event)
        return resolve(text) if plain and text[:1] in _FIRST_OF_OTHER else text

    def merge_key(self, event: ScalarEvent) -> None:
        """A key `<<` begins. Raises ConfigError if the dialect has none."""
        message = "merge keys (<<) are not supported; write the keys out, or use defaults:"
        raise self.error(event, Code.MERGE_KEY, message)

    def merge(self, container: Map, event: Event) -> None:
        """A mapping with a key `<<` is complete."""

    def _open(self, event: CollectionStartEvent, container: Map | Seq) -> None:
        if event.tag is not None:
            raise self.tagged(event)
        self._need_key(event)
        if len(self._stack) > DEPTH_MAX:
            raise self._too_deep(event)
        at = self._add(event, container)
        self._stack.append(_Frame(container, event.anchor, at, self._size))
        self._count(event, 1)

    def _alias(self, event: AliasEvent) -> None:
        self._need_key(event)
        if event.anchor not in self._anchors:  # an anchor is known once its value is complete: no value holds itself
            name = event.anchor
            message = f"the alias *{name} has no complete anchor &{name} before it; add it, or write the value out"
            raise self.error(event, Code.ALIAS, message)
        value, size, height = self._anchors[event.anchor]
        if len(self._stack) + height > DEPTH_MAX + 1:
            raise self._too_deep(event)
        self._count(event, size)
        self._add(event, value)
        outer = self._stack[-1]
        outer.height = max(outer.height, height + 1)

    def _too_deep(self, event: Event) -> ConfigError:
        message = f"nested more than {DEPTH_MAX} levels deep; check brackets and indentation"
        return self.error(event, Code.TOO_DEEP, message)

    def _add(self, event: Event, value: Value) -> str | int:
        """Put a value where it belongs; returns its key or position there."""
        frame = self._stack[-1]
        container, key = frame.container, frame.key
        if isinstance(container, Seq):
            container.append(value)
            container.lines.append(_line(event))
            return len(container) - 1
        assert key is not None
        frame.key = None
        if key in container:
            path = (*self._path(), key)
            message = f"the key is there twice, first on line {container.line_of(key)}; remove one of them"
            self.problems.append(Problem(self.file, frame.key_line, key_path(path), message, Code.DUPLICATE_KEY))
        else:
            container[key] = value
            container.lines.append(frame.key_line)
        return key

    def _path(self) -> KeyPath:
        """Where the innermost open container is."""
        return tuple(frame.at for frame in self._stack[2:])

    def _count(self, event: Event, size: int) -> None:
        self._size += size
        if self._size > VALUES_MAX:
            message = f"more than {VALUES_MAX:,} keys and values (an alias counts in full); split the file"
            raise self.error(event, Code.TOO_MANY_VALUES, message)

    def _need_key(self, event: Event) -> None:
        """Refuse a container or alias in the place of a key, as in `{{ template }}`."""
        frame = self._stack[-1]
        if frame.map is not None and frame.key is None:
            message = "a key must be plain text; write key: value (a template's {{ }} goes in quotes)"
            raise self.error(event, Code.COMPLEX_KEY, message)

    def tagged(self, event: ScalarEvent | CollectionStartEvent) -> ConfigError:
        """The error for a tag that the dialect does not have."""
        tag = (event.tag or "").replace("tag:yaml.org,2002:", "!!")
        return self.error(event, Code.TAG, f"tags are not supported; remove {quoted(tag)}")

    def error(self, event: Event, code: Code, message: str) -> ConfigError:
        """An error at the event, after which nothing more is read."""
        problem = Problem(self.file, _line(event), key_path(self._path()), message, code)
        return ConfigError([*self.problems, problem])


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z")
_FIRST_OF_OTHER: Final = frozenset(["", *"~nNtTfF0123456789+-."])
"""The first characters of whatever is not text. Most values are, and end there."""


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar means in the core schema of YAML 1.2 (10.3.2), without octal, hexadecimal, infinity and NaN.

    A number that no float or 18 digits can hold stays text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if len(text) <= 40 and _FLOAT.match(text) and math.isfinite(number := float(text)):
        return number
    return text
