"""Bodies of HTTP responses: decoded as they arrive, never beyond a limit, so that no server can exhaust our memory."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

_MEMBERS_MAX: Final = 64  # of a gzip stream: an endless run of empty ones would cost time and yield nothing
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ENCODINGS: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


class DecodingError(Exception):
    """The body is not what its Content-Encoding says."""


class _Inflater(Protocol):  # zlib's class has no name
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = ...) -> bytes: ...


class BoundedBody:
    """Collects a body of at most `limit` octets, decoded as its Content-Encoding says (gzip, deflate; RFC 9110 section
    8.4.1). Another encoding is kept as it is. `truncated` is set once there was more; nothing needs to be fed then.
    """

    def __init__(self, content_encoding: str, limit: int) -> None:
        self._encoding = _ENCODINGS.get(content_encoding.strip().lower())
        self._limit = limit
        self._decoded = bytearray()
        self._inflater: _Inflater | None = None
        self._members = 0
        self.truncated = False

    def content(self) -> bytes:
        """What there is so far, at most `limit` octets."""
        return bytes(self._decoded[: self._limit])

    def feed(self, data: bytes) -> None:
        """Take octets as they came. Raises DecodingError."""
        room = self._limit + 1 - len(self._decoded)  # one more octet tells a body of just the limit from a longer one
        if self._encoding is None:
            self._decoded += data[:room]
        else:
            self._inflate(data, room)
        self.truncated = len(self._decoded) > self._limit

    def finish(self) -> None:
        """The body is complete. Raises DecodingError if its encoding is not."""
        if self._inflater is not None and not self._inflater.eof and not self.truncated:
            raise DecodingError(f"the {self._encoding} data end early")

    def _inflate(self, data: bytes, room: int) -> None:
        while data and room > 0:
            if self._inflater is None or self._inflater.eof:
                if self._members and (self._encoding == "deflate" or not data.startswith(b"\x1f\x8b")):
                    return  # what follows the end is padding
                self._inflater = self._next_member(data)
            try:
                inflated = self._inflater.decompress(data, room)
            except zlib.error as error:
                raise DecodingError(f"not {self._encoding} data: {error}") from None
            self._decoded += inflated
            room -= len(inflated)
            data = self._inflater.unused_data if self._inflater.eof else b""

    def _next_member(self, data: bytes) -> _Inflater:
        self._members += 1
        if self._members > _MEMBERS_MAX:
            raise DecodingError(f"more than {_MEMBERS_MAX} gzip members")
        if self._encoding == "gzip":
            return zlib.decompressobj(_GZIP_WINDOW)
        # "deflate" is the zlib format, yet many servers send the bare one. The low half of zlib's first octet is 8.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
