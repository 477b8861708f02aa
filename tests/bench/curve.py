"""The cost of a check from a hundred to a hundred thousand of them; how long the most take to start and to reload."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import Cost
from tests.bench.lab import Agent, NotMeasured, host, icmp, settings, targets
from tests.bench.scale import _late
from tests.lab import Namespace

INTERVALS = {100: 1, 1_000: 1, 10_000: 10, 100_000: 60}
"""Checks -> seconds: about a thousand probes a second, so that it is the number of checks that differs."""


def one(count: int, seconds: float, say: Callable[[str], None]) -> tuple[Cost, dict[str, float]]:
    """The cost with so many checks; and start and reload."""
    interval = INTERVALS[count]
    with tempfile.TemporaryDirectory(prefix="prober-bench-") as path, host() as namespace:
        directory = Path(path)
        directory.chmod(0o755)
        files = targets(directory / "targets.yml", count, icmp, interval)
        say(f"curve: {count} checks")
        with Agent(namespace, settings(directory, files), directory / "data") as agent:
            first = _first_probe(agent, namespace)
            agent.all_seen(count, 60.0 + 2.5 * interval)
            time.sleep(2.0)
            cost = agent.cost(seconds, scraped=False)
            took, used, _ = agent.scraped()
            scrape = used - took * cost.cpu_seconds / seconds
            found = {"checks": count, "first_probe_seconds": first, "scrape_cpu_seconds": scrape}
            say(f"curve: {count} checks, reloaded")
            files[0].write_text(files[0].read_text().replace("name: t0,", "name: renamed,"))
            found |= _reload(agent)
    return cost, found


def _first_probe(agent: Agent, namespace: Namespace) -> float:
    """Seconds from the start of the process to the first echo request on the network."""
    with namespace.entered():
        while time.monotonic() < agent.began + 180.0:
            agent.alive()
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
            head, values = (line.split() for line in lines if line.startswith("Icmp:"))
            if int(values[head.index("OutMsgs")]):
                return time.monotonic() - agent.began
            time.sleep(0.02)
    raise NotMeasured("no probe within 180 s")


def _reload(agent: Agent) -> dict[str, float]:
    """How late probes were while the configuration was read again, and how long that took."""
    before = agent.scrape()
    answers: list[bytes] = []
    began = time.monotonic()
    asking = threading.Thread(target=lambda: answers.append(agent.ask("/-/reload", "POST")))
    asking.start()
    asking.join(180.0)
    seconds = time.monotonic() - began
    if answers != [b"reloaded\n"]:
        raise NotMeasured(f"the reload was answered {answers!r}")
    after = agent.scrape()
    return {"reload_seconds": seconds, **_late("reload_late", before, after)}
