"""ICMP sockets as Linux has them: opening, per-packet options, time stamps, the error queue, dropped packets."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from prober.contract import ProbeFailure
from prober.failures import Failure, Operation
from prober.net import icmp_wire as wire
from prober.net.errors import failure_of_oserror

# Linux's numbers (include/uapi/asm-generic/socket.h, linux/in.h, linux/in6.h, linux/icmp.h); Python has no names for
# them.
SO_TIMESTAMPNS: Final = 35
SO_MEMINFO: Final = 55
SO_RCVBUFFORCE: Final = 33
SK_MEMINFO_DROPS: Final = 8
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE = 10, 0, 3
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT, IPV6_PMTUDISC_PROBE = 23, 1, 3
IP_PKTINFO, IP_TTL, IP_RECVTTL, IP_RECVERR = 8, 2, 12, 11
IPV6_RECVERR, IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_RECVHOPLIMIT = 25, 50, 52, 51
SOL_RAW, ICMP_FILTER, SOL_ICMPV6, ICMPV6_FILTER = 255, 1, 58, 1
SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 2, 3


RECEIVE_BUFFER: Final = 4 * 1024 * 1024  # holds the replies to some 5,000 requests while the loop stands still
READ_SIZE: Final = 512  # IP header with options, ICMP header, URI and token; the padding is of no interest
ANCILLARY_SIZE: Final = 256

SocketType = Literal["datagram", "raw"]

# As plain numbers and bound methods: they are needed for every reply, and socket's are members of enums.
_SOL_SOCKET, _IPPROTO_IP, _IPPROTO_IPV6 = int(socket.SOL_SOCKET), int(socket.IPPROTO_IP), int(socket.IPPROTO_IPV6)
_read_timespec = struct.Struct("@ll").unpack
_read_int = struct.Struct("=i").unpack


@dataclass(frozen=True, slots=True)
class QueuedError:
    """An entry of a socket's error queue."""

    quoted: bytes  # our message, from its ICMP header on, as much as was quoted
    destination: str
    from_network: bool  # an ICMP error; else an error of this host
    type: int
    code: int
    reporter: str  # who sent it


def open_socket(v6: bool, only: SocketType | None = None) -> tuple[socket.socket, SocketType]:
    """A non-blocking ICMP socket: a datagram socket where the host permits it, else a raw one. Raises OSError."""
    family = socket.AF_INET6 if v6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    order: tuple[SocketType, ...] = (only,) if only else ("datagram", "raw")
    refused: OSError | None = None
    for kind in order:
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_RAW, protocol)
        except OSError as error:
            if refused is None or error.errno in (errno.EPERM, errno.EACCES):
                refused = error
            continue
        try:
            _configure(opened, v6, kind)
        except BaseException:
            opened.close()
            raise
        return opened, kind
    assert refused is not None
    raise refused


def _configure(opened: socket.socket, v6: bool, kind: SocketType) -> None:
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # needs CAP_NET_ADMIN; without it net.core.rmem_max is the limit
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER)
    if v6:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        # Without "don't fragment" unless asked for: a path with a small MTU is no outage.
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    if kind == "datagram":
        # ICMP errors come by the error queue, already matched to this socket by the kernel.
        if v6:
            opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    elif v6:
        wanted = (wire.ECHO_REPLY_V6, *wire.ERRORS_V6)
        blocked = [0xFFFFFFFF] * 8
        for kind_number in wanted:
            blocked[kind_number >> 5] &= ~(1 << (kind_number & 31)) & 0xFFFFFFFF
        opened.setsockopt(SOL_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *blocked))
    else:
        wanted_bits = sum(1 << kind_number for kind_number in (wire.ECHO_REPLY_V4, *wire.ERRORS_V4))
        opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~wanted_bits & 0xFFFFFFFF))


def set_dont_fragment(opened: socket.socket, v6: bool, on: bool) -> None:
    """Set or clear the don't-fragment flag of what is sent next, whatever path MTU the kernel believes in."""
    if v6:
        mode = IPV6_PMTUDISC_PROBE if on else IPV6_PMTUDISC_WANT
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE if on else IP_PMTUDISC_DONT)


