"""The kind http and redirects: where they may lead, what is told to whom."""

from __future__ import annotations

import pytest

from prober.failures import Failure, Operation
from prober.probes.http import KIND
from tests.leaks import assert_no_leaks
from tests.streams import Names, Outcome, Script, recording, redirecting, run, serving

OK = b"HTTP/1.1 200 OK\r\n"


async def ask(script: Script, **options: object) -> Outcome:
    """One probe of a scripted server."""
    async with assert_no_leaks(), serving(script) as address:
        return await run(KIND, {"url": f"http://{address}/", **options})


@pytest.mark.parametrize(
    "location",
    [
        None,
        b"file:///etc/passwd",
        b"ftp://127.0.0.1/",
        b"javascript:alert(1)",
        b"http://",
        b"http://:80/",
        b"http://127.0.0.1:99999/",
        b"http://127.0.0.1:0/",
        b"http://user:secret@127.0.0.1/",
        b"http://[::1/",
        b"http://a b/",
        b"http://1.2.3.999/",
        b"/" + b"x" * 10_000,
        b"//\xff\xfe.example/",
    ],
)
async def test_a_redirect_that_leads_nowhere(location: bytes | None) -> None:
    outcome = await ask(redirecting(location))
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_REDIRECT)
    assert "secret" not in outcome.detail
    assert outcome.attempt.facts["status_code"] == 302


@pytest.mark.parametrize("location", [b"", b"?again", b"/\xec\xa1\xb0 \xff", b"../.."])
async def test_odd_but_followable(location: bytes) -> None:
    outcome = await ask(redirecting(location), redirects=1)
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_REDIRECT)
    assert outcome.attempt.facts["redirects"] == 1  # it came back to the same server, and that was one too many


SECRETS = {"Authorization": "Bearer secret", "Cookie": "secret", "X-Api-Key": "secret", "Host": "secret.example"}


async def test_another_server_is_told_no_secrets() -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    options = {"headers": {**SECRETS, "User-Agent": "mine", "Accept-Language": "ko"}}
    async with assert_no_leaks(), serving(recording(second, OK + b"\r\n")) as other:
        moved = b"HTTP/1.1 307 Moved\r\nLocation: http://%s/there\r\n\r\n" % other.encode()
        async with serving(recording(first, moved)) as address:
            outcome = await run(KIND, {"url": f"http://{address}/here", **options})
    assert outcome.failed is None
    assert first[0].count(b"secret") == 4
    assert second[0].startswith(b"GET /there HTTP/1.1\r\nHost: " + other.encode() + b"\r\n")
    assert b"secret" not in second[0]
    assert b"User-Agent: mine\r\n" in second[0]
    assert b"Accept-Language: ko\r\n" in second[0]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "GET", "GET"),
    ],
)
async def test_the_method_after_a_redirect(status: int, method: str, then: str) -> None:
    heard: list[bytes] = []
    body = {} if method in ("GET", "HEAD") else {"body": "what was asked"}
    async with (
        assert_no_leaks(),
        serving(recording(heard, b"HTTP/1.1 %d Moved\r\nLocation: /b\r\n\r\n" % status)) as address,
    ):
        outcome = await run(KIND, {"url": f"http://{address}/a", "method": method, "redirects": 1, **body})
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_REDIRECT)
    assert [word.partition(b" /")[0].decode() for word in heard] == [method, then]
    assert heard[1].endswith(b"what was asked") == (then != "GET" and then != "HEAD")


async def test_a_body_is_not_taken_to_another_server() -> None:
    outcome = await ask(redirecting(b"http://192.0.2.1/", 307), method="POST", body="secret")
    assert outcome.failed == (Operation.VALIDATE, Failure.HTTP_REDIRECT)
    assert "secret" not in outcome.detail


async def test_each_hop_is_resolved_and_asked_for_permission() -> None:
    async with assert_no_leaks(), serving(redirecting(b"http://elsewhere.example/")) as address:
        port = address.rpartition(":")[2]
        names = Names({"host.example": "127.0.0.1"})
        outcome = await run(KIND, {"url": f"http://host.example:{port}/"}, names=names)
        assert outcome.failed == (Operation.RESOLVE, Failure.NXDOMAIN)
        outcome = await run(KIND, {"url": f"http://{address}/"}, permit=False)
        assert outcome.failed == (Operation.PREPARE, Failure.OPTED_OUT)


async def test_a_fixed_address_is_for_the_urls_host_alone() -> None:
    async with assert_no_leaks(), serving(redirecting(b"http://elsewhere.example/")) as address:
        port = address.rpartition(":")[2]
        outcome = await run(KIND, {"url": f"http://www.kcna.kp:{port}/", "address": "127.0.0.1"})
    assert outcome.attempt.facts["status_code"] == 302
    assert outcome.failed == (Operation.RESOLVE, Failure.NXDOMAIN)
