"""The same three outages twice: in a world on a virtual clock, and in real time through the agent."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from math import inf

import pytest

from prober.config import load_world
from prober.judge.records import Outage
from prober.replay.run import replay
from tests.e2e.agent import open_directory
from tests.e2e.country import NORTH, Moment, Vantage, World, assert_holds, told

pytestmark = pytest.mark.timeout(240)

TIMING = "{interval: 1s, timeout: 500ms}"
JUDGEMENT = "{confirm_interval: 200ms, blip: 6s, false_outages_per_year: 1000}"
LEARN_SECONDS = 15.0
LONG_SECONDS = 12.0
SHORT_SECONDS = 4.5
BETWEEN_SECONDS = 5.0

HEAD = """\
world: The same
start: {start}
end: {end}
targets: {targets}
references: {references}
vantages: [{label}]
judgement: {judgement}
limits: {{per_prefix_per_second: 1000, packets_per_second: 5000}}
rtt: 1ms
conditions:
"""


def test_the_agent_in_real_time_and_the_replay_say_the_same() -> None:
    # one network, the whole country (not its mirror abroad), one host for less than a blip
    cuts = [
        (("ip daddr 198.18.1.0/24",), "network: north", LONG_SECONDS),
        (("ip daddr 198.18.1.0/24", "ip daddr 198.18.2.0/24"), "network: [north, south]", LONG_SECONDS),
        ((f"ip daddr {NORTH[1]}",), "target: north-2", SHORT_SECONDS),
    ]
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        vantage = Vantage(stack, World(stack, directory), "twice", timing=TIMING, judgement=JUDGEMENT)
        agent = vantage.start()
        began = time.time() - (time.monotonic() - agent.started)
        vantage.warm_up(LEARN_SECONDS)
        truth: list[tuple[Moment, Moment]] = []
        for number, (matches, _, seconds) in enumerate(cuts):
            cut = vantage.cut(f"cut{number}", *matches)
            vantage.watch(cut.end + seconds - time.time())
            truth.append((cut, vantage.mend(f"cut{number}")))
            vantage.settled()
            vantage.watch(BETWEEN_SECONDS)
        seen = vantage.outages()
        world = directory / "world.yml"
        world.write_text(
            HEAD.format(
                start=rfc3339(began),
                end=rfc3339(time.time()),
                targets=vantage.targets,
                references=vantage.directory / "references.yml",
                label=vantage.label,
                judgement=JUDGEMENT,
            )
            + "".join(
                f"  - {{match: {{{match}}}, from: {rfc3339(middle(cut))}, to: {rfc3339(middle(mended))}, down: true}}\n"
                for (_, match, _), (cut, mended) in zip(cuts, truth, strict=True)
            )
        )
        replayed = replay(load_world(world)).outages()
    real, virtual = in_order(seen), in_order(replayed)
    both = f"real:\n{told(seen)}\nreplayed:\n{told(replayed)}"
    assert real.keys() == virtual.keys(), both
    # a mirror abroad is never down; each host of the north fell with its network and with the country
    assert [one.outage_class for one in real["entity", "country"]] == ["outage"]
    assert [one.outage_class for one in real["network", "north"]] == ["outage", "outage"]
    assert [one.outage_class for one in real["target", "north-2"]] == ["outage", "outage", "blip"]
    for scope, found in real.items():
        others = virtual[scope]
        assert [one.outage_class for one in found] == [one.outage_class for one in others], both
        for one, other in zip(found, others, strict=True):
            cut, mended = next(times for times in truth if times[1].end > one.start)
            for record in (one, other):
                assert_holds(record, cut, mended)
            assert overlaps((one.started_after, one.started_by), (other.started_after, other.started_by)), both
            assert overlaps((one.ended_after, one.ended_by), (other.ended_after, other.ended_by)), both


def in_order(outages: list[Outage]) -> dict[tuple[str, str], list[Outage]]:
    """By scope and name, oldest first."""
    found: dict[tuple[str, str], list[Outage]] = {}
    for one in sorted(outages, key=lambda one: one.start):
        found.setdefault((one.scope, one.name), []).append(one)
    return found


def overlaps(one: tuple[float | None, float | None], other: tuple[float | None, float | None]) -> bool:
    """Have two bounds a moment in common?"""
    low, high = (-inf if one[0] is None else one[0]), (inf if one[1] is None else one[1])
    return low <= (inf if other[1] is None else other[1]) and high >= (-inf if other[0] is None else other[0])


def middle(moment: Moment) -> float:
    return (moment.begin + moment.end) / 2


def rfc3339(at: float) -> str:
    """To the microsecond."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
