"""The kind dns against a real name server (nsd), odd ones, and networks that drop, reject and forge."""

from __future__ import annotations

import asyncio
import datetime
import resource
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import dns.flags
import dns.message
import dns.rcode
import pytest
import trustme
from dns.rdatatype import RdataType
from pydantic import ValidationError

from prober.contract import Attempt, Family, Io, ProbeFailure
from prober.net.dns_message import Question
from prober.net.icmp_socket import SO_TIMESTAMPNS
from prober.net.query import UdpExchange
from prober.probes.dns import KIND, probe
from prober.probes.dns_options import DnsOptions, from_url
from tests import servers
from tests.contract.odd_dns import Make, Respond, Said, always, answer, io_with, odd_server, probe_dns, silent
from tests.fakes import probe_as_runner
from tests.lab import Namespace, Routed, free_port
from tests.leaks import assert_no_leaks

ZONE = (
    "@ SOA ns hostmaster 2026010203 60 60 60 60\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.80\nwww A 192.0.2.81\n"
    'www AAAA 2001:db8::80\nalias CNAME www\ntext TXT "KCNA 조선"\n'
    + "".join(f'large TXT "{number:0200d}"\n' for number in range(12))
)


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def nsd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.nsd(tmp_path_factory.mktemp("nsd"), {"example.test": ZONE}, address=request.param) as server:
        yield server


@pytest.fixture
def closed_port() -> int:
    return free_port()


# -- answered ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("query", "rdtype", "answers"), [("www", "A", 2), ("www", "AAAA", 1), ("", "SOA", 1), ("www", "MX", 0)]
)
async def test_answered(nsd: servers.Server, transport: str, query: str, rdtype: str, answers: int) -> None:
    attempt, failure, _ = await probe_dns(
        server=nsd.at, query=f"{query}.example.test".lstrip("."), type=rdtype, transport=transport
    )
    assert failure is None
    assert attempt.address == nsd.address
    assert set(attempt.phases) == {"resolve", "connect", "request"}
    assert 0 < attempt.phases["request"] < 0.5
    facts = attempt.facts
    assert facts["query_succeeded"] == 1.0
    assert facts["rcode"] == "NOERROR"
    assert facts["answer_rrs"] == answers
    assert facts["additional_rrs"] == (1 if rdtype == "MX" else 2)  # EDNS, and the name server's address
    assert facts["authority_rrs"] == 1
    assert facts.get("serial") == (2026010203.0 if rdtype == "SOA" else None)
    assert facts.get("ignored_replies", 0.0) == 0.0


async def test_the_answer_is_compared_with_what_is_expected(nsd: servers.Server) -> None:
    fulfilled: tuple[dict[str, object], ...] = (
        {"prefix": ("192.0.2.0/24",)},
        {"prefix": ("10.0.0.0/8", "192.0.2.80/31")},
        {"answers": ("192.0.2.81", "192.0.2.80")},
        {"regex": r"^www\.example\.test\.\t60\tIN\tA\t192\.0\.2\.8[01]$"},
        {"min_answers": 2, "rcode": ("NXDOMAIN", "noerror")},
    )
    for expect in fulfilled:
        assert (await probe_dns(server=nsd.at, expect=expect)).failure is None, expect
    missed: tuple[dict[str, object], ...] = (
        {"prefix": ("192.0.2.80/32",)},
        {"answers": ("192.0.2.80",)},
        {"answers": ("192.0.2.80", "192.0.2.81", "192.0.2.82")},
        {"answers": ()},
        {"regex": "192.0.3"},
        {"min_answers": 3},
    )
    for expect in missed:
        outcome = await probe_dns(server=nsd.at, expect=expect)
        assert outcome.failure == ("validate", "dns_answer"), expect
        assert outcome.detail
        assert outcome.attempt.facts["query_succeeded"] == 1.0


