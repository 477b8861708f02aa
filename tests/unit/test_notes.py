"""Notes in the ledger: beside the measurements, beside a running agent, and never in their way."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prober.judge.records import OutageOpened
from prober.ledger import FILE_NAME, BadNote, LedgerError, make_note, read_gaps, read_outages
from prober.ledger import notes as module
from prober.ledger.files import DirectoryLock
from prober.ledger.notes import LATEST, Note, add_note, known_entities, notes_of, read_notes, remove_note
from prober.ledger.schema import MIGRATIONS, VERSION, statements
from prober.report.ledgers import from_ledgers
from tests.ledgers import BEGIN, opened, outage


def note(text: str = "attack reported", at: float = BEGIN, **more: Any) -> Note:
    return make_note(text, now=BEGIN + 9, at=at, **more)


async def emptied(directory: Path) -> Path:
    """The directory of a ledger whose agent has ended."""
    async with opened(directory) as ledger:
        await ledger.append([OutageOpened(outage())])
    return directory


async def until_noted(ledger: Any, count: int) -> None:
    for _ in range(2_000):
        if len(ledger.latest_notes()) == count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{len(ledger.latest_notes())} notes, not {count}")


def old_ledger(directory: Path) -> Path:
    """A ledger as the first version had it."""
    file = directory / FILE_NAME
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements(MIGRATIONS[0]):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {0x70726F62}")
    return file


# -- what is a note ----------------------------------------------------------------------------------------------------


def test_a_note() -> None:
    made = make_note(
        "  Dyn  reports\nan attack ",
        now=BEGIN + 9,
        entity="north-korea",
        source="Dyn",
        link="https://example.org/a?b#c",
    )
    assert made == Note(
        made.id, BEGIN + 9, None, "north-korea", "Dyn reports an attack", "Dyn", "https://example.org/a?b#c", BEGIN + 9
    )
    assert made.to_json() == {
        "id": made.id,
        "at": "2014-12-22T16:15:09Z",
        "until": None,
        "entity": "north-korea",
        "text": "Dyn reports an attack",
        "source": "Dyn",
        "link": "https://example.org/a?b#c",
        "added_at": "2014-12-22T16:15:09Z",
    }
    assert len({make_note("x", now=0).id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"text": ""}, "needs a text"),
        ({"text": " \n\t"}, "needs a text"),
        ({"text": "x" * 10_240}, "text has 10240 characters, at most 2000"),
        ({"text": "\udc80"}, "not UTF-8"),
        ({"source": "x" * 201}, "source has 201"),
        ({"entity": "x" * 201}, "entity has 201"),
        ({"link": "javascript:alert(1)"}, "link is no http"),
        ({"link": "https://"}, "link is no http"),
        ({"link": "https://[::1"}, "link is no http"),
        ({"link": "https://a b/"}, "link is no http"),
        ({"link": "https://a/\u202e"}, "link is no http"),
        ({"link": "https://ann:secret@example.org/"}, "a user in it"),
        ({"link": "https://example.org/" + "x" * 1_000}, "at most 1000"),
        ({"at": -1.0}, "1970"),
        ({"at": 1e12}, "9999"),
        ({"at": float("nan")}, "1970"),
        ({"until": float("inf")}, "9999"),
        ({"until": BEGIN - 1}, "exchange"),
    ],
)
def test_what_is_none(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadNote, match=says) as refused:
        make_note(**dict[str, Any]({"text": "x", "now": BEGIN} | given))
    assert str(refused.value).isprintable()


# -- without an agent --------------------------------------------------------------------------------------------------


async def test_written_read_removed_while_no_agent_runs(tmp_path: Path) -> None:
    directory = await emptied(tmp_path)
    first, second = note(at=BEGIN - 60, until=BEGIN), note("second", entity="north-korea")
    add_note(directory, first)
    add_note(directory / FILE_NAME, second)
    assert notes_of(directory) == [second, first]
    assert not DirectoryLock(directory).held
    assert remove_note(directory, first.id)
    assert not remove_note(directory, first.id)
    assert notes_of(directory) == [second]
    assert known_entities(directory) == ["north-korea"]
    assert len(read_outages(directory)) == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "cba"),
        ({"since": BEGIN + 50}, "cb"),  # b goes on until then
        ({"until": BEGIN + 50}, "ba"),
        ({"since": BEGIN + 101}, "c"),
        ({"entity": "x"}, "cb"),
        ({"entity": "y"}, "ca"),
        ({"limit": 1}, "c"),
    ],
)
async def test_some_of_them(tmp_path: Path, asked: dict[str, Any], found: str) -> None:
    directory = await emptied(tmp_path)
    for one in (
        note("a", entity="y"),
        note("b", BEGIN + 50, until=BEGIN + 100, entity="x"),
        note("c", BEGIN + 200),
    ):
        add_note(directory, one)
    assert "".join(one.text for one in notes_of(directory, **asked)) == found


async def test_their_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await emptied(tmp_path)
    monkeypatch.setattr(module, "NOTES_MAX", 2)
    add_note(directory, note())
    add_note(directory, note())
    with pytest.raises(BadNote, match="remove some"):
        add_note(directory, note())
    assert len(notes_of(directory)) == 2


def test_where_there_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        add_note(tmp_path, note())
    assert not list(tmp_path.iterdir())


def test_what_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"x" * 5000)
    with pytest.raises(LedgerError, match="not a readable ledger"):
        add_note(tmp_path, note())
    with pytest.raises(LedgerError, match="not a readable ledger"):
        notes_of(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == b"x" * 5000


async def test_a_row_that_nobody_writes_is_told(tmp_path: Path) -> None:
    directory = await emptied(tmp_path)
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("INSERT INTO notes VALUES ('x', 'soon', NULL, '', 'x', '', '', 0)")
    with pytest.raises(LedgerError, match="a row that no ledger has"):
        notes_of(directory)


# -- versions ----------------------------------------------------------------------------------------------------------


def test_an_older_ledger_is_brought_up_by_the_first_note(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    assert notes_of(tmp_path) == []
    assert (read_outages(tmp_path), read_gaps(tmp_path)) == ([], [])
    assert [one.outages for one in from_ledgers([tmp_path])] == [()]
    add_note(tmp_path, note())
    assert len(notes_of(tmp_path)) == 1
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_not_under_an_older_agent(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    try:
        with pytest.raises(LedgerError, match="writes its ledger here"):
            add_note(tmp_path, note())
    finally:
        lock.release()
    assert notes_of(tmp_path) == []


async def test_an_agent_brings_an_older_ledger_up(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    async with opened(tmp_path) as ledger:
        assert ledger.latest_notes() == ()
        await ledger.add_note(note())
        assert len(await ledger.notes()) == 1


# -- beside a running agent --------------------------------------------------------------------------------------------


async def test_a_note_from_outside_is_seen_with_the_next_heartbeat(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage())])
        assert ledger.latest_notes() == ()
        made = [note(str(number), BEGIN + number) for number in range(LATEST + 5)]
        for one in made:
            await asyncio.to_thread(add_note, tmp_path, one)
        assert await ledger.notes(limit=1) == made[-1:]
        ledger.heartbeat(1005.0, BEGIN + 5)
        await until_noted(ledger, LATEST)
        assert ledger.latest_notes() == tuple(reversed(made))[:LATEST]
        await asyncio.to_thread(remove_note, tmp_path, made[-1].id)
        ledger.heartbeat(1010.0, BEGIN + 10)
        for _ in range(2_000):
            if ledger.latest_notes()[0] == made[-2]:
                break
            await asyncio.sleep(0.005)
        assert ledger.latest_notes()[0] == made[-2]
        assert ledger.writable
    async with opened(tmp_path) as ledger:
        assert len(ledger.latest_notes()) == LATEST
        await ledger.prune(BEGIN * 2)
        assert len(await ledger.notes()) == LATEST + 4  # what people wrote is kept


async def test_the_agents_own_are_seen_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        one = note()
        await ledger.add_note(one)
        await until_noted(ledger, 1)
        assert await ledger.remove_note(one.id)
        assert not await ledger.remove_note(one.id)
        await until_noted(ledger, 0)


async def test_both_write_at_the_same_time(tmp_path: Path) -> None:
    """Neither loses anything, and neither fails."""
    async with opened(tmp_path) as ledger:

        async def from_outside(worker: int) -> None:
            for number in range(10):
                await asyncio.to_thread(add_note, tmp_path, note(f"{worker}/{number}"))

        async def measured() -> None:
            for number in range(40):
                await ledger.append([OutageOpened(outage(f"n{number}"))])

        await asyncio.gather(measured(), *(from_outside(worker) for worker in range(4)))
        assert (ledger.writable, ledger.lost) == (True, 0)
    assert len(notes_of(tmp_path)) == 40
    assert len(read_outages(tmp_path)) == 40


async def test_a_spoiled_row_does_not_stop_the_agent(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage())])
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
            connection.execute("INSERT INTO notes VALUES ('x', 'soon', NULL, '', 'x', '', '', 0)")
        await ledger.append([OutageOpened(outage("b"))])
        assert (ledger.writable, ledger.latest_notes()) == (True, ())
    assert len(read_outages(tmp_path)) == 2


async def test_while_the_disk_fails_a_note_is_refused_and_does_not_wait(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([])
        ledger.writable, ledger.failing_reason = False, "disk full"
        with pytest.raises(LedgerError, match="disk full"):
            await ledger.add_note(note())
        ledger.writable = True


async def test_a_connection_reads_them(tmp_path: Path) -> None:
    directory = await emptied(tmp_path)
    one = replace(note(), source="Dyn Research")
    add_note(directory, one)
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        assert read_notes(connection, BEGIN - 1, BEGIN + 1) == [one]
        assert read_notes(connection, BEGIN + 1, None) == []
