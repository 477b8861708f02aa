"""ICMP on the wire, pure: building echo requests, reading replies and errors. RFC 792, RFC 4443, RFC 9511.

The payload of a request is `URI NUL token padding`: the URI tells who receives the probe whom to ask (RFC 9511,
section 3), the random token proves that a reply answers this very request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import icmplib

from prober.failures import Failure

TOKEN_SIZE: Final = 8
LEAST_PAYLOAD: Final = TOKEN_SIZE
MOST_PAYLOAD: Final = 65_507 - 8  # a 65,535 octet IPv4 packet less its header and the ICMP header
DEFAULT_PAYLOAD: Final = 56  # as ping(8)
MOST_URI: Final = 200  # so that the token is always within what is read of a reply

ECHO_REPLY_V4: Final = 0
ECHO_REQUEST_V4: Final = 8
ECHO_REQUEST_V6: Final = 128
ECHO_REPLY_V6: Final = 129
ERRORS_V4: Final = (3, 11, 12)  # destination unreachable, time exceeded, parameter problem
ERRORS_V6: Final = (1, 2, 3, 4)  # destination unreachable, packet too big, time exceeded, parameter problem

_HEADER = struct.Struct("!BBHHH")
HEADER_SIZE: Final = _HEADER.size
write_header: Final = _HEADER.pack
"""The header of a message from its type, code, checksum, identifier and sequence."""
read_header: Final = _HEADER.unpack_from
"""Type, code, checksum, identifier and sequence of a message of at least HEADER_SIZE octets."""
_IPV6_HEADER_SIZE = 40
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS, _ICMPV6 = 0, 43, 44, 60, 58


@dataclass(frozen=True, slots=True)
class Echo:
    """An echo message, our request as quoted in an error or somebody's reply."""

    identifier: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class QuotedRequest:
    """An ICMP error: what it says, and the echo request (as much as was quoted) that it is about."""

    type: int
    code: int
    destination: bytes  # packed address that the request was sent to
    request: Echo


def checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071) of `message`, whose checksum field is zero."""
    if len(message) % 2:
        message += b"\0"
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def payload_prefix(uri: str | None, payload_size: int) -> bytes:
    """What precedes the token: the NUL-terminated URI, or nothing where there is none or no room for it."""
    if not uri:
        return b""
    prefix = uri.encode("ascii") + b"\0"
    return prefix if len(prefix) + TOKEN_SIZE <= payload_size else b""


def with_checksum(message: bytes) -> bytes:
    """The same ICMP message with its checksum filled in (a raw IPv4 socket; elsewhere the kernel does)."""
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def read_echo(message: bytes) -> tuple[int, Echo] | None:
    """The type and the echo fields of an ICMP message, or None if it is too short to have them."""
    if len(message) < _HEADER.size:
        return None
    kind, _code, _sum, identifier, sequence = _HEADER.unpack_from(message)
    return kind, Echo(identifier, sequence, message[_HEADER.size :])


def strip_ipv4(packet: bytes) -> tuple[int, bytes] | None:
    """The TTL and the payload of an IPv4 packet, or None if it is no such thing."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    return packet[8], packet[(packet[0] & 0x0F) * 4 :]


def read_error(v6: bool, message: bytes) -> QuotedRequest | None:
    """An ICMP error message that quotes an echo request, or None if it is anything else.

    At least the first 8 octets of our message are quoted (RFC 792), so identifier and sequence are always there; the
    token is there when the router quotes more, as RFC 1812 and RFC 4443 ask.
    """
    if len(message) < _HEADER.size:
        return None
    kind, code = message[0], message[1]
    if kind not in (ERRORS_V6 if v6 else ERRORS_V4):
        return None
    quoted = _unwrap_v6(message[8:]) if v6 else _unwrap_v4(message[8:])
    if quoted is None:
        return None
    destination, inner = quoted
    echo = read_echo(inner)
    if echo is None or echo[0] != (ECHO_REQUEST_V6 if v6 else ECHO_REQUEST_V4):
        return None
    return QuotedRequest(kind, code, destination, echo[1])


def _unwrap_v4(packet: bytes) -> tuple[bytes, bytes] | None:
    stripped = strip_ipv4(packet)
    if stripped is None or packet[9] != 1:
        return None
    return packet[16:20], stripped[1]


def _unwrap_v6(packet: bytes) -> tuple[bytes, bytes] | None:
    if len(packet) < _IPV6_HEADER_SIZE or packet[0] >> 4 != 6:
        return None
    destination, header, rest = packet[24:40], packet[6], packet[40:]
    # At most a few extension headers stand before our message (a fragment header when it was too big for the link).
    for _ in range(4):
        if header == _ICMPV6:
            return destination, rest
        if header not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS) or len(rest) < 8:
            return None
        size = 8 if header == _FRAGMENT else (rest[1] + 1) * 8
        header, rest = rest[0], rest[size:]
    return None


def failure_of_error(v6: bool, kind: int, code: int) -> Failure:
    """The failure that an ICMP error stands for. RFC 792, RFC 1812 section 5.2.7.1, RFC 4443."""
    if v6:
        if kind == 1:
            return Failure.PROHIBITED if code in (1, 5) else Failure.UNREACHABLE
        return {2: Failure.FRAGMENTATION_NEEDED, 3: Failure.TTL_EXCEEDED}.get(kind, Failure.PARAMETER_PROBLEM)
    if kind == 3:
        if code == 4:
            return Failure.FRAGMENTATION_NEEDED
        return Failure.PROHIBITED if code in (9, 10, 13) else Failure.UNREACHABLE
    return Failure.TTL_EXCEEDED if kind == 11 else Failure.PARAMETER_PROBLEM


def describe_error(v6: bool, kind: int, code: int, reporter: str) -> str:
    """An ICMP error in words, for the log; icmplib has the texts of the RFCs' codes."""
    family = 6 if v6 else 4
    reply = icmplib.ICMPReply(reporter, family, 0, 0, kind, code, 0, 0.0)
    try:
        reply.raise_for_status()
    except icmplib.ICMPError as error:
        return f"{reporter} reports: {error}"
    return f"{reporter} reports ICMP type {kind} code {code}"
