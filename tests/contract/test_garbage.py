"""Probes leave no cycles behind: the agent's full collections are rare, and what they would find would pile up."""

from __future__ import annotations

import gc
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from prober.clock import SystemClock
from prober.contract import Io
from prober.deadline import StallMeter
from prober.model import Check, Observation
from prober.net.echo import EchoSockets
from prober.probes import PROBES
from prober.runner import Runner
from prober.schedule import Budgets
from tests.fakes import NoResolver
from tests.webface import until

CLOSED = "127.0.0.1:9"


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Of a UDP socket that nobody reads, and of a TCP socket that is connected to and says nothing."""
    with ExitStack() as stack:
        silent = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        silent.bind(("127.0.0.1", 0))
        listening = stack.enter_context(closing(socket.socket()))
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        yield silent.getsockname()[1], listening.getsockname()[1]


def checks(silent: int, listening: int) -> Iterator[Check]:
    dns: dict[str, Any] = {"query": "www.example.test"}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "dns silent": ("dns", dns | {"server": f"127.0.0.1:{silent}"}),
        "dns refused": ("dns", dns | {"server": CLOSED}),
        "dns over tcp refused": ("dns", dns | {"server": CLOSED, "transport": "tcp"}),
        "tcp ok": ("tcp", {"address": f"127.0.0.1:{listening}"}),
        "tcp refused": ("tcp", {"address": CLOSED}),
        "tcp silent": ("tcp", {"address": f"127.0.0.1:{listening}", "expect": "x"}),
        "http refused": ("http", {"url": f"http://{CLOSED}/"}),
        "http silent": ("http", {"url": f"http://127.0.0.1:{listening}/"}),
        "icmp": ("icmp", {"address": "127.0.0.1"}),
    }
    for name, (kind, options) in wanted.items():
        for number in range(5):
            yield Check(f"{name} {number}", "c", kind, 0.3, 0.2, PROBES[kind].options(**options))


async def test_probes_leave_nothing_to_the_garbage_collector(ports: tuple[int, int]) -> None:
    seen: Counter[str] = Counter()

    def count(observation: Observation) -> None:
        seen[observation.check.target.rpartition(" ")[0]] += 1

    pinger = EchoSockets(None)
    runner = Runner(
        clock=SystemClock(),
        io=Io(NoResolver(), pinger, "test"),
        kinds=PROBES,
        budgets=Budgets(1e6, 1e6),
        concurrency=1000,
        meter=StallMeter(),
        sinks=[count],
    )
    runner.update(checks(*ports))
    runner.start()
    try:
        await until(lambda: len(seen) == 9)  # what is made with the first probe of each is made
        gc.collect()
        gc.disable()
        before = seen.copy()
        await until(lambda: all(seen[name] >= before[name] + 5 for name in before))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = Counter(type(one).__name__ for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        await runner.stop()
        pinger.close()
    probes = sum((seen - before).values())
    assert sum(found.values()) < probes / 10, found  # pytest itself leaves some
