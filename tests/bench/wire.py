"""What is true of round trips: a far end that answers each echo request after a fixed time, and the kernel's stamps of
what went by on the cable. Two processes of their own, so that neither is in the way of whoever is measured.
"""

from __future__ import annotations

import heapq
import json
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from types import FrameType

_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>
_ETH_P_IP = 0x0800
KEPT = 8
"""Round trips that are remembered of each address."""


def answer(delay: float) -> None:
    """Answer every echo request `delay` seconds after it came (icmp_echo_ignore_all keeps the kernel from it)."""
    heard = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    heard.setblocking(False)
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    waiting: list[tuple[float, bytes, str]] = []
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        select.select([heard], [], [], left)
        now = time.monotonic()
        for _ in range(200):
            try:
                packet = heard.recv(2048)
            except BlockingIOError:
                break
            begin = (packet[0] & 15) * 4
            if packet[begin] == 8:
                heapq.heappush(waiting, (now + delay, _reply(packet, begin), socket.inet_ntoa(packet[12:16])))
        while waiting and waiting[0][0] <= now:
            _, reply, to = heapq.heappop(waiting)
            out.sendto(reply, (to, 0))


def _reply(packet: bytes, begin: int) -> bytes:
    """The reply to an echo request (RFC 792): addresses swapped, type 0, the checksum that much higher."""
    checksum = int.from_bytes(packet[begin + 2 : begin + 4], "big") + 0x0800
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    head = packet[:8] + b"\x40" + packet[9:10] + b"\0\0" + packet[16:20] + packet[12:16] + packet[20:begin]
    return head + b"\0" + packet[begin + 1 : begin + 2] + checksum.to_bytes(2, "big") + packet[begin + 4 :]


def watch(interface: str, out: Path) -> None:
    """Note when echo requests left and replies came, by the kernel's clock; write all of it down when told to end."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL: what is sent, too
    tap.bind((interface, 3))
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
    tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    requests: dict[tuple[bytes, bytes], float] = {}
    found: dict[str, list[tuple[float, float]]] = {}

    def write(_number: int, _frame: FrameType | None) -> None:
        out.write_text(json.dumps(found))
        sys.exit(0)

    signal.signal(signal.SIGTERM, write)
    while True:
        packet, ancillary, _flags, source = tap.recvmsg(128, 64)
        begin = (packet[0] & 15) * 4
        if source[1] != _ETH_P_IP or packet[9] != socket.IPPROTO_ICMP or not ancillary:
            continue
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        at, mark = seconds + nanoseconds / 1e9, packet[begin + 4 : begin + 8]
        if packet[begin] == 8:
            requests[packet[16:20], mark] = at
        elif packet[begin] == 0 and (sent := requests.pop((packet[12:16], mark), None)) is not None:
            trips = found.setdefault(socket.inet_ntoa(packet[12:16]), [])
            trips.append((sent, at - sent))
            del trips[:-KEPT]


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(float(sys.argv[2]))
    else:
        watch(sys.argv[2], Path(sys.argv[3]))
