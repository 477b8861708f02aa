"""Modules of the prober http against scripted servers: what tests/blackbox cannot show beside the original."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import zlib
from collections.abc import Mapping
from pathlib import Path

import brotli
import h2.connection
import pytest
import trustme

from prober.blackbox import http_answer
from prober.failures import Failure, Operation
from tests.certificates import server_context
from tests.leaks import assert_no_leaks
from tests.modules import Asked, ask, http2
from tests.streams import (
    USER_AGENT,
    Script,
    dribbling,
    flooding,
    hang,
    recording,
    redirecting,
    saying,
    serving,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(body: bytes, *fields: str) -> bytes:
    head = "".join(f"{field}\r\n" for field in (f"Content-Length: {len(body)}", *fields))
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body


def paths(pages: Mapping[str, bytes], heard: list[bytes] | None = None) -> Script:
    """A script: answer by the request's path."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
        body = await reader.readexactly(length)
        if heard is not None:
            heard.append(head + body)
        writer.write(pages[head.split()[1].decode()])

    return script


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_an_ordinary_request() -> None:
    heard: list[bytes] = []
    async with serving(recording(heard, OK)) as address:
        asking = await ask("{prober: http}", f"http://{address}/a?b=c")
    assert asking.failed is None
    head = heard[0].decode()
    assert head.startswith(f"GET /a?b=c HTTP/1.1\r\nHost: {address}\r\n")
    assert f"User-Agent: {USER_AGENT}\r\n" in head
    assert "Accept-Encoding" not in head
    assert asking["probe_http_version"] == 1.1
    assert asking["probe_http_uncompressed_body_length"] == 2


async def test_files_of_a_request(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\0binary\n")
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "header").write_text(" of a file \n")
    heard: list[bytes] = []
    module = f"""{{prober: http, http: {{method: PUT, body_file: {tmp_path}/body,
        basic_auth: {{username: u, password_file: {tmp_path}/password}},
        http_headers: {{X-Many: {{values: [one, two]}}, X-File: {{files: [{tmp_path}/header]}}}}}}}}"""
    async with serving(recording(heard, OK)) as address:
        asking = await ask(module, f"http://{address}/")
    assert asking.failed is None
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert body == b"\0binary\n"
    lines = head.decode().split("\r\n")
    assert {"X-Many: one", "X-Many: two", "X-File: of a file", "Content-Length: 8"} <= set(lines)
    assert "Authorization: Basic " + base64.b64encode(b"u:s3cret").decode() in lines
    assert "s3cret" not in asking.text


async def test_a_file_that_is_not_there_is_our_own_trouble(tmp_path: Path) -> None:
    for option in ("body_file: FILE", "basic_auth: {username: u, password_file: FILE}", "bearer_token_file: FILE"):
        module = f"{{prober: http, http: {{{option.replace('FILE', str(tmp_path / 'missing'))}}}}}"
        async with serving(saying(OK)) as address:
            asking = await ask(module, f"http://{address}/")
        assert asking.failed == (Operation.PREPARE, Failure.INTERNAL_ERROR), option
        assert "missing" in asking.result.detail


async def test_a_secret_file_with_lines_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a\r\nX-Injected: b")
    async with serving(saying(OK)) as address:
        asking = await ask(f"{{prober: http, http: {{bearer_token_file: {tmp_path}/token}}}}", f"http://{address}/")
    assert asking.failed == (Operation.PREPARE, Failure.INTERNAL_ERROR)


# -- redirects ---------------------------------------------------------------------------------------------------------


async def test_every_hop_is_asked_of_the_guard() -> None:
    async with serving(saying(OK)) as there, serving(redirecting(f"http://{there}/".encode())) as here:
        guard = Asked()
        asking = await ask("{prober: http}", f"http://{here}/", guard=guard)
        assert asking.failed is None
        assert [f"{d.address}:{d.port}" for d in guard.destinations] == [here, there]
        refusing = Asked(frozenset({int(there.rpartition(":")[2])}))
        asking = await ask("{prober: http}", f"http://{here}/", guard=refusing)
    assert asking.failed == (Operation.PREPARE, Failure.NOT_ALLOWED)
    assert asking.result.refused
    assert "not for you" in asking.result.detail
    assert (asking["probe_http_redirects"], asking["probe_http_status_code"]) == (1, 0)