async def test_expected_answers_are_compared_as_data_not_as_text(nsd: servers.Server) -> None:
    for query, rdtype, text in (
        ("www", "AAAA", "2001:0DB8:0::80"),
        ("alias", "CNAME", "WWW.example.TEST"),
        ("text", "TXT", '"KCNA 조선"'),
        ("alias", "A", "192.0.2.80"),  # records of the type asked for: the alias itself does not count
    ):
        expect = {"answers": (text, "192.0.2.81") if rdtype == "A" else (text,)}
        outcome = await probe_dns(server=nsd.at, query=f"{query}.example.test", type=rdtype, expect=expect)
        assert outcome.failure is None, outcome


async def test_rcodes(nsd: servers.Server) -> None:
    outcome = await probe_dns(server=nsd.at, query="nope.example.test")
    assert outcome.failure == ("validate", "dns_rcode")
    assert outcome.detail == "NXDOMAIN, expected NOERROR"
    assert outcome.attempt.facts["rcode"] == "NXDOMAIN"
    assert "request" in outcome.attempt.phases
    expect = {"rcode": ("NXDOMAIN",)}
    assert (await probe_dns(server=nsd.at, query="nope.example.test", expect=expect)).failure is None
    outcome = await probe_dns(server=nsd.at, query="www.other.test", expect=expect)
    assert outcome.failure == ("validate", "dns_rcode")
    assert outcome.detail == "REFUSED, expected NXDOMAIN"


async def test_prefix_wants_an_address(nsd: servers.Server) -> None:
    expect = {"prefix": ("192.0.2.0/24",)}
    outcome = await probe_dns(server=nsd.at, query="text.example.test", expect=expect)
    assert outcome.failure == ("validate", "dns_answer")
    assert "no address" in outcome.detail


async def test_a_truncated_answer_is_fetched_over_tcp(nsd: servers.Server) -> None:
    expect = {"min_answers": 12}
    attempt, failure, _ = await probe_dns(server=nsd.at, query="large.example.test", type="TXT", expect=expect)
    assert failure is None
    assert attempt.facts["truncated"] == 1.0
    assert attempt.facts["answer_rrs"] == 12.0
    attempt, _, _ = await probe_dns(server=nsd.at)
    assert attempt.facts["truncated"] == 0.0


async def test_what_is_sent() -> None:
    async with odd_server(always("A 192.0.2.1"), always("A 192.0.2.1")) as odd:
        for transport in ("udp", "tcp"):
            await probe_dns(server=odd.at, transport=transport)
            options: dict[str, object] = {"recursion": False, "type": "TXT", "class": "CH"}
            await probe_dns(0.5, None, server=odd.at, transport=transport, **options)
    recursive, iterative = odd.queries[0], odd.queries[1]
    assert str(recursive.question[0]) == "www.example.test. IN A"
    assert recursive.flags == dns.flags.RD
    assert (recursive.edns, recursive.payload) == (0, 1232)
    assert str(iterative.question[0]) == "www.example.test. CH TXT"
    assert iterative.flags == 0
    assert len({query.id for query in odd.queries}) > 1
    assert odd.over_tcp == 2


async def test_the_source_address_is_used() -> None:
    async with odd_server(always("A 192.0.2.1"), always("A 192.0.2.1")) as odd:
        for transport in ("udp", "tcp"):
            assert (await probe_dns(server=odd.at, source="127.0.0.9", transport=transport)).failure is None
            outcome = await probe_dns(server=odd.at, source="192.0.2.9", transport=transport)
            assert outcome.failure is not None
            assert outcome.failure[1] == "address_unavailable"


class _Hosts:
    """A resolver that knows one name."""

    async def resolve(self, name: str, family: Family) -> str:
        assert (name, family) == ("ns.example.test", "ipv4")
        return "127.0.0.1"

    def server(self) -> tuple[str, int]:
        raise AssertionError


