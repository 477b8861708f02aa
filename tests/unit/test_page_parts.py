"""What the status page is made of: strips, curves, words, badges."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from prober.failures import Failure, Operation
from prober.judge.records import Gap, GapCause, Verdict
from prober.ledger.read import Mark
from prober.model import Observation
from prober.page import feeds, timeline, words
from prober.page.agent import AgentSource
from prober.page.curves import curve
from prober.page.rings import BUCKET_SECONDS, BUCKETS, Ring, Rings
from prober.page.source import Known
from prober.page.timeline import Strip, strip, ticks
from tests.ledgers import BEGIN, ended, outage
from tests.sites import check, country, facts

DAY = 86_400.0
NOW = BEGIN + DAY


def mark(begin: float, end: float | None, kind: str = "outage", **changes: Any) -> Mark:
    """An outage from and to these hours before NOW."""
    start = NOW - begin * 3600
    last = NOW if end is None else NOW - end * 3600
    made = Mark(
        f"id-{begin}", "network", "n", start, None if end is None else last, last, end is None, kind, None, start + 60
    )
    return made._replace(**changes)


def gap(begin: float, end: float | None) -> Gap:
    return Gap("g", "v", NOW - begin * 3600, None if end is None else NOW - end * 3600, GapCause.OFFLINE)


def drawn(*marks: Mark, gaps: tuple[Gap, ...] = (), since: float | None = None, most: int = 120) -> Strip:
    return strip(
        marks,
        gaps,
        begin=NOW - DAY,
        now=NOW,
        watched_since=None if since is None else NOW - since * 3600,
        most=most,
    )


def shape(one: Strip) -> list[tuple[str, int, int]]:
    """Kind, from and to, in hours of the strip."""
    return [(p.kind, round(p.x * 0.24), round((p.x + p.width) * 0.24)) for p in one.pieces]


def test_a_calm_day() -> None:
    calm = drawn()
    assert calm.pieces == ()
    assert calm.watched == ((0.0, 100.0),)
    assert (calm.summary, calm.availability) == ("no outage", "100 %")


def test_each_kind_is_a_piece_of_its_own() -> None:
    one = drawn(
        mark(20, 17, degraded_since=NOW - 22 * 3600),
        mark(10, 9.99, "blip"),
        mark(1, None, "blip"),
        gaps=(gap(6, 4),),
    )
    assert shape(one) == [("blind", 18, 20), ("degraded", 2, 4), ("blip", 14, 14), ("outage", 4, 7), ("outage", 23, 24)]
    assert [p.outage for p in one.pieces] == ["", "", "id-10", "id-20", "id-1"]
    assert one.summary == "2 outages, 1 blip, 4 h 1 min in all; one goes on; degraded 2 h; not observed 2 h"
    assert one.availability == "81.773 %"  # 4.01 of the 22 hours that were observed
    assert one.pieces[3].title == "Outage, 3 h, 2014-12-22 20:15:00 to 23:15:00 UTC"
    assert one.pieces[-1].title == "Outage, goes on since 2014-12-23 15:15:00 UTC"


def test_time_before_anybody_looked_is_no_time_in_which_it_was_up() -> None:
    one = drawn(mark(2, 1), since=4)
    assert [(round(x), round(width)) for x, width in one.watched] == [(83, 17)]
    assert one.availability == "75.000 %"
    never = drawn(since=0)
    assert (never.watched, never.summary, never.availability) == ((), "not observed", "")


def test_an_outage_in_a_gap_stays_an_outage() -> None:
    one = drawn(mark(10, 2), gaps=(gap(8, 6),))
    assert shape(one) == [("outage", 14, 22)]


def test_what_began_before_the_strip_is_cut() -> None:
    assert shape(drawn(mark(30, 20))) == [("outage", 0, 4)]
    assert drawn(mark(40, 30)).pieces == ()


def test_a_thousand_outages_are_a_bounded_number_of_pieces() -> None:
    many = [mark(24 - n * 0.024, 24 - n * 0.024 - 0.005, "blip" if n % 2 else "outage") for n in range(1000)]
    one = drawn(*many, most=100)
    assert one.summary.startswith("500 outages, 500 blips")
    (whole,) = one.pieces  # less than a pixel lies between any two
    assert whole.title.startswith("500 outages, 500 blips, 2014-12-22 16:15:00 to")
    spread = [mark(24 - n * 0.24, 24 - n * 0.24 - 0.05, "blip" if n % 2 else "outage") for n in range(100)]
    few, crowded = drawn(*spread), drawn(*spread, most=40)
    assert len(few.pieces) == 100
    assert few.dense == ()
    # what is up between them stays so
    assert [(kind, path.count("M")) for kind, path in crowded.dense] == [("blip", 50), ("outage", 50)]
    blind = [gap(24 - n * 0.24, 24 - n * 0.24 - 0.05) for n in range(100)]
    many_gaps = drawn(gaps=tuple(blind), most=40)
    assert [(kind, path.count("M")) for kind, path in many_gaps.dense] == [("up", 100), ("blind", 100)]
    assert many_gaps.watched == ()


def test_nothing_is_worded_that_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    worded: list[float] = []
    plain = timeline._from_to

    def from_to(low: float, high: float) -> str:
        worded.append(low)
        return plain(low, high)

    monkeypatch.setattr(timeline, "_from_to", from_to)
    spread = [mark(24 - n * 0.24, 24 - n * 0.24 - 0.05, "blip" if n % 2 else "outage") for n in range(100)]
    blind = tuple(gap(24 - n * 0.24 - 0.1, 24 - n * 0.24 - 0.15) for n in range(100))
    assert len(drawn(*spread, gaps=blind, most=40).dense) == 4
    assert worded == []  # half of a long page's time
    assert len(drawn(*spread, gaps=blind).pieces) == len(worded) == 200


@pytest.mark.parametrize("days", [1, 7, 30, 90])
def test_an_axis_has_a_few_dates(days: int) -> None:
    found = ticks(NOW - days * DAY, NOW)
    assert 3 <= len(found) <= 7
    assert all(2 <= x <= 92 for x, _ in found)
    assert sorted(x for x, _ in found) == [x for x, _ in found]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00:00"), (59.9, "0:00:59"), (3_661, "1:01:01"), (34_260, "9:31:00"), (86_400 * 3 + 5, "3 d 0:00:05")],
)
def test_a_clock(seconds: float, text: str) -> None:
    assert words.clock(seconds) == text


def test_a_name_is_made_visible_and_cut() -> None:
    assert words.clean("ok ‮evil\x1b[31m\n") == "ok \\u202eevil\\u001b[31m\\n"
    assert len(words.clean("x" * 10_000)) == words.NAME_MAX
    assert len(words.clean("\x00" * 10_000)) <= 6 * words.NAME_MAX


def test_how_many_of_its_parts_are_up() -> None:
    entity = country()
    now = facts(entity)
    assert words.standing(now, entity) == "4 of 4 networks up."
    states = dict(now.states) | {("network", "net-1"): Known(Verdict.UNKNOWN, None)}
    assert words.standing(facts(entity, states=states), entity) == "3 of 4 networks up, 1 not known."


def test_how_long_it_has_lasted_is_what_the_clock_says() -> None:
    one = outage(ended_after=BEGIN + 50)  # certain for 20 s
    assert words.lasting(one, BEGIN + 68) == "1 min 8 s so far"
    assert words.lasting(ended(one, 600), BEGIN + 900) == "10 min (±60 s)"


def test_an_agent_says_what_is_certain_now_and_not_at_the_last_heartbeat() -> None:
    written, now = outage(ended_after=BEGIN + 58), outage(ended_after=BEGIN + 66, failures={"receive/timeout": 9})
    gone, unwritten = outage("net-2"), outage("net-3")
    judging: Any = SimpleNamespace(
        judge=SimpleNamespace(ongoing=lambda: [now, unwritten], observer_up=True, watch=SimpleNamespace(observers={})),
        ongoing=lambda: [written, gone],
        ledger=SimpleNamespace(writable=True, open_gaps=list),
        shown={},
        reference_count=3,
        utc=lambda: BEGIN + 68,
    )
    judging.judge.utc_offset = 0.0
    shown = AgentSource("hanover", judging, tuple, Rings(), tuple).facts().ongoing
    assert shown == (now, gone)  # what is not on the disk yet is not shown


# -- a day of round trips ----------------------------------------------------------------------------------------------


def seen(at: float, rtt: float | None = 0.1, reason: str = "regular") -> Observation:
    return Observation(
        check=check("host"),
        sent_at=at,
        utc=at,
        success=rtt is not None,
        duration_seconds=rtt or 5.0,
        phases={} if rtt is None else {"rtt": rtt},
        facts={},
        operation=None if rtt is not None else Operation.RECEIVE,
        failure=None if rtt is not None else Failure.TIMEOUT,
        reason=reason,  # type: ignore[arg-type]
    )


def test_a_day_of_round_trips_and_loss() -> None:
    rings = Rings()
    begin = BEGIN - BEGIN % BUCKET_SECONDS
    for minute in range(10):  # two buckets
        rings.observe(seen(begin + 60 * minute, None if minute in (1, 6, 7) else 0.1 * (1 + minute)))
        rings.observe(seen(begin + 60 * minute, None, "confirmation"))  # loss would be counted many times over
    course = rings.course(["host/icmp"], begin + 599)
    assert course is not None
    assert [round(value or 0, 3) for value in course.rtt_seconds[-2:]] == [0.4, 0.9]
    assert course.rtt_seconds[:-2] == (None,) * (BUCKETS - 2)
    assert course.loss[-2:] == (0.2, 0.4)
    assert course.mean_loss == pytest.approx(0.3)
    assert rings.course(["nobody/icmp"], begin) is None
    later = rings.course(["host/icmp"], begin + 599 + BUCKETS * BUCKET_SECONDS)
    assert later is not None
    assert later.last_rtt is None
    rings.forget(["nobody/icmp", "host/icmp"])
    assert rings.course(["host/icmp"], begin) is None


def test_time_without_a_probe_is_empty_and_not_what_was_there_a_day_ago() -> None:
    rings = Rings()
    begin = BEGIN - BEGIN % BUCKET_SECONDS
    for bucket in range(BUCKETS):
        rings.observe(seen(begin + bucket * BUCKET_SECONDS))
    back = begin + (BUCKETS + 100) * BUCKET_SECONDS  # eight hours later
    rings.observe(seen(back))
    course = rings.course(["host/icmp"], back)
    assert course is not None
    assert [value is None for value in course.rtt_seconds[-101:]] == [True] * 100 + [False]
    assert course.rtt_seconds[-102] == pytest.approx(0.1, rel=2e-4)


@pytest.mark.parametrize("rtt", [1e-7, 1e-6, 0.000_043, 0.0999, 0.1001, 3.3, 299.0, 5_000.0])
def test_round_trips_are_kept_small_and_close_enough(rtt: float) -> None:
    rings = Rings()
    begin = BEGIN - BEGIN % BUCKET_SECONDS
    rings.observe(seen(begin, rtt))
    rings.observe(seen(begin + BUCKET_SECONDS, None))
    course = rings.course(["host/icmp"], begin + BUCKET_SECONDS)
    assert course is not None
    kept = course.rtt_seconds[-2]
    assert kept is not None
    assert kept >= 1e-6
    assert kept == pytest.approx(rtt, rel=2e-4) or (rtt, kept) == (1e-7, 1e-6) or (rtt > 3_000 and kept > 2_000)


def test_a_check_that_is_probed_ten_times_a_second_keeps_few_samples() -> None:
    ring_of = Rings()
    for number in range(2_000):
        ring_of.observe(seen(BEGIN - BEGIN % BUCKET_SECONDS + number / 10))
    ring = ring_of._rings["host/icmp"]
    assert isinstance(ring, Ring)
    assert len(ring.samples) <= 16
    assert ring.rtt is None  # nothing is allocated before the first five minutes are over


def test_a_curve_says_what_it_shows() -> None:
    rings = Rings()
    begin = BEGIN - BEGIN % BUCKET_SECONDS
    for minute in range(24 * 60):
        rings.observe(seen(begin + 60 * minute, None if minute < 300 else 0.33 if minute < 1000 else 1.5))
    shown = curve(rings.course(["host/icmp"], begin + 86_399))
    assert shown is not None
    assert shown.rtt == "1.5 s"
    assert shown.loss == "20.8 %"
    assert shown.words == "round trip 1.5 s, 330 ms to 1.5 s in the last 24 hours; loss 20.8 % in the last 24 hours"
    assert len(shown.losses) == 20
    assert len(shown.path) < 2_000
    assert curve(None) is None


# -- badges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_badge(verdict: Verdict) -> None:
    text = feeds.badge("North <Korea>", Known(verdict, None))
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == f"North <Korea>: {words.WORDS[verdict]}"
    assert int(root.attrib["width"]) > 100


def test_a_badge_of_nobody() -> None:
    assert "no such entity" in feeds.badge("x" * 10_000, None)
    assert len(feeds.badge("x" * 10_000, None)) < 2_000
