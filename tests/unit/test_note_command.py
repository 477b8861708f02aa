"""`prober note`, and where notes are shown on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prober.cli import cli
from prober.judge.records import OutageOpened
from prober.ledger.notes import notes_of
from tests.ledgers import BEGIN, opened, outage

AT = "2014-12-22T18:00:00Z"


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """The ledger of an agent that has ended."""
    async with opened(tmp_path / "data") as ledger:
        await ledger.append([OutageOpened(outage())])
    return tmp_path / "data"


def run(command: str, directory: Path, *arguments: str) -> Result:
    where = ("--ledger", str(directory)) if command == "report" else ("--data-dir", str(directory))
    return CliRunner().invoke(cli, [command, *where, *arguments], terminal_width=80)


def told(command: str, directory: Path, *arguments: str) -> Any:
    done = run(command, directory, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def test_add_list_remove(directory: Path) -> None:
    given = ("an attack", "--at", AT, "--entity", "north-korea", "--source", "Dyn", "--link", "https://example.org/")
    done = run("note", directory, *given)
    assert (done.exit_code, done.stderr) == (0, "")
    (one,) = notes_of(directory)
    line = f"2014-12-22 18:00:00  north-korea  an attack (Dyn, https://example.org/)  [{one.id}]\n"
    assert done.stdout == f"noted: {line}"
    second = told("note", directory, "a window", "--at", "2014-12-23", "--until", "2014-12-24")
    assert run("note", directory, "--list").stdout == (
        f"2014-12-23 00:00:00 to 2014-12-24 00:00:00  all  a window  [{second['id']}]\n{line}"
    )
    assert told("note", directory, "--list", "--since", "2014-12-24") == [second]
    assert told("note", directory, "--remove", one.id) == {"removed": True, "id": one.id}
    again = run("note", directory, "--remove", one.id)
    assert (again.exit_code, again.stdout) == (
        1,
        f"there is no note {one.id}; prober note --list has their ids\n",
    )
    assert told("note", directory, "--list") == [second]


async def test_without_notes(directory: Path) -> None:
    assert run("note", directory, "--list").stdout == "no notes\n"
    assert "notes" not in run("outages", directory).stdout
    assert "Notes" not in run("report", directory).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a text"),
        (("x", "--list"), "give a text"),
        (("--list", "--remove", "x"), "give a text"),
        (("--list", "--source", "x"), "belong to a text"),
        (("x", "--since", "30d"), "belongs to --list"),
        (("x", "--at", "soon"), "is no time"),
        (("x", "--at", AT, "--until", "2014-12-22"), "exchange the two"),
        ((" ",), "needs a text"),
        (("x" * 10_240,), "at most 2000"),
        (("x", "--link", "javascript:alert(1)"), "no http: or https: URL"),
        (("x", "--entity", "nort-korea"), 'no entity "nort-korea"; it has: north-korea'),
        (("x", "--entity", "\x1b[2J\u202e"), r'no entity "\u001b[2J\u202e"'),
    ],
)
async def test_wrong_usage_is_one_line(
    directory: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from prober.cli import main

    monkeypatch.setattr(sys, "argv", ["prober", "note", "--data-dir", str(directory), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert says in err
    assert err.rstrip("\n").isprintable()
    assert notes_of(directory) == []


def test_no_ledger(tmp_path: Path) -> None:
    for arguments in (("x",), ("--list",), ("--remove", "x")):
        done = run("note", tmp_path, *arguments)
        assert done.exit_code == 2
        assert "there is no ledger" in done.stderr


async def test_while_the_agent_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage())])
        done = await asyncio.to_thread(run, "note", tmp_path, "an attack", "--at", AT)
        assert done.exit_code == 0, done.output
        ledger.heartbeat(1005.0, BEGIN + 5)
        await ledger.append([])
        for _ in range(1_000):
            if ledger.latest_notes():
                break
            await asyncio.sleep(0.005)
        assert [note.text for note in ledger.latest_notes()] == ["an attack"]
        (one,) = await ledger.notes()
        assert (await asyncio.to_thread(run, "note", tmp_path, "--remove", one.id)).exit_code == 0
        assert ledger.writable


async def test_shown_beside_the_outages(directory: Path) -> None:
    made = told("note", directory, "an attack", "--at", AT, "--source", "Dyn")
    later = told("note", directory, "much later", "--at", "2020-01-01")
    text = run("outages", directory).stdout
    assert f"2014-12-22 18:00:00  all  an attack (Dyn)  [{made['id']}]" in text
    assert "an attack" not in run("outages", directory, "--since", "2015-01-01").stdout
    assert "an attack" not in run("outages", directory, "--csv").stdout
    assert [one["name"] for one in told("outages", directory)] == ["star-kp-176"]

    window = ("--since", "2014-12-22", "--until", "2014-12-23")
    assert told("report", directory, *window)["remarks"] == [made]
    assert told("report", directory)["remarks"] == []  # it ends with the agent's last word
    markdown = run("report", directory, *window).stdout
    assert "## Notes from outside" in markdown
    assert "| 2014-12-22 18:00:00 |          | all    | an attack | Dyn    |" in markdown
    page = run("report", directory, *window, "--format", "html").stdout
    assert "an attack" in page
    assert "much later" not in page
    assert later["text"] == "much later"


async def test_the_notes_of_several_vantages_are_one(directory: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "other") as ledger:
        await ledger.append([OutageOpened(outage(vantage="tokyo"))])
    for one in (directory, tmp_path / "other"):
        told("note", one, "an attack", "--at", AT)
    found = told("report", directory, "--ledger", str(tmp_path / "other"), "--until", "2014-12-23")
    assert [one["text"] for one in found["remarks"]] == ["an attack"]


async def test_many_are_cut_short_beside_the_outages(directory: Path) -> None:
    from prober.ledger import make_note
    from prober.ledger.notes import add_note

    for number in range(22):
        add_note(directory, make_note(f"note {number}", now=BEGIN + number))
    text = run("outages", directory).stdout
    assert "note 21" in text
    assert "note 1 " not in text
    assert "and 2 more: prober note --list" in text
