"""Ten thousand targets on one core; what a scrape of them takes; all of them unreachable at once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from tests.bench.cost import check
from tests.bench.figures import within
from tests.bench.lab import (
    GZIP,
    Agent,
    NotMeasured,
    Scraped,
    address,
    answering,
    cpu_seconds,
    host,
    icmp,
    memory_bytes,
    probes_made,
    settings,
    targets,
)

SCRAPE_SECONDS = 15.0
SCRAPES_IN_A_ROW = 8
OUTAGE_SECONDS = 300.0
"""So long is waited for the outages of all; a machine that is busy else leaves some unsaid."""


def mixed(number: int) -> str:
    """ICMP every 10 s, DNS and HTTP every 60 s."""
    return f"{{icmp: {{address: {address(number)}}}, interval: 10s}}, {check('dns', number)}, {check('http', number)}"


@contextlib.contextmanager
def agent_on_one_core(count: int, checks: Callable[[int], str], interval: float, rate: int) -> Iterator[Agent]:
    """An agent bound to one core with so many targets, servers beside it on the others."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="prober-bench-") as path, host() as namespace:
        directory = Path(path)
        directory.chmod(0o755)
        files = targets(directory / "targets.yml", count, checks, interval)
        config = settings(directory, files, rate)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores[1:] or cores)  # the bench itself, and the servers that it starts
        try:
            with answering(namespace, directory), Agent(namespace, config, directory / "data", cores[0]) as agent:
                yield agent
        finally:
            os.sched_setaffinity(0, before)


def busy(count: int, seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """CPU, memory and lateness with a scrape every 15 s; then of one scrape after the other."""
    found: dict[str, float] = {"targets": count}
    with agent_on_one_core(count, mixed, 60.0, 5000) as agent:
        agent.ready()
        say(f"scale: {count} targets, until each check has a result")
        agent.all_seen(3 * count, 150.0)
        agent.ask("/metrics", headers=GZIP)  # the first lays the rows out
        time.sleep(5.0)
        say(f"scale: {seconds:g} s with a scrape every {SCRAPE_SECONDS:g} s")
        before, began, used = agent.scrape(), time.monotonic(), cpu_seconds(agent.pid)
        scrapes = []
        while (left := began + seconds - time.monotonic()) > 0:
            time.sleep(min(left, SCRAPE_SECONDS))
            scrapes.append(agent.scraped())
        share = (cpu_seconds(agent.pid) - used) / (time.monotonic() - began)
        after = agent.scrape()
        found |= {
            "cpu_share": share,
            "memory_bytes": memory_bytes(agent.pid),
            "probes_per_second": (probes_made(after) - probes_made(before)) / (time.monotonic() - began),
            "series": after.text.count("\n") - after.text.count("\n#"),
            "failing": after.value("prober_probe_failures_total"),
            "seconds_between_scrapes": SCRAPE_SECONDS,
        }
        found |= _late("late", before, after)
        say("scale: one scrape after the other")
        before = after
        stalls = before.histogram("prober_loop_stall_seconds")
        quiet_from, used_quiet = time.monotonic(), cpu_seconds(agent.pid)
        time.sleep(5.0)
        idle = (cpu_seconds(agent.pid) - used_quiet) / (time.monotonic() - quiet_from)
        before = agent.scrape()
        for _ in range(SCRAPES_IN_A_ROW):
            agent.ask("/metrics", headers=GZIP)
            time.sleep(1.0)
        after = agent.scrape()
        found |= _late("late_scraping", before, after)
        found["scrape_cpu_seconds"] = median(cpu - idle * took for took, cpu, _ in scrapes)
        found["scrape_seconds"] = median(took for took, _, _ in scrapes)
        found["scrape_bytes"] = median(size for _, _, size in scrapes)
        stalled = after.histogram("prober_loop_stall_seconds")
        found["stalls_over_25_ms"] = sum(
            _count(histogram, 0.025) * sign for histogram, sign in ((stalled, 1), (stalls, -1))
        )
    return found


def _count(histogram: dict[float, float], bound: float) -> float:
    return max(histogram.values(), default=0.0) - histogram.get(bound, 0.0)


def _late(name: str, before: Scraped, after: Scraped) -> dict[str, float]:
    """Between which bounds p50 and p99 of the lateness lie, and the share that was later than 20 ms."""
    old, new = (one.histogram("prober_schedule_lateness_seconds") for one in (before, after))
    found = {}
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        found[f"{name}_{word}_over"], found[f"{name}_{word}"] = within(old, new, share)
    starts = new[float("inf")] - old[float("inf")]
    found[f"{name}_share_over_20_ms"] = 1 - (new[0.02] - old[0.02]) / starts if starts else float("nan")
    return found


def outage(count: int, rate: int, say: Callable[[str], None]) -> dict[str, float]:
    """All targets fall silent at once: from the moment an outage is certain to its row in the ledger."""
    with agent_on_one_core(count, icmp, 10.0, rate) as agent:
        agent.ready()
        agent.all_seen(count, 60.0)
        say(f"outage: {count} targets fall silent")
        before = agent.scrape()
        agent.namespace.drop("ip daddr 127.1.0.0-127.120.255.255 icmp type echo-request")
        began, used = time.monotonic(), cpu_seconds(agent.pid)
        ledger = Path(_data_dir(agent)) / "ledger.sqlite3"
        seen: dict[str, float] = {}
        longest, rows = 0.0, 0
        until = began + OUTAGE_SECONDS
        while time.monotonic() < until and rows < count:
            time.sleep(0.25)
            agent.alive()
            now = time.time()
            for name, detected in _opened(ledger, rows and max(seen.values(), default=0.0) - 10.0):
                if name not in seen:
                    seen[name] = detected
                    longest = max(longest, now - detected)
            rows = len(seen)
        if rows < 0.9 * count:
            raise NotMeasured(f"only {rows} of {count} outages were recorded within {OUTAGE_SECONDS:g} s")
        after = agent.scrape()
        sent = after.value("prober_probes_total") - before.value("prober_probes_total")
        return {
            "targets": count,
            "recorded": rows,
            "packets_per_second_allowed": rate,
            "seconds_until_all_recorded": time.monotonic() - began,
            "seconds_from_certain_to_recorded": longest,
            "probes_per_second": sent / (time.monotonic() - began),
            "cpu_share": (cpu_seconds(agent.pid) - used) / (time.monotonic() - began),
            **_late("late", before, after),
        }


def _data_dir(agent: Agent) -> str:
    words = list(agent.process.popen.args)  # type: ignore[arg-type]
    return str(words[words.index("--data-dir") + 1])


def _opened(ledger: Path, since: float) -> list[tuple[str, float]]:
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=5.0)) as connection:
        found: list[tuple[str, float]] = connection.execute(
            "SELECT id, detected_at FROM outages WHERE scope = 'target' AND detected_at >= ?", (since,)
        ).fetchall()
    return found
