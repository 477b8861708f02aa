"""One HTTP/1.1 request over one connection, and its response read within bounds. aiohttp's parser reads the octets.

aiohttp's own client session would cost more than twice as much, and it hides the moments that a probe measures: when a
name was resolved, when a request was written.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader

from prober.contract import Attempt
from prober.failures import Failure
from prober.net.dial import Connection
from prober.net.http_body import BoundedBody, DecodingError
from prober.net.url import HttpUrl

HEAD_SIZE_MAX: Final = 65_536  # octets before the response's own body: status line, headers, interim responses
_LINE_SIZE_MAX: Final = 16_384
_FIELD_SIZE_MAX: Final = 32_768
_FIELDS_MAX: Final = 1024
_SLACK: Final = 65_536  # octets beyond the body's limit, and octets of framing, that are borne with

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_SEAM: Final = len(b"\n\r\n")
# Flow control is for streams that somebody else reads; here every piece is taken out as soon as it is parsed.
_NO_FLOW_CONTROL: Final = 2**30


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for. `headers` are all that is sent beside the body's length and `Connection: close`."""

    method: str
    url: HttpUrl
    headers: Mapping[str, str]
    body: bytes | None = None
    wire: bytes = field(init=False, repr=False, compare=False)
    """What is sent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire", self._encoded())  # once: it is sent again and again

    def _encoded(self) -> bytes:
        lines = [f"{self.method} {self.url.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body is not None or self.method in ("POST", "PUT", "PATCH"):  # RFC 9110 section 8.6
            lines.append(f"Content-Length: {len(self.body or b'')}")
        lines.append("Connection: close\r\n\r\n")
        return "\r\n".join(lines).encode() + (self.body or b"")


class Response:
    """The response to one request. First `read_head`, then what the head says is there, then `read_body`.

    Both raise ProbeFailure at RECEIVE: CLOSED if the peer stops early, MALFORMED for what is not HTTP or beyond all
    bounds, RESET. What follows a complete response is ignored.
    """

    __slots__ = ("_attempt", "_connection", "_message", "_parser", "_payload", "_rest", "begun")

    def __init__(self, connection: Connection, attempt: Attempt, method: str) -> None:
        loop = asyncio.get_running_loop()
        self._connection = connection
        self._attempt = attempt
        self._parser = HttpResponseParser(
            BaseProtocol(loop),
            loop,
            _NO_FLOW_CONTROL,
            max_line_size=_LINE_SIZE_MAX,
            max_headers=_FIELDS_MAX,
            max_field_size=_FIELD_SIZE_MAX,
            response_with_body=method != "HEAD",
            read_until_eof=True,
            auto_decompress=False,
        )
        self._message: RawResponseMessage
        self._payload: StreamReader
        self._rest = b""
        self.begun = False  # whether anything was received

    @property
    def status(self) -> int:
        return self._message.code

    @property
    def version(self) -> float:
        """1.0 or 1.1."""
        major, minor = self._message.version
        return major + minor / 10

    @property
    def content_length(self) -> int:
        """The length of the body as the head gives it; -1 where it does not."""
        if self._message.code in (204, 304) or self._message.code < 200:
            return 0
        text = self.header("Content-Length") or ""
        return int(text) if text.isdecimal() and len(text) < 19 and not self._message.chunked else -1

    def header(self, name: str) -> str | None:
        """The first field of this name."""
        return self._message.headers.get(name)

    def headers(self, name: str) -> list[str]:
        """All fields of this name."""
        return self._message.headers.getall(name, [])

    async def read_head(self) -> None:
        """Read up to the end of the final response's head, passing over interim ones (RFC 9110 section 15.2)."""
        received = 0
        seam = b""
        while received <= HEAD_SIZE_MAX:
            data = await self._connection.receive()
            if not data:
                self._attempt.fail(Failure.CLOSED, f"closed after {received} octets, before the head was complete")
            received += len(data)
            self.begun = True
            # The parser gets the head alone: an error in what follows must not cost us the head.
            data, fed, line = seam + data, len(seam), 0
            while fed < len(data):
                blank = _BLANK_LINE.search(data, line)
                end = blank.end() if blank else len(data)
                if self._take_final(self._parse(data[fed:end])):
                    self._rest = data[end:]
                    return
                fed, line = end, end if blank else line
            seam = data[max(line, len(data) - _SEAM) :]
        self._attempt.fail(Failure.MALFORMED, f"the response's head is larger than {HEAD_SIZE_MAX} octets")

    def _take_final(self, messages: Sequence[tuple[RawResponseMessage, StreamReader]]) -> bool:
        """Keep the final response's head, if it is there."""
        for message, payload in messages:
            if message.code < 100:
                self._attempt.fail(Failure.MALFORMED, f"{message.code} is no status")
            if message.code >= 200 or message.code == 101:
                self._message, self._payload = message, payload
                return True
        return False

    async def read_body(self, limit: int) -> BoundedBody:
        """Read the body, decoded, as far as `limit` octets."""
        body = BoundedBody(self.header("Content-Encoding") or "", limit)
        received = carried = 0  # octets in all, and those of them that are the body's
        data: bytes | None = self._rest
        try:
            while data is not None:
                received += len(data)
                piece = self._parse_body(data)
                carried += len(piece)
                body.feed(piece)
                if self._payload.is_eof() or body.truncated:
                    break
                # Data that decompress to nothing, or chunks of one octet each, would cost us time without end.
                if carried > limit + _SLACK or received - carried > _SLACK + carried // 8:
                    body.truncated = True
                    break
                data = await self._receive_body(received)
            body.finish()
        except DecodingError as error:
            self._attempt.fail(Failure.MALFORMED, str(error))
        return body

    def rest(self) -> bytes:
        """What came behind the head: after an upgrade, the first octets of another protocol."""
        return self._rest

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets of the body as they come, without their framing and not decoded, for who bounds them himself."""
        received = carried = 0
        data: bytes | None = self._rest
        while data is not None:
            received += len(data)
            piece = self._parse_body(data)
            carried += len(piece)
            if piece:
                yield piece
            if self._payload.is_eof():
                return
            if received - carried > _SLACK + carried // 8:
                self._attempt.fail(Failure.MALFORMED, "hardly anything but framing in the body")
            data = await self._receive_body(received)

    async def _receive_body(self, received: int) -> bytes | None:
        """The next octets; None at the end of a body that only the end of the connection delimits."""
        data = await self._connection.receive()
        if data:
            return data
        if self._message.chunked or self.header("Content-Length") is not None:
            self._attempt.fail(Failure.CLOSED, f"closed after {received} octets, before the body was complete")
        return None

    def _parse(self, data: bytes) -> Sequence[tuple[RawResponseMessage, StreamReader]]:
        try:
            messages, _, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._attempt.fail(Failure.MALFORMED, " ".join(error.message.split()))
        return messages

    def _parse_body(self, data: bytes) -> bytes:
        """The octets of the body in `data`, without their framing."""
        if data:
            try:
                self._parser.feed_data(data)
            except HttpProcessingError as error:
                if not self._payload.is_eof():  # else it is about what follows the body
                    self._attempt.fail(Failure.MALFORMED, " ".join(error.message.split()))
        return self._payload.read_nowait()
