"""One HTTP/2 request over one connection (RFC 9113), read within bounds; the library h2 keeps the protocol's state."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from prober.contract import Attempt
from prober.failures import Failure, Operation
from prober.net.dial import Connection

Headers = Sequence[tuple[str, str]]

_WINDOW: Final = 2**20  # octets that a server may send before we have read them
_HEADERS_SIZE_MAX: Final = 65_536
_HEAD_READS_MAX: Final = 1_000  # a server may send frames without end that are no answer
_STREAM: Final = 1
_PREFACE: Final = b"\0\0"  # a server begins with SETTINGS (RFC 9113 section 3.4), whose length is a few octets
_LENGTH_DIGITS_MAX: Final = 19


class Http2Exchange:
    """A request and its response: `send`, then `read_head`, then `pieces` to their end; then `trailers` are there.

    Every error is raised as a ProbeFailure: MALFORMED for what is not HTTP/2, RESET for a stream that the server gave
    up, CLOSED for a connection that ended too early.
    """

    version: Final = 2.0

    def __init__(self, connection: Connection, attempt: Attempt) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._connection = connection
        self._attempt = attempt
        self._pieces: deque[bytes] = deque()
        self._fields: list[tuple[str, str]] = []
        self._head = False
        self._ended = False
        self.begun = False  # whether anything was received
        self.status = 0
        self.trailers: dict[str, str] = {}

    async def send(self, head: Headers, body: bytes | None = None) -> None:
        """Send a request; `head` begins with the pseudo-headers, all names in lower case."""
        self._attempt.operation = Operation.SEND
        state = self._h2
        state.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: _HEADERS_SIZE_MAX,
            },
        )
        state.initiate_connection()
        state.increment_flow_control_window(_WINDOW)
        try:
            state.send_headers(_STREAM, list(head), end_stream=not body)
            await self._flush()
            rest = body or b""
            while rest:
                room = min(state.local_flow_control_window(_STREAM), state.max_outbound_frame_size)
                if room <= 0:
                    await self._receive()
                    if self._ended:
                        return
                    continue
                piece, rest = rest[:room], rest[room:]
                state.send_data(_STREAM, piece, end_stream=not rest)
                await self._flush()
        except h2.exceptions.ProtocolError as error:
            self._malformed(error)

    async def read_head(self) -> None:
        """Read up to the final response's head."""
        self._attempt.operation = Operation.RECEIVE
        for _ in range(_HEAD_READS_MAX):
            if self._head:
                return
            await self._receive()
        self._attempt.fail(Failure.MALFORMED, "frames without end, and no response among them")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets of the body as they come, for who bounds them himself."""
        idle = 0
        while True:
            while self._pieces:
                idle = 0
                yield self._pieces.popleft()
            if self._ended:
                return
            idle += 1
            if idle > _HEAD_READS_MAX:
                self._attempt.fail(Failure.MALFORMED, "frames without end, and no body in them")
            await self._receive()

    @property
    def content_length(self) -> int:
        """The length of the body as the head gives it; -1 where it does not."""
        text = self.header("content-length") or ""
        if text.isdecimal() and len(text) < _LENGTH_DIGITS_MAX:
            return int(text)
        return 0 if self._ended and not self._pieces else -1

    def header(self, name: str) -> str | None:
        """The first field of this name."""
        values = self.headers(name)
        return values[0] if values else None

    def headers(self, name: str) -> list[str]:
        """All fields of this name."""
        return [value for key, value in self._fields if key == name.lower()]

    async def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            await self._connection.send(data)

    async def _receive(self) -> None:
        """Take in what arrives next."""
        data = await self._connection.receive()
        if not data:
            self._attempt.fail(Failure.CLOSED, "the connection was closed before the response was complete")
        if not self.begun:
            self.begun = True
            if data[: len(_PREFACE)] != _PREFACE[: len(data)]:  # else h2 would wait for the end of a giant frame
                self._attempt.fail(Failure.MALFORMED, f"not HTTP/2: it begins {data[:20]!r}")
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
            self._malformed(error)
        if not self._ended:
            await self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self._fields = [(str(name), str(value)) for name, value in event.headers]
            status = self.header(":status") or ""
            if not status.isdecimal() or len(status) != 3:
                self._attempt.fail(Failure.MALFORMED, f"{status[:20]!r} is no status")
            self.status = int(status)
            self._head = True
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                self._pieces.append(event.data)
            if event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, _STREAM)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._attempt.fail(Failure.RESET, f"the server gave the stream up: {_code(event.error_code)}")
        # After a GOAWAY with a lower stream number our request was not looked at; else its response may still come.
        elif (
            isinstance(event, h2.events.ConnectionTerminated)
            and not self._ended
            and (event.last_stream_id or 0) < _STREAM
        ):
            self._attempt.fail(Failure.CLOSED, f"the server ended the connection: {_code(event.error_code)}")

    def _malformed(self, error: Exception) -> None:
        self._attempt.fail(Failure.MALFORMED, f"not HTTP/2: {' '.join(str(error).split())[:200]}")


def _code(number: object) -> str:
    return number.name if isinstance(number, h2.errors.ErrorCodes) else str(number)