async def test_the_guard_sees_where_a_name_leads() -> None:
    async with serving(saying(OK)) as address:
        guard = Asked(frozenset({int(address.rpartition(":")[2])}))
        target = f"http://inside.example:{address.rpartition(':')[2]}/"
        asking = await ask("{prober: http}", target, names={"inside.example": "127.0.0.1"}, guard=guard)
    assert asking.failed == (Operation.PREPARE, Failure.NOT_ALLOWED)
    assert [(d.name, d.address) for d in guard.destinations] == [("inside.example", "127.0.0.1")]


async def test_opted_out_hosts_are_not_asked() -> None:
    async with serving(saying(OK)) as address:
        asking = await ask("{prober: http}", f"http://{address}/", permit=lambda host: host != "127.0.0.1")
    assert asking.failed == (Operation.PREPARE, Failure.OPTED_OUT)


@pytest.mark.parametrize(
    "option",
    [
        "basic_auth: {username: u, password: s3cret}",
        "authorization: {credentials: s3cret}",
        "http_headers: {X-Key: {secrets: [s3cret]}}",
        "headers: {Cookie: s3cret}",
    ],
)
async def test_credentials_stay_with_their_host(option: str) -> None:
    heard: list[bytes] = []
    first: list[bytes] = []
    async with serving(recording(heard, OK)) as there:
        port = there.rpartition(":")[2]
        moved = f"HTTP/1.1 302 Moved\r\nLocation: http://other.example:{port}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(recording(first, moved)) as here:
            names = {"here.example": "127.0.0.1", "other.example": "127.0.0.1"}
            target = f"http://here.example:{here.rpartition(':')[2]}/"
            asking = await ask(f"{{prober: http, http: {{{option}}}}}", target, names=names)
    assert asking.failed is None, asking.text
    basic = base64.b64encode(b"u:s3cret")
    assert b"s3cret" in first[0] or basic in first[0]
    assert b"s3cret" not in heard[0]
    assert basic not in heard[0]


async def test_cookies_are_returned() -> None:
    """A page that redirects to itself until its cookie comes back."""
    heard: list[bytes] = []
    moved = b"HTTP/1.1 302 Moved\r\nLocation: /b\r\nSet-Cookie: id=7; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n"
    async with serving(paths({"/a": moved, "/b": OK}, heard)) as address:
        asking = await ask("{prober: http}", f"http://{address}/a")
    assert asking.failed is None
    assert b"Cookie" not in heard[0]
    assert b"\r\nCookie: id=7\r\n" in heard[1]


async def test_a_post_is_not_repeated() -> None:
    heard: list[bytes] = []
    pages = {
        "/a": b"HTTP/1.1 303 See\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
        "/b": b"HTTP/1.1 307 Again\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n",
        "/c": OK,
    }
    module = "{prober: http, http: {method: POST, body: hello, headers: {Content-Type: text/x}}}"
    async with serving(paths(pages, heard)) as address:
        assert (await ask(module, f"http://{address}/a")).failed is None
    assert [request.split()[0] for request in heard] == [b"POST", b"GET", b"GET"]
    assert b"hello" in heard[0]
    assert b"text/x" not in heard[1]


async def test_a_body_goes_along_with_307() -> None:
    heard: list[bytes] = []
    pages = {"/a": b"HTTP/1.1 307 Again\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", "/b": OK}
    async with serving(paths(pages, heard)) as address:
        assert (await ask("{prober: http, http: {method: POST, body: hello}}", f"http://{address}/a")).failed is None
    assert heard[1].endswith(b"\r\n\r\nhello")


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compression", "encoded"),
    [
        ("gzip", gzip.compress(b"hello " * 50_000)),
        ("gzip", gzip.compress(b"hello ") * 3 + gzip.compress(b"hello " * 49_997)),
        ("br", brotli.compress(b"hello " * 50_000)),
        ("deflate", zlib.compress(b"hello " * 50_000)[2:-4]),
        ("identity", b"hello " * 50_000),
    ],
)
async def test_compressions(compression: str, encoded: bytes) -> None:
    module = (
        f'{{prober: http, http: {{compression: {compression}, fail_if_body_not_matches_regexp: ["^hello.hello"]}}}}'
    )
    async with serving(saying(answer(encoded))) as address:
        asking = await ask(module, f"http://{address}/")
    assert asking.failed is None, asking.text
    assert asking["probe_http_uncompressed_body_length"] == 300_000
    assert asking["probe_http_content_length"] == len(encoded)


