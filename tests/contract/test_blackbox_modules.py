"""Modules of the other probers against scripted servers: what tests/blackbox cannot show beside the original."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Mapping
from hashlib import sha1
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.message
import h2.connection
import pytest
import trustme
from aiohttp import web

from prober.blackbox.probe_grpc import _status_in, _varint
from prober.failures import Failure, Operation
from tests.certificates import server_context
from tests.leaks import assert_no_leaks
from tests.modules import Asked, ask, http2
from tests.streams import Script, hang, nobody, saying, serving

# -- tcp and unix ------------------------------------------------------------------------------------------------------


def talking(*lines: bytes, heard: list[bytes] | None = None) -> Script:
    """A script: say a line, hear one, and so on."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
            answer = await reader.readline()
            if heard is not None:
                heard.append(answer)

    return script


async def test_a_conversation_with_labels() -> None:
    heard: list[bytes] = []
    module = """{prober: tcp, tcp: {query_response: [
        {expect: "^220 (?P<host>[^ ]+) (.*)$", send: "EHLO ${host} $2$$${9}", labels: [{name: who, value: "${1}"}]},
        {expect: "^250 "}, {send: QUIT}]}}"""
    async with serving(talking(b"noise\r\n220 mx.example ESMTP \xff\r\n", b"250 ok\r\n", heard=heard)) as address:
        asking = await ask(module, address)
    assert asking.failed is None, asking.text
    assert heard[0] == "EHLO mx.example ESMTP \N{REPLACEMENT CHARACTER}$\n".encode()
    assert asking["probe_expect_info{mx.example}"] == 1
    assert (asking["probe_failed_due_to_regex"], asking["probe_failed_due_to_bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("steps", "said", "failed", "regex", "octets"),
    [
        ("[{expect: a}]", b"b\n", (Operation.VALIDATE, Failure.UNEXPECTED_REPLY), 1, 0),
        ("[{expect: a}]", b"", (Operation.VALIDATE, Failure.UNEXPECTED_REPLY), 1, 0),
        ("[{expect: a}]", b"unterminated a", None, 0, 0),
        ("[{expect: a}]", b"x" * 70_000 + b"\na\n", (Operation.RECEIVE, Failure.MALFORMED), 0, 0),
        ("[{expect_bytes: !!binary AAE=}]", b"\0\1\2", None, 0, 0),
        ("[{expect_bytes: !!binary AAE=}]", b"\0\2", (Operation.VALIDATE, Failure.UNEXPECTED_REPLY), 0, 1),
        ("[{expect_bytes: !!binary AAE=}]", b"\0", (Operation.RECEIVE, Failure.CLOSED), 0, 0),
        ("[{expect: a}, {expect_bytes: bc}]", b"a\nbc", None, 0, 0),
    ],
)
async def test_what_is_heard(
    steps: str, said: bytes, failed: tuple[Operation, Failure] | None, regex: int, octets: int
) -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with serving(script) as address:
        asking = await ask(f"{{prober: tcp, tcp: {{query_response: {steps}}}}}", address)
    assert asking.failed == failed, asking.text
    assert (asking["probe_failed_due_to_regex"], asking["probe_failed_due_to_bytes"]) == (regex, octets)


async def test_starttls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority.issue_cert("mail.example", common_name="mail", organization_name="A, B"))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.readline()
        writer.write(b"220 go ahead\r\n")
        await writer.drain()
        await writer.start_tls(context)
        writer.write(b"250 secret\r\n")
        await reader.readline()

    module = f"""{{prober: tcp, tcp: {{tls_config: {{ca_file: {tmp_path}/ca.pem}}, query_response: [
        {{expect: "^220", send: STARTTLS}}, {{expect: "^220", starttls: true}}, {{expect: secret, send: QUIT}}]}}}}"""
    async with serving(script) as address:
        target = f"mail.example:{address.rpartition(':')[2]}"
        asking = await ask(module, target, names={"mail.example": "127.0.0.1"})
    assert asking.failed is None, asking.text
    assert asking["probe_tls_version_info{TLS 1.3}"] == 1
    (labels,) = asking.result.metrics.families["probe_ssl_last_chain_info"].samples
    assert labels[1].startswith("CN=mail,")
    assert labels[1].endswith("O=A\\, B")
    assert labels[3] == "mail.example"


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"pong\n")
        writer.close()

    server = await asyncio.start_unix_server(script, path)
    async with server:
        guard = Asked()
        asking = await ask("{prober: unix, unix: {query_response: [{send: ping}, {expect: pong}]}}", path, guard=guard)
        assert asking.failed is None, asking.text
        assert [(d.address, d.transport) for d in guard.destinations] == [(path, "unix")]
        for _ in range(5):
            await asyncio.sleep(0)
    assert asking["probe_ip_protocol"] is None
    for missing in (str(tmp_path / "nothing"), str(tmp_path)):
        asking = await ask("{prober: unix}", missing)
        assert asking.failed is not None
        assert asking.failed[0] is Operation.CONNECT
    assert (await ask("{prober: unix}", "x" * 200)).failed == (Operation.PREPARE, Failure.BAD_TARGET)


