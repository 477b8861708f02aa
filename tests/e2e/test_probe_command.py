"""`prober probe`: one probe, for people and for machines, against servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import dns.message
import dns.rrset
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from prober import cli
from prober.failures import FAILURES
from tests.certificates import loaded
from tests.e2e.agent import CODE
from tests.e2e.hostile import HOSTILE, hostile_certificate
from tests.lab import Namespace
from tests.streams import Script, saying, serving

COMMAND = (sys.executable, "-m", "prober", "probe")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


async def probe(*arguments: str, host: Namespace | None = None, env: Mapping[str, str] | None = None) -> Ended:
    """`prober probe` in a pipe."""
    command = [*COMMAND, "--timeout", "2s", *arguments]
    process = await asyncio.create_subprocess_exec(
        *(host.command(*command) if host else command),
        cwd=CODE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def in_terminal(*arguments: str, **env: str) -> str:
    """What a terminal of 120 columns is sent."""
    master, slave = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            cwd=CODE,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **env},
        )
        await process.wait()
        os.set_blocking(master, False)
        return os.read(master, 1 << 20).decode()
    finally:
        os.close(master)
        os.close(slave)


class Names(asyncio.DatagramProtocol):
    """A name server that knows one address for every name below `example`, and REFUSES the others."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name
        if name.to_text().endswith("example."):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
        else:
            answer.set_rcode(dns.rcode.REFUSED)
        self._transport.sendto(answer.to_wire(), addr)


