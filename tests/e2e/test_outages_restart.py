"""An agent that is killed at any moment: what the ledger holds is the truth, each outage once."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest

from prober.judge.records import GapCause, Outage
from tests.e2e.agent import open_directory
from tests.e2e.country import (
    ENTITY,
    SCOPES_OF_NORTH,
    Moment,
    Vantage,
    World,
    assert_holds,
    only,
    scopes,
    told,
)
from tests.e2e.plays import Plays, when_ready
from tests.lab import require_program

pytestmark = pytest.mark.timeout(300)

TIMING: Final = "{interval: 1s, timeout: 300ms}"
JUDGEMENT: Final = "{confirm_interval: 100ms, blip: 3s, false_outages_per_year: 1000}"
"""Six failures in a row or so: outages can be short, and come often."""

SNAPSHOT_WRITTEN: Final = 13.0
"""After so many seconds everything that is needed for an outage is learned and in a snapshot."""

FOUND_WITHIN: Final = 8.0
"""A cut that an agent without interruption has seen for so long is in the ledger; likewise its end."""


@dataclass
class Truth:
    """What was done to network north and to the agent."""

    cuts: list[Moment] = field(default_factory=list)
    mends: list[Moment] = field(default_factory=list)
    lives: list[tuple[float, float]] = field(default_factory=list)

    def watched(self, begin: float, end: float) -> float:
        """The longest time between the two that one agent saw."""
        return max((min(end, died) - max(begin, born) for born, died in self.lives), default=0.0)

    def explain(self, outages: list[Outage]) -> None:
        """Each outage of one scope is one cut, in order, and no cut that could be seen is missing.

        Cuts are one outage if what was between them could not be seen.
        """
        following = 0
        for outage in outages:
            assert not outage.ongoing
            assert outage.note == ""
            assert outage.started_after is not None
            assert outage.ended_by is not None
            begins = range(following, len(self.cuts))
            begins_in = [n for n in begins if self._began(outage, n)]
            assert begins_in, f"an outage too many, or with wrong bounds: {told([outage])}\n{self}"
            first = begins_in[
                -1
            ]  # after a crash the bounds may be wide: they hold earlier cuts too, which were not seen
            for number in range(following, first):
                self._unseen(number, outages)
            ends_in = [n for n in range(first, len(self.mends)) if self._ended(outage, n)]
            assert ends_in, f"closed wrongly: {told([outage])}\n{self}"
            last = ends_in[0]
            for number in range(first, last):
                between = self.watched(self.mends[number].end, self.cuts[number + 1].begin)
                assert between < FOUND_WITHIN, f"an end was missed: {told([outage])}\n{self}"
            following = last + 1
        for left in range(following, len(self.cuts)):
            self._unseen(left, outages)

    def _began(self, outage: Outage, number: int) -> bool:
        after, by = outage.started_after, outage.started_by
        return (after is None or after <= self.cuts[number].end) and by >= self.cuts[number].begin

    def _ended(self, outage: Outage, number: int) -> bool:
        after, by = outage.ended_after, outage.ended_by
        return after <= self.mends[number].end and by is not None and by >= self.mends[number].begin

    def _unseen(self, number: int, outages: list[Outage]) -> None:
        seen = self.watched(self.cuts[number].end, self.mends[number].begin)
        assert seen < FOUND_WITHIN, f"cut {number} ({self.cuts[number]}) is not in the ledger:\n{told(outages)}\n{self}"


def kill(vantage: Vantage) -> dict[str, Outage]:
    """What the agent shows is on the disk, and stays there when it is killed: the ledger by then."""
    metrics = vantage.metrics()
    vantage.agent.signal(signal.SIGKILL)
    vantage.agent.process.wait()
    outages = vantage.outages()
    for sample in metrics.all("prober_outage_started_by_timestamp_seconds"):
        if sample.value:
            place = sample.labels["scope"], sample.labels["name"]
            found = [one for one in outages if (one.scope, one.name) == place]
            assert [one for one in found if abs(one.started_by - sample.value) < 0.01], f"{sample} is not in the ledger"
    for scope, name in SCOPES_OF_NORTH:
        counted = sum(s.value for s in metrics.all("prober_outages_total", scope=scope, name=name))
        ended = [one for one in outages if (one.scope, one.name) == (scope, name) and not one.ongoing]
        assert counted <= len(ended), f"{counted} of {scope} {name} were shown as ended:\n{told(ended)}"
    return {one.id: one for one in outages}


def start_again(vantage: Vantage, before: dict[str, Outage]) -> None:
    """Nothing that the ledger held is gone or different."""
    vantage.start()
    after = {one.id: one for one in vantage.outages()}
    for name, outage in before.items():
        assert name in after, f"lost: {told([outage])}"
        if outage.ongoing:
            assert after[name].started_by == pytest.approx(outage.started_by, abs=0.01)
        else:
            assert after[name].ended_by == outage.ended_by, told([outage, after[name]])
            assert after[name].ended_after == outage.ended_after, told([outage, after[name]])
    places = [(one.scope, one.name) for one in after.values() if one.ongoing]
    assert len(places) == len(set(places)), f"open twice: {told(after.values())}"


def killed_at_random(vantage: Vantage, kills: int, seed: int) -> None:
    chance, truth = random.Random(seed), Truth()
    vantage.warm_up(SNAPSHOT_WRITTEN)
    truth.lives.append((0.0, 0.0))
    born = time.time() - SNAPSHOT_WRITTEN
    over = threading.Event()
    weather = threading.Thread(target=_weather, args=(vantage, truth, random.Random(-seed), over))
    weather.start()
    try:
        while len(truth.lives) <= kills or (few(vantage, kills) and len(truth.lives) <= 3 * kills):
            time.sleep(chance.uniform(0.3, 5.0))
            before = kill(vantage)
            truth.lives.append((born, time.time()))
            start_again(vantage, before)
            born = time.time()
    finally:
        over.set()
        weather.join()
    vantage.settled()
    vantage.watch(2.0)
    truth.lives.append((born, time.time()))
    outages = vantage.outages()
    assert set(scopes(outages)) <= SCOPES_OF_NORTH, told(outages)
    for place in SCOPES_OF_NORTH:
        truth.explain([one for one in outages if (one.scope, one.name) == place])
    gaps = vantage.gaps()
    assert {gap.cause for gap in gaps} == {GapCause.STOPPED}
    killed = len(truth.lives) - 2
    assert killed >= kills
    assert len(gaps) == killed
    assert len({gap.id for gap in gaps}) == killed
    assert not few(vantage, kills), "too few to mean anything"


def few(vantage: Vantage, kills: int) -> bool:
    """How many outages there are is up to chance, and a busy machine's agents live too short to find one: go on."""
    return len([one for one in vantage.outages() if one.scope == "network"]) < kills // 4


