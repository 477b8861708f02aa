"""The vantage's resolver: real name servers, silent and broken ones, and the files of this host."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import pytest

from prober.contract import Family, ProbeFailure
from prober.net import resolver as resolver_module
from prober.net.resolver import StubResolver
from tests import servers
from tests.contract.odd_dns import Said, always, answer, odd_server, probe_dns, silent
from tests.lab import Namespace, Routed, free_port
from tests.leaks import assert_no_leaks

ZONE = (
    "@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.80\nwww AAAA 2001:db8::80\n"
    "six AAAA 2001:db8::6\nfour A 192.0.2.4\nalias CNAME alias2\nalias2 CNAME www\ndangling CNAME nowhere\n"
    "bare TXT x\n" + "".join(f"large A 192.0.3.{number}\n" for number in range(120))
)


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.nsd(tmp_path_factory.mktemp("nsd"), {"example.test": ZONE}) as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for silence; a real name server on a busy machine is given its time."""
    monkeypatch.setattr(resolver_module, "TRY_AT_MOST_SECONDS", 1.0 if "nsd" in request.fixturenames else 0.1)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    write(path, "")
    return path


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    return tmp_path / "hosts"


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def asking(conf: Path, *ports: int) -> StubResolver:
    """A resolver whose servers are on these ports of loopback; there is no hosts file."""
    return StubResolver([("127.0.0.1", port) for port in ports] or None, conf, conf.parent / "hosts")


async def resolve(resolver: StubResolver, name: str, family: Family = "any") -> str:
    """The address, or the failure's word."""
    async with assert_no_leaks():
        try:
            return await resolver.resolve(name, family)
        except ProbeFailure as failure:
            return failure.failure.value if failure.operation == "resolve" else str(failure)


def closed_port() -> int:
    return free_port()


# -- answered ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "result"),
    [
        ("www", "any", "192.0.2.80"),
        ("www", "ipv4", "192.0.2.80"),
        ("www", "ipv6", "2001:db8::80"),
        ("WWW", "any", "192.0.2.80"),
        ("six", "any", "2001:db8::6"),
        ("six", "ipv4", "no_address"),
        ("four", "ipv6", "no_address"),
        ("alias", "any", "192.0.2.80"),
        ("alias", "ipv6", "2001:db8::80"),
        ("dangling", "any", "nxdomain"),
        ("bare", "any", "no_address"),
        ("nowhere", "any", "nxdomain"),
        ("large", "ipv4", "192.0.3.0"),  # truncated: 120 addresses do not fit, so that TCP is needed
    ],
)
async def test_real_answers(nsd: servers.Server, conf: Path, name: str, family: Family, result: str) -> None:
    resolver = asking(conf, nsd.port)
    if name == "large":
        result = "192.0.3."
    assert (await resolve(resolver, f"{name}.example.test", family)).startswith(result)


async def test_refused_servfail_and_a_dead_authority_are_told_apart(nsd: servers.Server, tmp_path: Path) -> None:
    """What a country's dead name servers look like from here: the resolver is well and answers SERVFAIL."""
    conf = tmp_path / "resolv.conf"
    assert await resolve(asking(conf, nsd.port), "www.other.test") == "resolver_refused"
    with servers.nsd(tmp_path / "nsd", {"example.test": ZONE}) as authority:
        stub = {"example.test": f"127.0.0.1@{authority.port}"}
        with servers.unbound(tmp_path / "unbound", stub) as recursive:
            resolver = asking(conf, recursive.port)
            assert await resolve(resolver, "alias.example.test") == "192.0.2.80"
            assert await resolve(resolver, "nowhere.example.test") == "nxdomain"
            authority.stop()
            assert await resolve(resolver, "www.example.test") == "resolver_servfail"


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (("A 192.0.2.1",), "192.0.2.1"),
        (("www.example.test. CNAME b.test.", "b.test. A 192.0.2.3"), "192.0.2.3"),
        (("b.test. A 192.0.2.3", "www.example.test. CNAME b.test."), "192.0.2.3"),  # in any order
        (("other.test. A 6.6.6.6",), "no_address"),  # an address of somebody else
        (("www.example.test. CNAME b.test.", "b.test. CNAME www.example.test."), "no_address"),  # for ever
        (("CNAME b.test.",), "no_address"),
    ],
)
async def test_only_addresses_of_the_name_count(conf: Path, records: tuple[str, ...], result: str) -> None:
    async with odd_server(always(*records)) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test", "ipv4") == result


