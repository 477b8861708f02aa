"""The kind tcp against real peers: loopback, scripted servers, network namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from prober.failures import Failure, Operation, Side, side_of
from prober.probes.tcp import KIND, RECEIVED_MAX, TcpOptions
from tests.lab import Namespace, Routed
from tests.leaks import assert_no_leaks, descriptors
from tests.streams import (
    TIMEOUT,
    Names,
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

# -- answered ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answered(host: str) -> None:
    async with assert_no_leaks(), serving(hang, host=host) as address:
        outcome = await run(KIND, {"address": address})
    assert outcome.failed is None
    assert outcome.attempt.address == host
    assert set(outcome.attempt.phases) == {"resolve", "connect"}
    assert 0 < float(outcome.attempt.facts["tcp_rtt_seconds"]) < 0.1
    assert outcome.attempt.facts["tcp_retransmits"] == 0


async def test_a_name_is_resolved_and_the_opt_out_list_is_honoured() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        port = address.rpartition(":")[2]
        names = Names({"host.example": "127.0.0.1"})
        assert (await run(KIND, {"address": f"host.example:{port}"}, names=names)).failed is None
        assert (await run(KIND, {"address": f"other.example:{port}"}, names=names)).failed == (
            Operation.RESOLVE,
            Failure.NXDOMAIN,
        )
        assert (await run(KIND, {"address": address}, permit=False)).failed == (Operation.PREPARE, Failure.OPTED_OUT)


async def test_source_address() -> None:
    seen: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.write(b"hello")

    async with assert_no_leaks(), serving(script) as address:
        outcome = await run(KIND, {"address": address, "source": "127.0.0.9", "expect": "hello"})
        foreign = await run(KIND, {"address": address, "source": "192.0.2.7"})
    assert outcome.failed is None
    assert seen == ["127.0.0.9"]
    assert foreign.failed == (Operation.PREPARE, Failure.ADDRESS_UNAVAILABLE)


async def test_a_conversation() -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.exam")
        await asyncio.sleep(0.01)
        writer.write("ple ESMTP 조선\r\n".encode())
        heard.append(await reader.readline())
        writer.write(b"221 bye\r\n")

    options = {"banner": "^220 mail.example .*조선", "send": "QUIT\r\n", "expect": "(?m)^221 "}
    async with assert_no_leaks(), serving(script) as address:
        outcome = await run(KIND, {"address": address, **options})
    assert outcome.failed is None
    assert heard == [b"QUIT\r\n"]
    assert set(outcome.attempt.phases) == {"resolve", "connect", "exchange"}
    assert outcome.attempt.phases["exchange"] >= 0.01


async def test_send_alone_waits_for_nothing() -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        done.set()

    async with assert_no_leaks(), serving(script) as address:
        assert (await run(KIND, {"address": address, "send": "x"})).failed is None
        await done.wait()
    assert heard == [b"x"]


# -- the wrong answer --------------------------------------------------------------------------------------------------


WRONG = {
    "another word, then the end": (saying(b"554 no service\r\n"), Operation.VALIDATE, Failure.UNEXPECTED_REPLY),
    "the end without a word": (saying(), Operation.RECEIVE, Failure.CLOSED),
    "a reset": (saying(then=reset), Operation.RECEIVE, Failure.RESET),
    "more than is read": (flooding(b"", bytes(30_000)), Operation.VALIDATE, Failure.UNEXPECTED_REPLY),
    "silence": (hang, Operation.RECEIVE, Failure.TIMEOUT),
    "another word, then silence": (saying(b"554", then=hang), Operation.RECEIVE, Failure.TIMEOUT),
    "octets without end": (dribbling(b"", b"x"), Operation.RECEIVE, Failure.TIMEOUT),
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_reply(what: str) -> None:
    script, operation, failure = WRONG[what]
    async with assert_no_leaks(), serving(script) as address:
        outcome = await run(KIND, {"address": address, "send": "x", "expect": "^220"}, timeout=TIMEOUT)
    assert outcome.failed == (operation, failure)
    assert "exchange" not in outcome.attempt.phases
    assert "connect" in outcome.attempt.phases


async def test_a_server_that_does_not_read() -> None:
    async with assert_no_leaks(), serving(deaf) as address:
        outcome = await run(KIND, {"address": address, "send": "x" * 16_000_000}, timeout=TIMEOUT)
    assert outcome.failed == (Operation.SEND, Failure.TIMEOUT)


async def test_what_matches_before_the_bound_counts() -> None:
    async with assert_no_leaks(), serving(saying(b"x" * (RECEIVED_MAX - 3) + b"end", then=hang)) as address:
        assert (await run(KIND, {"address": address, "send": "x", "expect": "end"})).failed is None


async def test_the_log_gets_no_more_than_the_beginning_of_a_reply() -> None:
    async with assert_no_leaks(), serving(saying(b"\x00\xff" * 5000)) as address:
        outcome = await run(KIND, {"address": address, "send": "x", "expect": "^220"})
    assert len(outcome.detail) < 500
    assert outcome.detail.isascii()
    assert outcome.detail.isprintable()


# -- no connection -----------------------------------------------------------------------------------------------------


async def test_refused() -> None:
    async with assert_no_leaks():
        with nobody() as address:
            outcome = await run(KIND, {"address": address})
    assert outcome.failed == (Operation.CONNECT, Failure.REFUSED)
    assert set(outcome.attempt.phases) == {"resolve"}


async def test_black_hole() -> None:
    async with assert_no_leaks():
        with black_hole() as address:
            outcome = await run(KIND, {"address": address}, timeout=TIMEOUT)
    assert outcome.failed == (Operation.CONNECT, Failure.TIMEOUT)


async def test_dropped_packets(namespace: Namespace) -> None:
    namespace.drop("tcp dport 80")
    with namespace.entered():
        async with assert_no_leaks():
            outcome = await run(KIND, {"address": "127.0.0.1:80"}, timeout=TIMEOUT)
    assert outcome.failed == (Operation.CONNECT, Failure.TIMEOUT)


async def test_a_lost_syn_is_a_fact(namespace: Namespace) -> None:
    namespace.nft("tcp flags & (syn | ack) == syn numgen inc mod 2 0 drop")
    with namespace.entered():
        async with assert_no_leaks(), serving(hang) as address:
            outcome = await run(KIND, {"address": address})
    assert outcome.failed is None
    assert outcome.attempt.facts["tcp_retransmits"] == 1
    assert outcome.attempt.phases["connect"] > 0.9  # the kernel's first repetition (RFC 6298 section 2)


async def test_a_connection_to_itself_is_none(namespace: Namespace) -> None:
    # The only port that the kernel may lend is the one that is asked for: it connects to itself.
    namespace.sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    with namespace.entered():
        async with assert_no_leaks():
            outcome = await run(KIND, {"address": "127.0.0.1:40000"})
    assert outcome.failed == (Operation.CONNECT, Failure.REFUSED)


# -- whose trouble -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(routed: Routed) -> Iterator[Routed]:
    """The test itself is on the client's host."""
    with routed.client.entered():
        yield routed


