"""`prober status`: asked of an agent, else of its ledger; what it says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prober.cli import cli
from prober.judge.records import OutageClosed, OutageOpened, Scope, Verdict
from prober.ledger import make_note
from prober.ledger.notes import add_note
from tests.lab import free_port
from tests.ledgers import BEGIN, ended, opened, outage, state

SENTENCE = "North Korea: reachable. 4 of 4 networks up. Last outage 9 h 31 min (±30 s), 22 December 2014."


def agent(**changes: Any) -> dict[str, Any]:
    """What an agent says of itself when all is well."""
    entity = {"name": "north-korea", "title": "North Korea", "sentence": SENTENCE, "verdict": "up", "last_known": "up"}
    return {
        "clock": "2014-12-24T00:00:00Z",
        "vantage": "hanover",
        "observer": {"up": True, "references": 3, "gaps": []},
        "ledger": {"writable": True, "unwritten": 0, "failing_since": None, "reason": ""},
        "entities": [entity],
        "ongoing": [],
    } | changes


def down(name: str, scope: Scope, begin: float = BEGIN + 114_000) -> dict[str, Any]:
    return outage(name, begin, scope).to_json()


@contextmanager
def answering(answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """A server with these answers by path; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path.partition("?")[0], (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "http://192.0.2.1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def served(status: Any, notes: Any = ()) -> dict[str, tuple[int, bytes]]:
    return {
        "/api/v1/status": (200, json.dumps(status).encode()),
        "/api/v1/notes": (200, json.dumps({"notes": list(notes)}).encode()),
    }


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments], env={"COLUMNS": "80"})


def asked(status: Any, *arguments: str, notes: Any = ()) -> Result:
    with answering(served(status, notes)) as url:
        return run("--url", url, *arguments)


# -- an agent ----------------------------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    done = asked(agent())
    assert done.stdout == f"{SENTENCE}\nVantage hanover: online, 2014-12-24 00:00:00 UTC.\n"
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_is_down() -> None:
    found = agent(
        ongoing=[down("star-kp-176", "network"), down("kcna", "site"), down("a", "check"), down("b", "check")]
    )
    done = asked(found)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:4] == [
        "  ONGOING  network star-kp-176: 5 min so far, began between 2014-12-23 23:54:30 and 23:55:30 UTC, "
        "may be a blip",
        "  ONGOING  site kcna: 5 min so far, began between 2014-12-23 23:54:30 and 23:55:30 UTC, may be a blip",
        "  also down: 2 checks (prober outages --ongoing)",
    ]


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"ongoing": [down("a", "check")]}, 0, "also down: 1 check"),
        ({"entities": []}, 0, "no entity is configured"),
        ({"observer": {"up": False, "references": 3, "gaps": []}}, 0, "cannot see"),
        ({"observer": {"up": True, "references": 0, "gaps": []}}, 0, "no reference vouches for it"),
        ({"ledger": {"writable": False, "reason": "disk\x1b full"}}, 0, r"cannot be written (disk\u001b full)"),
    ],
)
def test_what_else_there_is_to_say(changes: dict[str, Any], status: int, says: str) -> None:
    done = asked(agent(**changes))
    assert (done.exit_code, says in done.stdout) == (status, True), done.stdout


@pytest.mark.parametrize("verdict", ["dark", "partial", "down", "unknown"])
def test_only_up_is_up(verdict: str) -> None:
    entity = agent()["entities"][0] | {"verdict": verdict}
    assert asked(agent(entities=[entity])).exit_code == 1


def test_one_entity_of_several() -> None:
    other = {"name": "other", "title": "", "sentence": "Other: not reachable.", "verdict": "dark", "last_known": "down"}
    found = agent(entities=[*agent()["entities"], other])
    assert asked(found).exit_code == 1
    assert asked(found, "north-korea").exit_code == 0
    assert asked(found, "other").stdout.startswith("Other: not reachable.\n")
    missing = asked(found, "\x1b[2J")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr == "prober status: there is no entity \\u001b[2J; there is: north-korea, other\n"


def test_as_json() -> None:
    done = asked(agent(), "--json")
    found = json.loads(done.stdout)
    assert (found["source"], found["running"], found["entities"][0]["sentence"]) == ("agent", True, SENTENCE)


def test_notes_of_the_last_day() -> None:
    notes = [make_note(text, now=BEGIN, at=BEGIN + at).to_json() for text, at in (("old", 0), ("new", 100_000))]
    done = asked(agent(), notes=notes)
    assert "Notes from outside, of the last day:\n2014-12-23 20:01:40  all  new" in done.stdout
    assert "old" not in done.stdout


