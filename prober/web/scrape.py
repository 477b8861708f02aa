"""Sends an exposition while it is rendered: never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from aiohttp import web

from prober.textformat import Turns

CHUNK_BYTES: Final = 64 * 1024
"""What is written at one go, at the least."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


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


async def send(request: web.Request, render: Callable[[bool], AsyncGenerator[bytes, None]]) -> web.StreamResponse:
    """Answer with what `render` gives, gzip if the client reads that; to HEAD with the headers alone, unrendered."""
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"})
    gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))
    if gzip:
        response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    waiting, turns = bytearray(), Turns()
    async with aclosing(render(gzip)) as pieces:
        async for piece in pieces:
            waiting += piece
            if len(waiting) >= CHUNK_BYTES:
                await response.write(bytes(waiting))  # which goes on at once as long as the client keeps up
                waiting.clear()
            await turns.take()
    await response.write_eof(bytes(waiting))
    return response
