"""The kind icmp against real hosts: loopback and network namespaces, both address families, both socket types."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import get_args

import pytest

from prober.contract import Attempt, EchoReply, Io, ProbeFailure
from prober.failures import Failure, Operation
from prober.net import echo
from prober.net import icmp_wire as wire
from prober.net.echo import EchoSockets
from prober.net.icmp_socket import SocketType
from prober.probes.icmp import KIND, IcmpOptions
from tests.fakes import NoResolver, probe_as_runner, sends_return_late
from tests.lab import Namespace, Routed
from tests.leaks import assert_no_leaks

CONTACT = "mailto:noc@example.org"
SERVERS = {"ipv4": Routed.server_address, "ipv6": Routed.server_address6}


@contextlib.asynccontextmanager
async def pinging(only: SocketType) -> AsyncIterator[EchoSockets]:
    """A pinger on sockets of one type; checks that nothing is left of it."""
    async with assert_no_leaks():
        sockets = EchoSockets(CONTACT, only=only)
        try:
            yield sockets
        finally:
            sockets.close()


async def run(pinger: EchoSockets, timeout: float = 5.0, **options: object) -> Attempt:
    """One probe as the runner makes it."""
    attempt = Attempt(timeout)
    io = Io(resolver=NoResolver(), pinger=pinger, user_agent="test")
    await probe_as_runner(KIND, IcmpOptions(**options), attempt, io)  # type: ignore[arg-type]
    return attempt


@pytest.fixture(params=get_args(SocketType))
def socket_type(request: pytest.FixtureRequest) -> SocketType:
    kind: SocketType = request.param
    return kind


@pytest.fixture(params=["ipv4", "ipv6"])
def server(request: pytest.FixtureRequest) -> str:
    return SERVERS[request.param]


@pytest.fixture
def client(routed: Routed) -> Iterator[Routed]:
    """The test itself is on the client's host."""
    routed.client.allow_unprivileged_icmp()
    with routed.client.entered():
        yield routed


# -- answered ----------------------------------------------------------------------------------------------------------


async def test_answered(client: Routed, socket_type: SocketType, server: str) -> None:
    async with pinging(socket_type) as pinger:
        attempt = await run(pinger, address=server)
    assert attempt.address == server
    assert set(attempt.phases) == {"resolve", "setup", "rtt"}
    assert 0 < attempt.phases["rtt"] < 5.0
    assert attempt.facts == {"reply_hop_limit": 63.0}  # one router in between
    assert not any(pinger.unmatched.values())


@pytest.mark.parametrize("size", [wire.LEAST_PAYLOAD, 56, 1400, 20_000])
async def test_payload_sizes_are_answered(client: Routed, socket_type: SocketType, server: str, size: int) -> None:
    async with pinging(socket_type) as pinger:
        attempt = await run(pinger, address=server, payload_size=size)
    assert "rtt" in attempt.phases


async def test_ttl_and_source_are_those_asked_for(client: Routed, socket_type: SocketType, server: str) -> None:
    v6 = ":" in server
    client.client.address("eth0", "2001:db8:1::99/64" if v6 else "192.0.2.99/24")
    source = "2001:db8:1::99" if v6 else "192.0.2.99"
    with client.server.entered():
        family = socket.AF_INET6 if v6 else socket.AF_INET
        heard = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    with heard:
        heard.settimeout(1)
        async with pinging(socket_type) as pinger:
            # A first neighbour solicitation may be too early for the new address; the next one comes after 1 s.
            await run(pinger, timeout=3.0, address=server, source=source, ttl=9, payload_size=64)
        for _ in range(10):  # neighbour discovery is heard, too
            packet, peer = heard.recvfrom(2048)
            message = packet if v6 else packet[20:]
            if message[0] == (wire.ECHO_REQUEST_V6 if v6 else wire.ECHO_REQUEST_V4):
                break
    assert peer[0] == source
    assert message[8:].startswith(CONTACT.encode() + b"\0")  # RFC 9511
    assert len(message) == 8 + 64
    if not v6:
        assert packet[8] == 9 - 1  # TTL behind the router
        assert wire.checksum(message) == 0