async def test_a_server_by_name_is_located_first() -> None:
    async with odd_server(always("A 192.0.2.1")) as odd:
        server = f"ns.example.test:{odd.port}"
        attempt, failure, _ = await probe_dns(resolver=_Hosts(), server=server, family="ipv4")
    assert failure is None
    assert attempt.address == "127.0.0.1"


# -- refused, black holes, our own side --------------------------------------------------------------------------------


async def test_refused(closed_port: int) -> None:
    outcome = await probe_dns(server=f"127.0.0.1:{closed_port}")
    assert outcome.failure == ("receive", "refused")
    assert outcome.attempt.facts["query_succeeded"] == 0.0
    assert "request" not in outcome.attempt.phases
    assert (await probe_dns(server=f"127.0.0.1:{closed_port}", transport="tcp")).failure == ("connect", "refused")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_silence(transport: str) -> None:
    async with odd_server() as odd:
        started = time.perf_counter()
        outcome = await probe_dns(timeout=0.2, server=odd.at, transport=transport)
    assert outcome.failure == ("receive", "timeout")
    assert 0.15 < time.perf_counter() - started < 2.0
    assert len(odd.queries) == 1  # never sent twice


@pytest.mark.parametrize("server", [Routed.server_address, f"[{Routed.server_address6}]"])
async def test_black_hole_and_icmp_errors(routed: Routed, server: str) -> None:
    with routed.client.entered():
        routed.server.drop()
        assert (await probe_dns(timeout=0.15, server=server)).failure == ("receive", "timeout")
        assert (await probe_dns(timeout=0.15, server=server, transport="tcp")).failure == ("connect", "timeout")
        routed.server.clear_rules()
        assert (await probe_dns(server=server)).failure == ("receive", "refused")
        router = "2001:db8:1::fe" if ":" in server else "192.0.2.254"
        for how, word in (
            ("host-unreachable", "unreachable"),
            ("admin-prohibited", "prohibited"),
        ):
            routed.router.reject(how=f"with icmpx type {how}", chain="forward")
            outcome = await probe_dns(server=server)
            assert outcome.failure == ("receive", word)
            assert outcome.detail.startswith(f"{router} reports")
            routed.router.clear_rules()


async def test_no_route_is_our_own_trouble(namespace: Namespace) -> None:
    with namespace.entered():
        for server in ("192.0.2.1", "2001:db8::1"):
            assert (await probe_dns(server=server)).failure == ("connect", "network_unreachable")
        namespace.drop("udp dport 53", chain="output")
        assert (await probe_dns(server="127.0.0.1")).failure == ("send", "permission_denied")


async def test_no_descriptor_is_our_own_trouble() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each open number below the limit, the probe's own excepted, is taken already.
    taken = [socket.socket() for _ in range(3)]
    limit = max(sock.fileno() for sock in taken)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit + 1, hard))
        checked = DnsOptions(query="example.test", server="127.0.0.1:9")
        fill = []
        try:
            while True:
                fill.append(socket.socket())
        except OSError:
            pass
        with pytest.raises(ProbeFailure) as raised:
            await KIND.probe(checked, Attempt(0.2), io_with())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in (*taken, *fill):
            sock.close()
    assert str(raised.value).startswith("descriptors_exhausted during prepare")


# -- replies that are wrong --------------------------------------------------------------------------------------------


def _other_id(query: dns.message.Message) -> bytes:
    wire = answer(query, "A 6.6.6.6")
    return bytes([wire[0] ^ 1]) + wire[1:]


def _other_name(query: dns.message.Message) -> bytes:
    return answer(dns.message.make_query("www.example.tset", "A", id=query.id), "A 6.6.6.6")


def _other_type(query: dns.message.Message) -> bytes:
    return answer(dns.message.make_query("www.example.test", "MX", id=query.id))


def _other_class(query: dns.message.Message) -> bytes:
    return dns.message.make_response(dns.message.make_query("www.example.test", "A", "CH", id=query.id)).to_wire()


