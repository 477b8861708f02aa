"""A YAML file as plain data that still knows its lines."""

from __future__ import annotations

from typing import TypeAlias

from prober.config.problems import KeyPath, Problem, key_path

Value: TypeAlias = "str | int | float | bool | Map | Seq | None"


class Map(dict[str, Value]):
    """A mapping, with the line where it starts and the line of each key, in the keys' order."""

    __slots__ = ("_by_key", "line", "lines")

    def __init__(self, line: int) -> None:  # a new dict or list is empty without its own __init__
        self.line = line
        self.lines: list[int] = []
        self._by_key: dict[str, int] | None = None

    def line_of(self, key: object) -> int:
        """The line of a key; where the mapping starts if it has no such key."""
        if self._by_key is None or len(self._by_key) != len(self):
            self._by_key = dict(zip(self, self.lines, strict=False))  # made for errors only: lists are much smaller
        return self._by_key.get(str(key), self.line)

    def pop_with_line(self, key: str) -> Value:
        """Remove a key that is there, and its line; returns its value."""
        del self.lines[list(self).index(key)]
        self._by_key = None
        return self.pop(key)


class Seq(list[Value]):
    """A list, with the line where it starts and the line of each item."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[int] = []


class Document:
    """The root mapping of a file, and the problems that were found in reading it which leave the rest usable."""

    __slots__ = ("file", "problems", "root")

    def __init__(self, file: str, root: Map, problems: list[Problem]) -> None:
        self.file = file
        self.root = root
        self.problems = problems

    def line(self, path: KeyPath) -> int:
        """The line of what `path` leads to, or of the nearest thing on the way that exists."""
        line = self.root.line
        value: Value = self.root
        for part in path:
            if isinstance(value, Map):
                line = value.line_of(part)
                value = value.get(str(part))
            elif isinstance(value, Seq) and isinstance(part, int) and part < len(value):
                line = value.lines[part]
                value = value[part]
            else:
                break
        return line

    def at(self, path: KeyPath) -> Value:
        """What `path` leads to; None if there is no such thing."""
        value: Value = self.root
        for part in path:
            if isinstance(value, Map):
                value = value.get(str(part))
            elif isinstance(value, Seq) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def problem(self, path: KeyPath, code: str, message: str) -> Problem:
        """A problem of what `path` leads to."""
        return Problem(self.file, self.line(path), key_path(path), message, code)
