"""The HTTP face over real sockets: what each path answers, what clients may cost, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from prober.config.problems import ConfigError, Problem
from prober.web import Attribution, CannotListen, WebFace, listener, server
from tests.leaks import assert_no_leaks
from tests.webface import EXPOSITION, Agent, at, refused, talk, until, watched_loop


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def face(agent: Agent) -> AsyncIterator[WebFace]:
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        yield face


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_metrics_plain_and_compressed(face: WebFace, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{face.urls[0]}/metrics", headers={"Accept-Encoding": "identity"}) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Content-Encoding" not in response.headers
        assert await response.read() == EXPOSITION
    async with client.get(f"{face.urls[0]}/metrics", headers={"Accept-Encoding": "deflate, GZIP;q=0.5"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"
        body = await response.read()
        assert len(body) < len(EXPOSITION) / 5
        assert gzip.decompress(body) == EXPOSITION


@pytest.mark.parametrize("header", ["", "gzip;q=0", "br", "identity, *;q=0", "gzip;q=x"])
async def test_metrics_are_not_compressed_for_whom_cannot_read_it(
    face: WebFace, client: aiohttp.ClientSession, header: str
) -> None:
    async with client.get(f"{face.urls[0]}/metrics", headers={"Accept-Encoding": header}) as response:
        assert "Content-Encoding" not in response.headers


async def test_metrics_never_hold_the_loop_long(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    agent.pieces = tuple(agent.pieces) * 40  # compressing these 24 MB at one go takes 150 ms here
    async with (
        watched_loop() as hold,
        client.get(f"{face.urls[0]}/metrics", headers={"Accept-Encoding": "gzip"}) as response,
    ):
        await response.read()
    assert hold.longest < 0.06  # a chunk takes half a millisecond


async def test_head_asks_for_no_rendering(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    async with client.head(f"{face.urls[0]}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await response.read() == b""
    assert agent.rendered == agent.rendering == 0
    async with client.head(f"{face.urls[0]}/-/healthy") as response:
        assert response.status == 200


async def test_healthy_and_ready(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    agent.missing = "no probe has run yet"
    async with client.get(f"{face.urls[0]}/-/healthy") as response:
        assert (response.status, await response.text()) == (200, "healthy\n")
    async with client.get(f"{face.urls[0]}/-/ready") as response:
        assert (response.status, await response.text()) == (503, "not ready: no probe has run yet\n")
    agent.missing = None
    async with client.get(f"{face.urls[0]}/-/ready") as response:
        assert (response.status, await response.text()) == (200, "ready\n")


async def test_reload_by_post_and_put_alone(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    url = f"{face.urls[0]}/-/reload"
    for method in ("POST", "PUT"):
        async with client.request(method, url) as response:
            assert (response.status, await response.text()) == (200, "reloaded\n")
    for method in ("GET", "HEAD", "DELETE"):
        async with client.request(method, url) as response:
            assert response.status == 405
            assert response.headers["Allow"] == "POST,PUT"
    assert agent.reloads == 2


async def test_a_bad_file_is_told_line_by_line(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    problems = [Problem("a.yml", 3, "x", "wrong; mend it", "c"), Problem("b.yml", 0, "", "gone", "c")]
    agent.reload_error = lambda: ConfigError(problems)
    async with client.post(f"{face.urls[0]}/-/reload") as response:
        assert response.status == 500
        assert await response.text() == (
            "not reloaded, the old configuration stays:\na.yml:3: x: wrong; mend it\nb.yml: gone\n"
        )


async def test_another_sites_page_cannot_reload(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    async with client.post(f"{face.urls[0]}/-/reload", headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 403
    assert agent.reloads == 0


async def test_probing_txt(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    url = f"{face.urls[0]}/.well-known/probing.txt"
    async with client.get(url) as response:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await response.text() == (
            "Contact: mailto:noc@example.org\n"
            "Expires: 2023-12-14T00:00:00Z\n"
            "Preferred-Languages: en\n"
            "Description: Some probes.\n"
        )
    agent.attribution = Attribution("https://example.org/noc", "x", f"https://example.org{server.PROBING_TXT}")
    async with client.get(url) as response:
        assert (await response.text()).startswith(
            "Canonical: https://example.org/.well-known/probing.txt\nContact: https:"
        )
    agent.attribution = None
    async with client.get(url) as response:
        assert (response.status, await response.text()) == (404, "no contact is configured\n")


async def test_the_status_page_plain_and_compressed(face: WebFace, client: aiohttp.ClientSession) -> None:
    async with client.get(face.urls[0], headers={"Accept-Encoding": "identity"}) as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        page = await response.read()
        assert page == b"<!DOCTYPE html>\n<title>index</title>\n"
    async with client.get(face.urls[0], headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == page


async def test_every_answer_carries_the_headers(face: WebFace, client: aiohttp.ClientSession) -> None:
    for path, status in (("/", 200), ("/metrics", 200), ("/nothing", 404), ("/-/reload", 405)):
        async with client.get(face.urls[0] + path) as response:
            assert response.status == status
            assert response.headers["Server"] == "prober"  # neither Python's version nor aiohttp's
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"


# -- what clients may cost ---------------------------------------------------------------------------------------------


async def test_one_scrape_too_many_is_refused(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    agent.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:

        async def scrape() -> bytes:
            async with client.get(f"{face.urls[0]}/metrics", headers={"Accept-Encoding": ""}) as response:
                return await response.read()

        scrapes = [tasks.create_task(scrape()) for _ in range(server.SCRAPES_MAX)]
        await until(lambda: agent.rendering == server.SCRAPES_MAX)
        async with client.get(f"{face.urls[0]}/metrics") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        async with client.get(f"{face.urls[0]}/-/healthy") as response:
            assert response.status == 200
        agent.gate.set()
    assert {task.result() for task in scrapes} == {EXPOSITION}
    async with client.get(f"{face.urls[0]}/metrics") as response:
        assert response.status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_who_never_asks_is_shown_out(agent: Agent, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.1)
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        before = time.monotonic()
        reader, writer = await asyncio.open_connection(*at(face))
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.05 < time.monotonic() - before < 2
        writer.close()


async def test_patience_is_for_requests_not_for_answers(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.05)
    agent.gate = asyncio.Event()
    async with WebFace(agent.views()) as face, aiohttp.ClientSession() as client:
        await face.start("127.0.0.1", 0)
        asyncio.get_running_loop().call_later(0.2, agent.gate.set)
        async with client.get(f"{face.urls[0]}/metrics") as response:
            assert await response.read() == EXPOSITION


async def test_an_idle_connection_is_closed(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "KEEP_ALIVE_SECONDS", 0.1)
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        answer = await talk(face, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET /slow")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_that_does_not_read_gives_its_place_free(
    agent: Agent, face: WebFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 1)
    agent.pieces = itertools.repeat(bytes(64 * 1024))
    with socket.create_connection(at(face)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: agent.rendered == 1)
        await asyncio.sleep(0.05)
        assert not await refused(face)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
    ids=["long line", "long header", "many headers", "TLS hello", "nonsense"],
)
async def test_malformed_and_oversized_requests(
    face: WebFace, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    caplog.set_level(logging.INFO)
    answer = await talk(face, request_bytes)
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"Traceback" not in answer
    assert caplog.records == []  # whoever scans ports must not fill the log


async def test_a_large_body_is_not_kept(face: WebFace, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", 0.1)
    head = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n"
    answer = await talk(face, head + bytes(1_000_000))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert agent.reloads == 1


async def test_connections_are_bounded_and_come_back(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 3)
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        held = [await asyncio.open_connection(*at(face)) for _ in range(3)]
        assert await refused(face)
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert not await refused(face)


@pytest.mark.parametrize("held", [True, False], ids=["connected", "gone"])
async def test_one_client_cannot_keep_others_out(agent: Agent, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """However many connections it opens and keeps: a quarter is for others. Those it closed count no more."""
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 8)
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        many = []
        for _ in range(20):
            many.append(await asyncio.open_connection(*at(face), local_addr=("127.0.0.2", 0)))
            await asyncio.sleep(0)
        if not held:
            for _, writer in many:
                writer.close()
            await until(lambda: not face._clients)
            assert not face._connections
        own = await asyncio.open_connection(*at(face), local_addr=("127.0.0.2", 0))
        own[1].write(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        with suppress(OSError):
            assert (await own[0].read() == b"") is held
        assert (await talk(face, b"GET /metrics HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 OK")
        for _, writer in (*many, own):
            writer.close()
            with suppress(OSError):  # cut off it may be
                await writer.wait_closed()


async def test_a_defect_of_ours_is_one_line_for_the_user_and_logged_once(
    face: WebFace, agent: Agent, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    agent.render_error = lambda: RuntimeError("secret")
    for _ in range(3):
        with pytest.raises(aiohttp.ClientPayloadError):  # cut off, and recognisably so
            async with client.get(f"{face.urls[0]}/metrics") as response:
                await response.read()
        async with client.post(f"{face.urls[0]}/-/reload") as response:
            assert response.status == 200
    assert [record.message for record in caplog.records] == ["a defect of the HTTP face"]
    assert agent.rendered == agent.rendering == 3


async def test_a_defect_before_the_answer_began_is_a_500(
    agent: Agent, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    agent.reload_error = lambda: RuntimeError("secret")
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        async with client.post(f"{face.urls[0]}/-/reload") as response:
            assert response.status == 500
            text = await response.text()
    assert "secret" not in text
    assert "Traceback" not in text
    assert len(caplog.records) == 1


# -- sockets -----------------------------------------------------------------------------------------------------------


async def test_listens_on_ipv6_and_on_all_addresses(agent: Agent, client: aiohttp.ClientSession) -> None:
    for host, count in (("::1", 1), ("localhost", None), ("", 2)):
        async with WebFace(agent.views()) as face:
            await face.start(host, 0)
            assert count in (None, len(face.urls))
            assert len({url.rpartition(":")[2] for url in face.urls}) == 1
            for url in face.urls:
                async with client.get(url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")) as response:
                    assert response.status == 200


async def test_a_port_in_use_is_one_line(agent: Agent, face: WebFace) -> None:
    host, port = at(face)
    async with WebFace(agent.views()) as other:
        with pytest.raises(CannotListen) as raised:
            await other.start(host, port)
    assert str(raised.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; free the port or choose another"
    )


async def test_an_address_of_another_host_is_one_line(agent: Agent) -> None:
    async with WebFace(agent.views()) as face:
        with pytest.raises(
            CannotListen, match=r"cannot listen on \[2001:db8::1\]:9911: Cannot assign requested address"
        ):
            await face.start("2001:db8::1", 9911)


async def test_nothing_is_left_after_close(agent: Agent) -> None:
    agent.gate = asyncio.Event()
    async with assert_no_leaks():
        face = WebFace(agent.views())
        await face.start("127.0.0.1", 0)
        idle = await asyncio.open_connection(*at(face))
        scraping = await asyncio.open_connection(*at(face))
        scraping[1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: agent.rendering == 1)
        asyncio.get_running_loop().call_later(0.05, agent.gate.set)  # a request under way is finished
        await face.close()
        await face.close()
        assert (await scraping[0].read()).endswith(b"0\r\n\r\n")
        assert await idle[0].read() == b""
        for _, writer in (idle, scraping):
            writer.close()
            await writer.wait_closed()


async def test_the_api_answers_json(face: WebFace, client: aiohttp.ClientSession) -> None:
    for path, status, body in (
        ("/api/v1/status", 200, {"vantage": "test"}),
        ("/api/v1/outages?scope=entity", 200, {"outages": [], "asked": {"scope": "entity"}}),
        ("/api/v1/outages?bad=1", 400, {"error": "bad is no parameter"}),
        ("/api/v1/outages?full=1", 503, {"error": "the disk is gone"}),
    ):
        async with client.get(face.urls[0] + path) as response:
            assert response.status == status
            assert response.content_type == "application/json"
            assert await response.json() == body
