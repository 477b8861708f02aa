"""The evaluation in small: `make evaluate ARGS=--quick` with a few worlds, and what must hold in them."""

from __future__ import annotations

import random

import pytest

from prober.judge.responsiveness import Responsiveness
from tests.evaluate.__main__ import QUICK_TARGET_YEARS, evaluate
from tests.evaluate.baselines import for_five_minutes, in_a_row, one_failure, trinocular
from tests.evaluate.expectation import teach_answers
from tests.evaluate.measure import RULES
from tests.evaluate.page import least, page
from tests.evaluate.required import requirements

WORLDS = ("loss-5", "loss-20", "bursts-10", "entity-20", "offline", "three")

DAY = 86_400.0
BEGIN, END = 40_000.0, 41_000.0


@pytest.mark.timeout(300)
def test_the_small_evaluation_keeps_the_bounds() -> None:
    results = evaluate(QUICK_TARGET_YEARS, WORLDS)
    found = requirements(results)
    assert [one for one in found if not one.met] == []
    assert {name.split(",")[0] for name in (one.title for one in found)} >= {
        "Detection delay p99",
        "Error of the duration p99",
        "Recorded span in true runs of loss",
        "Coverage of the bounds",
        "Error of the gaps",
        "Probes a regular round",
    }
    assert sum(found.figures["o"].found for found in (results.ours["loss-5"], results.ours["loss-20"])) > 20
    assert results.fused is not None
    assert results.fused.found > 5
    text = page(results, "a while")
    assert all(text.count(f"| {rule} |") >= len(WORLDS) for rule in RULES)
    assert "## What a sudden 50 % loss does" in text
    others = results.theirs["loss-20"]["one failure"].figures["q"]
    assert others.false_outages > 100  # the others' rules saw the same loss


def down(at: float) -> bool:
    return not BEGIN <= at < END


def test_the_others_rules_find_one_outage_of_a_clean_world() -> None:
    for rule in (
        one_failure(down, 7.0, DAY),
        in_a_row(down, 7.0, 60.0, DAY, 3, 5.0),
        for_five_minutes(down, 7.0, DAY),
        trinocular(down, 7.0, DAY, 0.99),
    ):
        (record,) = rule.records
        assert record.after < BEGIN <= record.started_by
        assert record.ended_after < END <= record.ended_by
        assert record.detected_at > BEGIN


def test_looking_at_every_third_sample_alone_finds_the_same_runs() -> None:
    chance = random.Random(1)
    lost = {number for number in range(1000) if chance.random() < 0.4}
    runs = []
    run: list[int] = []
    for number in range(1001):
        if number in lost:
            run.append(number)
            continue
        if len(run) >= 3:
            runs.append((float(run[0]), float(run[-1] + 1)))
        run = []
    rule = in_a_row(lambda at: round(at) not in lost, 0.0, 1.0, 1001.0, 3, 0.0)
    assert [(one.start, one.ended_by) for one in rule.records] == runs


def test_jumping_over_answers_teaches_what_each_of_them_would() -> None:
    chance = random.Random(1)
    jumped, stepped = Responsiveness(60.0), Responsiveness(60.0)
    for _ in range(200):
        count = chance.randrange(300)
        teach_answers(jumped, count)
        for _ in range(count):
            stepped.learn(False)
        jumped.learn(True)
        stepped.learn(True)
    *numbers, levels = jumped.snapshot()
    *expected, expected_levels = stepped.snapshot()
    assert numbers == pytest.approx(expected)
    assert levels == expected_levels


def test_what_is_certain_of_a_share() -> None:
    assert least(3000, 3000) == pytest.approx(0.05 ** (1 / 3000))
    assert least(0, 10) == pytest.approx(0.0, abs=1e-9)
