"""One gzip member of parts that were compressed each for itself, so that what stays the same is compressed once.

A gzip member is a sequence of deflate blocks and the CRC of the whole (RFC 1952), and the CRC of two texts follows from
the CRC of each.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias


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
        coarse, fine = divmod(part.size, _FINE)  # else most parts would bring a size that nothing is remembered of
        self._crc = _multiplied(_shift(fine), _multiplied(_shift(coarse * _FINE), self._crc)) ^ part.crc
        self._size += part.size
        return part.data

    def end(self) -> bytes:
        """The last, empty deflate block and the trailer."""
        return b"\x03\x00" + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)


# -- the CRC of parts: polynomials over GF(2) modulo CRC-32's, the lowest power in the highest bit ---------------------

_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31

_Multiples: TypeAlias = tuple[int, ...]
"""A factor times each of the sixteen polynomials below x^4: a multiplication is eight look-ups then."""


def _multiplied_by_x(value: int) -> int:
    return (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1


def _multiples(factor: int) -> _Multiples:
    powers = [factor]
    for _ in range(3):
        powers.append(_multiplied_by_x(powers[-1]))
    found = [0] * 16
    for digit in range(16):
        for bit, power in enumerate(powers):
            if digit & 8 >> bit:
                found[digit] ^= power
    return tuple(found)


def _overflow(digit: int) -> int:
    """What x^4 times the four highest powers comes to."""
    for _ in range(4):
        digit = _multiplied_by_x(digit)
    return digit


_OVERFLOWS: Final = tuple(map(_overflow, range(16)))


def _multiplied(factor: _Multiples, value: int) -> int:
    product = 0
    for _ in range(8):  # Horner's rule, four bits at a time, the highest powers first
        product = product >> 4 ^ _OVERFLOWS[product & 15] ^ factor[value & 15]
        value >>= 4
    return product


def _squares() -> Iterator[_Multiples]:
    square = _ONE >> 8
    for _ in range(40):
        multiples = _multiples(square)
        yield multiples
        square = _multiplied(multiples, square)


_SQUARES: Final = tuple(_squares())
"""x to the powers of 8, 16, 32, ..."""


_FINE: Final = 1024


@lru_cache(maxsize=2 * _FINE)
def _shift(octets: int) -> _Multiples:
    """x to the power of 8 * octets: what appending so many octets multiplies the CRC before them by."""
    power = _ONE
    for bit, square in enumerate(_SQUARES[: octets.bit_length()]):
        if octets >> bit & 1:
            power = _multiplied(square, power)
    return _multiples(power)
