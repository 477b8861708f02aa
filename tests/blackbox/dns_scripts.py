"""A DNS server whose answer depends on the name: failures, truncation, and answers to other questions."""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.blackbox.http_scripts import SLOW

RCODES = {"servfail", "refused", "notimp", "formerr", "nxdomain"}


def _answer(wire: bytes, over_tcp: bool) -> tuple[bytes | None, float]:
    """What to send back (None: nothing), and after how many seconds."""
    query = dns.message.from_wire(wire)
    name = query.question[0].name
    what = name.labels[0].decode().lower()
    response = dns.message.make_response(query, recursion_available=True)
    found = dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1", "192.0.2.2")
    if what in RCODES:
        response.set_rcode(dns.rcode.from_text(what))
    elif what == "nothing":
        pass
    elif what == "yxrrset":
        response.set_rcode(dns.rcode.YXRRSET)
    elif what == "truncated" and not over_tcp:
        response.flags |= dns.flags.TC
    elif what == "half" and not over_tcp:
        response.flags |= dns.flags.TC
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1"))
    elif what == "authoritative":
        response.flags |= dns.flags.AA
        response.answer.append(found)
        response.authority.append(dns.rrset.from_text("test.", 300, "IN", "NS", "ns.test."))
        response.additional.append(dns.rrset.from_text("ns.test.", 300, "IN", "A", "127.0.0.1"))
    elif what == "desired":
        if query.flags & dns.flags.RD:
            response.answer.append(found)
    elif what == "otherquestion":
        other = dns.message.make_query("elsewhere.test.", "A", id=query.id)
        return dns.message.make_response(other).to_wire(), 0.0
    elif what == "otherid":
        response.id = query.id ^ 1
    elif what == "query":
        return wire, 0.0
    elif what == "garbage":
        return wire[:2] + b"\xff" * 7, 0.0
    elif what == "empty":
        return b"", 0.0
    elif what == "lies":  # says that there is an answer, and there is none
        plain = response.to_wire()
        return plain[:6] + struct.pack("!H", 1) + plain[8:], 0.0
    elif what == "silent":
        return None, 0.0
    else:
        response.answer.append(found)
    return response.to_wire(), SLOW if what == "slow" else 0.0


class Udp(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        said, delay = _answer(data, over_tcp=False)
        if said is not None:
            asyncio.get_running_loop().call_later(delay, self._transport.sendto, said, addr)


async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    query = await reader.readexactly(length)
    if b"\x06closed\x04test" in query:
        return
    if b"\x03cut\x04test" in query:
        writer.write(b"\x00\xffhalf")
        return
    said, delay = _answer(query, over_tcp=True)
    await asyncio.sleep(delay)
    if said is None:
        await reader.read(-1)
    else:
        writer.write(struct.pack("!H", len(said)) + said)
