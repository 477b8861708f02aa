"""Every case of the matrix: the same metrics, the same labels, the same values; times where the original has them."""

from __future__ import annotations

import pytest

from tests.blackbox import compare
from tests.blackbox.cases import CASES, Case
from tests.blackbox.conftest import Sides
from tests.blackbox.listed import changed, listed


def _judge(found: dict[str, str], allowed: set[str]) -> None:
    """Fail with a line for each metric that differs and is not listed."""
    wrong = [f"{metric}: {how}" for metric, how in sorted(found.items()) if metric not in allowed]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


OLD = [case for case in CASES if case.since == "0.23"]


@pytest.mark.parametrize("case", OLD, ids=lambda case: case.name)
def test_beside_0_23(case: Case, sides: Sides) -> None:
    theirs = compare.parse(sides.theirs["0.23"][case.name])
    newer = compare.NEWER_THAN_023 | compare.NEWER_THAN_028
    ours = compare.without(compare.parse(sides.ours[case.name]), newer, compare.NEWER_LABELS)
    _judge(compare.differences(case, theirs, ours), listed(case.name) | changed(case.name))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_0_28_was_recorded(case: Case, sides: Sides) -> None:
    theirs = compare.without(compare.parse(sides.theirs["0.28"][case.name]), set(), compare.MADE_ANEW)
    ours = compare.without(compare.parse(sides.ours[case.name]), compare.NEWER_THAN_028, compare.MADE_ANEW)
    found = compare.differences(case, theirs, ours, recorded=True)
    _judge(found, listed(case.name))
    gone = listed(case.name) - found.keys()
    assert not gone, f"docs/blackbox.md lists differences that are gone: {gone}"


def test_the_recording_is_of_this_matrix(sides: Sides) -> None:
    """Between the live 0.23 and the recorded 0.28 lies what changed between the two, and nothing else."""
    for case in OLD:
        older = compare.without(compare.parse(sides.theirs["0.23"][case.name]), set(), compare.MADE_ANEW)
        newer = compare.without(
            compare.parse(sides.theirs["0.28"][case.name]),
            compare.NEWER_THAN_023,
            compare.NEWER_LABELS | compare.MADE_ANEW,
        )
        found = compare.differences(case, older, newer)
        assert found.keys() <= changed(case.name), (case.name, found)
    assert sides.theirs["0.28"].keys() == {case.name for case in CASES}


def test_every_series_is_a_gauge_with_a_help_text(sides: Sides) -> None:
    for name, text in sides.ours.items():
        samples = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        helped = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP ")}
        gauges = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ") and " gauge" in line}
        assert samples == helped == gauges, name