@pytest.mark.parametrize("target", ["192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:99999", "[::1", "[::1]x", ""])
async def test_a_tcp_target_that_is_none(target: str) -> None:
    assert (await ask("{prober: tcp}", target)).failed == (Operation.PREPARE, Failure.BAD_TARGET)


async def test_nobody_and_refused_by_the_guard() -> None:
    with nobody() as address:
        assert (await ask("{prober: tcp}", address)).failed == (Operation.CONNECT, Failure.REFUSED)
        port = int(address.rpartition(":")[2])
        asking = await ask("{prober: tcp}", address, guard=Asked(frozenset({port})))
    assert asking.failed == (Operation.PREPARE, Failure.NOT_ALLOWED)
    assert asking["probe_ip_protocol"] == 4


async def test_families() -> None:
    with nobody() as address:
        only_6 = "{prober: tcp, tcp: {preferred_ip_protocol: ip6, ip_protocol_fallback: false}}"
        assert (await ask(only_6, address)).failed == (Operation.RESOLVE, Failure.NO_ADDRESS)
        assert (await ask("{prober: tcp}", address)).failed == (Operation.CONNECT, Failure.REFUSED)


# -- dns ---------------------------------------------------------------------------------------------------------------


class NameServer(asyncio.DatagramProtocol):
    """Answers with these records in each section."""

    def __init__(self, *sections: str, rcode: int = 0, flags: int = 0) -> None:
        self.sections, self.rcode, self.flags = sections, rcode, flags
        self.queries: list[dns.message.Message] = []
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.queries.append(query)
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.Rcode(self.rcode))
        response.flags |= self.flags
        sections = (response.answer, response.authority, response.additional)
        for section, text in zip(sections, self.sections, strict=False):
            for line in filter(None, text.split("; ")):
                name, ttl, rdclass, rdtype, rdata = line.split(" ", 4)
                section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, rdata))
        self.transport.sendto(response.to_wire(), addr)

    async def __aenter__(self) -> str:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        host, port = transport.get_extra_info("sockname")
        return f"{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()
        await asyncio.sleep(0)


async def test_a_question_is_as_the_original_asks_it() -> None:
    server = NameServer("example.org. 60 IN A 192.0.2.1")
    async with server as address:
        module = "{prober: dns, dns: {query_name: example.org, query_type: A, recursion_desired: no}}"
        asking = await ask(module, address)
    assert asking.failed is None, asking.text
    (query,) = server.queries
    assert query.opt is None
    assert not query.flags & dns.flags.RD
    assert asking["probe_dns_answer_rrs"] == 1
    assert asking["probe_dns_additional_rrs"] == 0


@pytest.mark.parametrize(
    ("section", "validator", "good"),
    [
        ("answer", 'fail_if_matches_regexp: ["192.0.2.9"]', True),
        ("answer", 'fail_if_matches_regexp: ["192.0.2.1$"]', False),
        ("answer", 'fail_if_not_matches_regexp: ["192.0.2.[12]$"]', True),
        ("answer", 'fail_if_not_matches_regexp: ["192.0.2.1$"]', False),
        ("answer", 'fail_if_none_matches_regexp: ["192.0.2.1$", "x"]', True),
        ("answer", 'fail_if_none_matches_regexp: ["zzz"]', False),
        ("answer", 'fail_if_all_match_regexp: ["192.0.2"]', True),
        ("answer", 'fail_if_all_match_regexp: ["192.0.2.1$"]', False),
        ("authority", 'fail_if_not_matches_regexp: ["^example.org.\\t60\\tIN\\tNS\\tns.example.org.$"]', True),
        ("authority", 'fail_if_matches_regexp: ["NS"]', False),
        ("additional", 'fail_if_not_matches_regexp: ["DS\\t1 8 2 AB"]', True),
        ("additional", 'fail_if_matches_regexp: ["AB"]', False),
    ],
)
async def test_records_are_validated(section: str, validator: str, good: bool) -> None:
    server = NameServer(
        "example.org. 60 IN A 192.0.2.1; example.org. 60 IN A 192.0.2.2",
        "example.org. 60 IN NS ns.example.org.",
        f"x.example.org. 60 IN DS 1 8 2 ab{'00' * 31}",
    )
    module = f"{{prober: dns, dns: {{query_name: example.org, validate_{section}_rrs: {{{validator}}}}}}}"
    async with server as address:
        asking = await ask(module, address)
    assert asking.failed == (None if good else (Operation.VALIDATE, Failure.DNS_ANSWER)), asking.text
    assert asking["probe_dns_query_succeeded"] == 1


