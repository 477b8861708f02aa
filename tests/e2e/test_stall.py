"""The agent is stopped and goes on: what had answered meanwhile has answered."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import dns.message
import pytest

from tests.e2e.agent import Agent, Metrics
from tests.lab import Namespace
from tests.streams import serving

PAUSE_SECONDS = 0.1
"""Before the server answers: at any moment some probe is in flight."""


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.read(4096)
    await asyncio.sleep(PAUSE_SECONDS)
    # Twice led on: most of such a probe is still to be done when the agent goes on.
    following = {b"/": b"/2", b"/2": b"/3"}.get(request.split()[1] if b" " in request else b"")
    if following:
        writer.write(b"HTTP/1.0 302 Found\r\nLocation: " + following + b"\r\n\r\n")
    else:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nfine")


class _SlowDns(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(data)).to_wire()
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._transport.sendto, answer, addr)


@pytest.mark.alone
async def test_standing_still_for_a_second_makes_no_failure(namespace: Namespace, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        with namespace.entered():
            http = await stack.enter_async_context(serving(_talk))
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                _SlowDns, local_addr=("127.0.0.1", 5353)
            )
        stack.callback(transport.close)
        checks = "".join(
            f'  - name: t{n}\n    checks:\n      - http: {{url: "http://{http}/"}}\n'
            f'      - tcp: {{address: "{http}", send: "GET", expect: "200"}}\n'
            f'      - dns: {{server: "127.0.0.1:5353", query: x.example}}\n'
            f"      - icmp: {{address: 127.0.0.{n}, packets: 3, packet_interval: 100ms}}\n"
            for n in range(1, 11)
        )
        targets = tmp_path / "targets.yml"
        # A probe is granted as much again as its timeout for what the agent stood still: almost all of the second.
        targets.write_text(f"entity: e\ndefaults: {{interval: 1s, timeout: 900ms}}\ntargets:\n{checks}")
        settings = tmp_path / "settings.yml"
        settings.write_text(
            f"targets: [{targets}]\nlimits: {{per_prefix_per_second: 1000, packets_per_second: 1000}}\n"
        )
        caught, metrics = await asyncio.to_thread(_stop_and_go_on, namespace, settings)
    assert caught > 4, "hardly a probe was in flight when the agent was stopped"
    assert metrics.value("prober_loop_stall_seconds_count") >= 3, "it was not seen to stand still"
    assert metrics.failures() == {}
    assert not metrics.all("prober_internal_errors_total")


def _stop_and_go_on(namespace: Namespace, settings: Path) -> tuple[float, Metrics]:
    """Three stops of a second; how many probes were in flight just before them, and what the agent says afterwards."""
    with Agent(namespace, "--config", settings, root=True) as agent:
        agent.metrics_when(lambda m: len(m.checks) == 40, 30.0, "every check has a result")
        caught = 0.0
        for _ in range(3):
            caught += agent.metrics().value("prober_probes_in_flight")
            agent.signal(signal.SIGSTOP)
            time.sleep(1.0)
            agent.signal(signal.SIGCONT)
            time.sleep(0.8)
        return caught, agent.metrics()
