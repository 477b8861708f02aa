"""Many in trouble at once: what is looked at, when, and how much of it in one go. Driven on the simulator."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from prober.failures import Failure, Operation
from prober.judge import Judge
from prober.judge.detector import Run
from prober.judge.judge import AT_ONCE
from prober.judge.records import Confirm, Decisions, OutageOpened, Settings
from prober.judge.trouble import Troubles
from prober.model import Check, Observation
from tests.property.judge_sim import Fate, Sim, make_entity, make_references

COUNT = 3 * AT_ONCE


def down_from(at: float, *names: str) -> Fate:
    """These targets fall silent; without names all but the references do."""

    def fate(check: Check, sent_at: float, _chance: random.Random) -> bool:
        chosen = check.target in names if names else not check.target.startswith("ref")
        return sent_at < at or not chosen

    return fate


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the judge has looked at each check."""
    found: Counter[str] = Counter()
    settle = Judge._settle

    def counted(judge: Judge, key: str, now: float) -> bool:
        found[key] += 1
        return settle(judge, key, now)

    monkeypatch.setattr(Judge, "_settle", counted)
    return found


def were_up(count: int) -> Judge:
    judge = Judge([make_entity(count)], [], Settings())
    for detector in judge.watch.detectors.values():
        detector.ever_up = True
    return judge


def test_one_decision_opens_so_many_and_the_next_ones_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    decide = Judge.decide

    def counted(judge: Judge, now: float) -> Decisions:
        decisions = decide(judge, now)
        opened.append(
            sum(isinstance(event, OutageOpened) and event.outage.scope == "check" for event in decisions.events)
        )
        return decisions

    monkeypatch.setattr(Judge, "decide", counted)
    entity = make_entity(COUNT)
    phases = {check.key: 7.0 for target in entity.targets for check in target.checks}
    sim = Sim([entity], down_from(100.0), phases=phases)
    sim.run(400.0)
    assert sum(opened) == COUNT
    assert max(opened) <= AT_ONCE
    assert len({outage.start for outage in sim.tally.opened if outage.scope == "check"}) == 1  # the same for all


def test_a_check_is_looked_at_for_its_own_probes_and_not_for_each_answer_of_a_reference(looks: Counter[str]) -> None:
    sim = Sim([make_entity(100)], down_from(100.0))
    sim.run(100.0)
    looks.clear()
    before = sim.tally.regular + sim.tally.extra
    references = sim.tally.references
    sim.run(130.0)  # all are in trouble, and none is down yet
    assert not sim.tally.opened
    assert sim.tally.references - references > 10
    assert looks.total() < 2 * (sim.tally.regular + sim.tally.extra - before)


def test_a_check_that_is_up_is_looked_at_once(looks: Counter[str]) -> None:
    sim = Sim([make_entity(100)], down_from(1e9))
    sim.run(1000.0)
    assert sim.tally.regular > 1000
    assert set(looks.values()) == {1}  # when it answered first


def test_who_waits_for_another_is_asked_when_a_third_one_answers() -> None:
    """host00 is to be confirmed first, until host02 shows that not all of them are in trouble."""
    phases = {"host00/icmp": 40.0, "host01/icmp": 41.0, "host02/icmp": 10.0, "ref0/icmp": 1.0, "ref1/icmp": 2.0}
    sim = Sim([make_entity(3, timeout=15.0)], down_from(100.0, "host00", "host01"), phases=phases | {"ref2/icmp": 3.0})
    asked: list[float] = []
    act = sim.act

    def noted(decisions: Decisions) -> None:
        asked.extend(sim.now for one in decisions.requests if isinstance(one, Confirm) and one.check.target == "host01")
        act(decisions)

    sim.act = noted  # type: ignore[method-assign]
    sim.run(140.0)
    assert max(at for at in asked if at < 130.0) < 125.0  # it waited
    assert min(at for at in asked if at > 130.0) < 132.0


def test_who_waits_is_looked_at_again_when_another_leads_whose_trouble_is_its_own() -> None:
    judge = were_up(4)
    troubles = Troubles(judge.watch)
    leader, waits, other, fine = (judge.watch.detectors[f"host{number:02d}/icmp"] for number in range(4))
    fine.last_ok = 60.0
    for detector, first_at, failures in ((leader, 100.0, 6), (waits, 101.0, 3), (other, 50.0, 5)):
        detector.run = Run(first_at, needed=9, k=3)
        detector.run.total = failures
    assert troubles.holds(waits, waits.potential())
    other.flight.append(110.0)
    troubles.gained(other)  # as many as the leader has, whose name comes first
    assert troubles.freed() == set()
    other.flight.append(112.0)
    troubles.gained(other)
    assert troubles.freed() == {waits.key}  # since the trouble of `other` began, `fine` has answered
    assert not troubles.by_entity
    assert not troubles.holds(waits, waits.potential())


def test_who_waits_is_looked_at_again_when_the_leader_loses_a_failure_that_was_ours() -> None:
    judge = were_up(3)
    sim = Sim([], down_from(0.0), judge=judge, references=[])
    leader, waits = judge.watch.detectors["host00/icmp"], judge.watch.detectors["host01/icmp"]
    for detector, failures in ((leader, 5), (waits, 4)):
        detector.run = Run(100.0, needed=9, k=3)
        detector.run.total = failures
    leader.flight.append(110.0)
    judge._active |= {leader.key: leader, waits.key: waits}
    assert judge._troubles.holds(waits, waits.potential())
    ours = Observation(leader.check, 110.0, 110.0, False, 0.1, {}, {}, Operation.PREPARE, Failure.DESCRIPTORS_EXHAUSTED)
    judge.observe(ours, 110.1)
    assert judge._troubles.freed() == {waits.key}
    assert sim.tally.opened == []


def test_with_other_references_what_is_in_trouble_is_asked_at_once() -> None:
    """While we were cut off nothing was asked, and the new references, which may see, have not turned."""
    sim = Sim([make_entity(2, interval=1200.0)], down_from(2500.0, "host00", "ref0", "ref1", "ref2"))
    sim.run(5000.0)
    assert not sim.judge.observer_up
    sim.judge.reconfigure([make_entity(2, interval=1200.0)], make_references(5)[3:], sim.now)
    requests = sim.judge.decide(sim.now).requests
    assert [request.check.target for request in requests if isinstance(request, Confirm)] == ["host00"]
