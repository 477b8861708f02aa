"""Prometheus' text format, made fast: columns of values, blocks of lines, and blocks that did not change kept as gzip.

Ten thousand targets are a million lines. Most say what they said at the scrape before: their values are compared, and
if none of a block has changed, its compressed form is sent again. A gzip member is a sequence of deflate blocks and the
CRC of the whole (RFC 1952), and the CRC of two texts follows from the CRC of each, so nothing is compressed twice.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from prober.printable import printable

T = TypeVar("T")

BLOCK: Final = 500
"""Lines that are rendered, compared and compressed together; about 0.4 ms."""
TURN_SECONDS: Final = 0.002
"""After so much work the event loop has its turn."""

Labels: TypeAlias = str  # rendered and escaped, each with a comma behind it
Type: TypeAlias = Literal["gauge", "counter"]
Values: TypeAlias = Sequence[float | None]

MEASURED: Final = ".9g"
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
    digits of a measured time take three times as long as all else of a line.
    """

    labels: Labels
    values: Callable[[Sequence[T]], Values]
    form: str = ""


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """A metric with series per row: for each column, or what `pairs` gives of a row: further labels and values.

    `steady`: most values are what they were at the scrape before. `fixed`: all are, as long as the rows are the same.
    """

    name: str
    type: Type
    help: str
    columns: tuple[Column[T], ...] = ()
    pairs: Callable[[T], Iterable[tuple[Labels, float]]] | None = None
    steady: bool = True
    fixed: bool = False

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


# -- gzip of parts -----------------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """Text as deflate blocks that refer to nothing before them, with what its gzip trailer needs."""

    data: bytes
    crc: int
    size: int  # octets of the text


def pack(text: bytes) -> Packed:
    """Compress at level 1, which takes a quarter of the time of the default and costs little on such text."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Packed(compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH), zlib.crc32(text), len(text))


class GzipMember:
    """Puts packed parts together to one gzip member (RFC 1952)."""

    HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"

    def __init__(self) -> None:
        self._crc = 0
        self._size = 0

    def add(self, part: Packed) -> bytes:
        """What to send of a part."""
        self._crc = _multiplied(_shift(part.size), self._crc) ^ part.crc
        self._size += part.size
        return part.data

    def end(self) -> bytes:
        """The last, empty deflate block and the trailer."""
        return b"\x03\x00" + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)


_POLYNOMIAL: Final = 0xEDB88320
"""CRC-32's, the lowest power in the highest bit."""
_ONE: Final = 1 << 31


def _multiplied(a: int, b: int) -> int:
    """a times b, as polynomials modulo CRC-32's (as zlib's crc32_combine does it)."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _squares() -> Iterator[int]:
    square = _ONE >> 8
    for _ in range(40):
        yield square
        square = _multiplied(square, square)


_SQUARES: Final = tuple(_squares())
"""x to the powers of 8, 16, 32, ..."""


@lru_cache(maxsize=4096)
def _shift(octets: int) -> int:
    """x to the power of 8 * octets: what appending so many octets multiplies the CRC before them by."""
    power = _ONE
    for bit, square in enumerate(_SQUARES[: octets.bit_length()]):
        if octets >> bit & 1:
            power = _multiplied(square, power)
    return power


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


_Memo: TypeAlias = "tuple[object, Packed | None]"


class Rows(Generic[T]):
    """Things of one sort with their labels, and what was sent of them at the scrape before."""

    def __init__(self, rows: Iterable[tuple[T, Labels]] = ()) -> None:
        self._blocks: list[tuple[list[T], list[Labels]]] = []
        self._memo: dict[tuple[str, int, int], _Memo] = {}
        self._size = 0
        for row, labels in rows:
            self.append(row, labels)

    def __len__(self) -> int:
        return self._size

    def append(self, row: T, labels: Labels) -> None:
        """Add a row at the end. Only before anything is rendered."""
        if self._size % BLOCK == 0:
            self._blocks.append(([], []))
        items, all_labels = self._blocks[-1]
        items.append(row)
        all_labels.append(labels[:-1])
        self._size += 1

    async def text(self, family: Family[T], turns: Turns) -> AsyncIterator[bytes]:
        """The lines of a family, block by block."""
        for items, labels in self._blocks:
            for column in family.columns:
                yield _lines(family.name, column, labels, column.values(items))
                await turns.take()
            if family.pairs is not None:
                yield _pair_lines(family.name, labels, map(family.pairs, items))
                await turns.take()

    async def packed(self, family: Family[T], turns: Turns) -> AsyncIterator[Packed]:
        """The same, compressed; what has not changed is not made again."""
        for place, (items, labels) in enumerate(self._blocks):
            for number_, column in enumerate(family.columns):
                key = (family.name, number_, place)
                if family.fixed and key in self._memo:
                    packed = self._memo[key][1]
                else:
                    packed = self._column(key, family, column, items, labels)
                if packed is not None:
                    yield packed
                await turns.take()
            if family.pairs is not None:
                packed = self._pairs((family.name, -1, place), family, items, labels)
                if packed is not None:
                    yield packed
                await turns.take()

    def _column(
        self, key: tuple[str, int, int], family: Family[T], column: Column[T], items: list[T], labels: list[Labels]
    ) -> Packed | None:
        values = column.values(items)
        if not family.steady:
            return _packed(_lines(family.name, column, labels, values))
        known = self._memo.get(key)
        if known is not None and known[0] == values:
            return known[1]
        packed = _packed(_lines(family.name, column, labels, values))
        self._memo[key] = values, packed
        return packed

    def _pairs(
        self, key: tuple[str, int, int], family: Family[T], items: list[T], labels: list[Labels]
    ) -> Packed | None:
        assert family.pairs is not None
        known = self._memo.get(key)
        if family.fixed and known is not None:
            return known[1]
        pairs = [tuple(found) for found in map(family.pairs, items)]
        if known is not None and known[0] == pairs:
            return known[1]
        packed = _packed(_pair_lines(family.name, labels, pairs))
        self._memo[key] = (None if family.fixed else pairs), packed
        return packed


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


class Writer:
    """Gathers what is rendered into pieces of an answer, as text or as a gzip member."""

    def __init__(self, gzip: bool) -> None:
        self.turns = Turns()
        self._member = GzipMember() if gzip else None

    async def family(self, *parts: tuple[Family[T], Rows[T]]) -> AsyncIterator[bytes]:
        """A family's head and its series; several parts where each sort of rows is read in its own way.

        A family without series is left out.
        """
        head = parts[0][0].head.encode() if parts else b""
        for family, rows in parts:
            if self._member is not None:
                async for packed in rows.packed(family, self.turns):
                    if head:
                        yield self.plain(head)
                        head = b""
                    yield self._member.add(packed)
            else:
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