async def test_several_packets_give_a_loss_ratio(client: Routed, socket_type: SocketType) -> None:
    client.router.nft("meta l4proto icmp numgen inc mod 4 == 1 drop", "forward")
    async with pinging(socket_type) as pinger:
        attempt = await run(pinger, address=Routed.server_address, packets=4, packet_interval="20ms", timeout=0.5)
    # Requests and replies alternate in the router's count: 1 is the reply to the first, 5 that to the third.
    assert attempt.facts["loss_ratio"] == pytest.approx(0.5)
    low, mean, high = attempt.facts["rtt_min"], attempt.phases["rtt"], attempt.facts["rtt_max"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= mean <= high


@pytest.mark.parametrize("packets", [1, 2])
async def test_the_setup_ends_where_the_round_trip_begins(
    client: Routed, socket_type: SocketType, monkeypatch: pytest.MonkeyPatch, packets: int
) -> None:
    """However late the call returns that sends: the reply may be under way by then, or here."""
    late = 0.05
    sends_return_late(monkeypatch, late)
    begun = time.perf_counter()
    async with pinging(socket_type) as pinger:
        attempt = await run(pinger, address=Routed.server_address, packets=packets, packet_interval="10ms")
    assert 0 < attempt.phases["setup"] <= time.perf_counter() - begun - packets * late


# -- not answered ------------------------------------------------------------------------------------------------------


async def test_black_hole_times_out(client: Routed, socket_type: SocketType, server: str) -> None:
    client.server.drop()
    async with pinging(socket_type) as pinger:
        started = time.monotonic()
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=server, timeout=0.2)
        assert 0.15 < time.monotonic() - started < 2.0
    assert (failed.value.operation, failed.value.failure) == (Operation.RECEIVE, Failure.TIMEOUT)


async def test_a_longer_timeout_beside_it_does_not_lengthen_a_short_one(
    client: Routed, socket_type: SocketType, server: str
) -> None:
    client.server.drop()
    async with pinging(socket_type) as pinger:
        long = pinger.echo(server, timeout_seconds=20.0)
        started = time.monotonic()
        reply = await pinger.echo(server, timeout_seconds=0.2)
        assert reply.failure is Failure.TIMEOUT
        assert time.monotonic() - started < 10.0
        assert not long.done()
        long.cancel()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("with icmpx type host-unreachable", Failure.UNREACHABLE),
        ("with icmpx type port-unreachable", Failure.UNREACHABLE),
        ("with icmpx type admin-prohibited", Failure.PROHIBITED),
    ],
)
async def test_a_routers_word_is_the_failure(
    client: Routed, socket_type: SocketType, server: str, how: str, expected: Failure
) -> None:
    client.router.reject(how=how, chain="forward")
    gate = "2001:db8:1::fe" if ":" in server else "192.0.2.254"
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=server)
        assert (failed.value.operation, failed.value.failure) == (Operation.RECEIVE, expected)
        assert failed.value.detail.startswith(f"{gate} reports: ")
        # The error of one request is not the next one's.
        client.router.clear_rules()
        assert "rtt" in (await run(pinger, address=server)).phases


async def test_ttl_exceeded_names_the_router(client: Routed, socket_type: SocketType, server: str) -> None:
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=server, ttl=1)
    assert failed.value.failure is Failure.TTL_EXCEEDED
    assert failed.value.detail.startswith("2001:db8:1::fe" if ":" in server else "192.0.2.254")


async def test_dont_fragment_meets_a_small_link(client: Routed, socket_type: SocketType, server: str) -> None:
    for host, end in ((client.router, "eth1"), (client.server, "eth0")):
        host.run("ip", "link", "set", end, "mtu", "1300")
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=server, payload_size=1350, dont_fragment=True)
        assert failed.value.failure is Failure.FRAGMENTATION_NEEDED
        if ":" not in server:  # an IPv4 router fragments for those who let it
            assert "rtt" in (await run(pinger, address=server, payload_size=1350)).phases


# -- our own side ------------------------------------------------------------------------------------------------------


async def test_no_route_is_our_own_failure(namespace: Namespace, socket_type: SocketType, server: str) -> None:
    namespace.allow_unprivileged_icmp()
    with namespace.entered():
        async with pinging(socket_type) as pinger:
            with pytest.raises(ProbeFailure) as failed:
                await run(pinger, address=server)
    assert (failed.value.operation, failed.value.failure) == (Operation.SEND, Failure.NETWORK_UNREACHABLE)


async def test_our_own_filter_is_our_own_failure(client: Routed, socket_type: SocketType) -> None:
    # IPv4 only: of an IPv6 datagram socket's packets Linux does not tell that the filter dropped them.
    client.client.drop("meta l4proto icmp", chain="output")
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=Routed.server_address)
    assert failed.value.failure is Failure.PERMISSION_DENIED


