"""The kind http against honest servers: nginx, and scripted ones for redirects. The others: test_http_hostile.py."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import trustme

from prober.failures import Failure, Operation
from prober.probes.http import KIND
from tests.leaks import assert_no_leaks
from tests.servers import Server, nginx
from tests.streams import (
    USER_AGENT,
    Outcome,
    Script,
    recording,
    redirecting,
    run,
    saying,
    serving,
)

OK = b"HTTP/1.1 200 OK\r\n"
WRITTEN = 1_700_000_000  # Unix time
PAGE = "<title>KCNA 조선중앙통신</title>\n"


async def ask(script: Script, *, timeout: float = 5.0, host: str = "127.0.0.1", **options: object) -> Outcome:
    """One probe of a scripted server."""
    async with assert_no_leaks(), serving(script, host=host) as address:
        return await run(KIND, {"url": f"http://{address}/", **options}, timeout=timeout)


# -- an ordinary server ------------------------------------------------------------------------------------------------

NGINX = """
    gzip on; gzip_min_length 1; gzip_types text/plain;
    location = /echo { default_type text/plain; return 200 "$request_method $http_user_agent $http_x_asked"; }
    location = /host { return 200 "$http_host"; }
    location = /missing { return 404 "not here"; }
    location = /down { return 503; }
    location = /empty { return 204; }
    location = /old { return 301 /page.html; }
    location = /chain { return 302 /old; }
    location = /loop { return 302 /loop; }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "www").mkdir()
    (directory / "www" / "page.html").write_text(PAGE)
    os.utime(directory / "www" / "page.html", (WRITTEN, WRITTEN))
    (directory / "www" / "long.txt").write_text("long " * 100_000)
    with nginx(directory, NGINX) as running:
        yield running


async def fetch(server: Server, path: str, **options: object) -> Outcome:
    """One probe of nginx."""
    async with assert_no_leaks():
        return await run(KIND, {"url": f"http://{server.at}{path}", **options})


async def test_facts_of_a_page(server: Server) -> None:
    outcome = await fetch(server, "/page.html", expect={"status": [200], "body": "KCNA|조선중앙통신"})
    assert outcome.failed is None
    assert set(outcome.attempt.phases) == {"resolve", "connect", "processing", "transfer"}
    facts = outcome.attempt.facts
    assert {key: facts[key] for key in ("status_code", "redirects", "ssl", "version", "body_truncated")} == {
        "status_code": 200,
        "redirects": 0,
        "ssl": 0,
        "version": 1.1,
        "body_truncated": 0,
    }
    assert facts["content_length"] == facts["body_length"] == len(PAGE.encode())
    assert facts["last_modified"] == WRITTEN


async def test_what_is_asked_for(server: Server) -> None:
    outcome = await fetch(server, "/echo", expect={"body": f"^GET {re.escape(USER_AGENT)} $"})
    assert outcome.failed is None, outcome.detail
    headers = {"user-agent": "another", "X-Asked": "yes"}
    assert (await fetch(server, "/echo", headers=headers, expect={"body": "^GET another yes$"})).failed is None
    assert (await fetch(server, "/echo", method="POST", body="조선", expect={"body": "^POST "})).failed is None
    assert (
        await fetch(server, "/host", headers={"Host": "www.kcna.kp"}, expect={"body": "^www.kcna.kp$"})
    ).failed is None


async def test_head_and_204_have_no_body(server: Server) -> None:
    head = await fetch(server, "/page.html", method="HEAD")
    assert head.failed is None
    assert head.attempt.facts["content_length"] == len(PAGE.encode())
    assert head.attempt.facts["body_length"] == 0
    assert (await fetch(server, "/empty", expect={"status": [204]})).attempt.facts["body_length"] == 0