async def test_an_empty_answer_matches_nothing() -> None:
    for option in ("fail_if_not_matches_regexp", "fail_if_none_matches_regexp"):
        module = f"{{prober: dns, dns: {{query_name: example.org, validate_answer_rrs: {{{option}: [x]}}}}}}"
        async with NameServer() as address:
            assert (await ask(module, address)).failed == (Operation.VALIDATE, Failure.DNS_ANSWER)


async def test_rcodes_and_truncation() -> None:
    module = "{prober: dns, dns: {query_name: example.org%s}}"
    async with NameServer(rcode=3) as address:
        assert (await ask(module % "", address)).failed == (Operation.VALIDATE, Failure.DNS_RCODE)
        assert (await ask(module % ", valid_rcodes: [NXDOMAIN]", address)).failed is None
    async with NameServer("example.org. 60 IN A 192.0.2.1", flags=dns.flags.TC) as address:
        asking = await ask(module % "", address)
    assert asking.failed is None, "as the original: what came is looked at, and no more is asked for"
    assert asking["probe_dns_answer_rrs"] == 1


async def test_a_silent_name_server() -> None:
    module = "{prober: dns, dns: {query_name: example.org}}"
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")
    asking = await ask(module, f"{host}:{port}", timeout=0.2)
    transport.close()
    assert asking.failed == (Operation.RECEIVE, Failure.TIMEOUT)
    assert (asking["probe_dns_duration_seconds{request}"] or 0) > 0.1


# -- grpc --------------------------------------------------------------------------------------------------------------


def health(
    status: int | None, code: str = "0", fields: list[tuple[str, str]] | None = None, heard: list[Any] | None = None
) -> Script:
    """A gRPC server that answers every health check so; without a status the answer has no message."""

    def respond(connection: h2.connection.H2Connection, stream: int, head: Mapping[str, str], body: bytes) -> None:
        if heard is not None:
            heard.append((dict(head), body))
        connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), *(fields or [])])
        if status is not None:
            message = b"\x08" + _varint(status) if status else b""
            connection.send_data(stream, b"\0" + struct.pack("!I", len(message)) + message)
        connection.send_headers(stream, [("grpc-status", code), ("grpc-message", "no%20such")], end_stream=True)

    return http2(respond)


@pytest.mark.parametrize(
    ("status", "name", "good"),
    [(1, "SERVING", True), (2, "NOT_SERVING", False), (0, "UNKNOWN", False), (3, "SERVICE_UNKNOWN", False)],
)
async def test_health(status: int, name: str, good: bool) -> None:
    heard: list[Any] = []
    async with serving(health(status, heard=heard)) as address:
        asking = await ask("{prober: grpc, grpc: {service: a.B, metadata: {X-Key: [k]}}}", address)
    assert asking.failed == (None if good else (Operation.VALIDATE, Failure.UNEXPECTED_REPLY)), asking.text
    samples = asking.result.metrics.families["probe_grpc_healthcheck_response"].samples
    assert samples == {
        (each,): float(each == name) for each in ("SERVING", "NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN")
    }
    assert (asking["probe_grpc_status_code"], asking["probe_grpc_ssl"]) == (0, 0)
    ((head, body),) = heard
    assert (head[":path"], head["x-key"], body) == ("/grpc.health.v1.Health/Check", "k", b"\0\0\0\0\x05\x0a\x03a.B")


async def test_health_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_alpn_protocols(["h2"])
    module = f"{{prober: grpc, grpc: {{tls: true, tls_config: {{ca_file: {tmp_path}/ca.pem}}}}}}"
    async with serving(health(1), tls=context) as address:
        asking = await ask(module, f"https://{address}/")
    assert asking.failed is None, asking.text
    assert asking["probe_grpc_ssl"] == 1
    assert asking["probe_tls_version_info{TLS 1.3}"] == 1


@pytest.mark.parametrize(
    ("script", "failure", "code"),
    [
        (health(None, "12"), Failure.UNEXPECTED_REPLY, 12),
        (health(None), Failure.MALFORMED, 0),
        (health(1, "0", [("content-length", "7")]), None, 0),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Failure.MALFORMED, 14),
        (saying(), Failure.CLOSED, 14),
    ],
    ids=["unimplemented", "no message", "with a length", "http/1.1", "closed"],
)
async def test_health_that_is_not_told(script: Script, failure: Failure | None, code: int) -> None:
    async with serving(script) as address:
        asking = await ask("{prober: grpc}", address)
    assert (asking.result.failure, asking["probe_grpc_status_code"]) == (failure, code), asking.text