def _query_itself(query: dns.message.Message) -> bytes:
    return query.to_wire()


def _two_questions(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.question.append(response.question[0])
    return response.to_wire()


def _no_question(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.question.clear()
    return response.to_wire()


def _garbage(query: dns.message.Message) -> bytes:
    return answer(query, "A 192.0.2.1")[:-20]


def _garbage_question(query: dns.message.Message) -> bytes:
    return query.id.to_bytes(2, "big") + b"\xff" * 30


def _lying_length(query: dns.message.Message) -> bytes:
    wire = bytearray(answer(query, "A 192.0.2.1"))
    assert wire[-11:-8] == b"\0\0\x29"  # the OPT record: root, type 41
    wire[-1] = 200
    return bytes(wire)


def _short(query: dns.message.Message) -> bytes:
    return query.id.to_bytes(2, "big") + b"\x80"


FORGED: list[Make] = [_other_id, _other_name, _other_type, _other_class, _query_itself, _two_questions, _no_question]
MALFORMED: list[Make] = [_garbage, _lying_length, _garbage_question, _short]


@pytest.mark.parametrize("make", FORGED + MALFORMED)
async def test_what_is_no_answer_does_not_end_the_wait(make: Make) -> None:
    def respond(query: dns.message.Message) -> list[Said]:
        forged = make(query)
        return [forged, forged, (0.02, answer(query, "A 192.0.2.1"))]

    async with odd_server(respond) as odd:
        attempt, failure, _ = await probe_dns(server=odd.at, expect={"answers": ("192.0.2.1",)})
    assert failure is None
    assert attempt.facts["ignored_replies"] == 2.0
    assert attempt.phases["request"] >= 0.02


@pytest.mark.parametrize("server", ["127.0.0.1", "ns.example.test"])
@pytest.mark.parametrize("make", FORGED + MALFORMED)
async def test_nothing_but_wrong_replies(make: Make, server: str) -> None:
    async with odd_server(lambda query: [make(query)]) as odd:
        outcome = await probe_dns(0.15, _Hosts(), server=f"{server}:{odd.port}", family="ipv4")
    assert outcome.failure == ("receive", "malformed" if make in MALFORMED else "timeout")
    assert outcome.attempt.facts["ignored_replies"] == 1.0


async def test_garbage_after_the_time_was_up_ends_the_wait_of_who_waits_for_the_runner() -> None:
    question = Question.make("www.example.test", RdataType.A)
    async with (
        odd_server(lambda query: [(0.1, _garbage(query))]) as odd,
        assert_no_leaks(),
        asyncio.timeout(1),
    ):
        with UdpExchange(question, "127.0.0.1", odd.port) as exchange:
            exchange.send()
            with pytest.raises(ProbeFailure, match="malformed"):
                await exchange.reply(0.01, silence_ends=False)


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED"])
async def test_an_error_may_leave_out_the_question(rcode: str) -> None:
    def respond(query: dns.message.Message) -> list[Said]:
        response = dns.message.make_response(query)
        response.question.clear()
        response.set_rcode(dns.rcode.from_text(rcode))
        return [response.to_wire()]

    async with odd_server(respond) as odd:
        outcome = await probe_dns(server=odd.at)
        assert outcome.failure == ("validate", "dns_rcode")
        assert outcome.detail.startswith(rcode)
        assert (await probe_dns(server=odd.at, expect={"rcode": (rcode,)})).failure is None


async def test_names_match_whatever_their_case_and_extended_rcodes_are_read() -> None:
    def respond(query: dns.message.Message) -> list[Said]:
        other = dns.message.make_query("WWW.Example.TEST", "A", id=query.id, use_edns=0)
        return [answer(other, rcode="BADVERS")]

    async with odd_server(respond) as odd:
        outcome = await probe_dns(server=odd.at)
        assert outcome.detail == "BADVERS, expected NOERROR"


@pytest.mark.parametrize(
    ("tcp", "failure"),
    [
        (lambda query: [_short(query)], ("receive", "malformed")),
        (lambda query: [_garbage(query)], ("receive", "malformed")),
        (lambda query: [_other_id(query)] * 20, ("receive", "malformed")),
        (lambda query: [_other_id(query), answer(query)], None),
        (lambda query: [answer(query, flags=dns.flags.TC)], ("receive", "truncated")),
        (lambda query: [b""], ("receive", "closed")),
        (lambda query: [_other_id(query)], ("receive", "closed")),
    ],
)
async def test_wrong_replies_over_tcp(tcp: Respond, failure: tuple[str, str] | None) -> None:
    async with odd_server(tcp=tcp) as odd:
        assert (await probe_dns(server=odd.at, transport="tcp")).failure == failure


async def test_truncated_and_not_to_be_had_whole() -> None:
    def truncated(query: dns.message.Message) -> list[Said]:
        return [answer(query, flags=dns.flags.TC)]

    for tcp, operation in ((silent, "receive"), (lambda _: [b"\0" * 4], "receive")):
        async with odd_server(truncated, tcp) as odd:
            outcome = await probe_dns(0.2, server=odd.at)
        assert outcome.failure == (operation, "truncated")
        assert outcome.detail.startswith("over UDP truncated, over TCP")
        assert outcome.attempt.facts["truncated"] == 1.0


# -- injected ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (lambda query: answer(query, "A 6.6.6.6"), "injected"),
        (lambda query: answer(query, "A 192.0.2.1", "A 6.6.6.6"), "injected"),
        (lambda query: answer(query), "injected"),
        (lambda query: answer(query, rcode="NXDOMAIN"), "injected"),
        (lambda query: answer(query, "A 192.0.2.1", "A 192.0.2.2"), "duplicate"),
        (lambda query: answer(query, "A 192.0.2.2", "A 192.0.2.1", ttl=7), "duplicate"),
        (lambda query: answer(query, flags=dns.flags.TC), "duplicate"),
        (_other_id, "ignored"),
        (_garbage, "ignored"),
    ],
)
async def test_a_second_answer(second: Make, verdict: str) -> None:
    def respond(query: dns.message.Message) -> list[Said]:
        return [answer(query, "A 192.0.2.1", "A 192.0.2.2"), (0.03, second(query))]

    async with odd_server(respond) as odd:
        outcome = await probe_dns(server=odd.at, injection_window="100ms")
        assert (await probe_dns(server=odd.at, injection_window="0s")).failure is None
    facts = outcome.attempt.facts
    assert outcome.failure == (("validate", "injected") if verdict == "injected" else None)
    assert facts["duplicate_replies"] == (1.0 if verdict == "duplicate" else 0.0)
    assert facts["ignored_replies"] == (1.0 if verdict == "ignored" else 0.0)
    assert outcome.attempt.phases["request"] < 0.03  # the first answer's
    assert facts["answer_rrs"] == 2.0
    if verdict == "injected":
        assert outcome.detail.startswith("first NOERROR A 192.0.2.1, A 192.0.2.2, then")
        assert 0.02 < outcome.attempt.listened_seconds < 0.09
    else:
        assert 0.09 < outcome.attempt.listened_seconds < 0.2


