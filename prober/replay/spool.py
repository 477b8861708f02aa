"""Samples of many series, put in by time and taken out by series, in bounded memory: most of them are in a file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Final

from prober.textformat import Labels

BUFFERED_MAX: Final = 200_000
"""Samples that wait in memory: 16 octets each."""


class Spool:
    """Times and values of series, in order of time within each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.families: dict[str, dict[Labels, int]] = {}
        self._pieces: list[list[tuple[int, int]]] = []  # by series: where in the file, how many numbers
        self._waiting: list[array[float]] = []
        self._latest: list[float] = []  # by series: the time of its last sample
        self._buffered = 0
        self._size = 0

    def series(self, family: str, labels: Labels) -> int:
        """The number of a series; a new one if need be."""
        members = self.families.setdefault(family, {})
        number = members.get(labels)
        if number is None:
            number = members[labels] = len(self._pieces)
            self._pieces.append([])
            self._waiting.append(array("d"))
            self._latest.append(-inf)
        return number

    def put(self, series: int, at: float, value: float) -> None:
        """Add a sample, unless there is one of that time or later. Raises OSError when the file cannot be written."""
        if at <= self._latest[series]:
            return
        self._latest[series] = at
        self._waiting[series].extend((at, value))
        self._buffered += 1
        if self._buffered >= BUFFERED_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises OSError."""
        with self.path.open("ab") as file:
            for series, waiting in enumerate(self._waiting):
                if waiting:
                    file.write(waiting.tobytes())
                    self._pieces[series].append((self._size, len(waiting)))
                    self._size += len(waiting) * waiting.itemsize
                    self._waiting[series] = array("d")
        self._buffered = 0

    def samples(self, series: int) -> Iterator[tuple[float, float]]:
        """The samples of a series, after `flush`. Raises OSError."""
        if not self._pieces[series]:
            return
        with self.path.open("rb") as file:
            for place, count in self._pieces[series]:
                file.seek(place)
                piece = array("d")
                piece.fromfile(file, count)
                yield from zip(piece[::2], piece[1::2], strict=True)
