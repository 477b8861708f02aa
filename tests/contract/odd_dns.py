"""A name server that says what a test wants, also nonsense, and one dns probe as the runner makes it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple, cast

import dns.message
import dns.rcode
import dns.rrset

from prober.contract import Attempt, Io, ProbeFailure, Resolver
from prober.probes.dns import KIND
from prober.probes.dns_options import DnsOptions
from tests.fakes import NoPinger, NoResolver, probe_as_runner
from tests.leaks import assert_no_leaks

Said = bytes | tuple[float, bytes]
"""A message, at once or after so many seconds."""
Make = Callable[[dns.message.Message], bytes]
Respond = Callable[[dns.message.Message], Iterable[Said]]


def answer(query: dns.message.Message, *records: str, rcode: str = "NOERROR", ttl: int = 60, flags: int = 0) -> bytes:
    """A well-formed answer. `records` are like `A 192.0.2.1`, owned by the name asked for, or `owner. CNAME other.`"""
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.from_text(rcode))
    response.flags |= flags
    for record in records:
        words = record.split(" ", 1)
        owner = str(query.question[0].name)
        if words[0].endswith("."):
            owner, words = words[0], words[1].split(" ", 1)
        rrset = dns.rrset.from_text(owner, ttl, "IN", words[0], words[1])
        same = response.find_rrset(response.answer, rrset.name, rrset.rdclass, rrset.rdtype, create=True)
        same.add(rrset[0], ttl)
    return response.to_wire()


def always(*records: str, rcode: str = "NOERROR") -> Respond:
    """The same answer to every query."""
    return lambda query: [answer(query, *records, rcode=rcode)]


def silent(_query: dns.message.Message) -> list[Said]:
    """No answer."""
    return []


class OddServer(asyncio.DatagramProtocol):
    """`queries` are those that came, over UDP and TCP."""

    def __init__(self, udp: Respond, tcp: Respond) -> None:
        self.address, self.port = "", 0
        self.queries: list[dns.message.Message] = []
        self.over_tcp = 0
        self._udp = udp
        self._tcp = tcp
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def at(self) -> str:
        return f"{self.address}:{self.port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        query = dns.message.from_wire(data)
        self.queries.append(query)
        for said in self._udp(query):
            delay, message = said if isinstance(said, tuple) else (0.0, said)
            if delay:
                asyncio.get_running_loop().call_later(delay, self._transport.sendto, message, addr)
            else:
                self._transport.sendto(message, addr)

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            size = await reader.readexactly(2)
            query = dns.message.from_wire(await reader.readexactly(int.from_bytes(size, "big")))
            self.queries.append(query)
            self.over_tcp += 1
            said = list(self._tcp(query))
            for message in said:
                assert isinstance(message, bytes)
                writer.write(len(message).to_bytes(2, "big") + message)
            if said:
                await writer.drain()
            else:
                await reader.read()  # until the other side gives up


@contextlib.asynccontextmanager
async def odd_server(
    udp: Respond = silent, tcp: Respond = silent, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[OddServer]:
    """Both servers on one port of loopback."""
    odd = OddServer(udp, tcp)
    stream = await asyncio.start_server(odd.serve_stream, address, 0, ssl=tls)
    odd.address, odd.port = address, stream.sockets[0].getsockname()[1]
    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: odd, local_addr=(address, odd.port)
    )
    try:
        async with stream:
            yield odd
    finally:
        datagrams.close()
        await asyncio.sleep(0)


class Outcome(NamedTuple):
    """What a probe saw; `failure` is (operation, failure), None for a success."""

    attempt: Attempt
    failure: tuple[str, str] | None
    detail: str


def io_with(resolver: Resolver | None = None) -> Io:
    return Io(resolver=resolver or NoResolver(), pinger=NoPinger(), user_agent="test")


async def probe_dns(timeout: float = 0.5, resolver: Resolver | None = None, **options: object) -> Outcome:
    """One probe with the runner's deadline. Fails the test if it leaves anything behind."""
    checked = DnsOptions.model_validate({"query": "www.example.test", "injection_window": "0s", **options})
    attempt = Attempt(timeout)
    async with assert_no_leaks():
        try:
            async with asyncio.timeout(None if KIND.times_itself(checked) else timeout):
                await probe_as_runner(KIND, checked, attempt, io_with(resolver))
        except ProbeFailure as failure:
            return Outcome(attempt, (failure.operation.value, failure.failure.value), failure.detail)
        except TimeoutError:  # as the runner words it
            word = "resolver_timeout" if attempt.operation == "resolve" else "timeout"
            return Outcome(attempt, (attempt.operation.value, word), "")
    return Outcome(attempt, None, "")
