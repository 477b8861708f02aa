"""The servers that other tests stand on start, answer, and end."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests import servers
from tests.lab import Routed, accepts

ZONE = "@ SOA ns hostmaster 42 60 60 60 60\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.80\n"


def ask(server: servers.Server, name: str, tcp: bool = False) -> str:
    query = dns.message.make_query(name, "A")
    send = dns.query.tcp if tcp else dns.query.udp
    response = send(query, server.address, timeout=2, port=server.port)
    return " ".join(str(record) for rrset in response.answer for record in rrset) or dns.rcode.to_text(response.rcode())


def test_nsd_answers_its_zones_and_refuses_others(tmp_path: Path) -> None:
    with servers.nsd(tmp_path / "nsd", {"example.test": ZONE}) as server:
        assert ask(server, "www.example.test") == "192.0.2.80"
        assert ask(server, "www.example.test", tcp=True) == "192.0.2.80"
        assert ask(server, "nope.example.test") == "NXDOMAIN"
        assert ask(server, "www.other.test") == "REFUSED"
    assert not accepts(server.address, server.port)


def test_unbound_resolves_through_its_stub_and_nothing_else(tmp_path: Path) -> None:
    with (
        servers.nsd(tmp_path / "nsd", {"example.test": ZONE}) as authority,
        servers.unbound(tmp_path / "unbound", {"example.test": f"127.0.0.1@{authority.port}"}) as server,
    ):
        assert ask(server, "www.example.test") == "192.0.2.80"
        assert ask(server, "www.example.org") == "NXDOMAIN"
        authority.stop()
        assert ask(server, "www.example.test") == "SERVFAIL"


def test_nginx_serves_files_and_what_the_block_says(tmp_path: Path) -> None:
    with servers.nginx(tmp_path / "nginx", "location = /teapot { return 418 short; }") as server:
        (tmp_path / "nginx" / "www" / "page").write_text("hello")
        with urllib.request.urlopen(f"http://{server.at}/page", timeout=2) as response:
            assert response.read() == b"hello"
        with pytest.raises(urllib.error.HTTPError, match="418") as raised:
            urllib.request.urlopen(f"http://{server.at}/teapot", timeout=2)
        raised.value.close()


def test_servers_stand_in_namespaces(tmp_path: Path, routed: Routed) -> None:
    address = routed.server_address
    with (
        servers.nsd(tmp_path, {"example.test": ZONE}, address=address, port=53, namespace=routed.server) as server,
        servers.nginx(tmp_path, "", address="::", port=80, namespace=routed.server),
        routed.client.entered(),
    ):
        assert ask(server, "www.example.test") == "192.0.2.80"
        assert accepts(routed.server_address6, 80)
