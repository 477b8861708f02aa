"""A replay decides as the agent does: the runner with its tasks and deadlines, on the same world, says the same."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prober.contract import Attempt, Io, Kind
from prober.deadline import StallMeter
from prober.judge.records import Outage, Settings
from prober.judging import Judging
from prober.model import Check
from prober.probes import PROBES
from prober.replay.ledger import StepLedger
from prober.replay.run import replay
from prober.replay.truth import Truth
from prober.runner import Runner
from prober.schedule import Budgets
from tests.fakes import NoPinger, NoResolver, VirtualClock, VirtualLoop
from tests.replays import during, world_of

WORLD = (
    "loss: 0.1\n"
    "conditions:\n"
    f"  - {{match: {{entity: land}}, {during(3, 3.5)}, down: true}}\n"
    f"  - {{match: {{target: mirror}}, {during(4, 4.5)}, failure: http_status}}\n"
    f"  - {{match: {{network: south}}, {during(4.2, 4.22)}, down: true}}\n"
    f"observer: [{{{during(5, 5.2)}, offline: true}}]\n"
)


def kinds_of(truth: Truth, clock: VirtualClock, checks: dict[int, Check]) -> dict[str, Kind]:
    """The real kinds, with a probe that sees what the world holds for it."""

    async def probe(options: Any, attempt: Attempt, _io: Io) -> None:
        fate = truth.fate(checks[id(options)].key, clock.now())
        await asyncio.sleep(fate.took)
        attempt.started = time.perf_counter() - fate.took  # what a probe took is measured in real time
        if fate.failure is not None:
            attempt.fail(fate.failure, operation=fate.operation)

    return {
        name: replace(kind, probe=probe, direct=None, times_itself=lambda _options: True)
        for name, kind in PROBES.items()
    }


async def as_the_agent_does(loop: VirtualLoop, directory: Path) -> list[Outage]:
    world = world_of(WORLD, 6)
    clock = VirtualClock(loop, world.start)
    checks = {id(check.options): check for _owner, check in world.checks()}
    kinds = kinds_of(Truth(world, "local", world.seed), clock, checks)
    ledger = StepLedger.opened(directory, clock=clock, clock_error=lambda: 0.0)  # type: ignore[arg-type]
    judging = Judging(
        vantage="local",
        settings=Settings(),
        kinds=kinds,
        entities=world.entities,
        references=world.references,
        clock=clock,
        ledger=ledger,
    )
    await judging.restore()
    runner = Runner(
        clock=clock,
        io=Io(NoResolver(), NoPinger(), ""),
        kinds=kinds,
        budgets=Budgets(world.limits.packets_per_second, world.limits.per_prefix_per_second),
        concurrency=world.limits.concurrency,
        meter=StallMeter(),
        sinks=(),
        listener=judging,
    )
    runner.update(
        [check for entity in world.entities for target in entity.targets for check in target.checks],
        references=[check for reference in world.references for check in reference.checks],
    )
    runner.start()
    judging.start(runner)
    await asyncio.sleep(world.end - world.start)
    await runner.stop()
    await judging.stop()
    outages = await ledger.outages()
    await ledger.close()
    return sorted(outages, key=lambda outage: (outage.start, outage.id))


def test_a_replay_decides_as_the_agent_does(tmp_path: Path) -> None:
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        agents = runner.run(as_the_agent_does(loop, tmp_path))
    replayed = replay(world_of(WORLD, 6)).outages()
    assert len(agents) > 10
    assert [one.id.rpartition(":")[0] for one in agents] == [one.id.rpartition(":")[0] for one in replayed]
    for one, other in zip(agents, replayed, strict=True):
        assert (one.outage_class, one.onset, one.members) == (other.outage_class, other.onset, other.members)
        for bound in ("started_after", "started_by", "start", "detected_at", "ended_after", "ended_by", "end"):
            assert getattr(one, bound) == pytest.approx(getattr(other, bound), abs=1e-4), (one.name, bound)
