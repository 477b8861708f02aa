"""The ledger in one process: what goes in comes out, counted once, and shown only when it is written."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest

from prober.judge.records import (
    Event,
    Gap,
    GapClosed,
    GapOpened,
    Onset,
    Outage,
    OutageClosed,
    OutageOpened,
    OutageUpdated,
    StateChanged,
    Verdict,
)
from prober.ledger import FILE_NAME, Ledger, Totals, cursor_after, read_gaps, read_outages
from prober.ledger.schema import GAP_COLUMNS, MIGRATIONS, OUTAGE_COLUMNS, statements
from tests.leaks import assert_no_leaks
from tests.ledgers import BEGIN, ended, gap, opened, outage, state

EVERYTHING = replace(
    ended(outage("a"), 3600.1),
    onset=Onset.PROGRESSIVE,
    degraded_since=BEGIN - 7200.25,
    flaps=3,
    losses=7,
    unobserved_seconds=12.5,
    restored_full=BEGIN + 4000.75,
    note='평양, "quoted"; or not',
    failures={"receive/timeout": 9, "resolve/dns_rcode": 2},
)


async def settled(ledger: Ledger) -> None:
    """All that was put in before is written and shown."""
    await ledger.append([])


def test_every_field_has_a_column() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS:
            for statement in statements(script):
                connection.execute(statement)
        for table, names, record in (("outages", OUTAGE_COLUMNS, Outage), ("gaps", GAP_COLUMNS, Gap)):
            found = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert found[: len(names)] == list(names)
            assert list(names) == [field.name for field in fields(record)]


async def test_records_come_back_exactly(tmp_path: Path) -> None:
    other = gap(BEGIN + 0.1, BEGIN + 99.9)
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage("a")), OutageClosed(EVERYTHING), GapClosed(other)])
    assert read_outages(tmp_path) == [EVERYTHING]
    assert read_outages(tmp_path)[0].to_json() == EVERYTHING.to_json()
    assert read_gaps(tmp_path) == [other]


async def test_what_is_open_is_restored(tmp_path: Path) -> None:
    going_on, over = outage("a"), outage("b")
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(going_on), OutageOpened(over), GapOpened(gap())])
        await ledger.append([OutageClosed(ended(over, 300))])
        ledger.snapshot({"checks": {"a/icmp": {"s": 17.8, "last": None}}}, BEGIN + 5)
        ledger.heartbeat(1010.0, BEGIN + 10)
    async with opened(tmp_path, now=1020.0, utc=BEGIN + 20) as ledger:
        restored = ledger.restore()
        assert (restored.open_outages, restored.open_gaps) == ([going_on], [gap()])
        assert restored.snapshot == {"checks": {"a/icmp": {"s": 17.8, "last": None}}}
        assert restored.snapshot_at == BEGIN + 5
        assert ledger.ongoing() == [going_on]
        assert ledger.open_gaps() == [gap()]
        assert ledger.past("network", "b") == [ended(over, 300)]


async def test_a_new_ledger_restores_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as ledger:
        restored = ledger.restore()
        assert (restored.open_outages, restored.open_gaps, restored.snapshot) == ([], [], None)
        assert ledger.absence is None
        assert ledger.totals("network", "a") == Totals()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_nothing_is_shown_before_it_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        ledger.record([OutageOpened(outage()), GapOpened(gap())])
        assert ledger.ongoing() == []
        assert ledger.open_gaps() == []
        assert ledger.unwritten == 2
        await settled(ledger)
        assert ledger.ongoing() == [outage()]
        assert ledger.open_gaps() == [gap()]
        assert ledger.unwritten == 0
        assert read_outages(tmp_path, ongoing=True) == [outage()]


async def test_the_same_event_twice_counts_once(tmp_path: Path) -> None:
    over = ended(outage(), 600)
    events: list[Event] = [OutageOpened(outage()), OutageClosed(over), GapOpened(gap()), GapClosed(gap(end=BEGIN + 9))]
    async with opened(tmp_path) as ledger:
        for _ in range(2):
            for event in events:  # each in a transaction of its own
                await ledger.append([event])
        await ledger.append(events)
        assert ledger.ongoing() == []
        assert ledger.open_gaps() == []
        assert ledger.totals("network", "star-kp-176") == Totals(outages=1, outage_seconds=540.0)
    async with opened(tmp_path) as ledger:  # as after a crash that came between commit and acknowledgement
        await ledger.append(events)
        await ledger.append([GapOpened(gap())])
        assert ledger.open_gaps() == []
        assert ledger.totals("network", "star-kp-176") == Totals(outages=1, outage_seconds=540.0)
    assert read_outages(tmp_path) == [over]
    assert read_gaps(tmp_path) == [gap(end=BEGIN + 9)]


async def test_an_update_after_the_end_counts_nothing(tmp_path: Path) -> None:
    over = ended(outage(), 600)
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage()), OutageClosed(over)])
        full = replace(over, restored_full=BEGIN + 900)
        await ledger.append([OutageUpdated(full)])
        assert ledger.totals("network", "star-kp-176") == Totals(outages=1, outage_seconds=540.0)
        assert ledger.past("network", "star-kp-176") == [full]
    assert read_outages(tmp_path) == [full]


async def test_blips_and_outages_are_counted_when_they_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        for number in range(3):
            one = outage("a", BEGIN + 1000 * number)
            await ledger.append([OutageOpened(one)])
            assert ledger.totals("network", "a").blips == number
            short = replace(one, ended_after=one.started_by + 5, ended_by=one.started_by + 7, end=one.start + 36)
            await ledger.append([OutageClosed(replace(short, ongoing=False))])
        await ledger.append([OutageOpened(outage("b")), OutageClosed(ended(outage("b"), 600))])
        assert ledger.totals("network", "a").blips == 3
        assert ledger.totals("network", "b").outages == 1
        assert ledger.past("network", "a") == []


async def test_an_abandoned_outage_is_over(tmp_path: Path) -> None:
    left = replace(outage(), ongoing=False, ended_after=BEGIN + 330, note="abandoned: no longer configured")
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage()), OutageClosed(left)])
        assert ledger.ongoing() == []
        assert ledger.totals("network", "star-kp-176") == Totals(outages=1, outage_seconds=300.0)


async def test_certain_seconds_grow_while_it_lasts_and_never_go_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage())])
        ledger.heartbeat(1005.0, BEGIN + 5, [replace(outage(), ended_after=BEGIN + 530)])
        assert ledger.totals("network", "star-kp-176").outage_seconds == 30.0
        await settled(ledger)
        assert ledger.totals("network", "star-kp-176").outage_seconds == 500.0
        assert ledger.ongoing()[0].ended_after == BEGIN + 530
    async with opened(tmp_path) as ledger:
        assert ledger.totals("network", "star-kp-176").outage_seconds == 500.0
        # the judge restored an older snapshot, or the bounds turned out narrower at the end
        await ledger.append([OutageUpdated(replace(outage(), ended_after=BEGIN + 100))])
        await ledger.append([OutageClosed(ended(outage(), 300))])
        assert ledger.totals("network", "star-kp-176") == Totals(outages=1, outage_seconds=500.0)


async def test_progress_neither_opens_nor_reopens(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        ledger.heartbeat(1005.0, BEGIN, [outage("never-opened")])
        await ledger.append([OutageOpened(outage()), OutageClosed(ended(outage(), 300))])
        ledger.heartbeat(1006.0, BEGIN, [outage()])
        await settled(ledger)
        assert ledger.ongoing() == []
        ledger.record([OutageOpened(outage("c"))])
        ledger.heartbeat(1007.0, BEGIN, [replace(outage("c"), ended_after=BEGIN + 900)])  # in the same transaction
        await settled(ledger)
        assert [one.ended_after for one in ledger.ongoing()] == [BEGIN + 900]
    assert {one.name for one in read_outages(tmp_path)} == {"star-kp-176", "c"}


async def test_states_are_counted_up_to_the_last_heartbeat(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([state("a", Verdict.UNKNOWN, 0.0), state("e", Verdict.PARTIAL, 0.0, held=True)], 1000.0)
        ledger.record([state("a", Verdict.UP, 1010.0)])
        ledger.record([state("a", Verdict.DOWN, 1110.0)])
        ledger.heartbeat(1115.0, BEGIN + 115)
        await settled(ledger)
        assert ledger.totals("network", "a") == Totals(unknown_seconds=10.0, up_seconds=100.0, down_seconds=5.0)
        assert ledger.totals("network", "e") == Totals(up_seconds=115.0)


async def test_states_go_on_over_a_crash_and_are_unknown_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([state("a", Verdict.UP, 0.0)], 1000.0)
        ledger.heartbeat(1100.0, BEGIN + 100)
        await settled(ledger)
        shown = ledger.totals("network", "a")
    # An hour later, after UTC was set back by a day: the boot's own clock knows.
    async with opened(tmp_path, now=4700.0, utc=BEGIN + 3700 - 86400) as ledger:
        assert ledger.absence is not None
        assert (ledger.absence.seconds, ledger.absence.exact, ledger.absence.step_seconds) == (3600.0, True, -86400.0)
        assert ledger.absence.begin == BEGIN + 100 - 86400
        assert ledger.totals("network", "a") == shown == Totals(up_seconds=100.0)
        ledger.track([state("a", Verdict.UNKNOWN, 0.0)], 4700.0)
        ledger.record([state("a", Verdict.UP, 4710.0)])
        ledger.heartbeat(4720.0, BEGIN - 82680)
        await settled(ledger)
        assert ledger.totals("network", "a") == Totals(up_seconds=110.0, unknown_seconds=3610.0)


async def test_a_second_crash_right_after_the_start_counts_the_absence_once(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([state("a", Verdict.UP, 0.0)], 1000.0)
        ledger.heartbeat(1100.0, BEGIN + 100)
    async with opened(tmp_path, now=1200.0) as ledger:
        ledger.track([state("a", Verdict.DOWN, 0.0)], 1200.0)  # and no heartbeat
        await settled(ledger)
    async with opened(tmp_path, now=1300.0) as ledger:
        assert ledger.absence is not None
        assert ledger.absence.seconds == 200.0
        ledger.track([state("a", Verdict.UP, 0.0)], 1300.0)
        ledger.heartbeat(1300.0, BEGIN + 300)
        await settled(ledger)
        assert ledger.totals("network", "a") == Totals(up_seconds=100.0, unknown_seconds=200.0)


async def test_a_life_without_targets_counts_nothing_as_up(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([state("a", Verdict.UP, 0.0)], 1000.0)
        ledger.heartbeat(1100.0, BEGIN + 100)
    async with opened(tmp_path, now=1200.0) as ledger:
        ledger.heartbeat(1300.0, BEGIN + 300)  # killed before the judge has said anything
    async with opened(tmp_path, now=1300.0) as ledger:
        assert ledger.totals("network", "a") == Totals(up_seconds=100.0, unknown_seconds=200.0)


async def test_another_boot_is_measured_by_utc_and_never_negative(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.heartbeat(1100.0, BEGIN + 100)
    async with opened(tmp_path, now=5.0, utc=BEGIN + 700, boot="boot-2") as ledger:
        assert ledger.absence is not None
        assert (ledger.absence.begin, ledger.absence.seconds, ledger.absence.exact) == (BEGIN + 100, 600.0, False)
    async with opened(tmp_path, now=5.0, utc=BEGIN - 1, boot="boot-3") as ledger:
        assert ledger.absence is not None
        assert ledger.absence.seconds == 0.0


async def test_a_scope_that_is_gone_stands_still_and_goes_on_later(tmp_path: Path) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([state("a", Verdict.UP, 0.0), state("b", Verdict.UP, 0.0)], 1000.0)
        ledger.track([state("b", Verdict.UP, 0.0)], 1010.0)
        ledger.track([state("a", Verdict.DOWN, 0.0), state("b", Verdict.UP, 0.0)], 1030.0)
        ledger.heartbeat(1035.0, BEGIN)
        await settled(ledger)
        assert ledger.totals("network", "a") == Totals(up_seconds=10.0, down_seconds=5.0)
        assert ledger.totals("network", "b") == Totals(up_seconds=35.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (state("a", Verdict.UP, 0.0), "up_seconds"),
        (state("a", Verdict.DOWN, 0.0), "down_seconds"),
        (state("a", Verdict.UNKNOWN, 0.0, held=True), "unknown_seconds"),
        (state("a", Verdict.PARTIAL, 0.0, held=True), "up_seconds"),
        (state("a", Verdict.DARK, 0.0, held=False), "down_seconds"),
    ],
)
async def test_every_verdict_is_one_of_three_states(tmp_path: Path, change: StateChanged, word: str) -> None:
    async with opened(tmp_path, now=1000.0) as ledger:
        ledger.track([change], 1000.0)
        ledger.heartbeat(1007.0, BEGIN)
        await settled(ledger)
        assert getattr(ledger.totals("network", "a"), word) == 7.0


async def test_prune_removes_what_is_over_and_no_total(tmp_path: Path) -> None:
    old, young, open_ = (outage("a", BEGIN + n * 1e6) for n in range(3))
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(one) for one in (old, young, open_)])
        await ledger.append([OutageClosed(ended(old, 600)), OutageClosed(ended(young, 600))])
        await ledger.append([GapClosed(gap(BEGIN, BEGIN + 5)), GapOpened(gap(BEGIN + 1)), GapClosed(gap(2e9, 2.1e9))])
        before = ledger.totals("network", "a")
        await ledger.prune(BEGIN + 630)  # ended by exactly then: stays
        assert len(read_outages(tmp_path)) == 3
        await ledger.prune(BEGIN + 1e5)
        assert ledger.past("network", "a") == [ended(young, 600)]
        assert ledger.totals("network", "a") == before == Totals(outages=2, outage_seconds=1110.0)
    assert [one.id for one in read_outages(tmp_path)] == [open_.id, young.id]
    assert [(one.begin, one.end) for one in read_gaps(tmp_path)] == [(2e9, 2.1e9), (BEGIN + 1, None)]
    async with opened(tmp_path) as ledger:
        assert ledger.totals("network", "a") == before


async def test_the_newest_twenty_are_kept_at_hand(tmp_path: Path) -> None:
    several = [ended(outage("a", BEGIN + 1000 * n), 600) for n in range(25)]
    expected = several[:4:-1]
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageClosed(one) for one in several])
        await ledger.append([OutageClosed(ended(outage("h", scope="target"), 600))])
        assert ledger.past("network", "a") == expected
    async with opened(tmp_path) as ledger:
        assert ledger.past("network", "a") == expected
        assert ledger.past("target", "h") == []


async def test_pages_neither_skip_nor_repeat(tmp_path: Path) -> None:
    same_start = [outage(f"n{n:02}", BEGIN + n // 3) for n in range(20)]
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(one) for one in same_start])
        seen: list[str] = []
        page = await ledger.outages(limit=7)
        while page:
            seen += [one.id for one in page]
            await ledger.append([OutageOpened(outage(f"later{len(seen)}", BEGIN + 500 + len(seen)))])
            page = await ledger.outages(limit=7, after=cursor_after(page[-1]))
    assert sorted(seen) == sorted(one.id for one in same_start)
    with pytest.raises(ValueError, match="is not a cursor"):
        read_outages(tmp_path, after="WzEsMl0")


async def test_filters(tmp_path: Path) -> None:
    over = ended(outage("a", BEGIN), 600)
    late = outage("b", BEGIN + 5000, scope="target", entity="other")
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageClosed(over), OutageOpened(late)])
    assert read_outages(tmp_path) == [late, over]
    assert read_outages(tmp_path, since=BEGIN + 630) == [late, over]
    assert read_outages(tmp_path, since=BEGIN + 631) == [late]
    assert read_outages(tmp_path, since=BEGIN + 9999) == [late]  # it goes on
    assert read_outages(tmp_path, scope="network") == [over]
    assert read_outages(tmp_path, name="b") == [late]
    assert read_outages(tmp_path, entity="north-korea", ongoing=True) == []
    assert read_outages(tmp_path, limit=1) == [late]
    assert read_outages(tmp_path / FILE_NAME, ongoing=True) == [late]


async def test_a_snapshot_is_replaced_and_a_wrong_one_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as ledger:
        ledger.snapshot({"n": 1}, BEGIN)
        await settled(ledger)
        ledger.snapshot({"n": [1.5, float("-inf"), {"평양": None}], "m": {}}, BEGIN + 1)
        await settled(ledger)
        ledger.snapshot({"n": object()}, BEGIN + 2)
        await ledger.append([OutageOpened(outage())])
        await settled(ledger)
        assert ledger.writable
    assert "cannot be written, whatever the disk" in caplog.text
    async with opened(tmp_path) as ledger:
        assert ledger.restore().snapshot == {"n": [1.5, float("-inf"), {"평양": None}], "m": {}}
        assert ledger.restore().snapshot_at == BEGIN + 1


async def test_a_spoiled_snapshot_costs_what_was_learned_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as ledger:
        ledger.snapshot({"n": 1}, BEGIN)
        await ledger.append([OutageOpened(outage())])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE snapshots SET state = x'00'")
        connection.commit()
    async with opened(tmp_path) as ledger:
        assert ledger.restore().snapshot is None
        assert ledger.ongoing() == [outage()]
    assert "the snapshot is spoiled" in caplog.text


async def test_a_record_that_no_database_holds_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = [outage("a", losses=2**70), outage("b", note="\ud800"), outage("c", start=float("nan"))]
    async with opened(tmp_path) as ledger:
        await ledger.append([*(OutageOpened(one) for one in wrong), OutageOpened(outage("d"))])
        assert [one.name for one in ledger.ongoing()] == ["d"]
        assert ledger.lost == 3
    assert caplog.text.count("cannot be written, whatever the disk") == 3


async def test_a_cancelled_append_is_written_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        waiting = asyncio.create_task(ledger.append([OutageOpened(outage())]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await settled(ledger)
        assert ledger.ongoing() == [outage()]


async def test_close_writes_what_waits_and_leaves_nothing_behind(tmp_path: Path) -> None:
    await asyncio.to_thread(int)  # the loop's executor keeps its threads
    async with assert_no_leaks(), opened(tmp_path) as ledger:
        ledger.record([OutageOpened(outage())])
        await ledger.close()
    assert read_outages(tmp_path) == [outage()]
