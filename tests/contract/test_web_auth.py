"""Basic auth at the HTTP face: who may come in, and what trying costs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import aiohttp
import bcrypt
import pytest

from prober.web import WebConfig, WebFace, auth, server
from tests.webface import Agent, basic


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


@pytest.fixture
async def locked() -> AsyncIterator[WebFace]:
    users = {b"alice": hashed(b"wonder:land"), "김".encode(): hashed("비밀".encode())}
    async with WebFace(Agent().views(), WebConfig(users=users)) as face:
        await face.start("127.0.0.1", 0)
        yield face


async def status(client: aiohttp.ClientSession, face: WebFace, path: str, login: str | None) -> int:
    async with client.get(face.urls[0] + path, headers={"Authorization": login} if login else {}) as response:
        await response.read()
        if response.status == 401:
            assert response.headers["WWW-Authenticate"] == 'Basic realm="prober", charset="UTF-8"'
        return response.status


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nothing"])
async def test_who_may_come_in(locked: WebFace, client: aiohttp.ClientSession, path: str) -> None:
    inside = {"/-/reload": 405, "/nothing": 404}.get(path, 200)
    for _ in range(2):  # also from memory
        assert await status(client, locked, path, basic("alice", "wonder:land")) == inside
        assert await status(client, locked, path, basic("김", "비밀")) == inside
        assert await status(client, locked, path, basic("alice", "wonder")) == 401
        assert await status(client, locked, path, basic("bob", "wonder:land")) == 401
        assert await status(client, locked, path, basic("김", "wonder:land")) == 401
        assert await status(client, locked, path, basic("", "")) == 401
        assert await status(client, locked, path, None) == 401


@pytest.mark.parametrize(
    "value", ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer YWxpY2U6eA==", "Basic é", "Digest x"]
)
async def test_nonsense_is_no_login(locked: WebFace, client: aiohttp.ClientSession, value: str) -> None:
    assert await status(client, locked, "/metrics", value) == 401


async def test_probing_txt_is_for_everybody(locked: WebFace, client: aiohttp.ClientSession) -> None:
    assert await status(client, locked, server.PROBING_TXT, None) == 200


async def test_a_password_is_hashed_once_and_never_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    real = bcrypt.checkpw

    def counted(password: bytes, known: bytes) -> bool:
        threads.append(threading.get_ident())
        return real(password, known)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    users = auth.Users({b"alice": hashed(b"x")})
    good, bad, unknown = (basic(*pair) for pair in (("alice", "x"), ("alice", "y"), ("bob", "x")))
    for _ in range(5):
        assert await users.check(good) is auth.Verdict.GOOD
        assert await users.check(bad) is auth.Verdict.BAD
        assert await users.check(unknown) is auth.Verdict.BAD
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_who_does_not_exist_costs_as_much() -> None:
    users = auth.Users({b"alice": hashed(b"x", 9)})

    async def seconds(name: str) -> float:
        best = 1.0
        for attempt in range(5):
            before = time.perf_counter()
            await users.check(basic(name, f"wrong{attempt}"))
            best = min(best, time.perf_counter() - before)
        return best

    known, unknown = await seconds("alice"), await seconds("bob")
    assert known > 0.01
    assert 0.5 < unknown / known < 2


async def test_a_flood_of_logins_is_bounded() -> None:
    users = auth.Users({b"alice": hashed(b"x", 8)})
    attempts = [users.check(basic("alice", str(n))) for n in range(auth.WAITING_MAX + 5)]
    verdicts = await asyncio.gather(*attempts)
    assert verdicts.count(auth.Verdict.BUSY) == 5
    assert await users.check(basic("alice", "x")) is auth.Verdict.GOOD


async def test_a_long_password_counts_to_72_bytes_as_its_hash_did() -> None:
    users = auth.Users({b"alice": hashed(b"x" * 72)})
    assert await users.check(basic("alice", "x" * 80)) is auth.Verdict.GOOD


async def test_users_change_at_once(locked: WebFace, client: aiohttp.ClientSession) -> None:
    assert await status(client, locked, "/", basic("alice", "wonder:land")) == 200
    await locked.replace(
        WebConfig(users={b"alice": hashed(b"new")}, headers={"X-Frame-Options": "", "X-XSS-Protection": "0"})
    )
    assert await status(client, locked, "/", basic("alice", "wonder:land")) == 401
    assert await status(client, locked, "/", basic("alice", "new")) == 200
    assert await status(client, locked, "/", basic("김", "비밀")) == 401
    async with client.get(locked.urls[0], headers={"Authorization": basic("alice", "new")}) as response:
        assert "X-Frame-Options" not in response.headers
        assert response.headers["X-XSS-Protection"] == "0"
    await locked.replace(WebConfig())
    assert await status(client, locked, "/", None) == 200
