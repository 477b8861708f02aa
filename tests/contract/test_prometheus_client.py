"""A Prometheus that is slow, huge, closed, or none at all: one line, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from prober.report.prometheus import Prometheus, PrometheusError, Series, access


@asynccontextmanager
async def answering(answer: bytes, *, endless: bool = False, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that says this to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(answer)
        try:
            while endless:
                writer.write(b" " * 65_536)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://me:hidden@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def asked(url: str) -> list[Series]:
    async with Prometheus(access(url)) as server:
        return await server.instant("up", 1.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK", b"<html>"), "not as Prometheus does"),
        (http("200 OK", b"[]"), "not as Prometheus does"),
        (http("200 OK", b'{"status": "success", "data": {"result": [{"metric": {}}]}}'), "not as Prometheus does"),
        (http("200 OK", b"[" * 100_000), "not as Prometheus does"),
        (http("401 Unauthorized", b""), "give --basic-auth-file"),
        (http("302 Found\r\nLocation: http://192.0.2.1/", b""), "elsewhere"),
        (http("503 Service Unavailable", b""), "try again later"),
        (http("422 No", b'{"status": "error", "error": "too many\\u001b[2J samples"}'), "too many\\u001b[2J samples"),
        (b"", "127.0.0.1"),
        (b"nonsense\r\n\r\n", "127.0.0.1"),
    ],
)
async def test_what_is_no_answer_is_one_line(answer: bytes, said: str) -> None:
    async with answering(answer) as url:
        with pytest.raises(PrometheusError) as raised:
            await asked(url)
    assert said in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prober.report.prometheus.BODY_MAX", 1_000_000)
    async with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", endless=True) as url:
        with pytest.raises(PrometheusError, match="longer than"):
            await asked(url)


async def test_silence_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prober.report.prometheus.TIMEOUT_SECONDS", 0.2)
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as url:
        with pytest.raises(PrometheusError):
            await asked(url)


async def test_a_user_is_sent_and_a_sample_read() -> None:
    seen: list[bytes] = []
    body = b'{"status": "success", "data": {"result": [{"metric": {"a": "b"}, "value": [1.5, "NaN"]}]}}'
    async with answering(http("200 OK", body), seen=seen) as url:
        (series,) = await asked(url)
    assert (series.labels, series.samples) == ({"a": "b"}, ())
    assert b"Authorization: Basic bWU6aGlkZGVu" in seen[0]
