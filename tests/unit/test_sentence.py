"""The verdict in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prober.judge.records import Outage, Verdict
from prober.sentence import Parts, day, verdict_sentence
from tests.ledgers import BEGIN, ended, outage

LAST = replace(ended(outage("north-korea", scope="entity"), 34_260), started_after=BEGIN - 15, started_by=BEGIN + 15)
LAST = replace(LAST, ended_after=BEGIN + 34_245, ended_by=BEGIN + 34_275)
FOUR = Parts("network", up=4)


@pytest.mark.parametrize(
    ("verdict", "held", "parts", "ongoing", "last", "text"),
    [
        (
            Verdict.UP, True, FOUR, None, LAST,
            "North Korea: reachable. 4 of 4 networks up. Last outage 9 h 31 min (±30 s), 22 December 2014.",
        ),
        (Verdict.UP, True, None, None, None, "North Korea: reachable. No outage on record."),
        (
            Verdict.PARTIAL, True, Parts("network", up=1, down=2, unknown=1), None, None,
            "North Korea: partly reachable. 1 of 4 networks up, 1 not known. No outage on record.",
        ),
        (
            Verdict.DARK, False, Parts("network", down=4), outage("north-korea", scope="entity"), LAST,
            "North Korea: not reachable since 22 December 2014, 16:15 UTC (1 h 2 min so far). 0 of 4 networks up. "
            "Outage before it 9 h 31 min (±30 s), 22 December 2014.",
        ),
        (
            Verdict.DARK, False, Parts("network", down=1), outage("north-korea", scope="entity"), None,
            "North Korea: not reachable since 22 December 2014, 16:15 UTC (1 h 2 min so far). 0 of 1 network up. "
            "No earlier outage on record.",
        ),
        (Verdict.DOWN, False, None, None, None, "North Korea: not reachable. No outage on record."),
        (Verdict.UNKNOWN, None, Parts("site", unknown=2), None, None,
            "North Korea: not known yet. 0 of 2 sites up, 2 not known. No outage on record."),
        (Verdict.UNKNOWN, True, None, None, None,
            "North Korea: not known now, last known reachable. No outage on record."),
        (
            Verdict.UNKNOWN, False, None, outage(), None,
            "North Korea: not known now, last known not reachable since 22 December 2014, 16:15 UTC "
            "(1 h 2 min so far). No earlier outage on record.",
        ),
    ],
)  # fmt: skip
def test_sentence(
    verdict: Verdict, held: bool | None, parts: Parts | None, ongoing: Outage | None, last: Outage | None, text: str
) -> None:
    said = verdict_sentence(
        "North Korea", verdict, held=held, parts=parts, ongoing=ongoing, last=last, now=BEGIN + 3_779
    )
    assert said == text


def test_an_outage_that_has_just_begun() -> None:
    said = verdict_sentence("A", Verdict.DOWN, ongoing=outage(), now=BEGIN + 65.9)
    assert "(1 min 5 s so far)" in said
    assert "(0 s so far)" in verdict_sentence("A", Verdict.DOWN, ongoing=outage(), now=BEGIN - 5)


def test_days_need_no_locale() -> None:
    assert [day(utc) for utc in (0.0, BEGIN, 1_709_164_800.0)] == [
        "1 January 1970", "22 December 2014", "29 February 2024",
    ]  # fmt: skip
