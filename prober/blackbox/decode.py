"""Bodies decoded as they arrive, in small steps: gzip, deflate, br."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

import brotli

STEP: Final = 65_536
"""Octets that one step yields at most, whatever a few octets of input decompress to."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBERS_MAX: Final = 64


class NotDecodable(Exception):
    """The body is not what the module says it is."""


class Decoder:
    """Decodes one body. `compression` is the module's option: it counts whatever the response's headers say."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self._members = 0
        self._inflater: Any = None
        if compression == "br":
            self._inflater = brotli.Decompressor()
        elif compression == "deflate":  # the bare format, as the original's library
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        elif compression == "gzip":
            self._next_member()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these octets decode to. Raises NotDecodable."""
        if self._inflater is None:
            yield data
        elif self._compression == "br":
            yield from self._brotli(data)
        else:
            yield from self._inflate(data)

    def finish(self) -> None:
        """The body is complete. Raises NotDecodable if its encoding is not."""
        if self._inflater is None:
            return
        done = self._inflater.is_finished() if self._compression == "br" else self._inflater.eof
        if not done:
            raise NotDecodable(f"the {self._compression} data end early")

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MEMBERS_MAX:
            raise NotDecodable(f"more than {_MEMBERS_MAX} gzip members")
        self._inflater = zlib.decompressobj(_GZIP)

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflater.eof:
                if self._compression == "deflate":
                    return  # what follows the end is not looked at
                self._next_member()
            try:
                piece = self._inflater.decompress(data, STEP)
            except zlib.error as error:
                raise NotDecodable(f"not {self._compression} data: {error}") from None
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            if piece:
                yield piece

    def _brotli(self, data: bytes) -> Iterator[bytes]:
        try:
            piece = self._inflater.process(data, output_buffer_limit=STEP)
            while piece:
                yield piece
                # What is left of the output comes for no more input.
                piece = self._inflater.process(b"", output_buffer_limit=STEP)
        except brotli.error as error:
            raise NotDecodable(f"not br data: {error}") from None