@pytest.mark.parametrize("compression", ["gzip", "br", "deflate"])
async def test_what_does_not_decompress(compression: str) -> None:
    whole = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}[compression](b"hello" * 1000)
    for body in (b"\xff\xff no such data", whole[: len(whole) // 2]):
        async with serving(saying(answer(body))) as address:
            asking = await ask(f"{{prober: http, http: {{compression: {compression}}}}}", f"http://{address}/")
        assert asking.failed == (Operation.VALIDATE, Failure.HTTP_BODY)
        assert asking["probe_http_status_code"] == 200


async def test_a_bomb_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wanted of a body is looked for in so much and no more."""
    monkeypatch.setattr(http_answer, "CONTENT_SIZE_MAX", 2**20)
    bomb = gzip.compress(bytes(2**21))
    module = "{prober: http, http: {compression: gzip, fail_if_body_matches_regexp: [x]}}"
    async with serving(saying(answer(bomb))) as address:
        asking = await ask(module, f"http://{address}/")
    assert asking.failed == (Operation.VALIDATE, Failure.HTTP_BODY)
    assert "too large" in asking.result.detail


async def test_body_size_limit() -> None:
    for size, failed in ((1024, None), (1025, (Operation.VALIDATE, Failure.HTTP_BODY))):
        async with serving(saying(answer(bytes(size)))) as address:
            asking = await ask("{prober: http, http: {body_size_limit: 1KB}}", f"http://{address}/")
        assert asking.failed == failed
        assert asking["probe_http_uncompressed_body_length"] == 1024


async def test_a_flood_ends_with_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answer, "DECODED_SIZE_MAX", 2**60)  # a fast machine takes a gigabyte within the timeout
    async with assert_no_leaks(), serving(flooding(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536))) as address:
        asking = await ask("{prober: http}", f"http://{address}/", timeout=0.5, leaks=False)
    assert asking.failed == (Operation.RECEIVE, Failure.TIMEOUT)
    assert asking["probe_http_status_code"] == 200
    assert (asking["probe_http_uncompressed_body_length"] or 0) > 0
    assert (asking["probe_http_duration_seconds{transfer}"] or 0) > 0


async def test_silence_and_dribble() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        asking = await ask("{prober: http}", f"http://{address}/", timeout=0.3, leaks=False)
    assert asking.failed == (Operation.RECEIVE, Failure.TIMEOUT)
    assert asking["probe_http_duration_seconds{processing}"] == 0
    async with assert_no_leaks(), serving(dribbling(b"HTTP/1.1 200 OK\r\nX: ", b"x")) as address:
        asking = await ask("{prober: http}", f"http://{address}/", timeout=0.3, leaks=False)
    assert asking.failed == (Operation.RECEIVE, Failure.TIMEOUT)
    assert (asking["probe_http_duration_seconds{processing}"] or 0) > 0


# -- expressions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fails"),
    [
        ('{"count": 5, "items": [{"ok": true}, {"ok": true}]}', False),
        ('{"count": 4, "items": []}', True),
        ('{"count": 5, "items": [{"ok": false}]}', True),
        ('{"items": []}', True),
        ('{"count": 5, "items": [{"ok": "yes"}]}', True),
        ("no json", True),
        ('{"count": NaN}', True),
        ("[" * 100_000, True),
        (json.dumps({"count": 5, "items": [{"ok": True}] * 50_000}), True),
    ],
    ids=["good", "other value", "one is not", "missing", "no boolean", "no json", "nan", "deep", "too many"],
)
async def test_cel(body: str, fails: bool) -> None:
    module = (
        """{prober: http, http: {fail_if_body_json_not_matches_cel: "body.count == 5 && body.items.all(i, i.ok)"}}"""
    )
    async with serving(saying(answer(body.encode()))) as address:
        asking = await ask(module, f"http://{address}/")
    assert asking.failed == ((Operation.VALIDATE, Failure.HTTP_BODY) if fails else None), asking.text
    assert asking["probe_failed_due_to_cel"] == float(fails)
    assert asking["probe_failed_due_to_regex"] == 0


async def test_cel_that_must_not_match_and_regex_beside_it() -> None:
    module = (
        """{prober: http, http: {fail_if_body_json_matches_cel: "body.down", fail_if_body_not_matches_regexp: [up]}}"""
    )
    for body, failed in ((b'{"down": false, "is": "up"}', False), (b'{"down": true, "is": "up"}', True)):
        async with serving(saying(answer(body))) as address:
            asking = await ask(module, f"http://{address}/")
        assert (asking.failed is not None) is failed
        assert asking["probe_failed_due_to_cel"] == float(failed)


async def test_octets_that_are_no_text_are_matched() -> None:
    async with serving(saying(answer(b"\xff\xfeok\xff"))) as address:
        assert (
            await ask("{prober: http, http: {fail_if_body_not_matches_regexp: ['^..ok.$']}}", f"http://{address}/")
        ).failed is None


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------


def over_tls(tmp_path: Path, *protocols: str) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_alpn_protocols(list(protocols))
    return context, f"tls_config: {{ca_file: {tmp_path}/ca.pem}}"


def page(size: int) -> Script:
    """HTTP/2 pages of this size, but no more than the window lets through at first."""

    def respond(connection: h2.connection.H2Connection, stream: int, head: Mapping[str, str], body: bytes) -> None:
        fields = [(":status", "200"), ("x-method", head[":method"]), ("x-many", "one"), ("x-many", "two")]
        connection.send_headers(stream, fields)
        for begin in range(0, size, 16_384):
            connection.send_data(stream, bytes(min(16_384, size - begin)))
        connection.end_stream(stream)

    return http2(respond)


async def test_http2(tmp_path: Path) -> None:
    context, tls = over_tls(tmp_path, "h2", "http/1.1")
    module = f"""{{prober: http, http: {{{tls}, method: POST, body: {"x" * 20_000}, valid_http_versions: [HTTP/2.0],
        fail_if_header_not_matches: [{{header: X-Many, regexp: two}}, {{header: X-Method, regexp: ^POST$}}]}}}}"""
    async with serving(page(50_000), tls=context) as address:
        asking = await ask(module, f"https://{address}/")
    assert asking.failed is None, asking.text
    assert asking["probe_http_version"] == 2
    assert asking["probe_http_content_length"] == -1
    assert asking["probe_http_uncompressed_body_length"] == 50_000
    assert asking["probe_tls_version_info{TLS 1.3}"] == 1


async def test_http2_can_be_switched_off(tmp_path: Path) -> None:
    context, tls = over_tls(tmp_path, "h2", "http/1.1")
    async with serving(saying(OK), tls=context) as address:
        asking = await ask(f"{{prober: http, http: {{{tls}, enable_http2: false}}}}", f"https://{address}/")
    assert asking.failed is None
    assert asking["probe_http_version"] == 1.1


def resetting(connection: h2.connection.H2Connection, stream: int, _head: Mapping[str, str], _body: bytes) -> None:
    connection.reset_stream(stream)


def leaving(connection: h2.connection.H2Connection, _stream: int, _head: Mapping[str, str], _body: bytes) -> None:
    connection.close_connection(last_stream_id=0)


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (http2(resetting), Failure.RESET),
        (http2(leaving), Failure.CLOSED),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n"), Failure.MALFORMED),
        (saying(b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x04\x01\x04\0\0\0\x01\xff\xff\xff\xff"), Failure.MALFORMED),
        (saying(b"\0\0\0\x04"), Failure.CLOSED),
    ],
    ids=["reset", "goaway", "http/1.1", "bad headers", "cut off"],
)
async def test_http2_gone_wrong(tmp_path: Path, script: Script, failure: Failure) -> None:
    context, tls = over_tls(tmp_path, "h2")
    async with serving(script, tls=context) as address:
        asking = await ask(f"{{prober: http, http: {{{tls}}}}}", f"https://{address}/")
    assert asking.failed == (Operation.RECEIVE, failure), asking.result.detail
    assert asking["probe_http_status_code"] == 0


# -- proxies, tokens ---------------------------------------------------------------------------------------------------


async def test_a_proxy_for_http() -> None:
    heard: list[bytes] = []
    async with serving(recording(heard, OK)) as proxy:
        module = (
            f"""{{prober: http, http: {{proxy_url: "http://u:s3cret@{proxy}", skip_resolve_phase_with_proxy: true}}}}"""
        )
        guard = Asked()
        asking = await ask(module, "http://unknown.example/page", guard=guard)
    assert asking.failed is None, asking.text
    assert heard[0].startswith(b"GET http://unknown.example/page HTTP/1.1\r\nHost: unknown.example\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"u:s3cret") in heard[0]
    assert asking["probe_ip_protocol"] is None
    assert asking["probe_http_duration_seconds{resolve}"] is None
    assert (guard.destinations[0].name, guard.destinations[0].address) == ("unknown.example", "")
    assert len(guard.destinations) == 2, "the target, though a proxy reaches it, and the proxy"
    assert "s3cret" not in asking.text


async def test_a_proxy_for_https(tmp_path: Path) -> None:
    context, tls = over_tls(tmp_path, "http/1.1")
    heard: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", int(behind.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)

        back = asyncio.create_task(pump(inner_reader, writer))
        try:
            await pump(reader, inner)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            inner.close()

    async with serving(saying(OK), tls=context) as behind, serving(tunnel) as proxy:
        module = f"""{{prober: http, http: {{{tls}, proxy_url: "http://{proxy}",
            proxy_connect_header: {{X-Token: [s3cret]}}}}}}"""
        asking = await ask(module, f"https://{behind}/")
    assert asking.failed is None, asking.text
    assert heard[0].startswith(f"CONNECT {behind} HTTP/1.1\r\n".encode())
    assert b"X-Token: s3cret\r\n" in heard[0]
    assert asking["probe_http_ssl"] == 1


async def test_a_proxy_that_refuses() -> None:
    async with serving(saying(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as proxy:
        asking = await ask(f'{{prober: http, http: {{proxy_url: "http://{proxy}"}}}}', "https://192.0.2.1/")
    assert asking.failed == (Operation.CONNECT, Failure.UNEXPECTED_REPLY)


async def test_a_token_is_fetched_first() -> None:
    heard: list[bytes] = []
    token = answer(b'{"access_token": "t0ken", "token_type": "bearer", "expires_in": 60}')
    async with serving(paths({"/token": token, "/": OK}, heard)) as address:
        oauth2 = f"""{{client_id: "a:b", client_secret: s3cret, token_url: "http://{address}/token",
            scopes: [x, y], endpoint_params: {{audience: z}}}}"""
        asking = await ask(f"{{prober: http, http: {{oauth2: {oauth2}}}}}", f"http://{address}/")
    assert asking.failed is None, asking.text
    assert b"Authorization: Basic " + base64.b64encode(b"a%3Ab:s3cret") in heard[0]
    assert heard[0].endswith(b"grant_type=client_credentials&audience=z&scope=x+y")
    assert b"\r\nAuthorization: Bearer t0ken\r\n" in heard[1]
    assert "t0ken" not in asking.text


@pytest.mark.parametrize("page", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", answer(b"{}"), answer(b"no json")])
async def test_a_token_that_is_not_to_be_had(page: bytes) -> None:
    async with serving(saying(page)) as address:
        oauth2 = f'{{client_id: a, client_secret: s3cret, token_url: "http://{address}/token"}}'
        asking = await ask(f"{{prober: http, http: {{oauth2: {oauth2}}}}}", f"http://{address}/")
    assert asking.failed is not None
    assert asking.failed[0] is Operation.PREPARE
    assert "s3cret" not in asking.text


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "name", "good"),
    [
        ("*.lan", "printer.lan", True),
        ("*.lan", "a.printer.lan", False),
        ("printer.lan", "PRINTER.lan", True),
        ("printer.lan", "scanner.lan", False),
        ("127.0.0.1", "printer.lan", False),
    ],
)
async def test_names_in_certificates(tmp_path: Path, certificate: str, name: str, good: bool) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority.issue_cert(certificate))
    async with serving(saying(OK), tls=context) as address:
        asking = await ask(
            f"{{prober: http, http: {{tls_config: {{ca_file: {tmp_path}/ca.pem}}}}}}",
            f"https://{name}:{address.rpartition(':')[2]}/",
            names={name: "127.0.0.1", name.lower(): "127.0.0.1"},
        )
    assert asking.failed == (None if good else (Operation.TLS, Failure.CERTIFICATE_WRONG_HOST)), asking.text


async def test_a_certificate_of_ours(tmp_path: Path) -> None:
    """A client certificate, from files and from the module's own text; it is read anew when it changes."""
    authority = trustme.CA()
    context = server_context(authority.issue_cert("127.0.0.1"))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    files = f"ca_file: {tmp_path}/ca.pem, cert_file: {tmp_path}/cert.pem, key_file: {tmp_path}/key.pem"
    texts = ", ".join(
        f"{option}: {json.dumps((tmp_path / name).read_text())}"
        for option, name in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
    )
    async with serving(saying(OK), tls=context) as address:
        for options in (files, texts):
            asking = await ask(f"{{prober: http, http: {{tls_config: {{{options}}}}}}}", f"https://{address}/")
            assert asking.failed is None, asking.text
        (tmp_path / "key.pem").unlink()
        asking = await ask(f"{{prober: http, http: {{tls_config: {{{files}}}}}}}", f"https://{address}/")
    assert asking.failed == (Operation.PREPARE, Failure.INTERNAL_ERROR)


# -- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["", "http://", "http://a b/", "http://[::1", "http://127.1/", "a\nb", "u@a\nb"])
async def test_a_target_that_is_none(target: str) -> None:
    asking = await ask("{prober: http}", target)
    assert asking.failed == (Operation.PREPARE, Failure.BAD_TARGET)


async def test_cancelled_midway() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        task = asyncio.ensure_future(ask("{prober: http}", f"http://{address}/", leaks=False))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