async def test_a_second_answer_that_differs_in_its_rcode_only() -> None:
    async with odd_server(lambda query: [answer(query, rcode="NXDOMAIN"), answer(query)]) as odd:
        options: dict[str, object] = {"injection_window": "50ms", "expect": {"rcode": ("NXDOMAIN",)}}
        assert (await probe_dns(0.5, None, server=odd.at, **options)).failure == ("validate", "injected")


async def test_listening_ends_before_the_timeout_does() -> None:
    async with odd_server(always("A 192.0.2.1")) as odd:
        outcome = await probe_dns(timeout=0.2, server=odd.at, injection_window="10s")
    assert outcome.failure is None
    assert 0.1 < outcome.attempt.listened_seconds < 0.16


async def test_an_icmp_error_after_the_answer_changes_nothing(routed: Routed) -> None:
    """Nor does it keep the loop busy: the error queue is emptied."""
    ready = asyncio.Event()
    with routed.server.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((routed.server_address, 53))
        sock.setblocking(False)

    async def serve() -> None:
        data, peer = await asyncio.get_running_loop().sock_recvfrom(sock, 512)
        sock.sendto(answer(dns.message.from_wire(data), "A 192.0.2.1"), peer)
        ready.set()

    task = asyncio.create_task(serve())
    with routed.client.entered(), sock:
        question = Question.make("www.example.test", RdataType.A)
        with UdpExchange(question, routed.server_address, 53) as exchange:
            exchange.send()
            await exchange.reply(1.0)
            await task
            sock.close()
            exchange._sock.send(b"x")  # nobody is there any more
            over = asyncio.Event()
            exchange.listen(0.1, over.set)
            await over.wait()
            assert exchange.second is None


