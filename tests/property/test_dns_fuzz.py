"""Whatever comes back from the network: an answer, a counted nuisance or a ProbeFailure, and never anything else."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import get_args

import dns.message
import dns.rcode
import pytest
from dns.rdatatype import RdataType
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.contract import Family, ProbeFailure
from prober.net.dns_message import Malformed, Question, Reply, read_reply
from prober.net.resolv_conf import parse_hosts, parse_resolv_conf
from prober.net.resolver import StubResolver
from tests.contract.odd_dns import odd_server, probe_dns

IDENT = b"\x12\x34"
QUESTION = Question.make("www.example.test", RdataType.A)
FAILURES = ("malformed", "timeout", "truncated", "dns_rcode", "dns_answer", "injected", "closed")

octets = st.binary(max_size=300)
# The types whose data dnspython reads, and some that nobody has defined.
types = st.one_of(st.sampled_from([int(rdtype) for rdtype in RdataType]), st.integers(0, 65535))


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A resource record with any data; its length may be a lie."""
    name = draw(st.sampled_from([b"\xc0\x0c", b"\0", b"\x01a\0", b"\xc0\xff", b"\x3fa", b"\x81a"]))
    data = draw(st.binary(max_size=60))
    length = draw(st.one_of(st.just(len(data)), st.integers(0, 65535)))
    rdclass = draw(st.sampled_from([1, 3, 255, 4096]))
    ttl = draw(st.integers(0, 2**32 - 1))
    kind = draw(types).to_bytes(2, "big") + rdclass.to_bytes(2, "big") + ttl.to_bytes(4, "big")
    return name + kind + length.to_bytes(2, "big") + data


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """What looks like an answer to the question as far as it goes."""
    asked = QUESTION.wire(IDENT)
    flags = draw(st.one_of(st.just(0x8180), st.integers(0, 65535))).to_bytes(2, "big")
    body = draw(st.lists(records(), max_size=4))
    counts = b"".join(draw(st.integers(0, 3)).to_bytes(2, "big") for _ in range(3))
    question = asked[12:-11]  # without the OPT record
    return IDENT + flags + b"\0\1" + counts + question + b"".join(body) + draw(st.binary(max_size=3))


@st.composite
def corrupted(draw: st.DrawFn) -> bytes:
    """A true answer with a few octets changed or cut off."""
    response = dns.message.make_response(dns.message.from_wire(QUESTION.wire(IDENT)))
    response.set_rcode(dns.rcode.NOERROR)
    wire = bytearray(response.to_wire())
    for _ in range(draw(st.integers(0, 4))):
        wire[draw(st.integers(2, len(wire) - 1))] = draw(st.integers(0, 255))
    return bytes(wire[: draw(st.integers(2, len(wire)))])


@settings(max_examples=1000, deadline=None)
@given(st.one_of(octets, octets.map(lambda tail: IDENT + tail), replies(), corrupted()))
def test_any_reply_is_read_or_refused(wire: bytes) -> None:
    reply = None
    with contextlib.suppress(Malformed):
        reply = read_reply(QUESTION, IDENT, wire)
    if reply is not None:
        assert isinstance(reply, Reply)
        assert reply.rcode_text
        assert not reply.differs_from(reply)
        for record in reply.answers:
            assert record.text().isprintable() or "\t" in record.text()


_ANOTHER_CLASS = r"""
from prober.probes import PROBES
from prober.net.dns_message import Question, RdataType, read_reply

question = Question.make("www.example.test", RdataType.AAAA)
head = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + question.wire(b"\0\0")[12:-11]
for rdclass in (255, 4096, 1):
    record = b"\xc0\x0c\0\x1c" + rdclass.to_bytes(2, "big") + b"\0\0\0\0\0\x10" + bytes(15) + b"\1"
    text = read_reply(question, b"\0\0", head + record).answers[0].text()
assert text == "www.example.test.\t0\tIN\tAAAA\t::1", text
"""


def test_a_record_of_another_class_spoils_nothing_for_later() -> None:
    """dnspython would read every AAAA record as opaque octets from then on; in a process that has seen none yet."""
    subprocess.run([sys.executable, "-c", _ANOTHER_CLASS], check=True, timeout=30)


@settings(max_examples=50, deadline=None)
@given(said=st.lists(st.one_of(octets, replies(), corrupted()), max_size=3), transport=st.sampled_from(["udp", "tcp"]))
def test_a_probe_fails_by_the_vocabulary_or_not_at_all(said: list[bytes], transport: str) -> None:
    async def scenario() -> None:
        def respond(query: dns.message.Message) -> list[bytes]:
            ident = query.id.to_bytes(2, "big")
            return [ident + wire[2:] for wire in said]

        async with odd_server(respond, respond) as odd:
            options: dict[str, object] = {
                "transport": transport,
                "expect": {"regex": "x", "prefix": ("192.0.2.0/24",), "answers": ("192.0.2.1",), "min_answers": 1},
            }
            if transport == "udp":
                options["injection_window"] = "20ms"
            outcome = await probe_dns(0.08, None, server=odd.at, **options)
        assert outcome.failure is not None
        assert outcome.failure[1] in FAILURES

    asyncio.run(scenario())


@settings(max_examples=50, deadline=None)
@given(said=st.lists(st.one_of(octets, replies(), corrupted()), max_size=2), family=st.sampled_from(get_args(Family)))
def test_a_lookup_fails_by_the_vocabulary_or_not_at_all(said: list[bytes], family: Family) -> None:
    async def scenario() -> None:
        def respond(query: dns.message.Message) -> list[bytes]:
            return [query.id.to_bytes(2, "big") + wire[2:] for wire in said]

        async with odd_server(respond, respond) as odd:
            resolver = StubResolver([("127.0.0.1", odd.port)], hosts=Path("/nonexistent"))
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("prober.net.resolver.TRY_AT_MOST_SECONDS", 0.02)
                try:
                    await resolver.resolve("www.example.test", family)
                    word = "resolver_answered"
                except ProbeFailure as failure:
                    word = failure.failure.value
        assert word.startswith("resolver_") or word in ("nxdomain", "no_address")

    asyncio.run(scenario())


@given(st.text())
def test_any_file_of_this_host_is_read(text: str) -> None:
    conf = parse_resolv_conf(text)
    assert 1 <= conf.attempts <= 5
    assert 1 <= conf.timeout_seconds <= 30
    assert 0 <= conf.ndots <= 15
    assert all(candidate.endswith(".") for candidate in conf.candidates("www.example.test"))
    assert all(addresses for addresses in parse_hosts(text).values())


@given(st.lists(st.sampled_from(["options", "ndots:", "9", "nameserver", "::1", "\n", " ", "#", "search", "."])))
def test_any_file_made_of_its_words_is_read(words: list[str]) -> None:
    test_any_file_of_this_host_is_read.hypothesis.inner_test("".join(words))  # type: ignore[attr-defined]