async def test_any_asks_for_ipv6_only_where_there_is_no_ipv4(conf: Path) -> None:
    def respond(query: dns.message.Message) -> list[Said]:
        return [answer(query, "A 192.0.2.1") if query.question[0].rdtype == 1 else answer(query, "AAAA 2001:db8::1")]

    async with odd_server(respond) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test") == "192.0.2.1"
        assert len(odd.queries) == 1
        assert odd.queries[0].flags == dns.flags.RD


async def test_nothing_is_remembered(conf: Path) -> None:
    async with odd_server(always("A 192.0.2.1")) as odd:
        resolver = asking(conf, odd.port)
        for _ in range(3):
            await resolve(resolver, "www.example.test")
        assert len(odd.queries) == 3


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_nothing_listens(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "TRY_AT_MOST_SECONDS", 60.0)
    started = time.perf_counter()
    assert await resolve(asking(conf, closed_port()), "www.example.test") == "resolver_unreachable"
    assert time.perf_counter() - started < 4.0, "it waited for an answer"  # of the 4.5 s that a lookup may take


async def test_no_server_is_configured(conf: Path, hosts: Path) -> None:
    for resolver in (StubResolver(None, conf, hosts), StubResolver(None, conf.parent / "absent", hosts)):
        assert await resolve(resolver, "www.example.test") == "resolver_unreachable"
        with pytest.raises(ProbeFailure, match="no nameserver in"):
            resolver.server()


async def test_silence(conf: Path) -> None:
    async with odd_server(silent) as odd:
        started = time.perf_counter()
        assert await resolve(asking(conf, odd.port), "www.example.test") == "resolver_timeout"
        assert 0.18 < time.perf_counter() - started < 2.0
        assert len(odd.queries) == 2


async def test_the_whole_lookup_is_bounded(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "TOTAL_AT_MOST_SECONDS", 0.15)
    write(conf, "options attempts:5\n")
    async with odd_server(silent) as odd:
        started = time.perf_counter()
        assert await resolve(asking(conf, odd.port, odd.port, odd.port), "www.example.test") == "resolver_timeout"
        assert time.perf_counter() - started < 1.0  # 1.5 s if nothing bounded it
        assert len(odd.queries) == 2


async def test_cancelled(conf: Path) -> None:
    async with odd_server(silent) as odd, assert_no_leaks():
        task = asyncio.create_task(asking(conf, odd.port).resolve("www.example.test", "any"))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("rcode", "result"),
    [
        ("SERVFAIL", "resolver_servfail"),
        ("REFUSED", "resolver_refused"),
        ("NOTIMP", "resolver_refused"),
        ("FORMERR", "resolver_malformed"),
        ("NXDOMAIN", "nxdomain"),
        ("NOERROR", "no_address"),
    ],
)
async def test_rcodes(conf: Path, rcode: str, result: str) -> None:
    async with odd_server(always(rcode=rcode)) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test", "ipv4") == result
        assert len(odd.queries) == 1  # what a server said, it meant


async def test_garbage_and_forgeries(conf: Path) -> None:
    def garbage(query: dns.message.Message) -> list[Said]:
        return [answer(query, "A 6.6.6.6")[:-20]]

    def forged(query: dns.message.Message) -> list[Said]:
        return [answer(dns.message.make_query("a.test", "A", id=query.id), "A 6.6.6.6"), answer(query, "A 192.0.2.1")]

    def truncated(query: dns.message.Message) -> list[Said]:
        return [answer(query, flags=dns.flags.TC)]

    for respond, result in ((garbage, "resolver_malformed"), (forged, "192.0.2.1"), (truncated, "resolver_timeout")):
        async with odd_server(respond) as odd:
            assert await resolve(asking(conf, odd.port), "www.example.test", "ipv4") == result
    async with odd_server(truncated, lambda _: [b""]) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test", "ipv4") == "resolver_malformed"
    async with odd_server(truncated, always("A 192.0.2.1")) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test", "ipv4") == "192.0.2.1"


async def test_a_dead_server_leaves_time_for_the_next(conf: Path) -> None:
    async with odd_server(silent) as dead, odd_server(always("A 192.0.2.1")) as alive:
        assert await resolve(asking(conf, dead.port, alive.port), "www.example.test") == "192.0.2.1"
        assert await resolve(asking(conf, closed_port(), alive.port), "www.example.test") == "192.0.2.1"
        assert len(dead.queries) == 1
    async with odd_server(always(rcode="SERVFAIL")) as broken, odd_server(always("A 192.0.2.1")) as alive:
        assert await resolve(asking(conf, broken.port, alive.port), "www.example.test") == "192.0.2.1"