# -- time --------------------------------------------------------------------------------------------------------------


async def test_slow_beyond_the_timeout() -> None:
    async with odd_server(lambda query: [(0.3, answer(query))]) as odd:
        assert (await probe_dns(timeout=0.1, server=odd.at)).failure == ("receive", "timeout")
        assert (await probe_dns(timeout=0.4, server=odd.at)).failure is None


async def test_a_stalled_loop_makes_no_timeout_and_no_latency(nsd: servers.Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as keeps_stamping_on:
        keeps_stamping_on.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        await asyncio.sleep(0.05)
        task = asyncio.create_task(probe_dns(timeout=0.2, server=nsd.at))
        for _ in range(3):
            await asyncio.sleep(0)  # it has sent
        time.sleep(0.4)  # noqa: ASYNC251 - the loop stands still, beyond the timeout
        attempt, failure, _ = await task
    assert failure is None
    assert attempt.phases["request"] < 0.1


async def test_a_clock_step_makes_no_latency() -> None:
    question = Question.make("www.example.test", RdataType.A)
    for step_ns in (10**12, -(10**12)):
        async with odd_server(always("A 192.0.2.1")) as odd:
            with UdpExchange(question, "127.0.0.1", odd.port) as exchange:
                exchange.send()
                exchange._sent_ns += step_ns
                await exchange.reply(1.0)
                assert 0 < exchange.request_seconds < 0.5


# -- cancelled ---------------------------------------------------------------------------------------------------------


Probe: TypeAlias = Callable[[DnsOptions, Attempt, Io], Coroutine[None, None, None]]


class _Hangs:
    """A resolver that does not come back."""

    async def resolve(self, name: str, family: Family) -> str:
        await asyncio.sleep(60)
        raise AssertionError

    def server(self) -> tuple[str, int]:
        raise AssertionError


@pytest.mark.parametrize("make", [KIND.probe, partial(probe_as_runner, KIND)])
@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("resolve", {"server": "ns.example.test"}),
        ("receive", {}),
        ("receive", {"transport": "tcp"}),
        ("tls", {"transport": "tls", "tls": {"verify": False}}),
        ("receive", {"query": "listen.example.test", "injection_window": "10s"}),
        ("receive", {"query": "truncated.example.test"}),
    ],
)
async def test_cancelled(operation: str, options: dict[str, object], make: Probe) -> None:
    def udp(query: dns.message.Message) -> list[Said]:
        first = str(query.question[0].name).partition(".")[0]
        if first == "listen":
            return [answer(query, "A 192.0.2.1")]
        return [answer(query, flags=dns.flags.TC)] if first == "truncated" else []

    async with odd_server(udp) as odd:
        checked = DnsOptions.model_validate({"query": "www.example.test", "server": odd.at, **options})
        attempt = Attempt(20.0)
        async with assert_no_leaks():
            task: asyncio.Task[None] = asyncio.create_task(make(checked, attempt, io_with(_Hangs())))
            for _ in range(100):
                await asyncio.sleep(0.05)
                if attempt.operation == operation:
                    break
            assert attempt.operation == operation
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_cancelled_while_connecting(routed: Routed) -> None:
    routed.server.drop()
    with routed.client.entered():
        checked = DnsOptions(query="example.test", server=routed.server_address, transport="tcp")
        attempt = Attempt(20.0)
        async with assert_no_leaks():
            task = asyncio.create_task(probe(checked, attempt, io_with()))
            await asyncio.sleep(0.05)
            assert attempt.operation == "connect"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


