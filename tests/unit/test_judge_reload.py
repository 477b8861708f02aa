"""Reloads in the middle of trouble, and what must not come of them."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import pytest

from prober.failures import Failure, Operation
from prober.judge import Judge, Settings
from prober.judge.records import Event, GapCause, GapClosed, GapOpened, OutageClosed, OutageOpened, rfc3339
from prober.model import Check, Entity, Observation, Reference, Target


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
