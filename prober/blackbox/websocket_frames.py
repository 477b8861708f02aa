"""Frames of the WebSocket protocol, as a client reads and writes them (RFC 6455 section 5)."""

from __future__ import annotations

import os
from typing import Final

from prober.contract import Attempt
from prober.failures import Failure
from prober.net.dial import Connection

MESSAGE_SIZE_MAX: Final = 2**20
_FRAMES_MAX: Final = 10_000

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_FINAL: Final = 0x80
_MASKED: Final = 0x80


def text_frame(data: bytes) -> bytes:
    """A whole text message, masked as a client's must be."""
    return _frame(_TEXT, data)


def _frame(opcode: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        length = bytes([_MASKED | size])
    elif size < 65_536:
        length = bytes([_MASKED | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([_MASKED | 127]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    masked = bytes(octet ^ mask[at & 3] for at, octet in enumerate(data))
    return bytes([_FINAL | opcode]) + length + mask + masked


class Messages:
    """The messages that arrive. Pings are answered meanwhile. Every error is raised as a ProbeFailure."""

    def __init__(self, connection: Connection, attempt: Attempt, received: bytes) -> None:
        self._connection = connection
        self._attempt = attempt
        self._buffer = received

    async def next(self) -> bytes:
        """The next text or binary message: CLOSED if the server says goodbye, MALFORMED for what is no frame."""
        message = b""
        begun = False
        for _ in range(_FRAMES_MAX):
            first, data = await self._next_frame()
            opcode = first & 0x0F
            if opcode == _PING:
                await self._connection.send(_frame(_PONG, data))
            elif opcode == _CLOSE:
                self._attempt.fail(Failure.CLOSED, f"the server closed the websocket: {_goodbye(data)}")
            elif opcode in (_TEXT, _BINARY, _CONTINUATION) and begun == (opcode == _CONTINUATION):
                begun = True
                message += data
                if len(message) > MESSAGE_SIZE_MAX:
                    self._attempt.fail(Failure.MALFORMED, f"a message of more than {MESSAGE_SIZE_MAX} octets")
                if first & _FINAL:
                    return message
            elif opcode != _PONG:
                self._attempt.fail(Failure.MALFORMED, f"a frame of the kind {opcode} where none may stand")
        self._attempt.fail(Failure.MALFORMED, "frames without end, and no message")

    async def _next_frame(self) -> tuple[int, bytes]:
        first, second = await self._take(2)
        if first & 0x70 or second & _MASKED:
            self._attempt.fail(Failure.MALFORMED, "a frame with an extension that was not agreed, or a mask")
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self._take(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._take(8), "big")
        if size > MESSAGE_SIZE_MAX:
            self._attempt.fail(Failure.MALFORMED, f"a frame of more than {MESSAGE_SIZE_MAX} octets")
        return first, await self._take(size)

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self._connection.receive()
            if not data:
                self._attempt.fail(Failure.CLOSED, "the connection was closed without a goodbye")
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def _goodbye(data: bytes) -> str:
    if len(data) < 2:
        return "no reason given"
    return f"{int.from_bytes(data[:2], 'big')} {data[2:100].decode('utf-8', 'replace')}".strip()
