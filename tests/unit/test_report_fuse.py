"""What several vantages saw, fused: outages, peninsulas, who has no vote, which bounds are left."""

from __future__ import annotations

from math import inf

import pytest

from prober.judge.records import Onset, Outage
from prober.report.fuse import Edge, Sight, fuse


def seen(
    vantage: str,
    start: tuple[float | None, float],
    end: tuple[float, float | None] | None = None,
    **changes: object,
) -> Outage:
    """An outage with these bounds; the headline in the middle of each. No end: it goes on."""
    after, by = start
    at = by if after is None else (after + by) / 2
    low, high = (by, None) if end is None else end
    return Outage(
        id=f"{vantage}:{by:g}",
        vantage=vantage,
        scope="network",
        name="n",
        entity="e",
        started_after=after,
        started_by=by,
        start=at,
        detected_at=by,
        ended_after=low,
        ended_by=high,
        end=None if high is None else (low + high) / 2,
        ongoing=end is None,
        **changes,  # type: ignore[arg-type]
    )


def sight(vantage: str, *outages: Outage, blind: tuple[tuple[float, float], ...] = (), skew: float = 0.0) -> Sight:
    return Sight(vantage, outages, ((-inf, 0.0), (1000.0, inf), *blind), skew)


def told(*sights: Sight, until: float = 1000.0) -> list[tuple[str, Edge, Edge | None]]:
    return [(one.kind, one.start, one.end) for one in fuse(sights, until=until)]


def test_one_vantage_says_what_it_saw() -> None:
    outage = seen("a", (100, 140), (200, 260))
    assert told(sight("a", outage)) == [("outage", Edge(100, 140, 120), Edge(200, 260, 230))]


def test_bounds_that_agree_are_cut_to_what_they_have_in_common() -> None:
    (one,) = fuse(
        [sight("b", seen("b", (110, 150), (190, 250))), sight("a", seen("a", (100, 140), (200, 260)))], until=1000
    )
    assert (one.kind, one.down, one.up, one.blind) == ("outage", ("a", "b"), (), ())
    # between the last answer to anybody (110) and the next failure of anybody (140)
    assert one.start == Edge(110, 140, 125)
    assert one.end == Edge(200, 250, 225)
    assert one.duration_min_seconds == 60
    assert one.duration_max_seconds == 140
    assert one.duration_seconds == 100


def test_one_who_reaches_it_makes_it_a_peninsula() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140), (200, 260))), sight("b")], until=1000)
    assert (one.kind, one.down, one.up) == ("peninsula", ("a",), ("b",))
    assert (one.start, one.end) == (Edge(100, 140, 120), Edge(200, 260, 230))


def test_a_peninsula_before_and_after_an_outage() -> None:
    first, second = seen("a", (100, 140), (700, 740)), seen("b", (300, 340), (500, 540))
    assert told(sight("a", first), sight("b", second)) == [
        ("peninsula", Edge(100, 140, 120), Edge(300, 340, 320)),
        ("outage", Edge(300, 340, 320), Edge(500, 540, 520)),
        ("peninsula", Edge(500, 540, 520), Edge(700, 740, 720)),
    ]


def test_who_is_blind_has_no_vote() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140), (200, 260))), sight("b", blind=((50, 400),))], until=1000)
    assert (one.kind, one.down, one.up, one.blind) == ("outage", ("a",), (), ("b",))
    assert one.unobserved_seconds == 0


def test_what_nobody_sees_is_held_and_said() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140), (500, 560)), blind=((200, 300),))], until=1000)
    assert (one.start, one.end, one.unobserved_seconds) == (Edge(100, 140, 120), Edge(500, 560, 530), 100)


def test_a_headline_in_the_dark_keeps_its_bounds() -> None:
    """The agent was stopped at 110 and found it down at 200: the middle lies where nobody saw."""
    (one,) = fuse([sight("a", seen("a", (100, 210), (400, 420)), blind=((110, 200),))], until=1000)
    assert (one.start, one.end) == (Edge(100, 210, 155), Edge(400, 420, 410))


def test_a_dissenter_that_loses_its_sight_has_not_changed_its_mind() -> None:
    down = seen("a", (100, 140), (700, 740))
    assert [one[0] for one in told(sight("a", down), sight("b", blind=((400, 500),)))] == ["peninsula"]


def test_who_comes_back_and_reaches_it_casts_doubt() -> None:
    """Nobody can say how long it had been a peninsula: of the outage before, nothing is certain but its start."""
    first, second = fuse([sight("a", seen("a", (100, 140), (700, 740))), sight("b", blind=((50, 400),))], until=1000)
    assert (first.kind, first.end) == ("outage", Edge(120, 400, 400))
    assert first.duration_min_seconds == 0
    assert (second.kind, second.up, second.end) == ("peninsula", ("b",), Edge(700, 740, 720))


def test_one_that_goes_on() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140)))], until=900)
    assert one.end is None
    assert (one.duration_seconds, one.duration_max_seconds) == (None, None)
    assert one.duration_min_seconds == 0  # certain up to its last failure, 140