# -- DNS over TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def _serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_tls(authority: tuple[trustme.CA, str]) -> None:
    ca, ca_file = authority
    tls = _serving(ca.issue_cert("ns.example.test", "127.0.0.1"))
    async with odd_server(tcp=always("A 192.0.2.1"), tls=tls) as odd:
        for options in ({"ca_file": ca_file}, {"ca_file": ca_file, "server_name": "ns.example.test"}):
            attempt, failure, _ = await probe_dns(server=odd.at, transport="tls", tls=options)
            assert failure is None
            assert set(attempt.phases) == {"resolve", "connect", "tls", "request"}
            assert attempt.facts["answer_rrs"] == 1.0
            assert str(attempt.facts["tls_version"]).startswith("TLS 1.")
        wrong = {"ca_file": ca_file, "server_name": "other.example.test"}
        outcome = await probe_dns(server=odd.at, transport="tls", tls=wrong)
        assert outcome.failure == ("tls", "certificate_wrong_host")
        outcome = await probe_dns(timeout=2, server=odd.at, transport="tls")
        assert outcome.failure == ("tls", "certificate_unknown_issuer")
        assert (await probe_dns(server=odd.at, transport="tls", tls={"verify": False})).failure is None


async def test_tls_expired(authority: tuple[trustme.CA, str]) -> None:
    ca, ca_file = authority
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    tls = _serving(ca.issue_cert("127.0.0.1", not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday))
    async with odd_server(tcp=always(), tls=tls) as odd:
        outcome = await probe_dns(server=odd.at, transport="tls", tls={"ca_file": ca_file})
    assert outcome.failure == ("tls", "certificate_expired")


async def test_tls_where_there_is_none() -> None:
    async with odd_server(tcp=silent) as odd:
        outcome = await probe_dns(timeout=0.3, server=odd.at, transport="tls", tls={"verify": False})
    assert outcome.failure is not None
    assert outcome.failure[0] == "tls"


# -- options -----------------------------------------------------------------------------------------------------------