async def test_the_most_telling_failure_is_reported(conf: Path) -> None:
    async with (
        odd_server(silent) as dead,
        odd_server(always(rcode="REFUSED")) as refusing,
        odd_server(always(rcode="SERVFAIL")) as failing,
    ):
        for ports, result in (
            ((closed_port(), dead.port), "resolver_timeout"),
            ((dead.port, refusing.port), "resolver_refused"),
            ((refusing.port, dead.port, failing.port), "resolver_servfail"),
        ):
            assert await resolve(asking(conf, *ports), "www.example.test") == result


async def test_networks_that_fail(conf: Path, hosts: Path, routed: Routed, namespace: Namespace) -> None:
    routed_server = StubResolver([(Routed.server_address, 53)], conf, hosts)
    with routed.client.entered():
        routed.server.drop()
        assert await resolve(routed_server, "www.example.test") == "resolver_timeout"
        routed.router.reject(chain="forward")
        assert await resolve(routed_server, "www.example.test") == "resolver_unreachable"
    with namespace.entered():
        assert await resolve(routed_server, "www.example.test") == "network_unreachable"
        # One server without a route does not keep us from the next; but if both fail, our own trouble tells least.
        both = StubResolver([(Routed.server_address, 53), ("127.0.0.1", 53)], conf, hosts)
        assert await resolve(both, "www.example.test") == "resolver_unreachable"


async def test_a_stalled_loop_makes_no_timeout(nsd: servers.Server, conf: Path) -> None:
    task = asyncio.create_task(asking(conf, nsd.port).resolve("www.example.test", "any"))
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - twice the time for one try
    assert await task == "192.0.2.80"


async def test_a_name_that_cannot_exist(conf: Path) -> None:
    for name in ("a..b", "x" * 64 + ".test"):
        assert await resolve(asking(conf, closed_port()), name) == "nxdomain"


# -- the files of this host --------------------------------------------------------------------------------------------


async def test_hosts_go_first(conf: Path, hosts: Path) -> None:
    write(
        hosts,
        "# comment\n192.0.2.7 Seven seven.example.test # more\n2001:db8::7 seven\nnonsense seven\n::9 nine.test\n",
    )
    async with odd_server(always("A 192.0.2.1")) as odd:
        resolver = StubResolver([("127.0.0.1", odd.port)], conf, hosts)
        for name, family, result in (
            ("seven", "any", "192.0.2.7"),
            ("SEVEN.example.test.", "any", "192.0.2.7"),
            ("seven", "ipv6", "2001:db8::7"),
            ("nine.test", "any", "::9"),
        ):
            assert await resolve(resolver, name, family) == result  # type: ignore[arg-type]
        assert odd.queries == []
        assert await resolve(resolver, "nine.test", "ipv4") == "192.0.2.1"


async def test_localhost_needs_nobody(conf: Path, hosts: Path) -> None:
    resolver = StubResolver(None, conf, hosts)
    assert await resolve(resolver, "localhost") == "127.0.0.1"
    assert await resolve(resolver, "LOCALHOST.", "ipv6") == "::1"
    assert await resolve(resolver, "db.localhost") == "127.0.0.1"
    write(hosts, "127.0.0.3 localhost\n")
    assert await resolve(resolver, "localhost") == "127.0.0.3"


