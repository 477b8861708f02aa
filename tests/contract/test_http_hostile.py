"""The kind http against peers that no honest server is: silent, cut off, endless, or not speaking HTTP."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from prober.failures import Failure, Operation
from prober.probes.http import KIND
from tests.leaks import assert_no_leaks
from tests.streams import (
    TIMEOUT,
    Names,
    Outcome,
    Script,
    black_hole,
    cancel_during,
    deaf,
    dribbling,
    flooding,
    hang,
    nobody,
    reset,
    run,
    saying,
    serving,
)

OK = b"HTTP/1.1 200 OK\r\n"


async def ask(script: Script, *, timeout: float = 5.0, **options: object) -> Outcome:
    """One probe of a scripted server."""
    async with assert_no_leaks(), serving(script) as address:
        return await run(KIND, {"url": f"http://{address}/", **options}, timeout=timeout)


# -- no connection -----------------------------------------------------------------------------------------------------


async def test_refused_and_black_hole() -> None:
    async with assert_no_leaks():
        with nobody() as address:
            refused = await run(KIND, {"url": f"http://{address}/"})
        with black_hole() as address:
            silent = await run(KIND, {"url": f"http://{address}/"}, timeout=TIMEOUT)
    assert refused.failed == (Operation.CONNECT, Failure.REFUSED)
    assert silent.failed == (Operation.CONNECT, Failure.TIMEOUT)


async def test_a_server_that_does_not_read() -> None:
    outcome = await ask(deaf, method="POST", body="x" * 16_000_000, timeout=TIMEOUT)
    assert outcome.failed == (Operation.SEND, Failure.TIMEOUT)


# -- answers that are none ---------------------------------------------------------------------------------------------

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TEN = OK + b"Content-Length: 10\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"
WORDS = b"some words that are worth it " * 10

ANSWERS: dict[str, tuple[Script, tuple[Operation, Failure] | None]] = {
    # complete, if odd
    "to the end of the connection": (saying(OK + b"\r\nwords"), None),
    "HTTP/1.0": (saying(b"HTTP/1.0 200 OK\r\n\r\nwords"), None),
    "without a reason": (saying(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nwords"), None),
    "bare line feeds": (saying(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nwords"), None),
    "octet by octet": (saying(*(bytes([octet]) for octet in OK + b"Content-Length: 5\r\n\r\nwords")), None),
    "chunked": (saying(CHUNKED + b"2\r\nwo\r\n", b"3;x=y\r\nrds\r\n0\r\nTrailer: x\r\n\r\n"), None),
    "after interim answers": (
        saying(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"\r\nwords"),
        None,
    ),
    "more than was announced": (saying(OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nwords and more"), None),
    "a head cut in its last line": (
        saying(OK + b"Content-Length: 5\r\n\r", b"\nwords and more", pause=0.02),
        None,
    ),
    "an open connection after the end": (saying(OK + b"Content-Length: 5\r\n\r\nwords", then=hang), None),
    "a reset after the end": (saying(OK + b"Content-Length: 5\r\n\r\nwords", pause=0.02, then=reset), None),
    "gzip unasked": (saying(GZIP + gzip.compress(b"words")), None),
    "gzip in two members": (saying(GZIP + gzip.compress(b"wo") + gzip.compress(b"rds")), None),
    "gzip and padding": (saying(GZIP + gzip.compress(b"words") + bytes(20)), None),
    "deflate": (saying(GZIP.replace(b"gzip", b"deflate") + zlib.compress(b"words")), None),
    "bare deflate": (saying(GZIP.replace(b"gzip", b"deflate") + zlib.compress(b"words", wbits=-15)), None),
    # cut off
    "nothing": (saying(), (Operation.RECEIVE, Failure.CLOSED)),
    "half a status line": (saying(b"HTTP/1.1 2"), (Operation.RECEIVE, Failure.CLOSED)),
    "half a head": (saying(OK + b"Server: x\r\n"), (Operation.RECEIVE, Failure.CLOSED)),
    "an interim answer only": (saying(b"HTTP/1.1 100 Continue\r\n\r\n"), (Operation.RECEIVE, Failure.CLOSED)),
    "half a body": (saying(TEN + b"words"), (Operation.RECEIVE, Failure.CLOSED)),
    "half a chunk": (saying(CHUNKED + b"a\r\nwords"), (Operation.RECEIVE, Failure.CLOSED)),
    "no last chunk": (saying(CHUNKED + b"5\r\nwords\r\n"), (Operation.RECEIVE, Failure.CLOSED)),
    "a reset at once": (saying(then=reset), (Operation.RECEIVE, Failure.RESET)),
    "a reset in the body": (saying(TEN + b"words", pause=0.02, then=reset), (Operation.RECEIVE, Failure.RESET)),
    "half a gzip stream": (saying(GZIP + gzip.compress(WORDS)[:40]), (Operation.RECEIVE, Failure.MALFORMED)),
    # garbage
    "another protocol": (saying(b"SSH-2.0-OpenSSH_9.2\r\n", then=hang), (Operation.RECEIVE, Failure.MALFORMED)),
    "a page without a head": (saying(b"<html>"), (Operation.RECEIVE, Failure.MALFORMED)),
    "TLS": (saying(b"\x15\x03\x01\x00\x02\x02\x46"), (Operation.RECEIVE, Failure.MALFORMED)),
    "an impossible status": (saying(b"HTTP/1.1 099 What\r\n\r\n"), (Operation.RECEIVE, Failure.MALFORMED)),
    "a bad header": (saying(OK + b"no colon\r\n\r\n"), (Operation.RECEIVE, Failure.MALFORMED)),
    "two lengths": (
        saying(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nwords"),
        (Operation.RECEIVE, Failure.MALFORMED),
    ),
    "a bad chunk size": (saying(CHUNKED + b"zz\r\n"), (Operation.RECEIVE, Failure.MALFORMED)),
    "no gzip": (saying(GZIP + b"words"), (Operation.RECEIVE, Failure.MALFORMED)),
    # without end
    "silence": (saying(then=hang), (Operation.RECEIVE, Failure.TIMEOUT)),
    "silence in the head": (saying(OK, then=hang), (Operation.RECEIVE, Failure.TIMEOUT)),
    "silence in the body": (saying(TEN, then=hang), (Operation.RECEIVE, Failure.TIMEOUT)),
    "a dribbling head": (dribbling(OK + b"X: ", b"x"), (Operation.RECEIVE, Failure.TIMEOUT)),
    "a dribbling body": (dribbling(OK + b"\r\n", b"x"), (Operation.RECEIVE, Failure.TIMEOUT)),
    "dribbling chunks": (dribbling(CHUNKED, b"1\r\nx\r\n"), (Operation.RECEIVE, Failure.TIMEOUT)),
    "a header without end": (flooding(OK + b"X: ", b"x" * 8192), (Operation.RECEIVE, Failure.MALFORMED)),
    "headers without end": (flooding(OK, b"X: y\r\n" * 100), (Operation.RECEIVE, Failure.MALFORMED)),
    "a status line without end": (flooding(b"HTTP/1.1 200 ", b"x" * 8192), (Operation.RECEIVE, Failure.MALFORMED)),
    "blank lines without end": (flooding(b"", b"\r\n" * 4096), (Operation.RECEIVE, Failure.MALFORMED)),
    "interim answers without end": (
        flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (Operation.RECEIVE, Failure.MALFORMED),
    ),
    "trailers without end": (
        flooding(CHUNKED + b"5\r\nwords\r\n0\r\n", b"X: y\r\n" * 100),
        (Operation.RECEIVE, Failure.MALFORMED),
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_answers(what: str) -> None:
    script, failed = ANSWERS[what]
    timeout = TIMEOUT if failed and failed[1] is Failure.TIMEOUT else 5.0
    outcome = await ask(script, timeout=timeout, expect={"body": "^words$"})
    assert outcome.failed == failed, outcome.detail
    assert len(outcome.detail) < 1000
    if failed is None:
        assert outcome.attempt.facts["body_length"] == 5
    else:
        assert "transfer" not in outcome.attempt.phases


BOMBS = {
    "zeros without end": flooding(OK + b"\r\n", bytes(65536)),
    "chunks without end": flooding(CHUNKED, b"1\r\nx\r\n" * 5000),
    "chunks that say nothing": flooding(CHUNKED, b"1;" + b"x" * 10_000 + b"\r\nx\r\n"),
    "a zip bomb": flooding(GZIP, gzip.compress(bytes(30_000_000), 9)),
    "data that decompress to nothing": flooding(GZIP + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff" * 2000),
    "a deflate bomb": saying(GZIP.replace(b"gzip", b"deflate") + zlib.compress(bytes(30_000_000), 9)),
}


@pytest.mark.parametrize("status", [101, 204, 304])
async def test_answers_that_have_no_body_are_not_waited_for(status: int) -> None:
    answer = b"HTTP/1.1 %d Whatever\r\nContent-Length: 5\r\n\r\n" % status
    outcome = await ask(saying(answer, then=hang), expect={"status": [status]}, timeout=2.0)
    assert outcome.failed is None
    assert outcome.attempt.facts["body_length"] == 0


@pytest.mark.parametrize("what", BOMBS)
async def test_a_body_without_end_costs_no_more_than_the_limit(what: str) -> None:
    script = BOMBS[what]
    tracemalloc.start()
    try:
        outcome = await ask(script, body_limit=100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.failed is None
    assert outcome.attempt.facts["body_truncated"] == 1
    assert float(outcome.attempt.facts["body_length"]) <= 100_000
    assert peak < 4_000_000


async def test_empty_gzip_members_are_bounded() -> None:
    outcome = await ask(flooding(GZIP, gzip.compress(b"") * 100))
    assert outcome.failed == (Operation.RECEIVE, Failure.MALFORMED)


# -- cancelled ---------------------------------------------------------------------------------------------------------

HANGING: dict[str, tuple[Script, Operation, dict[str, object]]] = {
    "while shaking hands": (hang, Operation.TLS, {"url": "https://{}/"}),
    "before the head": (hang, Operation.RECEIVE, {}),
    "in the head": (saying(OK, then=hang), Operation.RECEIVE, {}),
    "in the body": (saying(TEN + b"words", then=hang), Operation.RECEIVE, {}),
}


@pytest.mark.parametrize("when", HANGING)
async def test_cancelled(when: str) -> None:
    script, operation, options = HANGING[when]
    async with assert_no_leaks(), serving(script) as address:
        url = str(options.get("url", "http://{}/")).format(address)
        await cancel_during(operation, KIND, {**options, "url": url})


async def test_cancelled_while_resolving_or_connecting() -> None:
    async with assert_no_leaks():
        await cancel_during(Operation.RESOLVE, KIND, {"url": "http://host.example/"}, names=Names({}, silent=True))
        with black_hole() as address:
            await cancel_during(Operation.CONNECT, KIND, {"url": f"http://{address}/"})
