"""What a probe costs: the whole agent and the peers, one after the other, at the same work and the same pace."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import peers
from tests.bench.figures import Cost
from tests.bench.lab import (
    DNS_PORT,
    FAILURES,
    HTTP_PORT,
    QUERY,
    Agent,
    address,
    answering,
    host,
    icmp,
    settings,
    targets,
)
from tests.lab import Namespace

KINDS = ("icmp", "dns", "http", "tcp")
INTERVAL = 1.0
SMOKEPING_MOST = 200
"""With a thousand hosts it does not answer for a minute, and each costs more: this is kind to it."""


def check(kind: str, number: int) -> str:
    """A check of this kind; of all but ICMP, of one of 250 addresses of the same servers."""
    if kind == "dns":
        return f'{{dns: {{server: "127.0.0.1:{DNS_PORT}", query: {QUERY}, type: A}}}}'
    if kind == "http":
        return f'{{http: {{url: "http://127.0.0.1:{HTTP_PORT}/"}}}}'
    if kind == "tcp":
        return f'{{tcp: {{address: "127.0.0.1:{HTTP_PORT}"}}}}'
    return icmp(number)


def asked(kind: str, number: int) -> str:
    """The same as blackbox_exporter is asked for it."""
    return {
        "icmp": address(number),
        "dns": f"127.0.0.1:{DNS_PORT}",
        "http": f"http://127.0.0.1:{HTTP_PORT}/",
        "tcp": f"127.0.0.1:{HTTP_PORT}",
    }[kind]


def ours(namespace: Namespace, directory: Path, kind: str, count: int, seconds: float) -> Cost:
    """What our agent's probes cost."""
    files = targets(directory / "targets.yml", count, lambda n: check(kind, n), INTERVAL)
    with Agent(namespace, settings(directory, files), directory / "data") as agent:
        agent.ready()
        agent.all_seen(count, 60.0)
        time.sleep(0.5)
        return agent.cost(seconds)


def one_round(
    seconds: float, counts: dict[str, int], skipped: dict[str, str], turn: bool, say: Callable[[str], None]
) -> dict[str, dict[str, Cost]]:
    """Every kind by every program that has it. `turn`: the other way round, so that drifts fall on both."""
    found: dict[str, dict[str, Cost]] = {}
    for kind in KINDS:
        found[kind] = {}
        runs = list(_runs(kind, seconds, counts[kind]))
        for name, run in reversed(runs) if turn else runs:
            if name in skipped:
                continue
            say(f"cost: {kind}, {name}")
            with tempfile.TemporaryDirectory(prefix="prober-bench-") as path, host() as namespace:
                directory = Path(path)
                directory.chmod(0o755)
                with answering(namespace, directory):
                    try:
                        found[kind][name] = run(namespace, directory)
                    except FAILURES as error:
                        skipped[f"{name}, {kind}"] = str(error).strip().splitlines()[0]
    return found


Run = Callable[[Namespace, Path], Cost]


def _runs(kind: str, seconds: float, count: int) -> Iterator[tuple[str, Run]]:
    yield "prober", lambda namespace, directory: ours(namespace, directory, kind, count, seconds)
    wanted = [asked(kind, number) for number in range(count)]
    yield (
        "blackbox_exporter",
        lambda namespace, directory: peers.blackbox_cost(namespace, directory, kind, wanted, INTERVAL, seconds),
    )
    if kind == "icmp":
        yield "fping", lambda namespace, _: peers.fping_cost(namespace, wanted, INTERVAL, seconds)
        yield (
            "smokeping_prober",
            lambda namespace, _: peers.smokeping_cost(namespace, wanted[:SMOKEPING_MOST], INTERVAL, seconds),
        )