def test_notes_of_the_next_day_are_to_come_and_later_ones_are_not_told() -> None:
    now = BEGIN + 114_300  # the agent's clock
    told = (("past", now - 60), ("maintenance", now + 3_600), ("far", now + 500_000_000))
    done = asked(agent(), notes=[make_note(text, now=BEGIN, at=at).to_json() for text, at in told])
    past, _, coming = done.stdout.partition("Notes from outside, to come within a day:\n")
    assert ("past" in past, "maintenance" in past, "maintenance" in coming) == (True, False, True)
    assert "far" not in done.stdout


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({}, "answers 404"),
        ({"/api/v1/status": (401, b"")}, "wants a login; give --basic-auth-file"),
        ({"/api/v1/status": (302, b"")}, "answers 302"),
        ({"/api/v1/status": (200, b"<html>")}, "not with JSON"),
        ({"/api/v1/status": (200, b"[" * 100_000)}, "not with JSON"),
        (served([]), "not as an agent of this version does"),
        (served({"clock": "now"}), "not as an agent of this version does"),
        (served(agent(entities=[{}])), "not as an agent of this version does"),
        (served(agent(), notes=[{}]), "not as an agent of this version does"),
    ],
)
def test_who_is_no_agent(answers: Mapping[str, tuple[int, bytes]], says: str) -> None:
    with answering(answers) as url:
        done = run("--url", url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.rstrip("\n").isprintable()


def test_the_address_is_taken_as_prober_run_takes_it(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yml"
    with answering(served(agent())) as url:
        port = url.rpartition(":")[2]
        settings.write_text(f"listen: ':{port}'\n")
        assert run("--listen", f"127.0.0.1:{port}").exit_code == 0
        assert run("--config", str(settings)).exit_code == 0


@pytest.mark.parametrize("arguments", [("--url", "x"), ("--url", "ftp://x/"), ("--url", "http://x", "--listen", "x:1")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_nobody_where_an_agent_was_named() -> None:
    done = run("--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "cannot be reached (connection refused); is the agent running?" in done.stderr


# -- a ledger ----------------------------------------------------------------------------------------------------------


async def ledger(directory: Path, utc: float, *, verdict: Verdict = Verdict.UP, going_on: bool = False) -> Path:
    """The ledger of an agent that wrote last at `utc`."""
    async with opened(directory, utc=utc - 60) as kept:
        past = ended(outage("north-korea", scope="entity"), 34_260)
        await kept.append([OutageOpened(past), OutageClosed(past)])
        states = [state("north-korea", verdict, 1000.0, held=verdict is Verdict.UP, scope="entity")]
        part = Verdict.UP if verdict is Verdict.UP else Verdict.DOWN
        states += [state(f"star-kp-17{number}", part, 1000.0) for number in (6, 7, 8, 9)]
        kept.track(states, 1000.0)
        if going_on:
            await kept.append([OutageOpened(outage("north-korea", utc - 300, "entity"))])
        kept.heartbeat(1060.0, utc)
        await kept.append([])
    return directory


async def test_no_agent_runs_and_its_ledger_is_old(tmp_path: Path) -> None:
    directory = await ledger(tmp_path / "data", BEGIN + 86_400)
    add_note(directory, make_note("an attack", now=BEGIN, at=BEGIN + 80_000))
    settings = tmp_path / "settings.yml"
    settings.write_text(f"listen: 127.0.0.1:{free_port()}\ndata_dir: data\n")
    for arguments in (("--data-dir", str(directory)), ("--config", str(settings))):
        done = await asyncio.to_thread(run, *arguments)  # a command has a loop of its own
        assert done.exit_code == 1, done.stderr  # nobody knows
        lines = done.stdout.splitlines()
        assert lines[0] == (
            "North Korea: not known now, last known reachable. Last outage 9 h 31 min (±60 s), 22 December 2014."
        )
        assert lines[1].startswith("Vantage hanover: no agent is running. Its last word was 2014-12-23 16:15:00 UTC, ")
        assert lines[3].endswith("an attack  " + lines[3][-10:])
    found = json.loads(run("--data-dir", str(directory), "--json").stdout)
    assert (found["source"], found["running"]) == ("ledger", False)
    assert found["entities"][0]["last_outage"]["duration_seconds"] == 34_260


async def test_a_fresh_ledger_is_as_good_as_its_agent(tmp_path: Path) -> None:
    directory = await ledger(tmp_path, time.time())
    done = run("--data-dir", str(directory))
    assert done.exit_code == 0, done.stdout
    assert done.stdout.startswith("North Korea: reachable. 4 of 4 networks up. Last outage")


async def test_status_and_outages_agree_on_how_long_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = 1_700_000_000.0
    directory = await ledger(tmp_path, begin + 300, verdict=Verdict.DARK, going_on=True)  # since `begin`
    for later, so_far in ((0.0, "5 min so far"), (12.0, "5 min 12 s so far"), (3_600.0, "5 min so far")):
        monkeypatch.setattr(time, "time", lambda later=later: begin + 300 + later)
        assert f"entity north-korea: {so_far}" in run("--data-dir", str(directory)).stdout
        listed = CliRunner().invoke(cli, ["outages", "--data-dir", str(directory), "--ongoing"])
        assert so_far in listed.stdout
        (kept,) = json.loads(
            CliRunner().invoke(cli, ["outages", "--data-dir", str(directory), "--ongoing", "--json"]).stdout
        )
        assert kept["ended_after"] == outage("north-korea", begin, "entity").to_json()["ended_after"]


async def test_notes_far_ahead_are_not_of_the_last_day(tmp_path: Path) -> None:
    now = time.time()
    directory = await ledger(tmp_path, now)
    for text, at in (("past", now - 60), ("soon", now + 3_600), ("far", now + 100_000_000)):
        add_note(directory, make_note(text, now=now, at=at))
    said = run("--data-dir", str(directory)).stdout
    assert "past" in said.partition("to come within a day:")[0]
    assert "soon" in said.partition("to come within a day:")[2]
    assert "  far  " not in said


async def test_a_ledger_of_several_vantages(tmp_path: Path) -> None:
    """As a replay leaves it: records of all, states of any."""
    async with opened(tmp_path, utc=BEGIN) as kept:
        past = [
            replace(ended(outage("e", BEGIN + 9_000 * number, "entity"), 600), id=f"{name}:1", vantage=name)
            for number, name in enumerate(("hanover", "tokyo"))
        ]
        down = replace(outage("e", BEGIN + 50_000, "entity"), id="tokyo:2", vantage="tokyo")
        await kept.append([OutageOpened(past[0]), OutageOpened(past[1]), OutageClosed(past[0]), OutageClosed(past[1])])
        await kept.append([OutageOpened(down)])
        kept.track([state("e", Verdict.UP, 1000.0, scope="entity")], 1000.0)
        kept.snapshot({"vantages": {"tokyo": [], "hanover": [], "blind": [["entity", "e"]]}}, BEGIN + 60_000)
        kept.heartbeat(1060.0, BEGIN + 60_000)
        await kept.append([])

    def said(*arguments: str) -> dict[str, Any]:
        found = json.loads(run("--data-dir", str(tmp_path), "--json", *arguments).stdout)
        assert isinstance(found, dict)
        return found

    assert said()["vantage"] == "blind"
    for name, known, going_on in (("hanover", "up", 0), ("tokyo", "down", 1), ("blind", None, 0)):
        found = said("--vantage", name)
        (entity,) = found["entities"]
        last = entity["last_outage"]
        assert (found["vantage"], found["vantages"]) == (name, ["blind", "hanover", "tokyo"])
        assert (entity["last_known"], len(found["ongoing"])) == (known, going_on)
        assert (last and last["vantage"]) == (None if name == "blind" else name)
    assert (
        "Vantage tokyo (of blind, hanover, tokyo: --vantage): no agent"
        in run("--data-dir", str(tmp_path), "--vantage", "tokyo").stdout
    )
    wrong = run("--data-dir", str(tmp_path), "--vantage", "osaka")
    assert (wrong.exit_code, "it is of: blind, hanover, tokyo" in wrong.stderr) == (2, True)
    assert run("--vantage", "tokyo").exit_code == 2


async def test_a_fresh_ledger_with_an_outage(tmp_path: Path) -> None:
    directory = await ledger(tmp_path, time.time(), verdict=Verdict.DARK, going_on=True)
    done = run("--data-dir", str(directory))
    assert done.exit_code == 1
    assert "North Korea: not reachable since" in done.stdout
    assert "(5 min so far). 0 of 4 networks up. Outage before it 9 h 31 min" in done.stdout
    assert "ONGOING  entity north-korea: 5 min so far, began between" in done.stdout


async def test_a_ledger_of_other_targets(tmp_path: Path) -> None:
    async with opened(tmp_path, utc=BEGIN) as kept:
        kept.track([state("elsewhere", Verdict.UP, 1000.0, scope="entity")], 1000.0)
        kept.heartbeat(1060.0, BEGIN + 60)
        await kept.append([])
    assert run("--data-dir", str(tmp_path)).stdout.startswith("elsewhere: not known now, last known reachable.")


def test_neither_agent_nor_ledger(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text(f"listen: 127.0.0.1:{free_port()}\ndata_dir: data\n")
    done = run("--config", str(settings))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no ledger" in done.stderr
    assert "cannot be reached" in done.stderr
    assert os.listdir(tmp_path) == ["settings.yml"]
