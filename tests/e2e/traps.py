"""A host that has every address which /probe must not reach, with servers there that tell whether it was reached."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dns.message
import dns.rdatatype
import dns.rrset

from tests.lab import Namespace

PUBLIC = "93.184.215.14"
"""Stands for a host on the Internet; in the namespace it is an address of the loopback interface like all others."""
FORBIDDEN = ("169.254.169.254", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "192.0.2.1")
FORBIDDEN6 = ("fd00:ec2::254", "2002:7f00:1::1", "64:ff9b::7f00:1")

NAMES: Mapping[str, Sequence[str]] = {
    "ok.test": [PUBLIC],
    "loop.test": ["127.0.0.1"],
    "meta.test": ["169.254.169.254"],
    "private.test": ["10.0.0.1"],
    "shared.test": ["100.64.0.1"],
    "zero.test": ["0.0.0.0"],
    "loop6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "6to4.test": ["2002:7f00:1::1"],
    "meta6.test": ["fd00:ec2::254"],
    "rebind.test": [PUBLIC, "127.0.0.1"],  # in turn
    "out.test": [PUBLIC],
}


@dataclass
class Traps:
    """`hits`: (address that was connected to, path, headers) of every request that came."""

    namespace: Namespace
    hits: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def reached(self) -> set[str]:
        """The addresses other than PUBLIC that somebody connected to."""
        return {address for address, _, _ in self.hits} - {PUBLIC}


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 512
    traps: Traps

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.server_name, self.server_port = "traps", 80
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Whoever only connects is caught too.
        address = request.getsockname()[0].removeprefix("::ffff:")
        if address != PUBLIC:
            self.traps.hits.append((address, "", {}))
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        address = self.connection.getsockname()[0].removeprefix("::ffff:")
        self.server.traps.hits.append((address, self.path, dict(self.headers)))
        to = parse_qs(urlsplit(self.path).query).get("to")
        self.send_response(302 if to else 200)
        if to:
            self.send_header("Location", to[0])
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _serve_names(sock: socket.socket, traps: Traps) -> None:
    turns = {name: itertools.cycle(addresses) for name, addresses in NAMES.items()}
    while True:
        try:
            data, client = sock.recvfrom(4096)
        except OSError:
            return
        if not data:
            return
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        traps.asked.append(name)
        answer = dns.message.make_response(query, recursion_available=True)
        turn = turns.get(name)
        if turn is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            wanted = question.rdtype == dns.rdatatype.AAAA
            address = NAMES[name][0] if len(NAMES[name]) == 1 else next(turn) if not wanted else NAMES[name][0]
            if (":" in address) == wanted:
                answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", question.rdtype, address))
        with contextlib.suppress(OSError):
            sock.sendto(answer.to_wire(), client)


@contextlib.contextmanager
def traps_in(namespace: Namespace) -> Iterator[Traps]:
    """Servers on port 80 of every address, and the resolver that knows NAMES."""
    traps = Traps(namespace)
    for address in (PUBLIC, *FORBIDDEN):
        namespace.address("lo", f"{address}/32")
    for address in FORBIDDEN6:
        namespace.run("ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad")
    namespace.sysctl("net.ipv4.ip_unprivileged_port_start", 0)
    namespace.resolver("127.0.0.53")
    with ExitStack() as stack:
        with namespace.entered():
            http = _Server(("::", 80), _Handler)
            names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            names.bind(("127.0.0.53", 53))
        http.traps = traps
        stack.callback(http.server_close)
        threads = [
            threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=_serve_names, args=(names, traps), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield traps
        finally:
            http.shutdown()
            _wake(namespace, names)
            for thread in threads:
                thread.join(5)


def _wake(namespace: Namespace, names: socket.socket) -> None:
    """An empty datagram ends the resolver."""
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", names.getsockname())
