"""TLS at the HTTP face: what web.yml says holds, and changes without a missed connection."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from prober.web import WebConfig, WebFace, listener, read_web_config
from tests.webface import EXPOSITION, Agent, at, refused, talk, until


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


class Pki:
    """A CA, and web.yml files that use it."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.directory = directory
        self.ca.cert_pem.write_to_path(directory / "ca.pem")
        self.issue("server")

    def issue(self, name: str) -> trustme.LeafCert:
        leaf = self.ca.issue_cert("127.0.0.1", f"{name}.example.test")
        leaf.private_key_pem.write_to_path(self.directory / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(self.directory / f"{name}.pem")
        return leaf

    def config(self, more: str = "") -> WebConfig:
        file = self.directory / "web.yml"
        file.write_text(f"tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{more}")
        return read_web_config(file)

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


async def test_https(pki: Pki, agent: Agent, client: aiohttp.ClientSession) -> None:
    async with WebFace(agent.views(), pki.config()) as face:
        await face.start("127.0.0.1", 0)
        assert face.urls[0].startswith("https://127.0.0.1:")
        async with client.get(f"{face.urls[0]}/metrics", ssl=pki.trust()) as response:
            assert gzip.decompress(await response.read()) == EXPOSITION
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(face.urls[0])
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await client.get(face.urls[0].replace("https", "http"))


async def test_versions_are_bounded(pki: Pki, agent: Agent) -> None:
    for more, inside, outside in (
        ("  min_version: TLS13\n", ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2),
        ("  max_version: TLS12\n", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
    ):
        async with WebFace(agent.views(), pki.config(more)) as face:
            await face.start("127.0.0.1", 0)
            tls = pki.trust()
            tls.minimum_version = tls.maximum_version = inside
            assert b"healthy" in await talk(face, b"GET /-/healthy HTTP/1.0\r\n\r\n", tls)
            tls = pki.trust()
            tls.minimum_version = tls.maximum_version = outside
            assert await refused(face, tls)


async def test_cipher_suites_are_those_of_the_file(pki: Pki, agent: Agent) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"  # trustme's keys are of that kind
    config = pki.config(f"  max_version: TLS12\n  cipher_suites: [{suite}, TLS_AES_128_GCM_SHA256]\n")
    async with WebFace(agent.views(), config) as face:
        await face.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*at(face), ssl=pki.trust())
        assert writer.get_extra_info("cipher")[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        writer.close()
        await writer.wait_closed()
        other = pki.trust()
        other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert await refused(face, other)


async def test_client_certificates(pki: Pki, agent: Agent) -> None:
    more = "  client_ca_file: ca.pem\n  client_auth_type: {}\n"
    ask = b"GET /-/healthy HTTP/1.0\r\n\r\n"
    ours, stranger = pki.trust(), pki.trust()
    pki.issue("client").configure_cert(ours)
    trustme.CA().issue_cert("stranger.example.test").configure_cert(stranger)
    async with WebFace(agent.views(), pki.config(more.format("RequireAndVerifyClientCert"))) as face:
        await face.start("127.0.0.1", 0)
        assert b"healthy" in await talk(face, ask, ours)
        for tls in (pki.trust(), stranger):
            assert await refused(face, tls)
    async with WebFace(agent.views(), pki.config(more.format("VerifyClientCertIfGiven"))) as face:
        await face.start("127.0.0.1", 0)
        assert b"healthy" in await talk(face, ask, ours)
        assert b"healthy" in await talk(face, ask, pki.trust())
        assert await refused(face, stranger)


async def serial(face: WebFace, trust: ssl.SSLContext) -> str:
    _, writer = await asyncio.open_connection(*at(face), ssl=trust)
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return str(found)


async def test_certificates_change_without_a_missed_connection(pki: Pki, agent: Agent) -> None:
    async with WebFace(agent.views(), pki.config()) as face, aiohttp.ClientSession() as client:
        await face.start("127.0.0.1", 0)
        trust = pki.trust()
        before = await serial(face, trust)
        url = face.urls[0]
        stop = asyncio.Event()
        failed: list[Exception] = []
        asked = 0

        async def keep_asking() -> None:
            nonlocal asked
            while not stop.is_set():
                try:
                    assert b"healthy" in await talk(face, b"GET /-/healthy HTTP/1.0\r\n\r\n", trust)
                    asked += 1
                except (OSError, AssertionError) as error:
                    failed.append(error)

        async with client.get(f"{url}/-/healthy", ssl=trust) as response:  # keeps its connection
            await response.read()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_asking())
            for _ in range(5):
                pki.issue("server")
                reached = asked + 2
                await face.replace(pki.config())
                await until(lambda reached=reached: asked >= reached or bool(failed))  # type: ignore[misc]
            stop.set()
        assert not failed
        assert face.urls == [url]
        assert await serial(face, trust) != before
        async with client.get(f"{url}/-/healthy", ssl=trust) as response:
            assert response.status == 200


async def test_a_kept_connection_does_not_outlive_its_policy(pki: Pki, agent: Agent) -> None:
    async with WebFace(agent.views(), pki.config()) as face:
        await face.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*at(face), ssl=pki.trust())
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"healthy\n")).startswith(b"HTTP/1.1 200")
        await face.replace(pki.config("  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_has_not_asked_yet_is_answered_once(agent: Agent) -> None:
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*at(face))
        await asyncio.sleep(0.02)
        await face.replace(WebConfig(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(
            b"healthy\n"
        )  # and closed, although it asked for more
        writer.close()
        await writer.wait_closed()


async def test_reload_over_https_is_answered_although_it_changes_the_certificate(
    pki: Pki, agent: Agent, client: aiohttp.ClientSession
) -> None:
    async with WebFace(agent.views(), pki.config()) as face:
        await face.start("127.0.0.1", 0)
        agent.on_reload = lambda: face.replace(pki.config())
        for _ in range(3):
            async with client.post(f"{face.urls[0]}/-/reload", ssl=pki.trust()) as response:
                assert (response.status, await response.text()) == (200, "reloaded\n")


async def test_tls_can_be_switched_on_and_off(pki: Pki, agent: Agent, client: aiohttp.ClientSession) -> None:
    async with WebFace(agent.views()) as face:
        await face.start("127.0.0.1", 0)
        async with client.get(face.urls[0]) as response:
            assert response.status == 200
        await face.replace(pki.config())
        async with client.get(face.urls[0], ssl=pki.trust()) as response:
            assert response.url.scheme == "https"
            assert response.status == 200
        await face.replace(WebConfig())
        async with client.get(face.urls[0]) as response:
            assert response.url.scheme == "http"


async def test_a_handshake_that_never_ends_frees_its_place(
    pki: Pki, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 1)
    trust = pki.trust()
    async with WebFace(agent.views(), pki.config()) as face:
        await face.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*at(face))
        writer.write(b"\x16\x03\x01")
        assert await refused(face, trust)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await asyncio.sleep(0.05)
        assert not await refused(face, trust)