def _weather(vantage: Vantage, truth: Truth, chance: random.Random, over: threading.Event) -> None:
    while not over.is_set():
        truth.cuts.append(vantage.cut_network("north"))
        over.wait(chance.uniform(2.5, 8.0))
        truth.mends.append(vantage.mend_network())
        over.wait(chance.uniform(4.0, 8.0))


def cut_while_dead(vantage: Vantage) -> None:
    """What was learned is there after the restart: without it, nobody would know that these hosts ever answered."""
    vantage.warm_up(SNAPSHOT_WRITTEN)
    before = kill(vantage)
    cut = vantage.cut_network("north")
    start_again(vantage, before)
    assert vantage.verdict("network", "south")[0] == 1.0
    vantage.outages_when(lambda found: scopes(found) == sorted(SCOPES_OF_NORTH), 30.0, "the outage is found")
    vantage.watch(5.0)
    mended = vantage.mend_network()
    vantage.settled()
    vantage.watch(3.0)
    outages = vantage.outages()
    assert scopes(outages) == sorted(SCOPES_OF_NORTH)
    for outage in outages:
        assert_holds(outage, cut, mended)


def mended_while_dead(vantage: Vantage) -> None:
    """An open outage goes on over a crash, and one that ended meanwhile ends somewhere in the gap."""
    vantage.warm_up(SNAPSHOT_WRITTEN)
    cut = vantage.cut_network("north")
    vantage.outages_when(lambda found: scopes(found) == sorted(SCOPES_OF_NORTH), 30.0, "the outage is found")
    before = kill(vantage)
    start_again(vantage, before)
    assert vantage.verdict("network", "north")[0] == 0.0
    vantage.watch(3.0)
    assert {one.id for one in vantage.outages() if one.ongoing} == set(before)
    asked = time.time()
    shown = vantage.metrics().value("prober_outage_seconds", scope="network", name="north")
    since = only(vantage.outages(), "network", "north").start
    assert asked - since - 1.0 <= shown <= time.time() - since + 1.0
    before = kill(vantage)
    mended = vantage.mend_network()
    killed = time.time()
    time.sleep(3.0)
    start_again(vantage, before)
    vantage.settled()
    vantage.watch(3.0)
    outages = vantage.outages()
    assert {one.id for one in outages} == set(before)
    for outage in outages:
        assert_holds(outage, cut, mended)
        assert outage.ended_by is not None
        assert outage.ended_by - outage.ended_after > 3.0, "nobody looked for longer than that"
        assert outage.ended_after <= killed
        assert outage.unobserved_seconds > 3.0
    assert vantage.verdict("entity", ENTITY) == (1.0, 1.0)