async def names(stack: AsyncExitStack) -> str:
    """Serve `Names`; its `host:port`."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    stack.callback(transport.close)
    host, port = transport.get_extra_info("sockname")
    return f"{host}:{port}"


# -- for machines ------------------------------------------------------------------------------------------------------


def assert_answered(ended: Ended, kind: str, phases: set[str]) -> dict[str, Any]:
    assert (ended.status, ended.err) == (0, "")
    found = ended.json
    assert found["kind"] == kind
    assert found["success"] is True
    assert found["phases"].keys() == phases
    assert all(0 <= seconds < 2 for seconds in found["phases"].values())
    assert sum(found["phases"].values()) <= found["duration_seconds"] + 0.01
    assert found["operation"] is found["failure"] is found["side"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["sent_at"])
    return found


def assert_failed(ended: Ended, operation: str, failure: str) -> None:
    assert (ended.status, ended.err) == (1, "")
    found = ended.json
    assert (found["success"], found["operation"], found["failure"]) == (False, operation, failure)
    assert found["side"] == next(side for known, (side, _) in FAILURES.items() if known == failure)


async def test_http() -> None:
    async with serving(saying(OK)) as up, serving(saying(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")) as broken:
        good, bad, refused = await asyncio.gather(
            probe(f"http://{up}/", "--json"),
            probe(f"http://{broken}/", "--json"),
            probe("http://127.0.0.1:9/", "--json"),
        )
    found = assert_answered(good, "http", {"resolve", "connect", "processing", "transfer"})
    assert found["facts"]["status_code"] == 200
    assert found["address"] == "127.0.0.1"
    assert_failed(bad, "validate", "http_status")
    assert_failed(refused, "connect", "refused")


async def test_dns() -> None:
    async with AsyncExitStack() as stack:
        server = await names(stack)
        good, bad, refused = await asyncio.gather(
            probe(f"dns://{server}/www.example", "--json"),
            probe(f"dns://{server}/www.elsewhere?type=SOA", "--json"),
            probe("dns://127.0.0.1:9/www.example", "--json"),
        )
    found = assert_answered(good, "dns", {"resolve", "connect", "request"})
    assert found["facts"]["answer_rrs"] == 1
    assert_failed(bad, "validate", "dns_rcode")
    assert_failed(refused, "receive", "refused")


async def test_tcp() -> None:
    async with serving(saying(b"")) as up:
        good, refused = await asyncio.gather(probe(f"tcp://{up}", "--json"), probe("tcp://127.0.0.1:9", "--json"))
    found = assert_answered(good, "tcp", {"resolve", "connect"})
    assert found["target"] == f"tcp://{up}"
    assert_failed(refused, "connect", "refused")


async def test_icmp(namespace: Namespace) -> None:
    namespace.allow_unprivileged_icmp()
    namespace.drop("ip daddr 127.0.0.9 meta l4proto icmp")
    for_each = (
        ("icmp://127.0.0.1", "--json"),
        ("::1", "--json"),
        ("icmp://127.0.0.9", "--json", "--timeout", "200ms"),
        ("192.0.2.1", "--json"),
    )
    four, six, silent, unreachable = await asyncio.gather(*(probe(*one, host=namespace) for one in for_each))
    assert_answered(four, "icmp", {"resolve", "setup", "rtt"})
    assert_answered(six, "icmp", {"resolve", "setup", "rtt"})
    assert_failed(silent, "receive", "timeout")
    assert_failed(unreachable, "send", "network_unreachable")


async def test_a_target_of_a_file_is_probed_with_all_its_checks(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    async with serving(saying(OK)) as up:
        file.write_text(
            "entity: e\ntargets:\n  - name: a\n    checks:\n"
            f'      - http: {{url: "http://{up}/"}}\n      - tcp: {{address: "127.0.0.1:9"}}\n'
        )
        both, one = await asyncio.gather(
            probe("a", "-t", str(file), "--json"), probe("a", "-t", str(file), "--json", "--kind", "http")
        )
    assert both.status == 1
    assert [(found["kind"], found["success"]) for found in json.loads(both.out)] == [("http", True), ("tcp", False)]
    assert (one.status, one.json["kind"]) == (0, "http")


# -- nonsense ----------------------------------------------------------------------------------------------------------

NONSENSE = [
    ["nonsense"],
    [""],
    [" "],
    ["--"],
    [],
    ["127.0.0.1", "127.0.0.2"],
    ["127.0.0.1:80"],
    ["1.2.3"],
    ["256.1.1.1"],
    ["a..example"],
    ["http://"],
    ["http://x:99999/"],
    ["http://[::1/"],
    ["http://a b/"],
    ["http://user:password@127.0.0.1/"],
    ["ftp://127.0.0.1/"],
    ["icmp://"],
    ["icmp://127.0.0.1/path"],
    ["dns://127.0.0.1"],
    ["dns://127.0.0.1/example.org?type=NONE-SUCH"],
    ["dns://127.0.0.1/example.org?typ=A"],
    ["tcp://127.0.0.1"],
    ["tls://127.0.0.1:https"],
    ["icmp://" + "a" * 300],
    ["a\nb.example"],
    ["\x1b[31mhttp://x"],
    [os.fsdecode(b"http://\xff\xfe/")],
    [os.fsdecode(b"\xff.example")],
    ["http://127.0.0.1/", "--kind", "dns"],
    ["127.0.0.1", "--kind", "ping"],
    ["kcna.kp", "--kind", "tcp"],
    ["127.0.0.1", "--timeout", "0s"],
    ["127.0.0.1", "--timeout", "-1s"],
    ["127.0.0.1", "--timeout", "soon"],
    ["127.0.0.1", "--nonsense"],
    ["127.0.0.1", "--targets", "/nonexistent/targets.yml"],
    ["127.0.0.1", "--config", "/nonexistent/settings.yml"],
    ["127.0.0.1", "--config", "/"],
]


def assert_one_line(ended: Ended) -> None:
    assert ended.status == 2
    assert ended.out == ""
    assert re.fullmatch(r"[^\n]+\n", ended.err), ended.err
    assert ended.err.rstrip("\n").isprintable(), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", NONSENSE, ids=ascii)
def test_nonsense_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What is taken for something to probe must not reach the network from here.
    monkeypatch.setattr(cli.asyncio, "run", lambda coroutine: coroutine.close() or pytest.fail("it would be probed"))
    monkeypatch.setattr(sys, "argv", ["prober", "probe", "--json", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    assert_one_line(Ended(ended.value.code, *capsys.readouterr()))


async def test_nonsense_is_one_line_of_the_command_as_well(namespace: Namespace) -> None:
    some = ["nonsense"], ["--json", "dns://127.0.0.1"], [os.fsdecode(b"http://127.0.0.1/\xff")], ["\x1b[31m"]
    for ended in await asyncio.gather(*(probe(*arguments, host=namespace) for arguments in some)):
        assert_one_line(ended)


# -- for people --------------------------------------------------------------------------------------------------------


async def test_in_a_pipe_it_is_plain_text() -> None:
    async with serving(saying(OK)) as up:
        good, bad = await asyncio.gather(probe(f"http://{up}/"), probe("tcp://127.0.0.1:9"))
    assert (good.status, bad.status) == (0, 1)
    assert good.out.startswith(f"http://{up}/ at 127.0.0.1  http: answered in ")
    for phase in ("resolve", "connect", "processing", "transfer", "status code"):
        assert re.search(rf"^ *{phase} ", good.out, flags=re.MULTILINE)
    assert "refused during connect" in bad.out
    assert "target or path" in bad.out
    for ended in (good, bad):
        assert ended.err == ""
        assert "\x1b" not in ended.out


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


async def test_colours_are_for_terminals_that_want_them() -> None:
    async with serving(saying(OK)) as up:
        url = f"http://{up}/"
        usual, without, dumb = await asyncio.gather(
            in_terminal(url), in_terminal(url, NO_COLOR="1"), in_terminal(url, TERM="dumb")
        )
    assert "answered" in usual
    assert "answered" in without
    assert COLOUR.search(usual)
    assert not COLOUR.search(without)
    assert "\x1b" not in dumb


# -- a hostile server --------------------------------------------------------------------------------------------------


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
async def hostile(tmp_path: Path) -> Any:
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
        "status": failed["status"],  # malformed, or a status like another
        "header": failed["header"],
        "body": failed["body"],
        "redirect": failed["redirect"],
        "issuer": "certificate_unknown_issuer",
        "host": "certificate_wrong_host",
        "answer": "dns_answer",
    }
    assert None not in failed.values()
    assert any("31m" in found["detail"] for found in results), "nothing hostile came through: this test tests nothing"
    styled = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r\n", "\n")
    for text in (piped.out, piped.err, machine.out, machine.err, styled):
        bad = {c for c in text if not c.isprintable() and c != "\n"}
        assert not bad, f"{bad} in {text!r}"
    # Each style of ours ends where it began: what the server says is never taken for one.
    assert "\x1b[31mhostile" not in shown
