"""Sends an exposition while it is rendered: never whole in memory, compressed in steps that the loop hardly notices."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from aiohttp import web

CHUNK_BYTES: Final = 64 * 1024
"""What is compressed and written at one go: half a millisecond at level 1."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_GZIP: Final = 16 + zlib.MAX_WBITS


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3)."""
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weights[coding] = float(weight)
        except ValueError:
            weights[coding] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


async def send(request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """Answer with the pieces, as chunks of CHUNK_BYTES; to HEAD with the headers alone, and nothing is rendered."""
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"})
    compressor = None
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        response.headers["Content-Encoding"] = "gzip"
        compressor = zlib.compressobj(level=1, wbits=_GZIP)

    async def write(data: bytes) -> None:
        packed = compressor.compress(data) if compressor else data
        if packed:
            await response.write(packed)
        await asyncio.sleep(0)

    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            while len(waiting) >= CHUNK_BYTES:
                await write(bytes(waiting[:CHUNK_BYTES]))
                del waiting[:CHUNK_BYTES]
        await write(bytes(waiting))
        await response.write_eof(compressor.flush() if compressor else b"")
    finally:
        if isinstance(pieces, AsyncGenerator):  # else its end is left to the garbage collector
            await pieces.aclose()
    return response