REPORTED = {
    "with tcp reset": Failure.REFUSED,
    "with icmpx type port-unreachable": Failure.REFUSED,
    "with icmpx type host-unreachable": Failure.UNREACHABLE,
    "with icmpx type no-route": Failure.UNREACHABLE,
    "with icmpx type admin-prohibited": Failure.PROHIBITED,
}


@pytest.mark.parametrize("host", [Routed.server_address, f"[{Routed.server_address6}]"])
@pytest.mark.parametrize("how", REPORTED)
async def test_reported_by_the_network(client: Routed, how: str, host: str) -> None:
    client.router.reject("tcp dport 80", how, chain="forward")
    async with assert_no_leaks():
        outcome = await run(KIND, {"address": f"{host}:80"}, timeout=1.0)
    assert outcome.failed == (Operation.CONNECT, REPORTED[how])
    if "icmp" in how:
        assert outcome.detail.startswith(("192.0.2.254 reports", "2001:db8:1::fe reports"))


@pytest.mark.parametrize("host", ["203.0.113.1", "[2001:db8:9::1]"])
async def test_no_route_is_our_own_trouble(namespace: Namespace, host: str) -> None:
    with namespace.entered():
        async with assert_no_leaks():
            outcome = await run(KIND, {"address": f"{host}:80"})
    assert outcome.failed == (Operation.CONNECT, Failure.NETWORK_UNREACHABLE)


