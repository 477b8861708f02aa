"""What people and spreadsheets read of an outage."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Literal

import pytest
from rich.console import Console

from prober.judge.records import GapCause, Onset
from prober.ledger_cli import CSV_COLUMNS, as_csv, as_json, blind_line, duration, print_outages, span
from tests.ledgers import BEGIN, ended, gap, outage


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h 5 s"),
        (34_260, "9 h 31 min"),
        (34_285, "9 h 31 min 25 s"),
        (86_399, "1 d"),
        (187_000, "2 d 4 h"),
        (40_000_000, "462 d 23 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_duration_with_its_bounds() -> None:
    first = replace(outage(), started_after=BEGIN - 15, started_by=BEGIN + 15)
    over = replace(first, ongoing=False, ended_after=BEGIN + 34_245, ended_by=BEGIN + 34_275, end=BEGIN + 34_260)
    assert duration(over) == "9 h 31 min (±30 s)"
    sharp = replace(
        over, started_after=BEGIN - 1, started_by=BEGIN + 1, ended_after=BEGIN + 64.5, ended_by=BEGIN + 65.6
    )
    assert duration(replace(sharp, end=BEGIN + 65)) == "1 min 5 s (±1.6 s)"
    assert duration(replace(over, started_after=None)) == "9 h 31 min (at least 9 h 30 min)"
    assert duration(replace(over, ended_by=None, end=None)) == "at least 9 h 30 min"
    assert duration(replace(first, ended_after=BEGIN + 75)) == "1 min so far"


def test_bounds_are_never_called_narrower_than_they_are() -> None:
    over = ended(outage(), 600)
    assert duration(replace(over, ended_by=BEGIN + 670.2)) == "10 min (±2 min)"
    assert duration(replace(over, started_after=BEGIN - 90.1, ended_by=over.end)) == "10 min (±91 s)"
    assert duration(replace(over, started_after=BEGIN - 7200.5, ended_by=over.end)) == "10 min (±3 h)"


def rendered(
    width: int,
    *,
    terminal: bool = True,
    coloured: bool = False,
    names: tuple[str, ...] = ("star-kp-176", "kcna.kp/http"),
) -> str:
    colours: Literal["standard"] | None = "standard" if coloured else None
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=colours)
    several = [
        ended(
            outage(names[0], onset=Onset.PROGRESSIVE, failures={"resolve/dns_rcode": 12, "receive/timeout": 345}),
            34_260,
        ),
        outage(names[1], scope="check"),
    ]
    print_outages(several, [gap(end=BEGIN + 720), gap(cause=GapCause.STOPPED)], console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_table_keeps_what_matters(width: int) -> None:
    text = rendered(width)
    assert max(map(len, text.splitlines())) <= width
    assert "ONGOING" in text
    assert "outage" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_is_whole_at_any_usual_width(width: int) -> None:
    text = rendered(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in ("2014-12-22", "16:15:00", "network", "check", "outage", "ONGOING", "progressive", "9 h 31 min"):
        assert word in text, (word, text)
    assert "kcna.kp/http" in text
    assert "timeout 345" in " ".join(text.split())
    assert {"receive/", "resolve/"} <= {word for word in re.split(r"\s|(?<=/)", text) if word}
    assert "nothing known in 2 gaps (offline 1, stopped 1), 12 min in all, one goes on" in text


def test_colours_in_terminals_only() -> None:
    assert "\x1b[" in rendered(100, coloured=True)
    assert "\x1b" not in rendered(100, terminal=False)


def test_in_a_pipe_each_outage_is_one_line() -> None:
    lines = rendered(80, terminal=False).splitlines()
    assert len(lines) == 4
    assert "receive/timeout 345, resolve/dns_rcode 12" in lines[1]


def test_a_name_cannot_steer_the_terminal() -> None:
    text = rendered(160, names=("a\x1b[2Jb\nc", "[bold]x[/bold]"))
    assert "\\u001b[2Jb\\nc" in text
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_of_several_vantages_each_is_named() -> None:
    """A replay's ledger has them all."""
    console = Console(file=io.StringIO(), width=80)
    both = [ended(outage(), 600), replace(ended(outage(), 600), vantage="osaka")]
    print_outages(both, [gap(end=BEGIN + 720), replace(gap(end=BEGIN + 60), vantage="osaka")], console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[2] for line in lines[:3]] == ["vantage", both[0].vantage, "osaka"]
    assert lines[3].startswith(f"{both[0].vantage}: nothing known in 1 gap (offline 1), 12 min")
    assert lines[4].startswith("osaka: nothing known in 1 gap (offline 1), 1 min")


def test_what_goes_on_is_counted_up_to_now() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_outages([outage(), ended(outage("b"), 600)], [], console, now=BEGIN + 3_725)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert "1 h 2 min so far" in lines[1]
    assert "10 min (±60 s)" in lines[2]


def test_nothing_to_show() -> None:
    console = Console(file=io.StringIO(), width=80)
    print_outages([], [gap(end=BEGIN, cause=GapCause.CLOCK_STEP)], console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "no outages\n"
    assert blind_line([gap(end=BEGIN + 1)]) == "nothing known in 1 gap (offline 1), 1 s in all"


def test_json_is_a_list_as_the_api_has_it() -> None:
    assert json.loads(as_json([])) == []
    assert json.loads(as_json([outage("평양")])) == [outage("평양").to_json()]
    assert "평양" in as_json([outage("평양")])


def test_csv_is_complete_and_no_formula() -> None:
    evil = outage('=HYPERLINK("http://x")', entity="+1", note="@SUM(A1)\r\n-2", failures={"send/timeout": 2})
    rows = list(csv.reader(io.StringIO(as_csv([evil, ended(outage(), 600)]))))
    assert rows[0] == list(CSV_COLUMNS)
    assert set(CSV_COLUMNS) == set(outage().to_json())
    cells = dict(zip(rows[0], rows[1], strict=True))
    assert cells["name"] == '\'=HYPERLINK("http://x")'
    assert (cells["entity"], cells["note"]) == ("'+1", "'@SUM(A1)\\r\\n-2")
    assert cells["start"] == "2014-12-22T16:15:00Z"
    assert (cells["end"], cells["ongoing"], cells["failures"]) == ("", "true", "send/timeout=2")
    assert cells["members"] == "up=0 down=2 unknown=1"
    assert dict(zip(rows[0], rows[2], strict=True))["duration_seconds"] == "600.0"
