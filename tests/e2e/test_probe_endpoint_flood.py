"""10,000 requests to /probe at once: bounded in memory, connections and probes, and the scheduled checks go on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from prober.app import DESCRIPTORS_MAX
from tests.e2e.agent import PORT, Agent, open_directory
from tests.lab import Namespace

REQUESTS = 10_000
CHECKS = 20
INTERVAL_SECONDS = 3.0
MEMORY_MAX = 80e6
"""Octets that the flood may cost: its 500 connections, and what the allocator keeps."""

CLIENT = """
import asyncio, collections, json, resource, sys
port, requests = int(sys.argv[1]), int(sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
at_once = asyncio.Semaphore(min(requests, hard - 200))
seen = collections.Counter()

async def ask(number):
    path = f"/probe?module=tcp&target=127.9.{number % 250}.{number // 250 + 1}:9"
    async with at_once:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nX-Prometheus-Scrape-Timeout-Seconds: 5\\r\\n"
                writer.write(f"{head}Connection: close\\r\\n\\r\\n".encode())
                line = await asyncio.wait_for(reader.readline(), 30)
                seen[line.split()[1].decode() if line else "closed"] += 1
            finally:
                writer.close()
        except (OSError, asyncio.TimeoutError) as error:
            seen["reset" if isinstance(error, ConnectionError) else type(error).__name__] += 1

async def main():
    await asyncio.gather(*(ask(number) for number in range(requests)))

asyncio.run(main())
print(json.dumps(seen))
"""


@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "rates",
    [
        pytest.param("", marks=pytest.mark.soak, id="rates"),
        pytest.param("requests_per_second: 1000000, requests_per_second_per_client: 1000000,", id="places"),
    ],
)
def test_ten_thousand_requests_at_once(namespace: Namespace, rates: str) -> None:
    """Once held off by the rates, once by the places and the queue: all of the targets are silent."""
    namespace.allow_unprivileged_icmp()
    namespace.drop("ip daddr 127.9.0.0/16 tcp dport 9")
    with open_directory() as directory:
        (directory / "blackbox.yml").write_text("modules: {tcp: {prober: tcp, timeout: 2s}}\n")
        (directory / "targets.yml").write_text(
            f"entity: e\nreferences: []\ndefaults: {{interval: {INTERVAL_SECONDS:g}s, timeout: 1500ms}}\ntargets:\n"
            + "".join(f"  - {{name: h{n}, checks: [{{icmp: {{address: 127.1.{n}.1}}}}]}}\n" for n in range(CHECKS))
        )
        (directory / "settings.yml").write_text(
            f"targets: [{directory}/targets.yml]\nblackbox: {directory}/blackbox.yml\n"
            f"probe_endpoint: {{enabled: true, {rates} allow: [127.0.0.0/8]}}\n"
        )
        with Agent(namespace, "--config", directory / "settings.yml") as agent:
            before = agent.metrics_when(lambda m: len(m.checks) == CHECKS, 30, "every check was probed")
            runs_before = before.value("prober_schedule_lateness_seconds_count")
            command = namespace.command(sys.executable, "-c", CLIENT, str(PORT), str(REQUESTS))
            done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
            seen = json.loads(done.stdout)
            after = agent.metrics()
            seconds = after.value("prober_clock_timestamp_seconds") - before.value("prober_clock_timestamp_seconds")
            print(seen, f"in {seconds:.1f} s; memory {before.value('process_resident_memory_bytes') / 1e6:.0f} to")
            print(f"{after.value('process_resident_memory_bytes') / 1e6:.0f} MB")
            assert sum(seen.values()) == REQUESTS
            assert not set(seen) - {"200", "429", "503", "closed", "reset"}, "all were answered, or not let in at all"
            assert seen.get("200", 0) >= 10
            # how many of them by 503 or 429, and how many without a word, depends on how fast they come in
            assert REQUESTS - seen["200"] >= REQUESTS / 2, seen
            # Nothing is left, and it still serves.
            agent.metrics_when(lambda m: m.value("prober_endpoint_probes_in_flight") == 0, 15, "nothing is under way")
            assert agent.metrics().value("prober_endpoint_requests_waiting") == 0
            growth = after.value("process_resident_memory_bytes") - before.value("process_resident_memory_bytes")
            assert growth < MEMORY_MAX
            assert after.value("process_max_fds") <= DESCRIPTORS_MAX
            assert not agent.log("defect")
            assert len(agent.log("probe refused")) < 50
            # The schedule did not notice.
            assert after.failures() == {}
            assert {s.value for s in after.all("prober_rounds_skipped_total")} == {0.0}
            runs = after.value("prober_schedule_lateness_seconds_count") - runs_before
            assert runs >= CHECKS * (seconds / INTERVAL_SECONDS - 1)
            assert not after.all("prober_internal_errors_total")
