"""Hostile text wherever it can come from, in everything that is shown: seen, and inert.

What a server sends reaches the terminal in tests/e2e/test_probe_hostile.py; here is what stands in ledgers, files and
observations, through each way out: tables, CSV, JSON, Markdown, HTML, metrics, logs, the live table.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from prober import cli as module
from prober.cli import cli
from prober.failures import Failure, Operation
from prober.judge.records import GapCause, Settings
from prober.ledger.batch import Batch, Heartbeat, OutageEntry, write
from prober.ledger.files import FILE_NAME, create, open_writing
from prober.ledger.notes import Note, add_note
from prober.ledger.totals import Counted, ScopeState
from prober.live import table_of
from prober.logs import json_line, logfmt_line
from prober.model import Check, Entity, Network, Observation, Site, Target
from prober.once import show
from prober.probes.icmp import IcmpOptions
from prober.scopes import ScopeExposition
from prober.state import State
from prober.textformat import Writer
from tests.ledgers import BEGIN, ended, gap, outage

PIECES: Final = (
    "=HYPERLINK(1)",  # a formula to a spreadsheet
    "<script>alert(1)</script>",
    "\x1b]0;title\x07\x1b[2J\x9b31m",  # C0 and C1: a title, a cleared screen, a colour
    "\r\nts=2026-01-01 level=info msg=forged\n# TYPE forged gauge\n",
    "\u202egnp.exe\u2066\u200f",  # bidirectional overrides
    "\u2028\u2029\x85",
    "[bold]x[/bold]",  # rich's own markup
    '|`*_[a](javascript:b)"\\',
    "\U000e0041\ufeff\0",
)
HOSTILE: Final = "".join(PIECES)
LONG: Final = HOSTILE + "x" * 10_240
FORMULA_STARTS: Final = ("=", "+", "-", "@")


def assert_inert(text: str) -> None:
    """Nothing in it but lines of printable text."""
    steering = sorted({f"U+{ord(c):04X}" for c in text if not c.isprintable() and c != "\n"})
    assert steering == []
    text.encode("utf-8")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which every text is hostile, as a broken or a strange program might leave it."""
    path = tmp_path_factory.mktemp("hostile") / "data"
    path.mkdir()
    create(path / FILE_NAME)
    batch = Batch()
    for number, start in enumerate(("", *FORMULA_STARTS)):
        one = outage(
            f"{start}{number}{HOSTILE}",
            entity=HOSTILE,
            vantage=HOSTILE,
            note=LONG,
            failures={HOSTILE: 3},
            scope="entity",
        )
        batch.add_outage(OutageEntry(ended(one, 600.0 * (number + 1))))
    batch.add_outage(OutageEntry(outage(HOSTILE, entity=HOSTILE, vantage=HOSTILE, scope="entity")))
    batch.add_gap(replace(gap(cause=GapCause.OFFLINE), vantage=HOSTILE, references=(HOSTILE,)))
    batch.heartbeat = Heartbeat(BEGIN + 7_200, 7_200.0, "boot-1", 7_200.0)
    batch.states = {("entity", HOSTILE): ScopeState(7_200.0, 0.0, 0.0, "up", 7_200.0)}
    with closing(open_writing(path / FILE_NAME)) as connection:
        write(connection, batch)
    add_note(path, Note("a" * 8, BEGIN + 60, None, HOSTILE, LONG, LONG, LONG, BEGIN))
    add_note(path, Note(HOSTILE, BEGIN + 61, None, "", HOSTILE, HOSTILE, "javascript:alert(1)", BEGIN))
    return path


COMMANDS: Final = [
    ["outages", "--data-dir"],
    ["outages", "--json", "--data-dir"],
    ["outages", "--csv", "--data-dir"],
    ["status", "--data-dir"],
    ["status", "--json", "--data-dir"],
    ["note", "--list", "--data-dir"],
    ["note", "--list", "--json", "--data-dir"],
    ["report", "--ledger"],
    ["report", "--format", "csv", "--ledger"],
    ["report", "--json", "--ledger"],
    ["report", "--format", "html", "--ledger"],
]


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands(directory: Path, command: list[str], columns: str) -> None:
    done = CliRunner().invoke(cli, [*command, str(directory)], env={"COLUMNS": columns})
    assert done.exit_code in (0, 1), done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit)
    text = done.stdout.replace("\r\n", "\n")
    assert_inert(text)
    assert "HYPERLINK" in text.replace("\n", ""), "nothing hostile came through: this tests nothing"
    if "--json" in command:
        assert json.loads(text)
    if "html" in command:
        assert "<script" not in text
        assert 'href="javascript' not in text
    if "csv" in command or "--csv" in command:
        cells = [value for row in csv.reader(io.StringIO(done.stdout)) for value in row]
        assert not [value for value in cells if value.startswith(FORMULA_STARTS)]
        assert any(value.startswith("'=") for value in cells)
    if command == ["report", "--ledger"]:
        assert "<script" not in text.replace("\\<script", "")