async def test_files_are_read_again_when_they_change(conf: Path, hosts: Path) -> None:
    resolver = StubResolver(None, conf, hosts)
    for number in (1, 2):
        write(conf, f"nameserver 192.0.2.{number}\n")
        write(hosts, f"192.0.2.{number} changing\n")
        os.utime(conf, ns=(number, number))
        os.utime(hosts, ns=(number, number))
        assert resolver.server() == (f"192.0.2.{number}", 53)
        assert await resolve(resolver, "changing") == f"192.0.2.{number}"
    os.unlink(hosts)
    write(conf, b"\xff\nnameserver fe80::1%eth0\n")
    assert resolver.server() == ("fe80::1%eth0", 53)
    assert await resolve(resolver, "changing.localhost") == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "name", "asked"),
    [
        ("search a.test b.test\n", "www", ["www.a.test", "www.b.test", "www"]),
        ("search a.test b.test\n", "www.x", ["www.x", "www.x.a.test", "www.x.b.test"]),
        ("search a.test\noptions ndots:2\n", "www.x", ["www.x.a.test", "www.x"]),
        ("search a.test\noptions ndots:0\n", "www", ["www", "www.a.test"]),
        ("search a.test\n", "www.x.", ["www.x"]),
        ("search a.test\ndomain c.test\n", "www", ["www.c.test", "www"]),
        ("; search a.test\nsearch .\n", "www", ["www"]),
    ],
)
async def test_search_domains(conf: Path, text: str, name: str, asked: list[str]) -> None:
    write(conf, text)
    async with odd_server(always(rcode="NXDOMAIN")) as odd:
        assert await resolve(asking(conf, odd.port), name, "ipv4") == "nxdomain"
        assert [str(query.question[0].name).rstrip(".") for query in odd.queries] == asked


@pytest.mark.parametrize(
    ("name", "rcodes", "result"),
    [
        ("www", ["SERVFAIL", "NXDOMAIN", "NXDOMAIN"], "resolver_servfail"),  # a search domain that fails is passed over
        ("www", ["NXDOMAIN", "NOERROR", "NXDOMAIN"], "no_address"),
        ("www.x", ["SERVFAIL"], "resolver_servfail"),  # the name itself: no stranger's address instead
        ("www.x", ["REFUSED"], "resolver_refused"),
        ("www.x", ["NXDOMAIN", "NXDOMAIN", "NXDOMAIN"], "nxdomain"),
    ],
)
async def test_failures_on_the_search_path(conf: Path, name: str, rcodes: list[str], result: str) -> None:
    write(conf, "search a.test b.test\n")
    rest = list(rcodes)
    async with odd_server(lambda query: [answer(query, rcode=rest.pop(0))]) as odd:
        assert await resolve(asking(conf, odd.port), name, "ipv4") == result
        assert len(odd.queries) == len(rcodes)


async def test_options_of_resolv_conf(conf: Path) -> None:
    write(conf, "options attempts:3 timeout:1 rotate\n")
    async with odd_server(silent) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test") == "resolver_timeout"
        assert len(odd.queries) == 3
    write(conf, "options use-vc\n")
    async with odd_server(silent, always("A 192.0.2.1")) as odd:
        assert await resolve(asking(conf, odd.port), "www.example.test") == "192.0.2.1"
        assert odd.over_tcp == 1
    write(conf, "options rotate\n")
    async with odd_server(always("A 192.0.2.1")) as one, odd_server(always("A 192.0.2.2")) as two:
        resolver = asking(conf, one.port, two.port)
        assert {await resolve(resolver, "www.example.test") for _ in range(2)} == {"192.0.2.1", "192.0.2.2"}


# -- the kind dns, asking the vantage's own resolver -------------------------------------------------------------------


async def test_a_dns_check_without_server(conf: Path) -> None:
    async with odd_server(always("A 192.0.2.1")) as odd:
        attempt, failure, _ = await probe_dns(resolver=asking(conf, odd.port))
    assert failure is None
    assert attempt.address == "127.0.0.1"
    assert set(attempt.phases) == {"resolve", "connect", "request"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_failures_of_a_dns_check_without_server(conf: Path, transport: str) -> None:
    for rcode, failure in (
        ("SERVFAIL", "resolver_servfail"),
        ("REFUSED", "resolver_refused"),
        ("NXDOMAIN", "nxdomain"),
        ("FORMERR", "dns_rcode"),
    ):
        async with odd_server(always(rcode=rcode), always(rcode=rcode)) as odd:
            outcome = await probe_dns(resolver=asking(conf, odd.port), transport=transport)
        assert outcome.failure == ("validate", failure)
        assert outcome.attempt.facts["rcode"] == rcode
    async with odd_server() as odd:
        outcome = await probe_dns(0.2, asking(conf, odd.port), transport=transport)
    assert outcome.failure == ("receive", "resolver_timeout")
    outcome = await probe_dns(0.2, asking(conf, closed_port()), transport=transport)
    assert outcome.failure == ("receive" if transport == "udp" else "connect", "resolver_unreachable")
    outcome = await probe_dns(0.2, StubResolver(None, conf, conf.parent / "hosts"), transport=transport)
    assert outcome.failure == ("resolve", "resolver_unreachable")
