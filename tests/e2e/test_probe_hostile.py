"""What a server says cannot steer the terminal of whoever runs `prober probe`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import dns.message
import dns.rrset
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from prober import cli
from prober.failures import Failure, Operation
from prober.model import Check, Observation
from tests.certificates import DAY, NOW, loaded
from tests.e2e.command import in_terminal, probe
from tests.streams import Script, saying, serving

HOSTILE: Final = (
    b"\x1b[31mhostile\x1b[0m\x1b]0;title\x07\x1b[2J\r\x08\x7f\x0b\x00\n"
    + "\x9b31m\u202egnp.exe\u2028\u200f\U000e0041".encode()
    + b"\xff\xfe\xc3"
)
"""ANSI colours, a title, a cleared screen, C1 controls, a bidirectional override, a line separator, tags, no UTF-8."""


def hostile_certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate, a CA, whose names hold the hostile text as far as ASN.1 lets them."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = HOSTILE.decode("latin-1")[:36]
    name = x509.Name([x509.NameAttribute(kind, text) for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("\x1b[31mhostile.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


HOSTILE_CHECKS = """\
entity: e
targets:
  - name: hostile
    checks:
      - {{name: banner, tcp: {{address: "{banner}", banner: "^220 "}}}}
      - {{name: status, http: {{url: "http://{status}/"}}}}
      - {{name: header, http: {{url: "http://{header}/", expect: {{headers: {{X-Hostile: "^friendly$"}}}}}}}}
      - {{name: body, http: {{url: "http://{header}/", expect: {{body: "friendly"}}}}}}
      - {{name: redirect, http: {{url: "http://{redirect}/"}}}}
      - {{name: issuer, tcp: {{address: "{tls}", tls: true}}}}
      - {{name: host, tcp: {{address: "{tls}", tls: {{server_name: other.example, ca_file: {ca}}}}}}}
      - {{name: answer, dns: {{server: "{names}", query: hostile.test, type: TXT, expect: {{regex: friendly}}}}}}
"""


class HostileNames(asyncio.DatagramProtocol):
    """Every answer holds the hostile text."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(data))
        text = "".join(f"\\{octet:03}" for octet in HOSTILE[:80])
        answer.answer.append(dns.rrset.from_text(answer.question[0].name, 60, "IN", "TXT", f'"{text}"'))
        self._transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def hostile(tmp_path: Path) -> AsyncIterator[Path]:
    """A targets file whose target does all that a server can do to a reader's terminal."""
    certificate, key = hostile_certificate()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificate.public_bytes(Encoding.PEM))
    line = HOSTILE.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    scripts: dict[str, Script] = {
        "status": saying(b"HTTP/1.1 500 " + line + b"\r\nContent-Length: 0\r\n\r\n"),
        "header": saying(
            b"HTTP/1.1 200 OK\r\nX-Hostile: " + line + b"\r\nServer: " + line + b"\r\nContent-Length: "
            + str(len(HOSTILE)).encode() + b"\r\n\r\n" + HOSTILE
        ),
        "redirect": saying(b"HTTP/1.1 302 Found\r\nLocation: http://" + line + b"/\r\nContent-Length: 0\r\n\r\n"),
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        at = {name: await stack.enter_async_context(serving(script)) for name, script in scripts.items()}
        at["banner"] = await stack.enter_async_context(serving(_greeting))
        at["tls"] = await stack.enter_async_context(serving(saying(b""), tls=loaded([certificate], key)))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            HostileNames, local_addr=("127.0.0.1", 0)
        )
        stack.callback(transport.close)
        host, port = transport.get_extra_info("sockname")
        file = tmp_path / "hostile.yml"
        file.write_text(HOSTILE_CHECKS.format(**at, names=f"{host}:{port}", ca=ca))
        yield file


async def _greeting(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HOSTILE)


async def test_a_hostile_server_cannot_steer_the_terminal(hostile: Path) -> None:
    piped, machine, shown = await asyncio.gather(
        probe("hostile", "-t", str(hostile)),
        probe("hostile", "-t", str(hostile), "--json"),
        in_terminal("hostile", "-t", str(hostile)),
    )
    results = json.loads(machine.out)
    failed = {found["check"]: found["failure"] for found in results}
    assert failed == {
        "banner": "unexpected_reply",
        "status": "http_status",
        "header": "http_header",
        "body": "http_body",
        "redirect": "http_redirect",
        "issuer": "certificate_unknown_issuer",
        "host": "certificate_wrong_host",
        "answer": "dns_answer",
    }
    assert any("31m" in found["detail"] for found in results), "nothing hostile came through: this test tests nothing"
    styled = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r\n", "\n")
    for text in (piped.out, piped.err, machine.out, machine.err, styled):
        bad = {c for c in text if not c.isprintable() and c != "\n"}
        assert not bad, f"{bad} in {text!r}"
    # Each style of ours ends where it began: what the server says is never taken for one.
    assert "\x1b[31mhostile" not in shown


@pytest.mark.parametrize("as_json", [True, False])
def test_whatever_a_probe_brings_home_is_made_harmless(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same without trusting the kinds of probe to have quoted what they were told."""
    text = HOSTILE.decode(errors="surrogateescape")
    check = Check("t", "tcp", "tcp", 60.0, 5.0, None)
    brought = Observation(
        check,
        0.0,
        0.0,
        False,
        0.1,
        {"connect": 0.1},
        {"said": text},
        Operation.VALIDATE,
        Failure.UNEXPECTED_REPLY,
        text,
    )

    async def probed(*_arguments: object) -> list[Observation]:
        return [brought]

    monkeypatch.setattr("prober.cli._probe", probed)
    monkeypatch.setattr(sys, "argv", ["prober", "probe", "tcp://127.0.0.1:9", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit):
        cli.main()
    out, err = capsys.readouterr()
    assert "31mhostile" in out
    assert err == ""
    assert {c for c in out if not c.isprintable()} == {"\n"}
    if as_json:
        assert json.loads(out)["detail"] == text
