"""Whatever a server sends: a probe ends with an answer or a ProbeFailure, within its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib
from typing import cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prober.contract import Attempt, ProbeFailure
from prober.net.dial import Connection
from prober.net.http_body import BoundedBody, DecodingError
from prober.net.http_client import HEAD_SIZE_MAX, Response
from prober.net.names import check_host, split_host_port
from prober.net.url import parse_url

LIMIT = 1000

# Random octets alone never get past the first one; these are pieces of real answers, in any order.
PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 204 \r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/2.0 999\n",
            b"RTSP/1.0 200 OK\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: 18446744073709551616\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Content-Encoding: deflate\r\n",
            b"Content-Encoding: \xff\r\n",
            b"Connection: upgrade\r\nUpgrade: h2c\r\n",
            b"Sec-WebSocket-Key1: x\r\n",
            b"X: " + b"y" * 500 + b"\r\n",
            b" folded\r\n",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"5\r\nwords\r\n",
            b"0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"words",
            gzip.compress(b"words" * 100),
            gzip.compress(b""),
            zlib.compress(b"words" * 100),
        ]
    ),
)


class Scripted:
    """A connection that delivers these pieces, then the end of the stream."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def read(pieces: list[bytes], method: str = "GET") -> tuple[object, ...]:
    """What comes of an answer: status, body, whether it was cut; or the failure."""

    async def session() -> tuple[object, ...]:
        response = Response(cast(Connection, Scripted(pieces)), Attempt(1.0), method)
        try:
            await response.read_head()
            body = await response.read_body(LIMIT)
        except ProbeFailure as failure:
            return (failure.failure,)
        assert 100 <= response.status <= 999
        assert len(body.content()) <= LIMIT
        return response.status, response.version, body.content(), body.truncated

    return asyncio.run(session())


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from(["GET", "HEAD"]))
@example([b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 400, b"\r\n"], "GET")
def test_any_answer_ends_in_an_answer_or_a_failure(pieces: list[bytes], method: str) -> None:
    read(pieces, method)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12), st.data())
def test_where_an_answer_is_cut_into_packets_changes_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert len(whole) < HEAD_SIZE_MAX
    assert read(parts) == read([whole])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["gzip", "deflate", "identity"]), st.lists(st.binary(max_size=200), max_size=8))
def test_a_body_never_exceeds_its_limit(encoding: str, pieces: list[bytes]) -> None:
    body = BoundedBody(encoding, 100)
    with contextlib.suppress(DecodingError):
        for piece in pieces:
            body.feed(piece)
            assert len(body.content()) <= 100
        body.finish()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=500), st.integers(1, 600), st.integers(1, 50), st.sampled_from(["gzip", "deflate", "raw"]))
def test_a_body_is_decoded_as_it_was_encoded(content: bytes, limit: int, size: int, encoding: str) -> None:
    encoded = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda data: zlib.compress(data, wbits=-15)}
    body = BoundedBody("gzip" if encoding == "gzip" else "deflate", limit)
    octets = encoded[encoding](content)
    for start in range(0, len(octets), size):
        body.feed(octets[start : start + size])
    body.finish()
    assert body.content() == content[:limit]
    assert body.truncated == (len(content) > limit)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "http://", "http://h.example/", "//", "/"]))
def test_any_text_is_a_url_or_refused_in_words(text: str, start: str) -> None:
    base = parse_url("http://host.example/a/b?c")
    for parse in (parse_url, base.join, check_host, split_host_port):
        with contextlib.suppress(ValueError):
            parse(start + text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_url_can_break_out_of_the_request_line(text: str) -> None:
    with contextlib.suppress(ValueError):
        url = parse_url("http://host.example/" + text)
        assert url.target.isascii()
        assert url.target.isprintable()
        assert " " not in url.target
        assert url.host == "host.example"
