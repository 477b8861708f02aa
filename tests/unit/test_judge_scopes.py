"""Tables for scopes: rollup, class, restoration, reload, clock steps, gaps. Driven on the simulator."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from prober.judge import Verdict
from prober.judge.detector import Detector
from prober.judge.records import GapCause, Onset, OutageClass, Settings
from prober.judge.rollup import Node
from prober.model import Check, Entity, Network, Site, Target
from tests.property.judge_sim import Fate, Sim, make_check, make_entity, make_references

Spans = Mapping[str, list[tuple[float, float]]]


def falls(spans: Spans, loss: float = 0.0) -> Fate:
    """Down by the first letters of the check's key."""

    def fate(check: Check, at: float, chance: random.Random) -> bool:
        if any(check.key.startswith(key) and begin <= at < end for key, rows in spans.items() for begin, end in rows):
            return False
        return chance.random() >= (0.0 if check.target.startswith("ref") else loss)

    return fate


def leaf(value: bool | None, ever_up: bool = True) -> Node:
    detector = Detector(make_check("host"), Settings())
    detector.ever_up, detector.observed, detector.down = ever_up, value is not None, value is False
    node = Node("check", "host/icmp", "land", leaf=detector)
    node.value = node.evaluate()
    return node


@pytest.mark.parametrize(
    ("rule", "members", "expected"),
    [
        ("any", [True, False], True),
        ("any", [False, False], False),
        ("any", [False, None], None),
        ("any", [True, None], True),
        ("all", [True, False], False),
        ("all", [True, True], True),
        ("all", [True, None], None),
        ("all", [False, None], False),
        ("any", [], None),
    ],
)
def test_three_valued_rules(rule: str, members: list[bool | None], expected: bool | None) -> None:
    node = Node("target", "host", "land", children=[leaf(value) for value in members], rule=rule)  # type: ignore[arg-type]
    assert node.evaluate() is expected
    # one that was never seen up changes nothing
    more = [*(leaf(value) for value in members), leaf(None, ever_up=False)]
    assert Node("target", "host", "land", children=more, rule=rule).evaluate() is expected  # type: ignore[arg-type]


def land() -> Entity:
    def target(name: str, network: str | None, site: str | None = None) -> Target:
        checks = (make_check(name, 20.0, 3.0), make_check(name, 20.0, 3.0, "http"))
        return Target(name, "land", checks, network=network, site=site)

    return Entity(
        "land",
        networks=(Network("neta", "land", "192.0.2.0/25"), Network("netb", "land", "192.0.2.128/25")),
        sites=(Site("paper", "land"),),
        targets=(target("a1", "neta", "paper"), target("b1", "netb"), target("mirror", None, "paper")),
    )


@pytest.mark.parametrize(
    ("down", "scopes", "entity"),
    [
        (["a1/http"], {"check a1/http"}, Verdict.UP),
        (["a1"], {"check a1/icmp", "check a1/http", "target a1", "network neta"}, Verdict.PARTIAL),
        (["mirror/http", "a1/http"], {"check mirror/http", "check a1/http", "site paper"}, Verdict.UP),
        (
            ["a1", "b1"],
            {"check a1/icmp", "check a1/http", "target a1", "network neta"}
            | {"check b1/icmp", "check b1/http", "target b1", "network netb", "entity land"},
            Verdict.DARK,
        ),
        (["mirror"], {"check mirror/icmp", "check mirror/http", "target mirror"}, Verdict.UP),
    ],
)
def test_which_scopes_are_down(down: list[str], scopes: set[str], entity: Verdict) -> None:
    sim = Sim([land()], falls({key: [(1000.0, 9000.0)] for key in down}))
    sim.run(2000)
    assert {f"{one.scope} {one.name}" for one in sim.tally.opened} == scopes
    assert {one.name: one.verdict for one in sim.judge.states() if one.scope == "entity"} == {"land": entity}


def test_restoration_has_a_first_and_a_full_moment() -> None:
    sim = Sim([land()], falls({"a1": [(1000.0, 2000.0)], "b1": [(1000.0, 2600.0)]}))
    sim.run(4000)
    (dark,) = [one for one in sim.tally.closed if one.scope == "entity"]
    (full,) = [one for one in sim.tally.updated if one.scope == "entity"]
    assert dark.restored_full is None
    assert dark.ended_by == pytest.approx(2000, abs=15)
    assert full.restored_full == pytest.approx(2600, abs=15)
    assert dark.id == full.id


@pytest.mark.parametrize(("length", "expected"), [(25.0, "blip"), (300.0, "outage")])
def test_blip_or_outage(length: float, expected: str) -> None:
    entity = make_entity(1, 2.0, 0.5)
    settings = Settings(confirm_interval_seconds=0.2)
    sim = Sim([entity], falls({"host": [(300.0, 300.0 + length)]}), settings=settings)
    sim.run(800)
    assert {str(one.outage_class) for one in sim.tally.closed} == {expected}
    for one in sim.tally.closed:
        assert one.duration_seconds == pytest.approx(length, abs=3)
        assert one.to_json()["class"] == expected