async def test_a_source_that_is_not_ours_is_our_own_failure(
    client: Routed, socket_type: SocketType, server: str
) -> None:
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=server, source="2001:db8:9::9" if ":" in server else "203.0.113.9")
    assert failed.value.failure is Failure.ADDRESS_UNAVAILABLE


async def test_too_long_for_the_interface_is_our_own_failure(client: Routed, socket_type: SocketType) -> None:
    async with pinging(socket_type) as pinger:
        with pytest.raises(ProbeFailure) as failed:
            await run(pinger, address=Routed.server_address, payload_size=9000, dont_fragment=True)
    assert failed.value.failure is Failure.MESSAGE_TOO_LONG


async def test_forbidden_is_said_once_and_mends_itself(
    namespace: Namespace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "REOPEN_AFTER_SECONDS", 0.0)
    namespace.allow_unprivileged_icmp(False)
    with namespace.entered(), caplog.at_level(logging.INFO):
        async with pinging("datagram") as pinger:
            for address in ("127.0.0.1", "127.0.0.1", "::1"):
                with pytest.raises(ProbeFailure) as failed:
                    await run(pinger, address=address)
                assert failed.value.failure is Failure.PERMISSION_DENIED
            told = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert [record.getMessage() for record in told] == [echo.HOW_TO_PERMIT]
            namespace.allow_unprivileged_icmp()
            assert "rtt" in (await run(pinger, address="127.0.0.1")).phases


# -- replies that are not to be believed -------------------------------------------------------------------------------


class Forger:
    """Answers echo requests on a host whose kernel does not, with whatever the test makes of them."""

    def __init__(self, host: Namespace) -> None:
        host.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
        with host.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)

    async def request(self) -> tuple[bytes, str]:
        """The next echo request that comes, and from whom."""
        loop = asyncio.get_running_loop()
        while True:
            packet = await loop.sock_recv(self._socket, 2048)
            if packet[20] == wire.ECHO_REQUEST_V4:
                return packet[20:], socket.inet_ntoa(packet[12:16])

    def send(self, message: bytes, to: str) -> None:
        self._socket.sendto(message, (to, 0))

    def reply(
        self, request: bytes, to: str, identifier: int | None = None, sequence: int | None = None, spoil: int = 0
    ) -> None:
        """Answer; `spoil` octets of the payload, counted from its end, are overwritten."""
        old = struct.unpack("!HH", request[4:8])
        payload = request[8 : len(request) - spoil] + b"x" * spoil
        header = (0, 0, old[0] if identifier is None else identifier, old[1] if sequence is None else sequence)
        summed = wire.checksum(struct.pack("!BBHHH", *header[:2], 0, *header[2:]) + payload)
        self.send(struct.pack("!BBHHH", *header[:2], summed, *header[2:]) + payload, to)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def forger(client: Routed) -> Iterator[Forger]:
    made = Forger(client.server)
    yield made
    made.close()


async def test_forged_replies_are_counted_and_never_accepted(
    client: Routed, forger: Forger, socket_type: SocketType
) -> None:
    async with pinging(socket_type) as pinger:
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.4))
        request, to = await forger.request()
        sequence = struct.unpack("!H", request[6:8])[0]
        padding = len(request) - 8 - len(CONTACT) - 1 - wire.TOKEN_SIZE
        forger.reply(request, to, spoil=padding + 1)  # the last octet of the token
        forger.reply(request, to, sequence=(sequence + 1) & 0xFFFF)
        forger.reply(request, to, identifier=1 + struct.unpack("!H", request[4:6])[0] % 65_000)  # another process's
        with pytest.raises(ProbeFailure) as failed:
            await waiting
        assert failed.value.failure is Failure.TIMEOUT
        assert pinger.unmatched == {"forged": 2, "late": 0, "duplicate": 0}


async def test_a_reply_from_another_address_is_forged(client: Routed, forger: Forger, socket_type: SocketType) -> None:
    client.server.address("eth0", "198.51.100.77/24")
    async with pinging(socket_type) as pinger:
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.3))
        request, to = await forger.request()
        forger._socket.bind(("198.51.100.77", 0))
        forger.reply(request, to)
        with pytest.raises(ProbeFailure):
            await waiting
        assert pinger.unmatched["forged"] == 1


async def test_late_and_duplicate_replies_are_told_apart(
    client: Routed, forger: Forger, socket_type: SocketType
) -> None:
    async with pinging(socket_type) as pinger:
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.1))
        late_request, to = await forger.request()
        with pytest.raises(ProbeFailure):
            await waiting
        forger.reply(late_request, to)
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.5))
        request, to = await forger.request()
        for _ in range(3):
            forger.reply(request, to)
        await waiting
        await asyncio.sleep(0.05)
        assert pinger.unmatched == {"forged": 0, "late": 1, "duplicate": 2}


