"""Reloads in the middle of trouble, and what must not come of them."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import pytest

from prober.failures import Failure, Operation
from prober.judge import Judge, Settings
from prober.judge.records import Event, GapCause, GapClosed, GapOpened, OutageClosed, OutageOpened, rfc3339
from prober.model import Check, Entity, Network, Observation, Reference, Site, Target


def check(target: str, name: str = "icmp") -> Check:
    return Check(target, name, "icmp", 60.0, 5.0, "options")


def entity(*targets: Target) -> Entity:
    return Entity("lab", targets=targets, references=())


class Bench:
    """A judge that is fed by hand; observations are there at once."""

    def __init__(self, *entities: Entity, references: tuple[Reference, ...] = ()) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.judge = Judge(entities, references, Settings())

    def see(self, one: Check, success: bool, reason: Any = "confirmation", failure: Failure = Failure.TIMEOUT) -> None:
        self.judge.sent(one, self.now, reason)
        words = {} if success else {"operation": Operation.RECEIVE, "failure": failure}
        seen = Observation(one, self.now, self.now, success, 0.1, {}, {}, reason=reason, **words)  # type: ignore[arg-type]
        self.judge.observe(seen, self.now)

    def decide(self) -> None:
        self.events += self.judge.decide(self.now).events

    def rounds(self, results: dict[Check, bool], times: int, every: float, reason: str = "confirmation") -> None:
        for _ in range(times):
            for one, success in results.items():
                self.see(one, success, reason)
            self.decide()
            self.now += every

    def closed(self) -> dict[tuple[str, str], OutageClosed]:
        return {(e.outage.scope, e.outage.name): e for e in self.events if isinstance(e, OutageClosed)}


def test_a_rule_that_changes_while_a_target_is_down_leaves_its_end_unknown() -> None:
    ping, web = check("a"), check("a", "http")
    target = Target("a", "lab", (ping, web), require="all")
    bench = Bench(entity(target))
    bench.rounds({ping: True, web: True}, 100, 60.0, "regular")
    bench.rounds({ping: True, web: False}, 40, 2.0)
    bench.judge.reconfigure([entity(replace(target, require="any"))], [], bench.now)
    bench.decide()
    outage = bench.closed()["target", "a"].outage
    assert (outage.ended_by, outage.end, outage.ongoing) == (None, None, False)
    assert "changed" in outage.note
    assert isfinite(outage.ended_after)
    # The next one is as any other.
    bench.rounds({ping: True, web: True}, 100, 60.0, "regular")
    bench.rounds({ping: False, web: False}, 40, 2.0)
    opened = [e.outage for e in bench.events if isinstance(e, OutageOpened) and e.outage.scope == "target"]
    assert len(opened) == 2
    assert opened[1].started_after is not None
    assert all(isfinite(at) for at in (opened[1].started_after, opened[1].started_by, opened[1].start))


@pytest.mark.parametrize("after", [replace(check("a"), options="corrected"), check("a", "ping")])
def test_an_outage_whose_checks_are_replaced_is_certain_for_as_long_as_it_was_seen(after: Check) -> None:
    net, before = Network("net", "lab", "192.0.2.0/24"), check("a")
    target = Target("a", "lab", (before,), network="net")
    bench = Bench(Entity("lab", networks=(net,), targets=(target,), references=()))
    bench.rounds({before: True}, 100, 60.0, "regular")
    bench.rounds({before: False}, 60, 2.0)
    bench.rounds({before: False}, 60, 60.0, "regular")
    open_ones = {(one.scope, one.name): one for one in bench.judge.ongoing()}
    assert {scope for scope, _ in open_ones} == {"check", "target", "network", "entity"}
    replaced = replace(target, checks=(after,))
    bench.judge.reconfigure([Entity("lab", networks=(net,), targets=(replaced,), references=())], [], bench.now)
    bench.decide()
    closed = bench.closed()
    assert closed.keys() == open_ones.keys()
    for place, one in open_ones.items():
        assert closed[place].outage.ended_by is None
        assert closed[place].outage.ended_after == one.ended_after > bench.now - 300.0
        assert closed[place].outage.failures == one.failures != {}


def test_what_has_just_answered_is_not_abandoned_by_a_reload_of_something_else() -> None:
    one, other = check("a"), check("b")
    targets = Target("a", "lab", (one,)), Target("b", "lab", (other,))
    bench = Bench(entity(*targets))
    bench.rounds({one: True, other: True}, 100, 60.0, "regular")
    bench.rounds({one: False, other: True}, 60, 2.0)
    answered = bench.now
    bench.see(one, True)
    bench.judge.reconfigure([replace(entity(*targets), title="Lab")], [], bench.now)
    bench.decide()
    closed = bench.closed()
    assert closed.keys() == {("check", "a/icmp"), ("target", "a")}
    assert all(event.outage.ended_by == answered and not event.outage.note for event in closed.values())


def test_an_outage_is_not_carried_on_by_checks_that_it_was_not_known_by() -> None:
    web, ping = replace(check("a", "http"), kind="http"), check("a")
    target = Target("a", "lab", (web, ping), site="site")

    def lab(target: Target) -> Entity:
        return Entity("lab", sites=(Site("site", "lab"),), targets=(target,), references=())

    bench = Bench(lab(target))
    bench.rounds({web: True, ping: True}, 100, 60.0, "regular")
    bench.rounds({web: False, ping: False}, 60, 2.0)
    assert ("site", "site") in bench.judge.places_down()
    # The mirror is judged by its page alone; without that, by its address, which nobody has called the site by.
    bench.judge.reconfigure([lab(replace(target, checks=(ping,)))], [], bench.now)
    bench.decide()
    assert bench.closed()["site", "site"].outage.ended_by is None


def test_two_reloads_before_a_decision_are_both_decided_on() -> None:
    one, other = check("a"), check("b")
    net = Network("net", "lab", "192.0.2.0/24")
    targets = Target("a", "lab", (one,), network="net"), Target("b", "lab", (other,), network="net")

    def lab(*targets: Target) -> Entity:
        return Entity("lab", networks=(net,), targets=targets, references=())

    beside = replace(entity(Target("q", "other", (check("q"),))), name="other")
    bench = Bench(lab(*targets), beside)
    bench.rounds({one: True, other: True}, 100, 60.0, "regular")
    bench.rounds({one: False, other: True}, 60, 2.0)
    down = lab(targets[0])
    bench.judge.reconfigure([down, beside], [], bench.now)
    bench.judge.reconfigure([down], [], bench.now)
    bench.decide()
    assert ("network", "net") in bench.judge.places_down()
    network = bench.judge.watch.scopes["network", "net"]
    assert network.value is network.evaluate() is False


def test_what_a_reload_takes_away_is_forgotten_everywhere() -> None:
    ones = [check(f"t{n}") for n in range(4)]
    targets = [Target(one.target, "lab", (one,)) for one in ones]
    bench = Bench(entity(*targets))
    bench.rounds(dict.fromkeys(ones, True), 100, 60.0, "regular")
    bench.rounds(dict.fromkeys(ones, False), 6, 2.0)  # in trouble, none is certain yet
    bench.judge.reconfigure([entity(*targets[:2])], [], bench.now)
    bench.decide()
    bench.rounds(dict.fromkeys(ones[:2], True), 3, 2.0)
    bench.rounds(dict.fromkeys(ones[:2], False), 40, 2.0)
    opened = {e.outage.name for e in bench.events if isinstance(e, OutageOpened) and e.outage.scope == "target"}
    assert opened == {"t0", "t1"}


def test_a_gap_ends_where_its_references_are_exchanged() -> None:
    one = check("a")
    old = tuple(Reference(f"r{n}", f"AS{n}", (check(f"r{n}"),)) for n in range(3))
    bench = Bench(Entity("lab", targets=(Target("a", "lab", (one,)),)), references=old)
    bench.rounds({one: True}, 100, 60.0, "regular")
    for _ in range(6):
        for reference in old:
            bench.see(reference.checks[0], False, "reference")
        bench.rounds({one: False}, 1, 2.0)
    assert [e.gap.cause for e in bench.events if isinstance(e, GapOpened)] == [GapCause.OFFLINE]
    bench.judge.reconfigure([Entity("lab", targets=(Target("a", "lab", (one,)),))], old[:2], bench.now)
    bench.decide()
    opened = {e.gap.id for e in bench.events if isinstance(e, GapOpened)}
    closed = {e.gap.id: e.gap for e in bench.events if isinstance(e, GapClosed)}
    assert opened <= closed.keys()
    assert all(gap.end is not None and gap.end >= gap.begin for gap in closed.values())


def test_overlapping_gaps_count_once() -> None:
    one = check("a")
    bench = Bench(entity(Target("a", "lab", (one,))))
    bench.rounds({one: True}, 100, 60.0, "regular")
    bench.rounds({one: False}, 40, 2.0)
    begin = bench.now
    for gap in ((10, 50), (0, 100), (90, 120)):
        bench.judge.gap(begin + gap[0], begin + gap[1], GapCause.STOPPED)
    bench.decide()
    assert {round(outage.unobserved_seconds) for outage in bench.judge.ongoing()} == {120}


def test_a_decision_that_ends_in_a_defect_loses_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    one = check("a")
    bench = Bench(entity(Target("a", "lab", (one,))))
    bench.rounds({one: True}, 100, 60.0, "regular")
    broken = True
    roll_up = Judge._roll_up

    def sometimes(judge: Judge, now: float) -> None:
        if broken and judge._changed:
            raise ZeroDivisionError
        roll_up(judge, now)

    monkeypatch.setattr(Judge, "_roll_up", sometimes)
    for _ in range(40):
        bench.see(one, False)
        try:
            bench.decide()
        except ZeroDivisionError:
            broken = False
        bench.now += 2.0
    assert not broken
    assert [e.outage.scope for e in bench.events if isinstance(e, OutageOpened)] == ["check", "target", "entity"]


def test_no_number_is_a_time_that_cannot_be_printed() -> None:
    assert rfc3339(float("inf")) is None
    assert rfc3339(float("nan")) is None
