"""/api/v1/notes over real sockets: who may read, who may write, and what a web page elsewhere may do (nothing)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest

from prober.web import WebConfig, WebFace, notes
from prober.web.notes import is_loopback, names_this_host
from tests.contract.test_web_tls import Pki
from tests.webface import Agent, basic, talk

NOTE = {"text": "attack reported"}
LOCAL = "only from the agent's own host"
ELSEWHERE = "another site's page"


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
    async with aiohttp.ClientSession() as session:
        yield session


async def post(
    client: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None, **more: Any
) -> tuple[int, str]:
    """Status, and the error or the note's text."""
    given = {"json": NOTE} | more if "data" not in more else more
    async with client.post(f"{url}/api/v1/notes", headers=headers, **given) as response:
        found = json.loads(await response.text())
        return response.status, found.get("error") or found["text"]


async def test_listed_added_removed(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    url = face.urls[0]
    assert await post(client, url) == (201, "attack reported")
    async with client.get(f"{url}/api/v1/notes?entity=e") as response:
        assert await response.json() == {"notes": [NOTE], "asked": {"entity": "e"}}
        assert response.headers["Content-Type"].startswith("application/json")
    for path, status in (("/x", 204), ("/x", 404), ("/full", 503)):
        async with client.delete(f"{url}/api/v1/notes{path}") as response:
            assert response.status == status
    assert agent.noted == []


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"[" * 16_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"[]", "headers": {"Content-Type": "application/json; charset=utf-8"}}, 400),
        ({"data": json.dumps(NOTE)}, 415),  # text/plain: what a form of any page may send
        ({"data": {"text": "x"}}, 415),
        ({"data": json.dumps(NOTE), "headers": {"Content-Type": "text/plain; application/json"}}, 415),
    ],
)
async def test_what_is_no_json_is_refused(
    face: WebFace, agent: Agent, client: aiohttp.ClientSession, given: dict[str, Any], status: int
) -> None:
    assert (await post(client, face.urls[0], **given))[0] == status
    assert agent.noted == []


async def test_a_body_that_is_too_long_is_refused(face: WebFace, agent: Agent, client: aiohttp.ClientSession) -> None:
    async with client.post(f"{face.urls[0]}/api/v1/notes", json={"text": "x" * 20_000}) as response:
        assert response.status == 413
    assert agent.noted == []


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Origin": "https://evil.example"}, ELSEWHERE),
        ({"Origin": "null"}, ELSEWHERE),
        ({"Origin": "http://127.0.0.1"}, ELSEWHERE),  # another port is another origin
        ({"Sec-Fetch-Site": "cross-site"}, ELSEWHERE),
        ({"Sec-Fetch-Site": "same-site"}, ELSEWHERE),
        ({"Host": "evil.example"}, "ask for this host"),  # a name that was made to lead here
        ({"Host": "evil.example:9911", "Origin": "http://evil.example:9911", "Sec-Fetch-Site": "same-origin"}, "ask"),
        ({"Host": "127.0.0.1.evil.example"}, "ask for this host"),
        ({"X-Forwarded-For": "127.0.0.1"}, LOCAL),  # a proxy on this host: who asks is behind it
        ({"Via": "1.1 proxy"}, LOCAL),
        ({"Forwarded": "for=192.0.2.1"}, LOCAL),
        ({"X-Request-Id": "1"}, LOCAL),
    ],
)
async def test_what_a_page_elsewhere_may_do(
    face: WebFace, agent: Agent, client: aiohttp.ClientSession, headers: dict[str, str], why: str
) -> None:
    status, said = await post(client, face.urls[0], headers)
    assert (status, said[: len(why)]) == (403, why)
    async with client.delete(f"{face.urls[0]}/api/v1/notes/x", headers=headers) as response:
        assert response.status == 403
    assert agent.noted == []


@pytest.mark.parametrize(("version", "status"), [(b"1.0", b"403"), (b"1.1", b"201")])
async def test_a_proxy_speaks_an_older_http(face: WebFace, agent: Agent, version: bytes, status: bytes) -> None:
    """nginx with nothing but `proxy_pass`."""
    host = face.urls[0].partition("://")[2].encode()
    answer = await talk(
        face,
        b"POST /api/v1/notes HTTP/" + version + b"\r\nHost: " + host + b"\r\nConnection: close\r\n"
        b'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{"text": "x"}',
    )
    assert answer.split()[1] == status
    assert len(agent.noted) == (status == b"201")


async def test_an_agent_that_listens_for_others_wants_a_login(agent: Agent, client: aiohttp.ClientSession) -> None:
    async with WebFace(agent.views()) as face:
        await face.start("", 0)
        url = f"http://127.0.0.1:{face.urls[0].rpartition(':')[2]}"
        status, said = await post(client, url)
        assert (status, "wants a login" in said) == (403, True)
        await face.replace(WebConfig(users={b"ann": bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}))
        assert (await post(client, url, {"Authorization": basic("ann", "secret")}))[0] == 201


async def test_our_own_page_may(face: WebFace, client: aiohttp.ClientSession) -> None:
    headers = {"Origin": face.urls[0], "Sec-Fetch-Site": "same-origin"}
    assert (await post(client, face.urls[0], headers))[0] == 201
    assert (await post(client, face.urls[0].replace("127.0.0.1", "localhost")))[0] == 201


async def test_no_page_elsewhere_is_allowed_to_ask_first(face: WebFace, client: aiohttp.ClientSession) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with client.options(f"{face.urls[0]}/api/v1/notes", headers=headers) as response:
        assert response.status == 405
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_from_elsewhere_only_with_a_login(agent: Agent, client: aiohttp.ClientSession, monkeypatch: Any) -> None:
    monkeypatch.setattr(notes, "is_loopback", lambda _address: False)
    good = {"Authorization": basic("ann", "secret")}
    users = {b"ann": bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        status, said = await post(client, face.urls[0], good)
        assert (status, said[: len(LOCAL)]) == (403, LOCAL)
        await face.replace(WebConfig(users=users))
        async with client.post(f"{face.urls[0]}/api/v1/notes", json=NOTE) as response:
            assert response.status == 401
        assert (
            await post(client, face.urls[0], good | {"Host": "prober.example", "X-Forwarded-For": "192.0.2.1"})
        ) == (
            201,
            "attack reported",
        )
        assert (await post(client, face.urls[0], good | {"Origin": "https://evil.example"}))[0] == 403


async def test_or_with_a_certificate(
    agent: Agent, client: aiohttp.ClientSession, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(notes, "is_loopback", lambda _address: False)
    pki = Pki(tmp_path)
    config = pki.config("  client_ca_file: ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n")
    known, stranger = pki.trust(), pki.trust()
    pki.issue("client").configure_cert(known)
    async with WebFace(agent.views(), config) as face:
        await face.start("127.0.0.1", 0)
        assert (await post(client, face.urls[0], ssl=stranger))[0] == 403
    async with WebFace(agent.views(), config) as face, aiohttp.ClientSession() as other:
        await face.start("127.0.0.1", 0)
        assert (await post(other, face.urls[0], ssl=known))[0] == 201


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(address: str | None, local: bool) -> None:
    assert is_loopback(address) is local


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:9911", True),
        ("127.0.0.1:9911", True),
        ("[::1]:9911", True),
        ("localhost.evil.example", False),
        ("192.0.2.1", False),
        ("", False),
        ("[", False),
        ("a@localhost", True),
    ],
)
def test_hosts(host: str, ours: bool) -> None:
    assert names_this_host(host) is ours
