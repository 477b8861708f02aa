"""What is true of a world: the same for the same seed, whatever is asked before."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.failures import Failure, Operation
from prober.replay.score import scope_truth
from prober.replay.truth import Truth, clip, intersection, overlap, union
from tests.replays import during, world_of

HOUR = 3600.0


def truth(text: str, vantage: str = "local", seed: int = 1, hours: float = 24.0) -> Truth:
    return Truth(world_of(text, hours), vantage, seed)


def lost(world: Truth, key: str, begin: float, end: float, step: float = 7.0) -> float:
    times = [begin + number * step for number in range(int((end - begin) / step))]
    return sum(world.fate(key, at).failure is not None for at in times) / len(times)


@pytest.mark.parametrize("burst", ["", "burst: {mean_seconds: 10}\n"])
def test_chance_does_not_depend_on_the_order_of_asking(burst: str) -> None:
    text = burst + "loss: 0.2\n"
    times = [number * 13.7 for number in range(2000)]
    keys = ["n1/icmp", "s1/icmp", "mirror/http"]
    forward = truth(text)
    expected = {(key, at): forward.fate(key, at) for at in times for key in keys}
    shuffled = list(expected)
    random.Random(3).shuffle(shuffled)
    other = truth(text)
    assert {place: other.fate(*place) for place in shuffled} == expected
    another = truth(text, seed=2)
    assert {place: another.fate(*place) for place in shuffled[:500]} != {
        place: expected[place] for place in shuffled[:500]
    }


def test_checks_and_vantages_lose_independently() -> None:
    text = "loss: 0.5\nvantages: [a, b]\n"
    times = [number * 60.0 for number in range(400)]
    worlds = [truth(text, vantage) for vantage in ("a", "b")]
    values = [
        [world.checks[key].fate(at).failure is None for at in times]
        for world in worlds
        for key in ("n1/icmp", "n2/icmp")
    ]
    for index, one in enumerate(values):
        for other in values[index + 1 :]:
            assert 0.4 < sum(a == b for a, b in zip(one, other, strict=True)) / len(times) < 0.6


def test_loss_is_what_the_world_says() -> None:
    world = truth(f"loss: 0.02\nconditions: [{{match: {{network: north}}, {during(4, 14)}, loss: [0.1, 0.5]}}]\n")
    assert lost(world, "n1/icmp", 0, 4 * HOUR, 1.0) == pytest.approx(0.02, abs=0.005)
    assert lost(world, "n1/icmp", 4 * HOUR, 5 * HOUR, 0.1) == pytest.approx(0.12, abs=0.01)
    assert lost(world, "n1/icmp", 13 * HOUR, 14 * HOUR, 0.1) == pytest.approx(0.48, abs=0.02)
    assert lost(world, "s1/icmp", 4 * HOUR, 14 * HOUR) == pytest.approx(0.02, abs=0.01)
    assert lost(world, "r1/icmp", 0, 24 * HOUR) == 0.0


@pytest.mark.parametrize(("loss", "mean"), [(0.05, 5.0), (0.2, 10.0)])
def test_bursts_have_their_mean_and_their_share(loss: float, mean: float) -> None:
    world = truth(f"loss: {loss}\nburst: {{mean_seconds: {mean}}}\n", hours=24 * 20)
    runs = world.checks["n1/icmp"].down(world.until)
    lengths = [end - begin for begin, end in runs]
    assert sum(lengths) / world.until == pytest.approx(loss, rel=0.06)
    assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.06)
    for begin, end in runs[:200]:
        assert world.fate("n1/icmp", (begin + end) / 2).failure is Failure.TIMEOUT
        assert world.fate("n1/icmp", end + 1e-6).failure is None or (end, end) < runs[-1]


def test_a_ramp_of_bursts() -> None:
    world = truth(
        f"burst: {{mean_seconds: 5}}\nconditions: [{{{during(0, 240)}, loss: [0.0, 0.4]}}]\n",
        hours=240,
    )
    runs = world.checks["n1/icmp"].down(world.until)
    third = world.until / 3
    shares = [overlap(runs, part * third, (part + 1) * third) / third for part in range(3)]
    assert shares == pytest.approx([0.4 / 6, 0.2, 0.4 * 5 / 6], rel=0.1)


def test_later_rows_win_for_what_they_speak_of() -> None:
    world = truth(
        "conditions:\n"
        f"  - {{match: {{target: n1}}, {during(1, 5)}, down: true}}\n"
        f"  - {{match: {{target: n1}}, {during(2, 3)}, loss: 0.0, rtt: 1s}}\n"
        f"  - {{match: {{target: n1}}, {during(3, 4)}, down: false}}\n"
        f"  - {{match: {{target: n1}}, {during(4, 5)}, down: true, failure: unreachable}}\n"
    )
    assert world.checks["n1/icmp"].down(world.until) == [(HOUR, 3 * HOUR), (4 * HOUR, 5 * HOUR)]
    assert world.fate("n1/icmp", 2.5 * HOUR).failure is Failure.TIMEOUT
    assert world.fate("n1/icmp", 3.5 * HOUR).failure is None
    assert world.fate("n1/icmp", 4.5 * HOUR).failure is Failure.UNREACHABLE
    assert world.fate("n1/icmp", 4.5 * HOUR).took < 1.0


@pytest.mark.parametrize(
    ("failure", "operation", "down"),
    [
        ("http_status", Operation.VALIDATE, True),
        ("certificate_expired", Operation.TLS, True),
        ("resolver_servfail", Operation.RESOLVE, True),
        ("refused", Operation.CONNECT, True),
        ("network_unreachable", Operation.PREPARE, False),
    ],
)
def test_a_failure_alone_is_down_unless_it_is_our_own(failure: str, operation: Operation, down: bool) -> None:
    world = truth(f"conditions: [{{match: {{check: http}}, {during(1, 2)}, failure: {failure}}}]\n")
    fate = world.fate("mirror/http", 1.5 * HOUR)
    assert (fate.failure, fate.operation) == (Failure(failure), operation)
    assert bool(world.checks["mirror/http"].down(world.until)) is down


@pytest.mark.parametrize(
    ("rtt", "down"),
    [
        ("20s", [(2 * HOUR, 4 * HOUR)]),
        ("2s", []),
        ("[1s, 9s]", [(3 * HOUR, 4 * HOUR)]),
        ("[9s, 1s]", [(2 * HOUR, 3 * HOUR)]),
        ("[6s, 9s], failure: network_unreachable", []),  # our own trouble
    ],
)
def test_slower_than_the_timeout_is_down(rtt: str, down: list[tuple[float, float]]) -> None:
    world = truth(f"conditions: [{{match: {{target: n1}}, {during(2, 4)}, rtt: {rtt}}}]\n")
    assert world.checks["n1/icmp"].check.timeout_seconds == 5.0
    assert world.checks["n1/icmp"].down(world.until) == down


def test_slower_than_the_timeout_is_lost() -> None:
    world = truth(f"conditions: [{{match: {{target: n1}}, {during(0, 10)}, rtt: [100ms, 10s]}}]\n")
    assert world.fate("n1/icmp", HOUR).took == pytest.approx(1.09, rel=0.11)
    assert world.fate("n1/icmp", 9 * HOUR) == (5.0, Operation.RECEIVE, Failure.TIMEOUT)


def test_offline_is_for_everything_and_for_its_vantage_alone() -> None:
    text = f"vantages: [a, b]\nobserver: [{{vantage: a, {during(1, 2)}, offline: true}}]\n"
    for key in ("n1/icmp", "r1/icmp", "r1/dns"):
        assert truth(text, "a").fate(key, 1.5 * HOUR).failure is Failure.TIMEOUT
        assert truth(text, "b").fate(key, 1.5 * HOUR).failure is None


def test_a_row_for_a_vantage_alone_is_about_the_references_too() -> None:
    text = f"vantages: [a, b]\nconditions: [{{match: {{vantage: a}}, {during(1, 9)}, loss: 0.3}}]\n"
    for key in ("n1/icmp", "r1/icmp"):
        assert lost(truth(text, "a"), key, HOUR, 9 * HOUR) == pytest.approx(0.3, abs=0.03)
        assert lost(truth(text, "b"), key, HOUR, 9 * HOUR) == 0.0


def test_scopes_follow_from_their_members() -> None:
    world = truth(
        "conditions:\n"
        f"  - {{match: {{network: north}}, {during(2, 6)}, down: true}}\n"
        f"  - {{match: {{network: south}}, {during(4, 8)}, down: true}}\n"
        f"  - {{match: {{target: n2, check: dns}}, {during(0, 1)}, down: true}}\n"
        f"  - {{match: {{target: n2, check: icmp}}, {during(10, 11)}, down: true}}\n"
        f"  - {{match: {{site: paper}}, {during(12, 13)}, down: true}}\n"
    )
    spans = {(node.scope, node.name): down for node, down in scope_truth(world.world, world) if node.scope}
    assert spans["entity", "land"] == [(4 * HOUR, 6 * HOUR)]
    assert spans["network", "north"] == [(2 * HOUR, 6 * HOUR)]
    assert spans["target", "n2"] == [(2 * HOUR, 6 * HOUR)]
    assert spans["check", "n2/icmp"] == [(2 * HOUR, 6 * HOUR), (10 * HOUR, 11 * HOUR)]
    assert spans["check", "n2/dns"] == [(2 * HOUR, 6 * HOUR)]  # what was never up before is no outage
    assert spans["site", "paper"] == [(12 * HOUR, 13 * HOUR)]


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=8).map(
    lambda pairs: union([[(float(begin), float(begin + length)) for begin, length in pairs]])
)


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_spans_are_sets_of_moments(several: list[list[tuple[float, float]]]) -> None:
    def moments(spans: list[tuple[float, float]]) -> set[int]:
        return {at for begin, end in spans for at in range(int(begin), int(end))}

    sets = [moments(spans) for spans in several]
    assert moments(union(several)) == set.union(*sets)
    assert moments(intersection(several)) == set.intersection(*sets)
    assert moments(clip(several[0], 5.0, 20.0)) == sets[0] & set(range(5, 20))
    assert overlap(several[0], 5.0, 20.0) == len(sets[0] & set(range(5, 20)))
