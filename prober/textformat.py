"""Prometheus' text format, made fast: columns of values, blocks of lines, and blocks that did not change kept as gzip.

Ten thousand targets are a million lines, and most say what they said at the scrape before. A block of rows in which
nothing has happened since is not even read: all its compressed lines are sent again. Of one that is read, the values of
each column are compared, and only a column in which one has changed is written and compressed anew. `prober.gzipparts`
makes one gzip member of it all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from time import perf_counter
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from prober.gzipparts import GzipMember, Packed, pack
from prober.printable import printable

T = TypeVar("T")

BLOCK: Final = 500
"""Lines that are rendered, compared and compressed together; about 0.4 ms."""
TURN_SECONDS: Final = 0.002
"""After so much work the event loop has its turn."""

PARTS: Final = 12
"""Compressed blocks that are sent as one piece; some 50 KB."""

Labels: TypeAlias = str  # rendered and escaped, each with a comma behind it
Type: TypeAlias = Literal["gauge", "counter"]
Values: TypeAlias = Sequence[float | None]

MEASURED: Final = ".9f"
"""Form of measured times: a nanosecond of a second, and no clock is better."""
MOMENT: Final = ".3f"
"""Form of moments and long times that change at each scrape: milliseconds."""


def label(name: str, value: str) -> Labels:
    """A rendered label. Control characters are made visible, so that hostile text stays on its line."""
    value = printable(value)
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{value}",'


def number(value: float) -> str:
    """A value as the text format wants it: the shortest form that reads back the same (also NaN, +Inf and -Inf)."""
    text = repr(value)
    if text[-2:] == ".0":
        return text[:-2]
    return _SPECIAL.get(text, text)


_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """Series of a family that differ in the row alone: `labels` are the same for all, `values` are of all the rows.

    `form`: how values are written where the shortest form that reads back the same is not worth its price: the 17
    digits of a measured time take three times as long as all else of a line. `steady`: of a row to which something
    happened the value mostly stays what it was, so that it pays to keep and compare it.
    """

    labels: Labels
    values: Callable[[Sequence[T]], Values]
    form: str = ""
    steady: bool = True


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """A metric with series per row: for each column, or what `pairs` gives of a row: further labels and values.

    `steady`: of `pairs`, what it is of a column. `moves`: values change with time, also while nothing happens.
    """

    name: str
    type: Type
    help: str
    columns: tuple[Column[T], ...] = ()
    pairs: Callable[[T], Iterable[tuple[Labels, float]]] | None = None
    steady: bool = True
    moves: bool = False

    def read(self, row: T) -> list[tuple[Labels, float]]:
        """Further labels and values of one row."""
        found = [] if self.pairs is None else list(self.pairs(row))
        for column in self.columns:
            value = column.values((row,))[0]
            if value is not None:
                found.append((column.labels, value))
        return found

    @property
    def head(self) -> str:
        """The lines ahead of the series."""
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.type}\n"


# -- rendering ---------------------------------------------------------------------------------------------------------


class Turns:
    """Lets the event loop have its turn whenever enough was done."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def take(self) -> None:
        """To be awaited after each piece of work."""
        if perf_counter() - self._since >= TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = perf_counter()


async def let_go(parts: list[object], turns: Turns) -> None:
    """Drop the last references to things one by one, for all at once would hold the event loop for too long."""
    while parts:
        parts.pop()
        await turns.take()


class _Block(Generic[T]):
    """Rows that are rendered together, and what was sent of them last: by family, a part for each column."""

    __slots__ = ("count", "items", "labels", "parts", "said")

    def __init__(self) -> None:
        self.items: list[T] = []
        self.labels: list[Labels] = []
        self.count: int | None = None  # of what had happened to the rows before the parts were made
        self.parts: dict[str, list[Packed | None]] = {}
        self.said: dict[str, list[object]] = {}  # the values in the parts, where they are compared

    def read(self, family: Family[T]) -> Iterator[None]:
        """Bring a family's parts up to date, a column at a step."""
        name, columns = family.name, len(family.columns)
        size = columns + (family.pairs is not None)
        parts = self.parts.setdefault(name, [None] * size)
        said = self.said.setdefault(name, [None] * size)
        for place, column in enumerate(family.columns):
            values = column.values(self.items)
            if said[place] != values:
                parts[place] = _packed(_lines(name, column, self.labels, values))
                said[place] = values if column.steady else None
            yield
        if family.pairs is not None:
            pairs = [tuple(found) for found in map(family.pairs, self.items)]
            if said[columns] != pairs:
                parts[columns] = _packed(_pair_lines(name, self.labels, pairs))
                said[columns] = pairs if family.steady else None
            yield


