"""A country that answers, and then does not. All scenarios run at the same time, each at its own vantage."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

import pytest

from prober.judge.records import GapCause, Onset, OutageClass
from tests.e2e.agent import open_directory
from tests.e2e.country import (
    ENTITY,
    NETWORKS,
    SCOPES_OF_NORTH,
    SCOPES_OF_SOUTH,
    TARGETS,
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

QUICK: Final = "{interval: 1s, timeout: 300ms}"
QUICK_JUDGEMENT: Final = "{confirm_interval: 100ms, blip: 5s, false_outages_per_year: 1000}"
"""About six failures in a row: what is shown does not depend on how sure the agent must be."""

NEVER: Final = """\
entity: never
defaults: {defaults}
networks:
  known: {{prefix: 198.18.1.0/24}}
  silent: {{prefix: 198.18.9.0/24}}
targets:
  - {{name: known, network: known, checks: [{{icmp: {{address: 198.18.1.1}}}}]}}
  - name: silent
    network: silent
    checks:
      - icmp: {{address: 198.18.9.1}}
      - http: {{url: "http://198.18.9.1/"}}
"""

AT_THE_NEXT_ROUND: Final = 4.0
"""Within so many seconds of an end everything has been asked again and recorded."""


def one_network(vantage: Vantage) -> None:
    vantage.warm_up()
    cut = vantage.cut_network("north")
    vantage.watch(12.0)
    assert vantage.verdict("network", "north") == (0.0, 1.0)
    assert vantage.verdict("network", "south") == (1.0, 1.0)
    assert vantage.verdict("entity", ENTITY) == (1.0, 1.0)
    assert vantage.metrics().value("prober_entity_networks", entity=ENTITY, state="down") == 1.0
    assert vantage.metrics().value("prober_outage_seconds", scope="network", name="north") > 5.0
    vantage.watch(cut.end + 20.0 - time.time())
    mended = vantage.mend_network()
    outages = vantage.settled()
    vantage.watch(AT_THE_NEXT_ROUND)
    outages = vantage.outages()
    assert scopes(outages) == sorted(SCOPES_OF_NORTH), told(outages)
    for outage in outages:
        assert_holds(outage, cut, mended)
        assert outage.outage_class is OutageClass.OUTAGE
        assert outage.onset is Onset.ABRUPT, told([outage])
        assert outage.restored_full is not None
    network = only(outages, "network", "north")
    assert network.duration_seconds == pytest.approx(mended.end - cut.end, abs=3.0)
    assert vantage.gaps() == []
    metrics = vantage.metrics()
    assert metrics.value("prober_outages_total", scope="network", name="north", **{"class": "outage"}) == 1.0
    assert metrics.value("prober_outage_seconds", scope="network", name="north") == 0.0
    for bound in ("started_after", "started_by", "ended_after", "ended_by"):
        shown = metrics.value(f"prober_past_outage_{bound}_timestamp_seconds", scope="network", name="north")
        assert shown == pytest.approx(getattr(network, bound), abs=0.001)
    shown = metrics.value("prober_past_outage_seconds", scope="network", name="north")
    assert shown == pytest.approx(network.duration_seconds, abs=0.001)


def all_networks(vantage: Vantage) -> None:
    vantage.warm_up()
    cut = vantage.cut_network(*NETWORKS)
    vantage.watch(12.0)
    assert vantage.verdict("entity", ENTITY) == (0.0, 1.0)
    assert vantage.verdict("target", "mirror") == (1.0, 1.0)
    assert vantage.verdict("site", "news") == (1.0, 1.0)
    vantage.watch(cut.end + 20.0 - time.time())
    mended = vantage.mend_network()
    vantage.settled()
    vantage.watch(AT_THE_NEXT_ROUND)
    outages = vantage.outages()
    assert scopes(outages) == sorted({*SCOPES_OF_NORTH, *SCOPES_OF_SOUTH, ("entity", ENTITY)}), told(outages)
    for outage in outages:
        assert_holds(outage, cut, mended)
    assert only(outages, "entity", ENTITY).members["down"] >= 1
    assert vantage.gaps() == []


def own_uplink(vantage: Vantage) -> None:
    vantage.warm_up()
    cut = vantage.cut_uplink()
    vantage.watch(10.0)
    assert vantage.metrics().value("prober_observer_up") == 0.0
    assert vantage.verdict("entity", ENTITY) == (1.0, 0.0)
    assert vantage.verdict("check", "north-1/icmp") == (1.0, 0.0)
    vantage.watch(cut.end + 20.0 - time.time())
    mended = vantage.mend_uplink()
    vantage.metrics_when(lambda m: m.value("prober_observer_up") == 1.0, 30.0, "the observer is back")
    vantage.watch(AT_THE_NEXT_ROUND)
    assert vantage.verdict("entity", ENTITY) == (1.0, 1.0)
    assert vantage.outages() == [], told(vantage.outages())
    (gap,) = vantage.gaps()
    assert gap.cause is GapCause.OFFLINE
    assert gap.begin == pytest.approx(cut.begin, abs=4.0)
    assert gap.end == pytest.approx(mended.end, abs=4.0)


def own_cable(vantage: Vantage) -> None:
    vantage.warm_up()
    vantage.unplug()
    vantage.watch(8.0)
    assert vantage.verdict("entity", ENTITY) == (1.0, 0.0)
    assert vantage.metrics().value("prober_observer_up") == 0.0
    vantage.watch(4.0)
    vantage.plug()
    vantage.metrics_when(lambda m: m.value("prober_observer_up") == 1.0, 30.0, "the observer is back")
    vantage.watch(AT_THE_NEXT_ROUND)
    assert vantage.verdict("entity", ENTITY) == (1.0, 1.0)
    assert vantage.outages() == [], told(vantage.outages())
    (gap,) = vantage.gaps()
    assert gap.cause is GapCause.OFFLINE


def both_at_once(vantage: Vantage) -> None:
    vantage.warm_up()
    vantage.cut_uplink()
    cut = vantage.cut_network(*NETWORKS)
    vantage.watch(10.0)
    assert vantage.outages() == [], told(vantage.outages())
    back = vantage.mend_uplink()
    vantage.outages_when(lambda found: ("entity", ENTITY) in scopes(found), 30.0, "the outage is found after the gap")
    vantage.watch(back.end + 12.0 - time.time())
    mended = vantage.mend_network()
    vantage.settled()
    vantage.watch(AT_THE_NEXT_ROUND)
    outages = vantage.outages()
    assert scopes(outages) == sorted({*SCOPES_OF_NORTH, *SCOPES_OF_SOUTH, ("entity", ENTITY)}), told(outages)
    for outage in outages:
        assert_holds(outage, cut, mended)
        assert outage.started_by >= back.begin, f"nothing was seen before the uplink was back:\n{told([outage])}"
    (gap,) = vantage.gaps()
    assert gap.cause is GapCause.OFFLINE
    assert gap.end is not None


def never_answered(vantage: Vantage) -> None:
    vantage.watch(24.0)
    assert vantage.outages() == [], told(vantage.outages())
    assert vantage.verdict("network", "silent") == (None, 0.0)
    assert vantage.verdict("entity", "never") == (1.0, 1.0)  # one network is up, so it is not dark
    vantage.cut_network("north")
    outages = vantage.outages_when(lambda found: ("network", "known") in scopes(found), 30.0, "the known one is down")
    vantage.watch(5.0)
    outages = vantage.outages()
    assert scopes(outages) == [("check", "known/icmp"), ("network", "known"), ("target", "known")], told(outages)
    assert vantage.verdict("entity", "never") == (1.0, 0.0), "a country is not dark because the one known network is"


def silent_from_the_start(vantage: Vantage) -> None:
    vantage.watch(20.0)
    assert vantage.outages() == [], told(vantage.outages())
    assert vantage.verdict("entity", ENTITY) == (None, 0.0)
    assert vantage.verdict("check", "north-1/icmp") == (None, 0.0)
    assert vantage.verdict("check", "mirror/icmp") == (1.0, 1.0)
    assert vantage.gaps() == []


def loss(vantage: Vantage, seconds: float = 60.0) -> None:
    vantage.watch(10.0)
    vantage.lose(30)
    vantage.watch(seconds)
    assert vantage.outages() == [], told(vantage.outages())
    for scope, name in (("entity", ENTITY), ("network", "north"), ("network", "south")):
        assert vantage.verdict(scope, name)[0] == 1.0


def flapping_uplink(vantage: Vantage, seconds: float = 40.0) -> None:
    """With little proof needed for an outage: the references alone must prevent one."""
    chance = random.Random(3)
    vantage.warm_up()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        vantage.cut_uplink()
        vantage.watch(chance.uniform(1.0, 10.0))
        vantage.mend_uplink()
        vantage.watch(chance.uniform(1.0, 10.0))
    vantage.watch(AT_THE_NEXT_ROUND)
    assert vantage.outages() == [], told(vantage.outages())
    assert all(gap.cause is GapCause.OFFLINE for gap in vantage.gaps())


def blip(vantage: Vantage) -> None:
    vantage.warm_up()
    cut = vantage.cut_network("north")
    vantage.watch(5.0)
    mended = vantage.mend_network()
    vantage.settled()
    vantage.watch(AT_THE_NEXT_ROUND)
    outages = vantage.outages()
    assert set(scopes(outages)) <= SCOPES_OF_NORTH
    assert ("network", "north") in scopes(outages)
    for outage in outages:
        assert_holds(outage, cut, mended)
        assert outage.outage_class is OutageClass.BLIP
    metrics = vantage.metrics()
    assert metrics.value("prober_outages_total", scope="network", name="north", **{"class": "blip"}) == 1.0
    assert metrics.value("prober_outages_total", scope="network", name="north", **{"class": "outage"}) == 0.0


def ramp(vantage: Vantage) -> None:
    vantage.warm_up(65.0)
    began = time.time()
    for percent in range(5, 65, 5):
        vantage.lose(percent, NETWORKS["north"])
        vantage.watch(3.5)
    cut = vantage.cut_network("north")
    vantage.watch(14.0)
    vantage.mend("loss")
    mended = vantage.mend_network()
    vantage.settled()
    outages = vantage.outages()
    network = only(outages, "network", "north")
    assert_holds(network, cut, mended)
    assert network.onset is Onset.PROGRESSIVE, told([network])
    assert network.degraded_since is not None
    # to within a bucket of the history, which is 20 regular probes wide
    assert began - 21.0 <= network.degraded_since <= cut.begin, (network.degraded_since - began, told([network]))
    assert not [one for one in outages if (one.scope, one.name) == ("network", "south")]


RENAMED: Final = (
    TARGETS.replace("- name: north-1\n", "- name: north-one\n")
    .replace("  - name: north-2\n    network: north\n    checks: [{{icmp: {{address: 198.18.1.2}}}}]\n", "")
    .replace(
        "  - name: south-1\n",
        "  - name: north-new\n    network: north\n    checks: [{{icmp: {{address: 198.18.1.2}}}}]\n  - name: south-1\n",
    )
)
"""Of network north, one target is renamed, one is gone, one is new, and `north-ns` stays."""


def reload(vantage: Vantage) -> None:
    vantage.warm_up(14.0)
    cut = vantage.cut_network("north")
    vantage.outages_when(
        lambda found: scopes(found) == sorted(SCOPES_OF_NORTH), 30.0, "everything in the north is down"
    )
    before = {(one.scope, one.name): one for one in vantage.outages()}
    vantage.targets.write_text(RENAMED.format(defaults=QUICK))
    vantage.agent.signal(signal.SIGHUP)
    gone = {place for place in SCOPES_OF_NORTH if place[1].startswith(("north-1", "north-2"))}
    outages = vantage.outages_when(
        lambda found: {(one.scope, one.name) for one in found if not one.ongoing} == gone,
        30.0,
        "what is gone is closed",
    )
    for outage in outages:
        if outage.ongoing:
            assert outage.id == before[outage.scope, outage.name].id
        else:
            assert outage.ended_by is None
            assert outage.end is None
            assert outage.note.startswith("abandoned")
            # Times are kept on the runner's clock and told in UTC: the sum may differ in the last digits.
            assert outage.ended_after >= before[outage.scope, outage.name].ended_after - 0.001
    vantage.watch(3.0)
    assert scopes(vantage.outages()) == sorted(SCOPES_OF_NORTH), "what is new has no outage"
    assert vantage.verdict("target", "north-new") == (None, 0.0)
    assert vantage.verdict("target", "north-one") == (None, 0.0)
    assert vantage.verdict("network", "north") == (0.0, 1.0)
    assert not vantage.metrics().all("prober_up", name="north-2")
    mended = vantage.mend_network()
    outages = vantage.settled()
    vantage.watch(2.0)
    outages = vantage.outages()
    assert scopes(outages) == sorted(SCOPES_OF_NORTH), told(outages)
    for place in SCOPES_OF_NORTH - gone:
        assert_holds(only(outages, *place), cut, mended)
    for name in ("north-new", "north-one", "north-ns"):
        assert vantage.verdict("target", name) == (1.0, 1.0)
    # and the whole network taken away while it is down
    vantage.watch(6.0)
    vantage.cut_network("north")
    vantage.outages_when(lambda found: any(one.ongoing and one.name == "north" for one in found), 30.0, "down again")
    without = RENAMED.replace("  north: {{prefix: 198.18.1.0/24}}\n", "").replace("    network: north\n", "")
    vantage.targets.write_text(without.format(defaults=QUICK))
    vantage.agent.signal(signal.SIGHUP)
    outages = vantage.outages_when(
        lambda found: not any(one.ongoing and one.name == "north" for one in found), 30.0, "no such network any more"
    )
    newest = max((one for one in outages if one.name == "north"), key=lambda one: one.start)
    assert newest.note.startswith("abandoned")
    assert not vantage.metrics().all("prober_up", scope="network", name="north")
    assert any(one.ongoing and one.name == "north-ns" for one in outages), "its targets stay"


SCENARIOS: Final[dict[Callable[[Vantage], None], dict[str, str]]] = {
    ramp: {"timing": QUICK},
    one_network: {},
    all_networks: {},
    own_uplink: {},
    own_cable: {},
    both_at_once: {},
    never_answered: {"targets": NEVER},
    silent_from_the_start: {},
    loss: {},
    flapping_uplink: {"timing": QUICK, "judgement": QUICK_JUDGEMENT},
    blip: {"timing": QUICK, "judgement": QUICK_JUDGEMENT},
    reload: {"timing": QUICK, "judgement": QUICK_JUDGEMENT},
}
"""Each with what is different in its configuration."""


BY_NAME: Final = {scenario.__name__: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def played() -> Iterator[Plays]:
    """All scenarios, under way."""
    require_program("nft")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))

        def stage(stack: ExitStack, name: str, label: str) -> Callable[[], None]:
            scenario = BY_NAME[name]
            vantage = Vantage(stack, world, label, **SCENARIOS[scenario])
            if scenario is silent_from_the_start:
                vantage.cut_network(*NETWORKS)
            vantage.start(wait=False)
            return when_ready([vantage], partial(scenario, vantage))

        yield Plays(stack, BY_NAME, stage)


@pytest.mark.parametrize("name", list(reversed(BY_NAME)))
def test_outages(played: Plays, name: str) -> None:
    played.result(name)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("scenario", "seconds"), [(loss, 600.0), (flapping_uplink, 180.0)])
def test_outages_for_long(scenario: Callable[..., None], seconds: float) -> None:
    require_program("nft")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))
        vantage = Vantage(stack, world, "soak", **SCENARIOS[scenario])
        vantage.start()
        scenario(vantage, seconds)
