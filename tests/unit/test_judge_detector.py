"""Tables for one check: how many failures, which bounds, what is learned, how an outage began."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from prober.failures import Failure, Operation
from prober.judge.detector import Detector, Evidence, Run
from prober.judge.onset import History
from prober.judge.records import Settings, rfc3339
from prober.judge.responsiveness import Responsiveness, threshold
from prober.model import Check, Observation

CHECK = Check("host", "icmp", "icmp", 60.0, 5.0, None)


def seen(at: float, success: bool, reason: Literal["regular", "confirmation"] = "regular") -> Observation:
    operation, failure = (None, None) if success else (Operation.RECEIVE, Failure.TIMEOUT)
    return Observation(CHECK, at, at, success, 0.1, {}, {}, operation, failure, reason=reason)


def test_the_threshold_is_the_log_of_the_chances_that_one_false_outage_is_allowed_in() -> None:
    assert threshold(60.0, 0.01) == pytest.approx(17.78, abs=0.01)
    assert threshold(2.0, 0.01) == pytest.approx(21.18, abs=0.01)


@pytest.mark.parametrize(
    ("every", "needed", "k"),
    [(0, 9, 4), (20, 9, 4), (10, 9, 4), (5, 12, 5), (3, 16, 8), (2, 27, 11)],
    ids=["no loss", "5 %", "10 %", "20 %", "33 %", "50 %"],
)
def test_failures_needed_by_loss(every: int, needed: int, k: int) -> None:
    learned = Responsiveness(60.0)
    for number in range(60):  # less than a block: no past levels yet
        learned.learn(every > 0 and number % every == 0)
    found = learned.needed(threshold(60.0, 0.01))
    assert found[0] in range(needed, needed + 2)
    assert found[1] == k


def test_a_bad_past_asks_for_more_in_good_times() -> None:
    good, once_bad = Responsiveness(60.0), Responsiveness(60.0)
    for number in range(2400):
        good.learn(False)
        once_bad.learn(number < 240 and number % 5 == 0)
    h = threshold(60.0, 0.01)
    assert good.needed(h)[0] == 9
    assert once_bad.needed(h)[0] == 10


def test_a_late_result_takes_its_place_in_the_window() -> None:
    in_order, late = Responsiveness(60.0), Responsiveness(60.0)
    for failed in (False, True, False, False):
        in_order.learn(failed)
    for failed in (False, False, False):
        late.learn(failed)
    late.learn(True, position=2)
    assert late.window == in_order.window


def test_a_snapshot_of_what_was_learned_goes_on() -> None:
    learned, other = Responsiveness(60.0), Responsiveness(60.0)
    for number in range(300):
        learned.learn(number % 7 == 0)
    other.restore(learned.snapshot())
    assert other.snapshot() == learned.snapshot()
    assert other.needed(17.0) == learned.needed(17.0)


def run_of(detector: Detector, *times: float) -> Run:
    for at in times:
        detector.failed(seen(at, False, "confirmation"))
    run = detector.run
    assert run is not None
    for evidence in run.pending:
        run.count(evidence)
    run.pending = []
    return run


def test_the_bounds_of_a_check() -> None:
    detector = Detector(CHECK, Settings())
    detector.succeeded(seen(0.0, True))
    times = [60.0, 65.0, 67.0, 69.0, 71.0, 73.0, 75.0, 77.0, 79.0, 81.0]
    run = run_of(detector, *times)
    run.k = 4
    detector.open()
    assert detector.start == (0.0, 69.0, 60.0)
    assert detector.certain_until() == 75.0
    assert detector.succeeded(seen(90.0, True))
    assert detector.end == (75.0, 90.0)
    assert not detector.down
    assert detector.run is None


def test_a_success_that_was_sent_between_failures_leaves_the_later_ones() -> None:
    detector = Detector(CHECK, Settings())
    detector.succeeded(seen(0.0, True))
    run_of(detector, 60.0, 65.0, 67.0, 69.0)
    detector.succeeded(seen(66.0, True, "confirmation"))
    assert detector.run is not None
    assert detector.run.head == [67.0, 69.0]
    assert detector.last_ok == 66.0


def test_probes_while_down_go_from_the_confirm_interval_to_an_even_share_of_the_rounds() -> None:
    detector = Detector(CHECK, Settings())
    detector.succeeded(seen(0.0, True))
    run = run_of(detector, 60.0)
    run.k = 4
    detector.down = True
    detector.regular_at = detector.last_sent = 60.0
    assert detector.next_probe(60.0) == 62.0
    detector.last_sent = 160.0
    assert detector.next_probe(160.0) == 165.0
    detector.regular_at = detector.last_sent = 1020.0
    assert detector.next_probe(1020.0) == 1035.0
    detector.last_sent = 1065.0
    assert detector.next_probe(1065.0) == float("inf")  # the regular round at 1080 is next


def test_what_may_be_an_outage_is_not_asked_more_slowly_before_it_can_be_known() -> None:
    detector = Detector(CHECK, Settings())
    detector.succeeded(seen(0.0, True))
    run = run_of(detector, 60.0)
    run.k, run.needed = 11, 27  # at 30 % loss, after a bad half hour
    detector.regular_at, detector.last_sent = 60.0, 114.0
    assert detector.next_probe(114.0) == 116.0
    detector.last_sent = 60.0 + 27 * 2.0 + 60.0  # it was not to be known: voids, or references that disagree
    assert detector.next_probe(174.0) == 177.0
    detector.down = True
    detector.last_sent = 114.0
    assert detector.next_probe(114.0) == 116.7


def test_what_is_in_flight_when_there_is_enough_is_awaited_and_later_probes_are_not() -> None:
    detector = Detector(CHECK, Settings())
    detector.succeeded(seen(0.0, True))
    run = run_of(detector, 60.0, 62.0, 64.0, 66.0)
    detector.flight, detector.last_sent = [68.0], 68.0
    assert detector.awaited(run.total)
    detector.flight = [70.0]
    assert not detector.awaited(run.total)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (lambda number: number % 50 == 0, None),
        (lambda number: number > 1200 and number % 3 == 0, 1200 * 60.0),
        (lambda number: number > 1200 and number % 10 < (number - 1200) / 100, 1200 * 60.0),
    ],
    ids=["as always", "worse at a stroke", "a ramp"],
)
def test_degraded_since(losses: object, expected: float | None) -> None:
    assert callable(losses)
    history = History(172_800.0)
    for number in range(1800):
        history.add(number * 60.0, losses(number), 0.3)
    since = history.degraded_since(1800 * 60.0, 0.03)
    if expected is None:
        assert since is None
    else:
        assert since is not None
        assert abs(since - expected) <= 3 * 3600


def test_a_ramp_of_a_day_that_the_long_term_level_has_learned() -> None:
    chance = random.Random(1)
    history = History(172_800.0)
    for number in range(5760):
        ramp = 0.05 + 0.55 * (number - 4320) / 1440 if number >= 4320 else 0.02
        history.add(number * 60.0, chance.random() < ramp, 0.3)
    since = history.degraded_since(5760 * 60.0, 0.09)
    assert since is not None
    assert abs(since - 4320 * 60.0) <= 3 * 3600


@pytest.mark.parametrize("probes", [100, 1000, 5000])
@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_the_best_part_of_a_steady_loss_makes_no_degradation(loss: float, probes: int) -> None:
    progressive = 0
    for seed in range(50):
        chance = random.Random(seed)
        history = History(172_800.0)
        for number in range(probes):
            history.add(number * 60.0, chance.random() < loss, 0.3)
        progressive += history.degraded_since(probes * 60.0, loss) is not None
    assert progressive <= 1


def test_slower_answers_are_a_degradation_too() -> None:
    history = History(172_800.0)
    for number in range(1800):
        history.add(number * 60.0, False, 0.3 if number < 1500 else 1.5)
    since = history.degraded_since(1800 * 60.0, 0.01)
    assert since is not None
    assert abs(since - 1500 * 60.0) <= 3600


def test_two_days_of_history_are_some_fifty_buckets() -> None:
    history = History(172_800.0)
    for number in range(10_000):
        history.add(number * 60.0, False, 0.3)
    assert len(list(history.buckets(600_000.0))) < 60
    other = History(172_800.0)
    other.restore(history.snapshot(), 0.0)
    assert list(other.buckets(600_000.0)) == list(history.buckets(600_000.0))


def test_evidence_is_kept_by_send_time_in_any_order_of_arrival() -> None:
    run = Run(1.0, 9, 4)
    for at in (3.0, 1.0, 2.0):
        run.count(Evidence(at, "receive/timeout", True, False))
    assert run.head == run.tail == [1.0, 2.0, 3.0]


def test_times_are_printed_with_milliseconds_where_there_are_any() -> None:
    assert rfc3339(1419264900.0) == "2014-12-22T16:15:00Z"
    assert rfc3339(1419264900.25) == "2014-12-22T16:15:00.250Z"
    assert rfc3339(None) is None
