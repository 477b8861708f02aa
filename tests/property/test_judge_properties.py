"""Properties of the judge as a whole, on the simulator: any schedule, any loss."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.failures import FAILURES, Failure, Operation, Side
from prober.judge import Judge, Outage, Settings, Verdict
from prober.model import Check, Entity, Network, Site, Target
from tests.property.judge_sim import Sim, make_check, make_entity, make_references

EXAMPLES = settings(max_examples=15, deadline=None)


def drawn(seed: int, check: Check, at: float) -> float:
    """A number in [0, 1) that depends on the probe alone, not on the order in which probes are simulated."""
    return random.Random(f"{seed} {check.key} {at}").random()


def country(require: str = "any") -> Entity:
    """Two networks with two hosts each of two checks, and a site with a mirror at home and one abroad."""
    names = [("a1", "neta"), ("a2", "neta"), ("b1", "netb"), ("b2", "netb"), ("abroad", None)]
    targets = tuple(
        Target(
            name,
            "land",
            (make_check(name, 20.0, 3.0), make_check(name, 20.0, 3.0, "http")),
            network=network,
            site="paper" if name in ("a1", "abroad") else None,
            require="all" if name == "a2" and require == "all" else "any",
        )
        for name, network in names
    )
    networks = (Network("neta", "land", "192.0.2.0/25"), Network("netb", "land", "192.0.2.128/25"))
    return Entity("land", networks=networks, sites=(Site("paper", "land"),), targets=targets)


def stormy(seed: int) -> Callable[[Check, float, random.Random], bool]:
    """Every check falls and rises with its network and alone, under loss; all of it decided by the seed."""
    chance = random.Random(seed)
    falls: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key in ("a", "b", "a1", "a2", "b1", "b2", "a1/http", "a2/icmp", "abroad", "all"):
        at = 700.0
        for _ in range(2):
            at += chance.uniform(30, 700)
            length = chance.choice([5.0, 40.0, 90.0, 400.0])
            falls[key].append((at, at + length))
            at += length
    loss = chance.choice([0.0, 0.05, 0.3])

    def fate(check: Check, at: float, _: random.Random) -> bool:
        if check.target.startswith("ref"):
            return True
        keys = ("all", check.target[0], check.target, check.key)
        if any(begin <= at < end for key in keys for begin, end in falls.get(key, ())):
            return False
        return drawn(seed, check, at) >= loss

    return fate


def by_scope(outages: list[Outage]) -> dict[tuple[str, str], list[Outage]]:
    found: dict[tuple[str, str], list[Outage]] = defaultdict(list)
    for outage in outages:
        found[outage.scope, outage.name].append(outage)
    return found


@EXAMPLES
@given(seed=st.integers(0, 10**6), require=st.sampled_from(["any", "all"]))
def test_outages_of_one_scope_alternate_with_up_and_their_times_are_in_order(seed: int, require: str) -> None:
    sim = Sim([country(require)], stormy(seed), seed=seed)
    sim.run(4_000.0)
    closed, opened = by_scope(sim.tally.closed), by_scope(sim.tally.opened)
    assert opened, "the storm opened nothing: the test would prove nothing"
    for place, outages in opened.items():
        ended = closed.get(place, [])
        assert [one.id for one in ended] == [one.id for one in outages][: len(ended)]
        assert len(outages) - len(ended) in (0, 1)
        for before, after in zip(ended, outages[1:], strict=False):
            assert before.ended_by is not None
            assert after.started_after is not None
            assert before.ended_by <= after.started_after
    for one in sim.tally.closed:
        assert one.started_after is not None
        assert one.ended_by is not None
        assert one.end is not None
        assert one.started_after <= one.start <= one.started_by <= one.detected_at
        assert one.started_after <= one.ended_after <= one.end <= one.ended_by
        assert one.started_by <= one.ended_by
        assert one.start <= one.end
        assert one.duration_max_seconds is not None
        assert one.duration_seconds is not None
        assert one.duration_min_seconds <= one.duration_max_seconds
        assert one.duration_seconds <= one.duration_max_seconds
        assert one.restored_full is None or one.restored_full >= one.ended_by


@EXAMPLES
@given(
    data=st.data(),
    interval=st.sampled_from([2.0, 10.0, 60.0]),
    timeout=st.sampled_from([0.5, 3.0, 5.0]),
    confirm=st.sampled_from([0.5, 2.0, 5.0]),
    members=st.sampled_from([1, 1, 3]),
)
def test_the_truth_lies_inside_the_bounds_when_fewer_than_k_losses_come_in_a_row(
    data: st.DataObject, interval: float, timeout: float, confirm: float, members: int
) -> None:
    entity = make_entity(members, interval, timeout)
    lengths = data.draw(st.lists(st.floats(60 * interval, 90 * interval), min_size=1, max_size=3))
    pauses = data.draw(st.lists(st.floats(20 * interval, 60 * interval), min_size=len(lengths), max_size=len(lengths)))
    truth, at = [], 70 * interval
    for pause, length in zip(pauses, lengths, strict=True):
        truth.append((at + pause, at + pause + length))
        at += pause + length
    seed = data.draw(st.integers(0, 10**6))
    loss = data.draw(st.sampled_from([0.0, 0.1, 0.3]))
    row: dict[str, int] = defaultdict(int)

    def fate(check: Check, at: float, chance: random.Random) -> bool:
        if check.target.startswith("ref"):
            return True
        if any(begin <= at < end for begin, end in truth):
            return False
        # k is 4 at the least: three lost in a row are within the promise
        lost = row[check.key] < 3 and chance.random() < loss
        row[check.key] = row[check.key] + 1 if lost else 0
        return not lost

    phases = {check.key: data.draw(st.floats(0, interval)) for target in entity.targets for check in target.checks}
    judged = Settings(confirm_interval_seconds=min(confirm, interval))
    sim = Sim([entity], fate, settings=judged, seed=seed, phases=phases)
    sim.run(at + 40 * interval + 60)
    for place, outages in by_scope(sim.tally.closed).items():
        assert len(outages) == len(truth), place
        for outage, (begin, end) in zip(outages, truth, strict=True):
            assert outage.started_after is not None
            assert outage.ended_by is not None
            assert outage.started_after < begin <= outage.started_by
            assert outage.ended_after < end <= outage.ended_by
    assert len(by_scope(sim.tally.closed)) == 2 * members + 1


@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_the_order_in_which_simultaneous_observations_arrive_does_not_matter(seed: int) -> None:
    entity = country()
    chance = random.Random(seed)
    keys = [check.key for target in entity.targets for check in target.checks]
    # whole seconds everywhere, so that many results arrive at the same moment
    phases = {key: float(chance.randrange(0, 20, 5)) for key in keys} | {f"ref{n}/icmp": 0.0 for n in range(3)}
    seen = []
    for shuffle in (False, True):
        sim = Sim([entity], stormy(seed), references=make_references(3, 20.0, 3.0), phases=phases, seed=seed, rtt=1.0)
        sim.shuffle = shuffle
        sim.run(3_000.0)
        seen.append((sim.tally.opened, sim.tally.closed, sim.judge.states(), sim.tally.regular, sim.tally.extra))
    assert seen[0] == seen[1]


def uncounted(outages: list[Outage]) -> list[Outage]:
    return [replace(outage, failures=dict.fromkeys(outage.failures, 0)) for outage in outages]


@EXAMPLES
@given(seed=st.integers(0, 10**6), moment=st.floats(700, 3000))
def test_going_on_from_a_snapshot_is_the_same_as_having_gone_on(seed: int, moment: float) -> None:
    def start() -> Sim:
        return Sim([country()], stormy(seed), references=make_references(3, 20.0, 3.0), seed=seed)

    whole = start()
    whole.run(4_000.0)
    broken = start()
    broken.run(moment)
    while any(item[3][0] == "result" for item in broken.queue):  # what is in flight is lost with the agent
        moment += 0.25
        broken.run(moment)
    snapshot = json.loads(json.dumps(broken.judge.snapshot()))
    ongoing = [Outage.from_state(json.loads(json.dumps(one.to_state()))) for one in broken.judge.ongoing()]
    broken.judge = Judge([country()], make_references(3, 20.0, 3.0), Settings(), vantage="v")
    broken.judge.restore(snapshot, moment, ongoing=ongoing)
    assert broken.judge.snapshot()["watch"] == snapshot["watch"]
    broken.run(4_000.0)
    # What was asked for and not sent yet is lost with the agent and asked for again: a probe more or less may fail.
    assert uncounted(broken.tally.opened) == uncounted(whole.tally.opened)
    assert uncounted(broken.tally.closed) == uncounted(whole.tally.closed)
    assert broken.judge.states() == whole.judge.states()


@EXAMPLES
@given(seed=st.integers(0, 10**6), moment=st.floats(700, 3000), step=st.sampled_from([0.0, 1.0, 40.0]))
def test_a_snapshot_that_is_made_bit_by_bit_knows_what_changed_meanwhile(seed: int, moment: float, step: float) -> None:
    sim = Sim([country()], stormy(seed), references=make_references(3, 20.0, 3.0), seed=seed)
    sim.run(moment)
    sliced = sim.judge.slices(3, history=False, encode=lambda part: json.loads(json.dumps(part)))
    while sliced.step():
        moment += step
        sim.run(moment)
    assert len(sliced.checks) > 1
    snapshot = json.loads(json.dumps(sim.judge.snapshot(history=False, sliced=sliced)))
    again = Judge([country()], make_references(3, 20.0, 3.0), Settings(), vantage="v")
    again.restore(snapshot, moment, ongoing=sim.judge.ongoing())
    assert again.states() == sim.judge.states()
    assert [replace(one, members={}) for one in again.ongoing()] == [
        replace(one, members={})
        for one in sim.judge.ongoing()  # the mirrors of a site are looked at anew
    ]
    ours, theirs = again.snapshot(history=False)["watch"], sim.judge.snapshot(history=False)["watch"]
    assert ours["scopes"] == theirs["scopes"]
    checks, known = ours["checks"][0], theirs["checks"][0]
    assert checks.keys() == known.keys()
    for key in sim.judge.troubled:
        assert checks[key] == known[key]


@EXAMPLES
@given(seed=st.integers(0, 10**6), age=st.floats(0, 1500))
def test_an_older_snapshot_and_the_ledger_lose_double_and_invent_nothing(seed: int, age: float) -> None:
    sim = Sim([country()], stormy(seed), references=make_references(3, 20.0, 3.0), seed=seed)
    sim.run(3_000.0 - age)
    snapshot = json.loads(json.dumps(sim.judge.snapshot()))
    sim.run(3_000.0)
    ongoing = sim.judge.ongoing()
    sim.judge = Judge([country()], make_references(3, 20.0, 3.0), Settings(), vantage="v")
    sim.judge.restore(snapshot, 3_000.0, ongoing=ongoing, closed=sim.tally.closed)
    assert {one.id for one in sim.judge.ongoing()} == {one.id for one in ongoing}
    sim.run(5_000.0)
    opened = [one.id for one in sim.tally.opened]
    assert len(opened) == len(set(opened))
    assert {one.id for one in sim.tally.closed} | {one.id for one in sim.judge.ongoing()} == set(opened)
    for outages in by_scope(sim.tally.closed).values():
        for before, after in pairwise(outages):
            assert before.ended_by is not None
            assert after.started_after is not None
            assert before.ended_by <= after.started_after


@EXAMPLES
@given(failure=st.sampled_from([one for one in Failure if FAILURES[one][0] is Side.OURS]), seed=st.integers(0, 1000))
def test_failures_on_our_side_never_open_an_outage(failure: Failure, seed: int) -> None:
    def fate(check: Check, at: float, _: random.Random) -> bool:
        return check.target.startswith("ref") or at < 2000

    sim = Sim([country()], fate, failure=lambda check, at: (Operation.PREPARE, failure), seed=seed)
    sim.run(6000)
    assert sim.tally.opened == []
    assert {one.verdict for one in sim.judge.states()} == {Verdict.UNKNOWN}
    assert {one.up for one in sim.judge.states()} == {True}


@EXAMPLES
@given(
    windows=st.lists(st.tuples(st.floats(1500, 6000), st.floats(0.5, 900)), min_size=1, max_size=6),
    seed=st.integers(0, 10**6),
    loss=st.sampled_from([0.0, 0.2]),
)
def test_the_observer_offline_or_flapping_is_no_outage(
    windows: list[tuple[float, float]], seed: int, loss: float
) -> None:
    def fate(check: Check, at: float, chance: random.Random) -> bool:
        return not any(begin <= at < begin + length for begin, length in windows) and chance.random() >= loss

    sim = Sim([country()], fate, seed=seed)
    sim.run(8000)
    assert sim.tally.opened == []
    assert sim.judge.observer_up


@EXAMPLES
@given(seed=st.integers(0, 10**6))
def test_checks_that_were_never_seen_up_stay_unknown(seed: int) -> None:
    sim = Sim([country()], lambda check, at, _: check.target.startswith("ref"), seed=seed)
    sim.run(4000)
    assert sim.tally.opened == []
    assert sim.tally.extra == 0
    assert {(one.verdict, one.up) for one in sim.judge.states()} == {(Verdict.UNKNOWN, None)}


@EXAMPLES
@given(known=st.sampled_from(["a", "b"]), seed=st.integers(0, 10**6))
def test_a_country_is_not_dark_because_the_one_known_network_is(known: str, seed: int) -> None:
    def fate(check: Check, at: float, _: random.Random) -> bool:
        return check.target.startswith("ref") or (check.target.startswith(known) and at < 2000)

    sim = Sim([country()], fate, seed=seed)
    sim.run(4000)
    scopes = {(one.scope, one.name) for one in sim.tally.opened}
    assert ("network", f"net{known}") in scopes
    assert ("entity", "land") not in scopes


@pytest.mark.parametrize("reference_resolves", [True, False])
def test_the_resolver_is_judged_by_the_references_names(reference_resolves: bool) -> None:
    def fate(check: Check, at: float, _: random.Random) -> bool:
        if check.key == "ref0/named":
            return reference_resolves or at < 2000
        return check.target.startswith("ref") or at < 2000

    references = make_references(3)
    named = make_check("ref0", kind="http", name="named")
    references[0] = type(references[0])("ref0", "AS0", (*references[0].checks, named))
    sim = Sim(
        [country()],
        fate,
        references=references,
        named=frozenset({"ref0/named"}),
        failure=lambda check, at: (Operation.RESOLVE, Failure.RESOLVER_SERVFAIL),
    )
    sim.run(4000)
    verdicts = {one.verdict for one in sim.judge.states() if one.scope == "check"}
    assert bool(sim.tally.opened) is reference_resolves
    assert verdicts == ({Verdict.DOWN} if reference_resolves else {Verdict.UNKNOWN})
    assert sim.judge.observer_up