async def test_an_interface_that_is_not_here_is_our_own_trouble() -> None:
    async with assert_no_leaks():
        outcome = await run(KIND, {"address": "[fe80::1%nosuch0]:80"})
    assert outcome.failed is not None
    assert outcome.failed[0] is Operation.CONNECT
    assert side_of(outcome.failed[1]) is Side.OURS


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
async def test_a_closed_route_is_our_own_trouble(namespace: Namespace, kind: str) -> None:
    namespace.route(kind, "203.0.113.0/24")
    with namespace.entered():
        outcome = await run(KIND, {"address": "203.0.113.1:80"})
    ours = Failure.PERMISSION_DENIED if kind == "prohibit" else Failure.NETWORK_UNREACHABLE
    assert outcome.failed == (Operation.CONNECT, ours)


async def test_no_descriptor_is_our_own_trouble() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(hang) as address, assert_no_leaks():
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(number for number, _ in descriptors()) + 1, hard))
        with contextlib.ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            with contextlib.suppress(OSError):
                while True:  # take what is free below the limit
                    stack.enter_context(socket.socket())
            outcome = await run(KIND, {"address": address})
    assert outcome.failed == (Operation.PREPARE, Failure.DESCRIPTORS_EXHAUSTED)


# -- cancelled ---------------------------------------------------------------------------------------------------------


async def test_cancelled_while_resolving() -> None:
    async with assert_no_leaks():
        await cancel_during(Operation.RESOLVE, KIND, {"address": "host.example:80"}, names=Names({}, silent=True))


async def test_cancelled_while_connecting() -> None:
    async with assert_no_leaks():
        with black_hole() as address:
            await cancel_during(Operation.CONNECT, KIND, {"address": address})


async def test_cancelled_while_shaking_hands() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        await cancel_during(Operation.TLS, KIND, {"address": address, "tls": True})


async def test_cancelled_while_receiving() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        await cancel_during(Operation.RECEIVE, KIND, {"address": address, "expect": "x"})


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"address": "192.0.2.1"}, "has no port; write host:port"),
        ({"address": "2001:db8::1:80"}, "write host:port, an IPv6 address as [address]:port"),
        ({"address": "192.0.2.1:0"}, "from 1 to 65535"),
        ({"address": "192.0.2.1:65536"}, "from 1 to 65535"),
        ({"address": "10.1:80"}, "write all four numbers"),
        ({"address": "host name:80"}, "is no host name and no IP address"),
        ({"address": "[host.example]:80"}, "is no IP address; write one like"),
        ({"address": "192.0.2.1:80", "family": "ipv6"}, "192.0.2.1 is no IPv6 address; leave family out"),
        ({"address": "192.0.2.1:80", "source": "2001:db8::1"}, "write an IPv4 address"),
        ({"address": "192.0.2.1:80", "source": "eth0"}, "is no IP address"),
        ({"address": "h.example:80", "family": "ipv4", "source": "2001:db8::1"}, "write an IPv4 address"),
        ({"address": "192.0.2.1:80", "tls": {"ca_file": "/nonexistent"}}, "cannot be loaded: No such file"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match="Value error") as error:
        TcpOptions.model_validate(options)
    assert says in str(error.value)


def test_urls() -> None:
    assert KIND.from_url is not None
    assert KIND.from_url("tcp://[::1]:80") == {"address": "[::1]:80", "tls": False}
    assert KIND.from_url("tls://host.example:853/") == {"address": "host.example:853", "tls": True}
    assert KIND.from_url("http://host.example/") is None
    assert KIND.from_url("host.example:80") is None
    options = TcpOptions.model_validate({"address": "[::1]:80", "tls": True})
    assert KIND.host(options) == "::1"
    assert options.tls is not None