@pytest.mark.parametrize(
    ("until", "end", "other", "certain"),
    [
        (400, None, None, 140),  # it goes on, certain to its last failure
        (400, (600, 640), None, 400),  # it ended later: certain to the end of what is asked for
        (610, (600, 640), None, 600),  # to the bound of its end
        (400, (600, 640), (650, 690), 400),
        (610, (600, 640), (650, 690), 600),  # the first who reaches it ends the outage
        (610, (600, 640), (620, 660), 610),  # both saw one end: it lies in what they have in common
    ],
)
def test_what_ended_after_the_report_was_certain_in_it(
    until: float, end: tuple[float, float] | None, other: tuple[float, float] | None, certain: float
) -> None:
    sights = [sight("a", seen("a", (100, 140), end))]
    if other is not None:
        sights.append(sight("b", seen("b", (100, 140), other)))
    (one,) = fuse(sights, until=until)
    assert (one.kind, one.end, one.certain_until) == ("outage", None, certain)
    assert one.duration_min_seconds == certain - 140
    assert one.outage_class == ("outage" if certain >= 200 else "blip")


def test_a_peninsula_is_certain_until_the_last_who_reached_it_may_not() -> None:
    down = seen("a", (100, 140), (600, 640))
    assert fuse([sight("a", down), sight("b")], until=400)[-1].certain_until == 400
    later = sight("b", seen("b", (380, 440), (600, 640)))
    (one,) = fuse([sight("a", down), later], until=400)
    assert (one.kind, one.up, one.certain_until) == ("peninsula", ("b",), 380)
    assert fuse([sight("a", down), later, sight("c")], until=400)[-1].certain_until == 400


def test_who_went_blind_does_not_end_what_others_see() -> None:
    lost = sight("a", seen("a", (100, 140), (200, 600)), blind=((201, 600),))
    (one,) = fuse([lost, sight("b", seen("b", (100, 140), (900, 940)))], until=350)
    assert (one.kind, one.end, one.certain_until) == ("outage", None, 350)


def test_a_clock_that_is_off_makes_nothing_a_blip() -> None:
    outage = seen("a", (100, 140), (200, 260), blip_seconds=60.0)
    (one,) = fuse([sight("a", outage, skew=5.0)], until=1000)
    assert (one.duration_min_seconds, one.outage_class) == (50, "outage")
    (one,) = fuse([sight("a", seen("a", (100, 140), (199, 260)), skew=500.0)], until=1000)
    assert (one.duration_min_seconds, one.outage_class) == (0, "blip")
    (one,) = fuse([sight("a", seen("a", (100, 140), None), skew=5.0)], until=900)
    assert one.certain_until == 135


def test_abandoned_has_no_vote_afterwards() -> None:
    """`a` watched it no longer from 300 on; that is no word that it was up."""
    gone = seen("a", (100, 140), (300, None))
    (one,) = fuse([sight("a", gone), sight("b", seen("b", (110, 150), (500, 540)))], until=1000)
    assert (one.kind, one.end, one.blind) == ("outage", Edge(500, 540, 520), ("a",))


def test_abandoned_alone_has_no_end_that_anybody_knows() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140), (300, None)))], until=1000)
    assert one.end == Edge(300, inf, 300)
    assert (one.duration_seconds, one.duration_min_seconds, one.duration_max_seconds) == (None, 160, None)


def test_an_open_bound_joins_nothing_that_was_over() -> None:
    """(-inf, 640] has a moment in common with everything before: it is still not the outage of 100."""
    records = told(sight("a", seen("a", (100, 140), (200, 260))), sight("b", seen("b", (None, 640), (700, 720))))
    assert [(kind, start.by) for kind, start, _ in records] == [("outage", 140), ("peninsula", 640)]


def test_an_open_bound_joins_what_went_on() -> None:
    first, second = seen("a", (100, 140), (700, 740)), seen("b", (None, 400), (710, 730))
    assert told(sight("a", first), sight("b", second)) == [("outage", Edge(100, 140, 120), Edge(710, 730, 720))]


def test_skew_widens_the_bounds_and_not_the_headline() -> None:
    (one,) = fuse([sight("a", seen("a", (100, 140), (200, 260)), skew=5.0)], until=1000)
    assert (one.start, one.end) == (Edge(95, 145, 120), Edge(195, 265, 230))


def test_clocks_that_are_off_may_make_bounds_meet() -> None:
    outages = seen("a", (100, 140), (500, 540)), seen("b", (141, 181), (541, 581))
    apart = fuse([sight("a", outages[0]), sight("b", outages[1])], until=1000)
    assert [one.kind for one in apart] == ["peninsula", "outage", "peninsula"]
    meeting = fuse([sight("a", outages[0], skew=1.0), sight("b", outages[1], skew=1.0)], until=1000)
    assert [one.kind for one in meeting] == ["outage"]
    assert (meeting[0].start.after, meeting[0].start.by) == (140, 141)


def test_what_witnesses_say_is_passed_on() -> None:
    early = seen("a", (100, 140), (200, 260), onset=Onset.PROGRESSIVE, degraded_since=50.0)
    (one,) = fuse([sight("a", early), sight("b", seen("b", (100, 140), (200, 260)))], until=1000)
    assert (one.onset, one.degraded_since, len(one.witnesses)) == (Onset.PROGRESSIVE, 50.0, 2)
    assert one.outage_class == "outage"


def test_two_in_a_row_stay_two() -> None:
    first, second = seen("a", (100, 110), (200, 210)), seen("a", (210, 220), (300, 310))
    assert [one.kind for one in fuse([sight("a", first, second)], until=1000)] == ["outage", "outage"]


def test_nothing_is_nothing() -> None:
    assert fuse([], until=10) == []
    assert fuse([sight("a"), sight("b")], until=10) == []