@pytest.mark.parametrize(
    ("path", "expect", "failure"),
    [
        ("/missing", {}, Failure.HTTP_STATUS),
        ("/down", {"status": [200, "4xx"]}, Failure.HTTP_STATUS),
        ("/page.html", {"status": ["5xx"]}, Failure.HTTP_STATUS),
        ("/page.html", {"headers": {"X-None": ""}}, Failure.HTTP_HEADER),
        ("/page.html", {"headers": {"Server": "^Apache"}}, Failure.HTTP_HEADER),
        ("/page.html", {"body": "Rodong"}, Failure.HTTP_BODY),
        ("/page.html", {"body_not": "KCNA"}, Failure.HTTP_BODY),
    ],
)
async def test_the_wrong_answer(server: Server, path: str, expect: dict[str, object], failure: Failure) -> None:
    outcome = await fetch(server, path, expect=expect)
    assert outcome.failed == (Operation.VALIDATE, failure)
    assert {"processing", "transfer"} <= set(outcome.attempt.phases)
    assert {"status_code", "body_length"} <= set(outcome.attempt.facts)


async def test_the_right_answer(server: Server) -> None:
    for path, expect in (
        ("/missing", {"status": [404], "body": "^not here$", "body_not": "KCNA"}),
        ("/missing", {"status": [200, "4xx"]}),
        ("/page.html", {"headers": {"server": "^nginx", "Content-Length": "^[0-9]+$"}}),
    ):
        assert (await fetch(server, path, expect=expect)).failed is None


@pytest.mark.parametrize("limit", [1, 499_999, 500_000, 500_001])
async def test_a_body_is_read_as_far_as_the_limit(server: Server, limit: int) -> None:
    outcome = await fetch(server, "/long.txt", body_limit=limit)
    assert outcome.failed is None
    assert outcome.attempt.facts["body_length"] == min(limit, 500_000)
    assert outcome.attempt.facts["body_truncated"] == (limit < 500_000)


async def test_compression(server: Server) -> None:
    outcome = await fetch(
        server, "/long.txt", compression="gzip", expect={"headers": {"Content-Encoding": "gzip"}, "body": "(long ){10}"}
    )
    assert outcome.failed is None
    assert outcome.attempt.facts["body_length"] == 500_000
    plain = await fetch(server, "/long.txt", compression="identity", expect={"headers": {"Content-Encoding": "gzip"}})
    assert plain.failed == (Operation.VALIDATE, Failure.HTTP_HEADER)


async def test_ipv6() -> None:
    heard: list[bytes] = []
    outcome = await ask(recording(heard, OK + b"\r\n"), host="::1")
    assert outcome.failed is None
    assert heard[0].partition(b"\r\nHost: ")[2].startswith(b"[::1]:")


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        (b"Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT", {"last_modified": WRITTEN}),
        (b"Last-Modified: Wed, 15 Nov 2023 07:13:20 +0900", {"last_modified": WRITTEN}),
        (b"Last-Modified: Tue, 14 Nov 2023 22:13:20 -0000", {"last_modified": WRITTEN}),
        (b"Last-Modified: yesterday", {}),
        (b"Last-Modified: Tue, 99 Nov 99999 22:13:20 GMT", {}),
        (b"Last-Modified: \xff", {}),
        (b"Content-Length: 0", {"content_length": 0}),
    ],
)
async def test_what_a_header_says_is_a_fact_if_it_makes_sense(field: bytes, facts: dict[str, float]) -> None:
    outcome = await ask(saying(OK + field + b"\r\n\r\n"))
    assert outcome.failed is None
    held = {key: value for key, value in outcome.attempt.facts.items() if key in ("last_modified", "content_length")}
    assert held == facts


# -- redirects (more of them: test_http_redirects.py) ------------------------------------------------------------------


async def test_redirects_are_followed(server: Server) -> None:
    outcome = await fetch(server, "/chain", expect={"body": "KCNA"})
    assert outcome.failed is None
    assert outcome.attempt.facts["redirects"] == 2
    assert outcome.attempt.facts["status_code"] == 200