async def test_a_grpc_server_that_hangs() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        asking = await ask("{prober: grpc}", address, timeout=0.2, leaks=False)
    assert asking.failed == (Operation.RECEIVE, Failure.TIMEOUT)
    assert asking["probe_grpc_status_code"] == 4


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", 0),
        (b"\x08\x01", 1),
        (b"\x08\xac\x02", 300),
        (b"\x12\x02ab\x08\x02", 2),
        (b"\x08", None),
        (b"\x12\x7fab", None),
        (b"\xff" * 20, None),
        (b"\x0d\x01\x02\x03\x04", None),
    ],
)
def test_a_message_is_read(message: bytes, status: int | None) -> None:
    assert _status_in(b"\0" + struct.pack("!I", len(message)) + message) == status
    assert _status_in(b"\1" + struct.pack("!I", len(message)) + message) is None
    assert _status_in(b"\0" + struct.pack("!I", len(message) + 1) + message) is None


# -- websocket ---------------------------------------------------------------------------------------------------------


async def test_a_websocket_conversation() -> None:
    heard: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        heard.append(request.headers.get("Authorization", ""))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.ping(b"there?")
        await socket.send_str("Hello, " + "x" * 70_000)
        async for message in socket:
            heard.append(message.data)
            await socket.send_bytes(b"Welcome")
        return socket

    application = web.Application()
    application.router.add_get("/socket", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    module = """{prober: websocket, websocket: {http_config: {bearer_token: t}, query_response: [
        {expect: "^(Hello), x+$", send: "${1} server"}, {expect: "^Welcome$"}]}}"""
    try:
        asking = await ask(module, f"ws://{host}:{port}/socket", leaks=False)
        missing = await ask(module, f"ws://{host}:{port}/", leaks=False)
        wrong = await ask(module.replace("Hello", "Bye"), f"ws://{host}:{port}/socket", leaks=False)
    finally:
        await runner.cleanup()
    assert asking.failed is None, asking.text
    assert heard[:2] == ["Bearer t", "Hello server"]
    assert asking["probe_websocket_connection_upgraded"] == 1
    assert asking["probe_websocket_status_code"] == 101
    assert missing.failed == (Operation.VALIDATE, Failure.HTTP_STATUS)
    assert (missing["probe_websocket_status_code"], missing["probe_websocket_connection_upgraded"]) == (404, 0)
    assert wrong.failed == (Operation.VALIDATE, Failure.UNEXPECTED_REPLY)
    assert wrong["probe_websocket_failed_due_to_regex"] == 1


def upgraded(*frames: bytes) -> Script:
    """A script: agree to the upgrade, then say these octets."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:

        head = await reader.readuntil(b"\r\n\r\n")
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"".join(frames)
        )

    return script


@pytest.mark.parametrize(
    ("frames", "failed"),
    [
        ([b"\x01\x02he", b"\x89\x00", b"\x00\x01l", b"\x80\x02lo"], None),
        ([b"\x88\x05\x03\xe8bye"], (Operation.RECEIVE, Failure.CLOSED)),
        ([b"\x81\x7f" + b"\xff" * 8], (Operation.RECEIVE, Failure.MALFORMED)),
        ([b"\x81\x85mask"], (Operation.RECEIVE, Failure.MALFORMED)),
        ([b"\xc1\x00"], (Operation.RECEIVE, Failure.MALFORMED)),
        ([b"\x80\x00"], (Operation.RECEIVE, Failure.MALFORMED)),
        ([b"\x81\x05he"], (Operation.RECEIVE, Failure.CLOSED)),
        ([b"\x8a\x00" * 20_000], (Operation.RECEIVE, Failure.MALFORMED)),
    ],
    ids=["fragments", "goodbye", "giant", "masked", "compressed", "continued", "cut off", "pongs"],
)
async def test_frames(frames: list[bytes], failed: tuple[Operation, Failure] | None) -> None:
    module = "{prober: websocket, websocket: {query_response: [{expect: ^hello$}]}}"
    async with serving(upgraded(*frames)) as address:
        asking = await ask(module, f"ws://{address}/", leaks=False)
    assert asking.failed == failed, asking.text
    assert asking["probe_websocket_connection_upgraded"] == 1


async def test_an_upgrade_that_is_none() -> None:
    lies = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n"
    async with serving(saying(lies)) as address:
        asking = await ask("{prober: websocket}", f"ws://{address}/")
    assert asking.failed == (Operation.RECEIVE, Failure.MALFORMED)
    assert asking["probe_websocket_connection_upgraded"] == 0
    for target in ("http://192.0.2.1/", "192.0.2.1", "ws://"):
        assert (await ask("{prober: websocket}", target)).failed == (Operation.PREPARE, Failure.BAD_TARGET)