def test_onset_and_flapping() -> None:
    sim = Sim([make_entity(1, 20.0, 3.0)], falls({"host": [(9000.0, 9600.0), (9900.0, 10200.0), (10500.0, 10800.0)]}))
    sim.run(12_000)
    records = [one for one in sim.tally.closed if one.scope == "entity"]
    assert [one.onset for one in records] == [Onset.ABRUPT] * 3
    assert [one.flaps for one in records] == [0, 1, 2]

    def ramp(check: Check, at: float, chance: random.Random) -> bool:
        lost = 0.01 if at < 20_000 else 0.6 * (at - 20_000) / 10_000
        return check.target.startswith("ref") or (at < 30_000 and chance.random() >= lost)

    sim = Sim([make_entity(3, 20.0, 3.0)], ramp)
    sim.run(31_000)
    (dark,) = [one for one in sim.tally.opened if one.scope == "entity"]
    assert dark.onset is Onset.PROGRESSIVE
    assert dark.degraded_since == pytest.approx(21_500, abs=2500)


def test_a_reload_abandons_what_is_gone_and_keeps_the_rest() -> None:
    sim = Sim([land()], falls({"a1": [(1000.0, 9000.0)]}))
    sim.run(2000)
    before = {(one.scope, one.name): one for one in sim.judge.ongoing()}
    renamed = land()
    a1 = renamed.targets[0]
    checks = tuple(replace(check, target="new") for check in a1.checks)
    renamed = replace(renamed, targets=(replace(a1, name="new", checks=checks), *renamed.targets[1:]))
    sim.judge.reconfigure([renamed], make_references(), 2000.0)
    sim.act(sim.judge.decide(2000.0))
    abandoned = {(one.scope, one.name): one for one in sim.tally.closed}
    assert abandoned.keys() == before.keys()
    for one in abandoned.values():
        assert one.ended_by is one.end is one.duration_seconds is None
        assert not one.ongoing
        assert one.ended_after == before[one.scope, one.name].ended_after
        assert one.note
    assert sim.judge.ongoing() == []


def test_a_reload_that_only_adds_goes_on() -> None:
    sim = Sim([land()], falls({"a1": [(1000.0, 3000.0)]}))
    sim.run(2000)
    before = sim.judge.ongoing()
    more = land()
    extra = Target("a9", "land", (make_check("a9", 20.0, 3.0),), network="neta")
    sim.judge.reconfigure([replace(more, targets=(*more.targets, extra))], make_references(), 2000.0)
    sim.act(sim.judge.decide(2000.0))
    assert [one.id for one in sim.judge.ongoing()] == [one.id for one in before]
    sim.run(4000)
    assert {one.id for one in sim.tally.closed} == {one.id for one in before}
    assert all(one.ended_by == pytest.approx(3000, abs=10) for one in sim.tally.closed)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_step_moves_open_outages_and_keeps_durations(step: float) -> None:
    sim = Sim([make_entity(1, 20.0, 3.0)], falls({"host": [(1000.0, 3000.0)]}))
    sim.run(2000)
    opened = list(sim.tally.opened)
    sim.judge.clock_step(2000.0, step)
    sim.act(sim.judge.decide(2000.0))
    sim.run(4000)
    assert sim.tally.opened == opened
    for one, first in zip(sim.tally.closed, opened, strict=True):
        assert one.id == first.id
        assert one.start == first.start + step
        assert one.duration_seconds == pytest.approx(2000, abs=20)
    assert [(gap.cause, gap.step_seconds) for gap in sim.tally.gaps] == [(GapCause.CLOCK_STEP, step)]


def test_an_outage_is_found_after_a_gap_with_wide_bounds() -> None:
    spans = {"": [(1000.0, 1300.0)], "host": [(1000.0, 2000.0)]}
    sim = Sim([make_entity(2, 20.0, 3.0)], falls(spans), references=make_references(3, 20.0, 3.0))
    sim.run(1290)
    assert not sim.judge.observer_up
    assert sim.tally.opened == []
    assert {one.verdict for one in sim.judge.states()} == {Verdict.UNKNOWN}
    sim.run(3000)
    (gap,) = sim.tally.gaps
    assert gap.begin == pytest.approx(1000, abs=10)
    assert gap.end == pytest.approx(1300, abs=10)
    (dark,) = [one for one in sim.tally.closed if one.scope == "entity"]
    assert dark.started_after is not None
    assert dark.started_after < 1000 < 1300 <= dark.started_by
    assert dark.outage_class is OutageClass.OUTAGE


def test_an_open_outage_stays_open_through_a_gap() -> None:
    spans = {"": [(1500.0, 1800.0)], "host": [(1000.0, 2500.0)]}
    sim = Sim([make_entity(2, 20.0, 3.0)], falls(spans), references=make_references(3, 20.0, 3.0))
    sim.run(4000)
    (dark,) = [one for one in sim.tally.closed if one.scope == "entity"]
    assert dark.unobserved_seconds == pytest.approx(300, abs=20)
    assert dark.ended_after < 2500 <= (dark.ended_by or 0)


@pytest.mark.parametrize(
    ("silent", "opens"),
    [(1, True), (2, False), (3, False)],
    ids=["one alone is ignored", "two of four block", "three of four are us"],
)
def test_references_that_disagree(silent: int, opens: bool) -> None:
    spans = {f"ref{number}": [(900.0, 9000.0)] for number in range(silent)} | {"host": [(1000.0, 9000.0)]}
    sim = Sim([make_entity(1, 20.0, 3.0)], falls(spans), references=make_references(4, 20.0, 3.0))
    sim.run(2500)
    assert bool(sim.tally.opened) is opens
    assert sim.judge.observer_up is (silent < 3)


def test_without_references_whatever_fails_counts() -> None:
    fate: Callable[..., bool] = falls({"host": [(1000.0, 9000.0)]})
    sim = Sim([make_entity(1, 20.0, 3.0, references=())], fate)
    sim.run(2000)
    assert {one.scope for one in sim.tally.opened} == {"check", "target", "entity"}