ARGUMENT: Final = HOSTILE.replace("\0", "")  # a program cannot be given that


@pytest.mark.parametrize("name", [ARGUMENT, f"-{ARGUMENT}", "\udc80"])
@pytest.mark.parametrize(
    "command",
    [
        ["outages", "--data-dir"],
        ["outages", "--name", "x", "--scope"],
        ["report", "--ledger"],
        ["status", "--data-dir"],
        ["status", "--url"],
        ["note", "--remove", "x", "--data-dir"],
        ["check"],
        ["replay"],
        ["run", "--listen"],
        [],
    ],
    ids=" ".join,
)
def test_arguments(
    command: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prober", *command, name])
    with pytest.raises(SystemExit) as ended:
        module.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert_inert(err)
    assert "forged" not in [line[:6] for line in err.splitlines()]


# -- metrics -----------------------------------------------------------------------------------------------------------


def entities() -> Iterator[Entity]:
    check = Check(HOSTILE, HOSTILE, "icmp", 60.0, 5.0, IcmpOptions(address="192.0.2.1"))
    target = Target(HOSTILE, HOSTILE, (check,), title=LONG[:500], network=HOSTILE, site=HOSTILE, hosted_in="KP")
    yield Entity(
        HOSTILE,
        title=HOSTILE,
        country="KP",
        networks=(Network(HOSTILE, HOSTILE, "192.0.2.0/24"),),
        sites=(Site(HOSTILE, HOSTILE),),
        targets=(target,),
    )


class Ledger:
    """Has nothing but notes."""

    writable, unwritten, lost = True, 0, 0
    version, elapsed = 0, 0.0

    def latest_notes(self) -> tuple[Note, ...]:
        hostile = Note(HOSTILE, BEGIN, None, HOSTILE, LONG, LONG, "", BEGIN)
        return hostile, replace(hostile, id="other"), replace(hostile, id=HOSTILE)  # the last is the first again

    def past(self, _scope: str, _name: str) -> list[Any]:
        return []

    def counted(self, keys: Iterable[Any]) -> list[Counted]:
        return [Counted() for _ in keys]

    def states(self, keys: Iterable[Any]) -> list[ScopeState]:
        return [ScopeState() for _ in keys]


async def exposition() -> str:
    judging = SimpleNamespace(
        ledger=Ledger(),
        shown={},
        judge=SimpleNamespace(observer_up=True, settings=Settings()),
        reference_count=0,
        ongoing_at=lambda places: [outage(HOSTILE, entity=HOSTILE) for _ in places],
        version=0,
        utc=lambda: BEGIN,
    )
    rendering = ScopeExposition(HOSTILE, judging, lambda: tuple(entities())).render(Writer(gzip=False))  # type: ignore[arg-type]
    return b"".join([piece async for piece in rendering]).decode()


def test_metrics() -> None:
    text = asyncio.run(exposition())
    assert_inert(text)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert not [name for name in families if not name.startswith("prober_")]
    notes = families["prober_note_timestamp_seconds"].samples
    assert [sample.value for sample in notes] == [BEGIN, BEGIN]
    for sample in notes:
        assert set(sample.labels) == {"vantage", "id", "entity", "text", "source"}
        assert max(map(len, (sample.labels[key] for key in ("text", "source", "entity", "id")))) <= 200
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


# -- logs and drawings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [logfmt_line, json_line])
def test_logs(line: Any) -> None:
    record = logging.makeLogRecord({"name": "prober.x", "levelname": "INFO", "msg": HOSTILE, "scope_name": LONG})
    text = line(record)
    assert text.isprintable()
    assert len(text) < 2_000


def observation() -> Observation:
    (entity,) = entities()
    return Observation(
        check=entity.targets[0].checks[0],
        sent_at=0.0,
        utc=BEGIN,
        success=False,
        duration_seconds=0.5,
        phases={"resolve": 0.1},
        facts={"issuer": HOSTILE},
        operation=Operation.VALIDATE,
        failure=Failure.HTTP_BODY,
        address=HOSTILE,
        detail=LONG,
    )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_one_probe(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(observation(), console)
    assert isinstance(console.file, io.StringIO)
    assert_inert(console.file.getvalue())
    assert "hint: " in console.file.getvalue()


def test_the_live_table() -> None:
    state = State(tuple(entities()))
    state.observe(observation())
    console = Console(file=io.StringIO(), width=120)
    console.print(table_of(state, BEGIN, 10, "prober"))
    assert isinstance(console.file, io.StringIO)
    assert_inert(console.file.getvalue())
