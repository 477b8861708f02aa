"""`prober probe`: one probe, for people and for machines, against servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest

from prober import cli
from prober.failures import FAILURES
from tests.e2e.command import Ended, in_terminal, probe
from tests.lab import Namespace
from tests.streams import saying, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


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
    monkeypatch.setattr("asyncio.run", lambda coroutine: coroutine.close() or pytest.fail("probed"))
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