async def test_a_forged_error_does_not_fail_a_probe(client: Routed, forger: Forger, socket_type: SocketType) -> None:
    async with pinging(socket_type) as pinger:
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.4))
        request, to = await forger.request()
        quoted = bytearray(request)
        quoted[8 + len(CONTACT) + 1] ^= 0xFF  # the first octet of the token
        inner = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(request), 0, 0, 60, 1, 0, socket.inet_aton(to),
            socket.inet_aton(Routed.server_address),
        )  # fmt: skip
        body = struct.pack("!BBHI", 3, 1, 0, 0) + inner + bytes(quoted)
        forger.send(body[:2] + struct.pack("!H", wire.checksum(body)) + body[4:], to)
        await asyncio.sleep(0.05)
        assert pinger.unmatched["forged"] == 1
        forger.reply(request, to)
        assert "rtt" in (await waiting).phases


async def test_noise_is_survived(client: Routed, forger: Forger, socket_type: SocketType) -> None:
    async with pinging(socket_type) as pinger:
        waiting = asyncio.create_task(run(pinger, address=Routed.server_address, timeout=0.5))
        request, to = await forger.request()
        for length in range(64):
            body = bytes([length % 16, 0, 0, 0]) + os.urandom(length)
            forger.send(body[:2] + struct.pack("!H", wire.checksum(body)) + body[4:], to)
        forger.reply(request, to)
        assert "rtt" in (await waiting).phases


# -- the loop stands still ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked_before", [False, True])
async def test_a_burst_while_the_loop_is_blocked(
    namespace: Namespace, socket_type: SocketType, blocked_before: bool
) -> None:
    namespace.allow_unprivileged_icmp()
    first = int(ipaddress.ip_address("127.0.0.1"))
    with namespace.entered():
        async with pinging(socket_type) as pinger:
            await run(pinger, address="127.0.0.1")
            probes = [
                asyncio.create_task(run(pinger, address=str(ipaddress.ip_address(first + 7 * n)), timeout=0.25))
                for n in range(2000)
            ]
            if not blocked_before:
                await asyncio.sleep(0)  # all are sent now
            time.sleep(0.3)  # noqa: ASYNC251 - the point
            attempts = await asyncio.gather(*probes)
    times = [attempt.phases["rtt"] for attempt in attempts]
    assert len(times) == 2000
    assert statistics.median(times) < 0.0001
    assert not any(pinger.unmatched.values())


async def test_what_the_kernel_dropped_is_no_timeout(client: Routed, socket_type: SocketType) -> None:
    async with pinging(socket_type) as pinger:
        await run(pinger, address=Routed.server_address, timeout=1.0)
        for opened in pinger._sockets.values():
            opened._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least: a reply or two
        # 64 big replies come while nobody reads.
        probes = [
            asyncio.create_task(run(pinger, address=Routed.server_address, payload_size=1400, timeout=0.2))
            for _ in range(40)
        ]
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - the point
        results = await asyncio.gather(*probes, return_exceptions=True)
    failures = {result.failure for result in results if isinstance(result, ProbeFailure)}
    assert failures == {Failure.BUFFERS_EXHAUSTED}


# -- cancelled ---------------------------------------------------------------------------------------------------------


async def test_cancelled_midway(client: Routed, socket_type: SocketType, server: str) -> None:
    client.server.drop()
    async with pinging(socket_type) as pinger:
        for delay in (0, 0.05):
            waiting = asyncio.create_task(run(pinger, address=server, packets=3, packet_interval="20ms"))
            await asyncio.sleep(delay)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.sleep(0.35)  # the deadlines of what was cancelled pass without a word
        client.server.clear_rules()
        assert "rtt" in (await run(pinger, address=server)).phases


async def test_closing_cancels_what_is_in_flight(client: Routed, socket_type: SocketType) -> None:
    client.server.drop()
    async with pinging(socket_type) as pinger:
        sent = pinger.echo(Routed.server_address, timeout_seconds=5.0)
        waiting = asyncio.ensure_future(sent)
        told: list[EchoReply | None] = []
        pinger.prepare(Routed.server_address)(5.0, told.append)
        await asyncio.sleep(0)
        pinger.close()
        assert told == [None]
        with pytest.raises(asyncio.CancelledError):
            await waiting