class Rows(Generic[T]):
    """Things of one sort with their labels, in blocks, and what was sent of them at the scrape before.

    `happened` tells of a row how often anything that its families tell has changed, but for those that move: it never
    goes back. Without it, all is read at each scrape.
    """

    def __init__(self, rows: Iterable[tuple[T, Labels]] = (), happened: Callable[[T], int] | None = None) -> None:
        self._blocks: list[_Block[T]] = []
        self._happened = happened
        for row, labels in rows:
            self.append(row, labels)

    def __len__(self) -> int:
        return sum(len(block.items) for block in self._blocks)

    def append(self, row: T, labels: Labels) -> None:
        """Add a row at the end. Only before anything is rendered."""
        if not self._blocks or len(self._blocks[-1].items) == BLOCK:
            self._blocks.append(_Block())
        self._blocks[-1].items.append(row)
        self._blocks[-1].labels.append(labels[:-1])

    def parts(self) -> list[object]:
        """What these rows are made of, for `let_go`."""
        return list(self._blocks)

    def extend(self, rows: Rows[T]) -> None:
        """Add the blocks of others, and share what is kept of them."""
        self._blocks += rows._blocks

    async def text(self, family: Family[T], turns: Turns) -> AsyncIterator[bytes]:
        """The lines of a family, block by block."""
        for block in self._blocks:
            for column in family.columns:
                yield _lines(family.name, column, block.labels, column.values(block.items))
                await turns.take()
            if family.pairs is not None:
                yield _pair_lines(family.name, block.labels, map(family.pairs, block.items))
                await turns.take()

    async def read(self, families: Sequence[Family[T]], turns: Turns) -> None:
        """Bring the compressed parts of all of these families up to date. A block's rows are read for all families in
        one go, while the processor has them at hand.
        """
        moving = [family for family in families if family.moves]
        for block in self._blocks:
            # Counted ahead: what happens during a turn of the loop may be missed now, and is seen at the next scrape.
            count = None if self._happened is None else sum(map(self._happened, block.items))
            for family in moving if count is not None and count == block.count else families:
                for _ in block.read(family):
                    await turns.take()
            block.count = count
            await turns.take()

    def packed(self, family: Family[T]) -> Iterator[Packed]:
        """The lines of a family that was read, compressed."""
        for part in chain.from_iterable(block.parts[family.name] for block in self._blocks):
            if part is not None:
                yield part


def _packed(text: bytes) -> Packed | None:
    return pack(text) if text else None


def _lines(name: str, column: Column[T], labels: Sequence[Labels], values: Values) -> bytes:
    begin, end, form = f"{name}{{", f",{column.labels[:-1]}}} " if column.labels else "} ", column.form
    pairs = zip(labels, values, strict=True)
    if form:
        text = "".join([f"{begin}{own}{end}{value:{form}}\n" for own, value in pairs if value is not None])
    else:  # as `number` has it, but of all lines at once
        text = "".join([f"{begin}{own}{end}{value!r}\n" for own, value in pairs if value is not None])
        text = text.replace(".0\n", "\n")
    if "inf\n" in text or "nan\n" in text:
        text = text.replace(" inf\n", " +Inf\n").replace(" -inf\n", " -Inf\n").replace(" nan\n", " NaN\n")
    return text.encode()


def _pair_lines(name: str, labels: Sequence[Labels], pairs: Iterable[Iterable[tuple[Labels, float]]]) -> bytes:
    return "".join(
        [
            f"{name}{{{own},{further[:-1]}}} {number(value)}\n" if further else f"{name}{{{own}}} {number(value)}\n"
            for own, found in zip(labels, pairs, strict=True)
            for further, value in found
        ]
    ).encode()


_packed_head: Final = lru_cache(maxsize=512)(pack)


class Writer:
    """Gathers what is rendered into pieces of an answer, as text or as a gzip member."""

    def __init__(self, gzip: bool) -> None:
        self.turns = Turns()
        self._member = GzipMember() if gzip else None

    async def read(self, rows: Rows[T], families: Sequence[Family[T]]) -> None:
        """To be awaited ahead of `family`, once for each of the rows and with all their families."""
        if self._member is not None:
            await rows.read(families, self.turns)

    async def family(self, *parts: tuple[Family[T], Rows[T]]) -> AsyncIterator[bytes]:
        """A family's head and its series; several parts where each sort of rows is read in its own way.

        A family without series is left out.
        """
        head = parts[0][0].head.encode() if parts else b""
        if self._member is not None:
            packed = [part for family, rows in parts for part in rows.packed(family)]
            waiting = iter((_packed_head(head), *packed) if packed else ())
            while some := b"".join(map(self._member.add, islice(waiting, PARTS))):
                yield some
                await self.turns.take()
            return
        for family, rows in parts:
            async for text in rows.text(family, self.turns):
                if text:
                    yield head + text
                    head = b""

    def begin(self) -> bytes:
        """What goes ahead of everything."""
        return b"" if self._member is None else self._member.HEADER

    def plain(self, text: bytes) -> bytes:
        """Text as it is."""
        return text if self._member is None else self._member.add(pack(text))

    def end(self) -> bytes:
        """What goes behind everything."""
        return b"" if self._member is None else self._member.end()