SERVER = {"server": "192.0.2.1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "a..b"}, '"a..b" is no domain name: A DNS label is empty.'),
        ({"query": "x" * 64}, "is no domain name: A DNS label is > 63 octets long."),
        ({"type": "AAA"}, '"AAA" is no DNS type; did you mean AAAA?'),
        ({"type": "AXFR"}, "AXFR cannot be probed for; write a type like A, AAAA or SOA"),
        ({"type": "TYPE99999"}, "is no DNS type"),
        ({"class": "INN"}, '"INN" is no DNS class; did you mean IN?'),
        ({"class": "ANY"}, '"ANY" is no DNS class; write one like IN or CH'),
        ({"expect": {"rcode": ("NODOMAIN",)}}, '"NODOMAIN" is no DNS response code; did you mean NXDOMAIN?'),
        ({"expect": {"rcode": ()}}, "at least 1 item"),
        (
            {"expect": {"prefix": ("192.0.2.1/24",)}},
            '"192.0.2.1/24" has bits set behind the prefix; write 192.0.2.0/24',
        ),
        ({"expect": {"prefix": ("kcna",)}}, '"kcna" is no IP prefix; write it like 175.45.176.0/22 or 2001:db8::/32'),
        ({"type": "SOA", "expect": {"prefix": ("192.0.2.0/24",)}}, "SOA answers have none, ask for A or AAAA"),
        ({"type": "AAAA", "expect": {"prefix": ("192.0.2.0/24",)}}, "no IPv6 prefix, which AAAA answers need"),
        ({"expect": {"answers": ("ns.example.",)}}, '"ns.example." is no data of a record of type A'),
        ({"type": "ANY", "expect": {"answers": ("192.0.2.1",)}}, "write another type than ANY"),
        ({"expect": {"regex": "("}}, "not a valid regular expression"),
        ({"server": "192.0.2.1:0"}, "0 is no port"),
        ({"server": "2001:db8::1:53:x"}, "write host:port, an IPv6 address as [address]:port"),
        ({"server": "192.0.2.300"}, '"192.0.2.300" is no IP address'),
        ({"server": "192.0.2.1", "family": "ipv6"}, "192.0.2.1 is no IPv6 address; leave family out"),
        ({"server": "192.0.2.1", "source": "::1"}, "source ::1 is of the other address family; write an IPv4 address"),
        ({"source": "eth0"}, '"eth0" is no IP address'),
        ({"transport": "tls"}, "transport: tls needs a server"),
        ({**SERVER, "tls": {}}, "tls has no effect without transport: tls"),
        (
            {**SERVER, "transport": "tcp", "injection_window": "1s"},
            "injection_window has no effect with transport: tcp",
        ),
        ({"injection_window": 1}, "a number without a unit"),
        ({"serial": 1}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        DnsOptions.model_validate({"query": "example.test", **options})
    assert message in str(raised.value)


def test_options_are_hashable_and_say_what_is_probed() -> None:
    options = DnsOptions.model_validate(
        {"query": "kcna.kp", "server": "[2001:db8::1]:5353", "type": "soa", "expect": {"regex": "kp"}}
    )
    assert hash(options) == hash(options.model_copy())
    assert (options.type, options.endpoint, KIND.host(options)) == ("SOA", ("2001:db8::1", 5353), "2001:db8::1")
    assert DnsOptions(query="x", server="ns.kptc.kp", transport="tls").endpoint == ("ns.kptc.kp", 853)
    assert DnsOptions(query="x", server="[::1]").endpoint == ("::1", 53)
    assert KIND.host(DnsOptions(query="kcna.kp")) == "kcna.kp"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("dns://192.0.2.1/kcna.kp?type=SOA", {"server": "192.0.2.1", "query": "kcna.kp", "type": "SOA"}),
        (
            "dns://[2001:db8::1]:5353/www.kcna.kp?class=IN;type=A&transport=tcp",
            {
                "server": "[2001:db8::1]:5353",
                "query": "www.kcna.kp",
                "class": "IN",
                "type": "A",
                "transport": "tcp",
            },
        ),
        ("dns:kcna.kp", {"query": "kcna.kp"}),
        ("dns:///kcna.kp", {"query": "kcna.kp"}),
        ("dns://192.0.2.1", {"server": "192.0.2.1"}),
        ("http://192.0.2.1/", None),
        ("kcna.kp", None),
    ],
)
def test_from_url(url: str, options: dict[str, object] | None) -> None:
    assert from_url(url) == options
    if options and "query" in options:
        DnsOptions.model_validate(options)


def test_every_fact_has_a_metric(nsd: servers.Server, tmp_path: Path) -> None:
    keys = {spec.key for spec in KIND.facts}
    attempt = asyncio.run(probe_dns(server=nsd.at, query="example.test", type="SOA")).attempt
    assert set(attempt.facts) <= keys
    attempt = asyncio.run(probe_dns(server=nsd.at, transport="tcp")).attempt
    assert set(attempt.facts) <= keys