def stopped_in_an_outage(vantage: Vantage) -> None:
    """SIGTERM: the same, and nothing is lost of the last seconds."""
    vantage.warm_up(SNAPSHOT_WRITTEN)
    cut = vantage.cut_network("north")
    vantage.outages_when(lambda found: scopes(found) == sorted(SCOPES_OF_NORTH), 30.0, "the outage is found")
    vantage.watch(3.0)
    stopping = time.time()
    assert vantage.agent.process.stop() == 0
    stopped = time.time()
    before = {one.id: one for one in vantage.outages()}
    for outage in before.values():
        assert outage.ongoing
        assert outage.ended_after > stopping - 4.0
    start_again(vantage, before)
    vantage.watch(4.0)
    mended = vantage.mend_network()
    vantage.settled()
    outages = vantage.outages()
    assert {one.id for one in outages} == set(before)
    for outage in outages:
        assert_holds(outage, cut, mended)
    (gap,) = vantage.gaps()
    assert gap.cause is GapCause.STOPPED
    assert stopping - 1.0 <= gap.begin <= stopped + 1.0


def _vantage(stack: ExitStack, world: World, label: str) -> Vantage:
    return Vantage(stack, world, label, timing=TIMING, judgement=JUDGEMENT)


SCENARIOS: Final[dict[str, Callable[[Vantage], None]]] = {
    **{scenario.__name__: scenario for scenario in (cut_while_dead, mended_while_dead, stopped_in_an_outage)},
    **{f"killed_at_random_{seed}": partial(killed_at_random, kills=10, seed=seed) for seed in range(4)},
}


@pytest.fixture(scope="module")
def played() -> Iterator[Plays]:
    """All of it, under way: forty kills in all, and what is looked at closely."""
    require_program("nft")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))

        def stage(stack: ExitStack, name: str, label: str) -> Callable[[], None]:
            vantage = _vantage(stack, world, label)
            vantage.start(wait=False)
            return when_ready([vantage], partial(SCENARIOS[name], vantage))

        yield Plays(stack, SCENARIOS, stage)


@pytest.mark.parametrize("name", SCENARIOS)
def test_restart(played: Plays, name: str) -> None:
    played.result(name)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_160_times_more() -> None:
    require_program("nft")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))
        vantages = [_vantage(stack, world, f"soak-{number}") for number in range(4)]
        for vantage in vantages:
            vantage.start()
        with ThreadPoolExecutor(len(vantages)) as pool:
            plays = [pool.submit(killed_at_random, one, 40, 100 + number) for number, one in enumerate(vantages)]
        for play in plays:
            play.result()