def dropped(opened: socket.socket) -> int:
    """How many packets the kernel dropped because this socket's receive buffer was full, since it was opened."""
    memory = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 9 * 4)
    return int(struct.unpack_from("=I", memory, SK_MEMINFO_DROPS * 4)[0]) if len(memory) >= 36 else 0


def read_error_queue(opened: socket.SocketType, at_most: int) -> Iterator[QueuedError]:
    """Take the errors out of a datagram socket's error queue. ip(7), IP_RECVERR."""
    for _ in range(at_most):
        try:
            quoted, ancillary, _flags, peer = opened.recvmsg(READ_SIZE, 2 * ANCILLARY_SIZE, socket.MSG_ERRQUEUE)
        except OSError:
            return
        destination = str(peer[0]).partition("%")[0] if peer else ""
        extended = next((data for _level, kind, data in ancillary if kind in (IP_RECVERR, IPV6_RECVERR)), b"")
        if len(extended) < 16:
            continue
        _errno, origin, kind, code = struct.unpack_from("=IBBB", extended)
        from_network = origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6)
        yield QueuedError(quoted, destination, from_network, kind, code, _reporter(extended[16:]))


def scope_id(scope: str) -> int:
    """The number of an interface named in an address like fe80::1%eth0; 0 for none."""
    if not scope:
        return 0
    try:
        number = int(scope[:12]) if scope.isdigit() else socket.if_nametoindex(scope)
        socket.if_indextoname(number)
        return number
    except (OSError, OverflowError) as error:
        raise ProbeFailure(Operation.PREPARE, Failure.ADDRESS_UNAVAILABLE, f"no interface {scope!r}") from error


def ancillary_of(v6: bool, hop_limit: int | None, source: str | None) -> list[tuple[int, int, bytes]]:
    """Per-packet options for sendmsg: hop limit and source address. ip(7), ipv6(7)."""
    ancillary = []
    if hop_limit is not None:
        level, name = (socket.IPPROTO_IPV6, IPV6_HOPLIMIT) if v6 else (socket.IPPROTO_IP, IP_TTL)
        ancillary.append((level, name, struct.pack("=i", hop_limit)))
    if source is not None and v6:
        info = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, source), 0)
        ancillary.append((socket.IPPROTO_IPV6, IPV6_PKTINFO, info))
    elif source is not None:
        info = struct.pack("=i4s4s", 0, socket.inet_pton(socket.AF_INET, source), b"")
        ancillary.append((socket.IPPROTO_IP, IP_PKTINFO, info))
    return ancillary


def read_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, int]:
    """Hop limit (None: unknown) and arrival in Unix nanoseconds of a received message."""
    hop_limit: int | None = None
    stamp_ns = 0
    for level, kind, data in ancillary:
        if kind == SO_TIMESTAMPNS and level == _SOL_SOCKET:
            seconds, nanoseconds = _read_timespec(data)
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
        elif (kind == IP_TTL and level == _IPPROTO_IP) or (kind == IPV6_HOPLIMIT and level == _IPPROTO_IPV6):
            hop_limit = _read_int(data)[0]
    return hop_limit, stamp_ns


def _reporter(address: bytes) -> str:
    """Who sent an ICMP error: the sockaddr behind a sock_extended_err. ip(7), SO_EE_OFFENDER."""
    family = struct.unpack_from("=H", address)[0] if len(address) >= 2 else 0
    if family == socket.AF_INET and len(address) >= 8:
        return socket.inet_ntop(socket.AF_INET, address[4:8])
    if family == socket.AF_INET6 and len(address) >= 24:
        return socket.inet_ntop(socket.AF_INET6, address[8:24])
    return "somebody"


def send_failure(error: OSError, source: str | None) -> ProbeFailure:
    """What an error of sendmsg means: always our own side."""
    # For a source address that is not on this host the kernel says EINVAL or ENETUNREACH, as for a missing route.
    if source is not None and not _is_ours(source):
        return ProbeFailure(Operation.SEND, Failure.ADDRESS_UNAVAILABLE, f"{source} is not an address of this host")
    return ProbeFailure(Operation.SEND, failure_of_oserror(error, local=True), error.strerror or str(error))


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True