async def test_redirects_are_bounded(server: Server) -> None:
    outcome = await fetch(server, "/loop", redirects=3)
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_REDIRECT)
    assert outcome.attempt.facts["redirects"] == 3


async def test_a_redirect_can_be_the_answer(server: Server) -> None:
    outcome = await fetch(server, "/old", redirects=0)
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_STATUS)
    for options in ({"redirects": 0}, {}):
        outcome = await fetch(
            server, "/old", expect={"status": [301], "headers": {"Location": "/page.html$"}}, **options
        )
        assert outcome.failed is None
        assert outcome.attempt.facts["redirects"] == 0


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """nginx with TLS as host.example, and the file of certificates to trust."""
    directory = tmp_path_factory.mktemp("secure")
    certificate = ca.issue_cert("host.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    files = f"ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.pem;"
    echo = 'location = / { return 200 "$ssl_server_name $ssl_alpn_protocol $http_host $content_length"; }'
    with nginx(directory, files + echo + "client_max_body_size 8m;", listen="ssl") as running:
        yield running, str(directory / "ca.pem")


async def test_https(secure: tuple[Server, str]) -> None:
    server, ca_file = secure
    options = {
        "url": f"https://host.example:{server.port}/",
        "address": server.address,
        "tls": {"ca_file": ca_file},
        "expect": {"body": f"^host.example http/1.1 host.example:{server.port} "},
    }
    async with assert_no_leaks():
        outcome = await run(KIND, options)
    assert outcome.failed is None, outcome.detail
    assert set(outcome.attempt.phases) == {"resolve", "connect", "tls", "processing", "transfer"}
    assert outcome.attempt.facts["ssl"] == 1
    assert {"cert_leaf_expiry", "cert_earliest_expiry", "tls_version", "tls_cipher"} <= set(outcome.attempt.facts)


async def test_a_large_request_over_tls(secure: tuple[Server, str]) -> None:
    server, ca_file = secure
    options = {"address": server.address, "tls": {"ca_file": ca_file}, "method": "POST", "body": "x" * 3_000_000}
    async with assert_no_leaks():
        outcome = await run(
            KIND, {"url": f"https://host.example:{server.port}/", "expect": {"body": " 3000000$"}, **options}
        )
    assert outcome.failed is None, outcome.detail


async def test_https_that_is_not_trusted(secure: tuple[Server, str]) -> None:
    server, ca_file = secure
    async with assert_no_leaks():
        wrong = await run(KIND, {"url": f"https://{server.at}/", "tls": {"ca_file": ca_file}})
        unknown = await run(KIND, {"url": f"https://host.example:{server.port}/", "address": server.address})
        plain = await run(KIND, {"url": f"http://{server.at}/", "expect": {"status": [400]}})
    assert wrong.failed == (Operation.TLS, Failure.CERTIFICATE_WRONG_HOST)
    assert unknown.failed == (Operation.TLS, Failure.CERTIFICATE_UNKNOWN_ISSUER)
    assert plain.failed is None  # nginx says so in plain text


async def test_https_to_a_server_without_tls(server: Server) -> None:
    async with assert_no_leaks():
        outcome = await run(KIND, {"url": f"https://{server.at}/"})
    assert outcome.failed == (Operation.TLS, Failure.TLS_HANDSHAKE)


async def test_a_name_given_for_the_check_is_not_asked_of_another_server(secure: tuple[Server, str]) -> None:
    server, ca_file = secure
    moved = redirecting(b"https://127.0.0.1:%d/" % server.port)
    async with assert_no_leaks(), serving(moved) as address:
        port = address.rpartition(":")[2]
        tls = {"ca_file": ca_file, "server_name": "host.example"}
        outcome = await run(KIND, {"url": f"http://www.kcna.kp:{port}/", "address": "127.0.0.1", "tls": tls})
    assert outcome.failed == (Operation.TLS, Failure.CERTIFICATE_WRONG_HOST)
