"""The endpoint in this process: what waiting costs, and what is left when clients go away."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prober.app import open_io
from prober.blackbox.endpoint import Answer, Endpoint
from prober.blackbox.modules import load
from prober.clock import SystemClock
from prober.config.settings import ProbeEndpoint
from prober.deadline import StallMeter
from prober.schedule import Budgets
from tests.fakes import sends_return_late
from tests.lab import Namespace
from tests.leaks import assert_no_leaks
from tests.webface import until

MODULES = """\
modules:
  silent: {prober: http, timeout: 1s}
  patient: {prober: http, timeout: 30s}
  tcp: {prober: tcp, timeout: 1s}
  icmp: {prober: icmp, timeout: 1s}
  dns: {prober: dns, timeout: 1s, dns: {query_name: example.org}}
  grpc: {prober: grpc, timeout: 1s}
  websocket: {prober: websocket, timeout: 1s}
"""


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The target that accepts and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    (tmp_path / "blackbox.yml").write_text(MODULES)
    async with open_io(None, lambda _host: True) as (io, _pinger):
        endpoint = Endpoint(io=io, budgets=Budgets(1e6, 1e6), clock=SystemClock(), meter=StallMeter())
        settings = ProbeEndpoint(enabled=True, allow=("127.0.0.0/8",), concurrency=1, queue=2)
        endpoint.change(settings, load(tmp_path / "blackbox.yml"))
        yield endpoint


async def ask(endpoint: Endpoint, target: str, module: str, scrape_timeout: str | None = None) -> Answer:
    return await endpoint.probe({"target": target, "module": module}, scrape_timeout, "192.0.2.1")


async def test_a_probe_that_waited_too_long_to_be_fair_blames_nobody(endpoint: Endpoint, silent: str) -> None:
    """It had less time than its module gives it, and did not make it: that says nothing about the target."""
    first = asyncio.create_task(ask(endpoint, silent, "silent"))
    await asyncio.sleep(0.4)
    second = await ask(endpoint, silent, "silent", "1.5")
    assert (await first).status == 200
    assert "probe_success 0" in (await first).text
    assert second.status == 503
    assert "probe_success" not in second.text
    assert endpoint.outcomes["overloaded"] == 1


async def test_who_waits_is_told_when_it_was_in_vain(endpoint: Endpoint, silent: str) -> None:
    first = asyncio.create_task(ask(endpoint, silent, "patient"))
    await until(lambda: endpoint.admission.in_flight == 1)
    answers = await asyncio.gather(*(ask(endpoint, silent, "patient", "0.7") for _ in range(5)))
    assert [answer.status for answer in answers] == [503] * 5
    assert sum("probe_endpoint.queue" in answer.text for answer in answers) == 3
    assert sum("probe_endpoint.concurrency" in answer.text for answer in answers) == 2
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (endpoint.admission.in_flight, endpoint.admission.waiting) == (0, 0)


@pytest.mark.parametrize("module", ["tcp", "icmp", "dns", "grpc", "websocket", "silent"])
@pytest.mark.parametrize(
    "target", ["http://u:hidden@127.0.0.1:1/", "ws://u:hidden@127.0.0.1:1/", "u:hidden@127.0.0.1:1"]
)
async def test_credentials_for_the_wrong_module_are_not_shown(endpoint: Endpoint, module: str, target: str) -> None:
    """Only http takes them. The others quote the target as none, in what anybody may read."""
    answer = await endpoint.probe({"target": target, "module": module, "debug": "true"}, None, "192.0.2.1")
    assert "probe_success 0" in answer.text
    (past,) = endpoint.history
    assert "hidden" not in f"{answer.text}{past.report}{past.reason}{past.target}"


async def test_the_setup_of_a_ping_ends_where_the_round_trip_begins(
    namespace: Namespace, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the call returns that sends: the phases last no longer than the probe."""
    late = 0.05
    sends_return_late(monkeypatch, late)
    namespace.allow_unprivileged_icmp()
    with namespace.entered():
        begun = time.perf_counter()
        answer = await ask(endpoint, "127.0.0.1", "icmp")
        elapsed = time.perf_counter() - begun
    (setup,) = re.findall(r'probe_icmp_duration_seconds\{phase="setup"\} (\S+)', answer.text)
    assert 0 < float(setup) <= elapsed - late


async def test_cancelling_leaves_nothing_behind(endpoint: Endpoint, silent: str) -> None:
    async with assert_no_leaks():
        tasks = [asyncio.create_task(ask(endpoint, silent, "patient")) for _ in range(3)]
        await until(lambda: endpoint.admission.in_flight == 1 and endpoint.admission.waiting == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (endpoint.admission.in_flight, endpoint.admission.waiting) == (0, 0)
    assert endpoint.outcomes["abandoned"] == 3


def test_the_agent_takes_the_descriptors_that_it_may_have() -> None:
    soft = 256
    code = f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, hard))
from prober.app import more_descriptors
more_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(done.stdout) == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    assert int(done.stdout) > soft
