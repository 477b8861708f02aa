"""A country of the tests' own: hosts that hold the addresses of the shipped targets, and an agent that watches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.e2e.agent import SHIPPED, Agent, checks_in, open_directory, quick
from tests.lab import Namespace, link
from tests.servers import nginx, nsd

RESOLVER = "192.0.2.254"
"""Of the vantage, on the country's side of the cable."""
MIRROR = "203.0.113.80"

_HOSTS = {
    "www.kcna": "175.45.176.71",
    "www.rodong.rep": "175.45.176.68",
    "naenara.com": "175.45.176.67",
    "www.vok.rep": "175.45.176.75",
    "www.airkoryo.com": "175.45.176.69",
    "www.gnu.rep": "175.45.176.73",
    "www.ryongnamsan.edu": "175.45.176.79",
    "www.friend.com": "175.45.176.81",
    "www.mfa.gov": "175.45.176.91",
    "tourismdprk.gov": "175.45.176.92",
}
_NAME_SERVERS = ("175.45.176.15", "175.45.176.16")
_ROUTERS = ("175.45.178.129", "175.45.178.161", "175.45.177.1", "175.45.179.1")
_SOA = "@ IN SOA ns1 hostmaster 7 3600 600 86400 60\n@ IN NS ns1\n"

# What the shipped file has none of: tcp, TLS, several packets, IPv6, a serial, and a check that fails.
_FURTHER = """\
entity: further
targets:
  - name: further
    checks:
      - icmp: {{address: "2001:db8::fe", packets: 3, packet_interval: 10ms}}
      - dns: {{server: {server}, query: kp, type: SOA, recursion: false, expect: {{min_answers: 1}}}}
      - name: dns-tcp
        dns: {{server: {server}, query: www.kcna.kp, transport: tcp, recursion: false}}
      - http: {{url: "https://tls.example/", address: {mirror}, tls: {{ca_file: {ca}}}}}
      - tcp: {{address: "{mirror}:80"}}
      - name: tcp-tls
        tcp: {{address: "{mirror}:443", tls: {{server_name: tls.example, ca_file: {ca}}}}}
      - name: refused
        tcp: {{address: "{mirror}:9"}}
"""


@dataclass(frozen=True)
class Watched:
    """The agent, what it is to watch, and the only check of it that fails."""

    agent: Agent
    checks: set[str]
    refused: str = "further/refused"


@pytest.fixture(scope="package")
def watched() -> Iterator[Watched]:
    """An unprivileged agent on a copy of the shipped targets (every 4 s), all of which answer, and some more."""
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        vantage, country = stack.enter_context(Namespace("vantage")), stack.enter_context(Namespace("country"))
        link(vantage, country, ("192.0.2.1/24", "2001:db8::1/64"), (f"{RESOLVER}/24", "2001:db8::fe/64"))
        vantage.route("default", "via", RESOLVER)
        vantage.allow_unprivileged_icmp()
        vantage.resolver(RESOLVER)
        for address in {*_HOSTS.values(), *_NAME_SERVERS, *_ROUTERS, MIRROR}:
            country.address("lo", f"{address}/32")
        zones = {
            "kp": _SOA + "".join(f"{name} IN A {address}\n" for name, address in _HOSTS.items()),
            "kcna.co.jp": f"{_SOA}www IN A {MIRROR}\n",
        }
        for number, address in enumerate((RESOLVER, *_NAME_SERVERS)):
            served = zones if address == RESOLVER else {"kp": zones["kp"]}
            stack.enter_context(nsd(directory / f"nsd{number}", served, address=address, port=53, namespace=country))
        authority = trustme.CA()
        certificate = authority.issue_cert("tls.example")
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(directory / "certificate.pem", append=True)
        authority.cert_pem.write_to_path(directory / "ca.pem")
        pages = (
            f"listen 0.0.0.0:443 ssl; ssl_certificate {directory}/certificate.pem; "
            f'ssl_certificate_key {directory}/key.pem; location / {{ return 200 "KCNA, 조선중앙통신"; }}'
        )
        stack.enter_context(nginx(directory / "nginx", pages, address="0.0.0.0", port=80, namespace=country))
        further = directory / "further.yml"
        further.write_text(_FURTHER.format(server=_NAME_SERVERS[0], mirror=MIRROR, ca=directory / "ca.pem"))
        yield from _watch(stack, vantage, directory, further)


def _watch(stack: ExitStack, vantage: Namespace, directory: Path, further: Path) -> Iterator[Watched]:
    further.write_text("defaults: {interval: 4s, timeout: 2s}\n" + further.read_text())
    files = quick(SHIPPED, directory, "4s", "2s"), further
    settings = directory / "settings.yml"
    settings.write_text(
        f"vantage: hanover\ncontact: mailto:noc@example.org\nlimits: {{per_prefix_per_second: 100}}\n"
        f"targets: [{files[0]}, {files[1]}]\n"
    )
    agent = stack.enter_context(Agent(vantage, "--config", settings))
    yield Watched(agent, checks_in(*files))
