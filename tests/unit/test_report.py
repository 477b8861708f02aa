"""`prober report` over ledgers: what is in it, in every form; hostile names; what cannot be read."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prober.cli import cli
from prober.judge.records import Gap, GapCause, Outage
from prober.ledger.batch import Batch, Heartbeat, OutageEntry, Snapshot, write, write_snapshot
from prober.ledger.files import FILE_NAME, create, open_writing
from prober.ledger.totals import ScopeState
from prober.replay.fused import fused
from prober.replay.run import replay
from prober.report.ledgers import from_ledgers
from prober.report.prometheus import PrometheusError, access
from prober.report.report import Vantage, report
from prober.report.show import as_markdown, fused_json, name_of, percent
from prober.report.spans import clipped, common, length, union, without
from tests.ledgers import BEGIN, ended, gap, outage
from tests.replays import during, world_of

GOLDEN = Path(__file__).parents[1] / "golden/report"
HOUR = 3600.0
FIRST, LAST = BEGIN - 10 * HOUR, BEGIN + 14 * HOUR
HOSTILE = "=x|y\x1b[2J</td>\n`*_[a](b)"


def ledger(
    directory: Path,
    *records: Outage | Gap,
    vantage: str = "hanover",
    watched: tuple[tuple[str, str], ...] = (("network", "star-kp-176"), ("site", "kcna")),
) -> Path:
    """A ledger that was in use from FIRST to LAST, and holds these records."""
    directory.mkdir()
    create(directory / FILE_NAME)
    batch = Batch()
    for record in records:
        if isinstance(record, Outage):
            batch.add_outage(OutageEntry(replace(record, vantage=vantage, id=f"{vantage}:{record.id}")))
        else:
            batch.add_gap(replace(record, vantage=vantage, id=f"{vantage}:{record.id}"))
    batch.heartbeat = Heartbeat(LAST, 0.0, "boot-1", LAST - FIRST)
    batch.states = {key: ScopeState(LAST - FIRST, 0.0, 0.0, "up", LAST - FIRST) for key in watched}
    with closing(open_writing(directory / FILE_NAME)) as connection:
        write(connection, batch)
    return directory


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, ...]:
    """Two vantages: an outage that both saw, a peninsula, an island, an hour in which neither saw."""
    night = ended(outage(), 9.5 * HOUR)
    later = ended(replace(outage(begin=BEGIN + 7), started_after=BEGIN - 13), 9.5 * HOUR - 9)
    alone = ended(outage(name="kcna", begin=BEGIN + 11 * HOUR, scope="site"), 1800)
    ledger(tmp_path / "a", night, alone, gap(BEGIN - 5 * HOUR, BEGIN - 3 * HOUR, GapCause.STOPPED))
    ledger(tmp_path / "b", later, gap(BEGIN - 4 * HOUR, BEGIN - 2 * HOUR), vantage="tokyo")
    return "--ledger", str(tmp_path / "a"), "--ledger", str(tmp_path / "b")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", *arguments])


def told(*arguments: str) -> Any:
    done = run("--format", "json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_the_forms_are_as_they_were(form: str, two: tuple[str, ...]) -> None:
    done = run("--format", form, *two)
    assert done.exit_code == 0, done.output
    assert done.stdout.replace("\r\n", "\n") == (GOLDEN / f"two.{form}").read_text()


def test_the_default_is_markdown(two: tuple[str, ...]) -> None:
    assert run(*two).stdout == run("--format", "md", *two).stdout


def test_outage_peninsula_island_and_what_nobody_saw(two: tuple[str, ...]) -> None:
    found = told(*two)
    assert [(one["kind"], one["name"], one["down"], one["up"]) for one in found["outages"]] == [
        ("outage", "star-kp-176", ["hanover", "tokyo"], []),
        ("peninsula", "kcna", ["hanover"], ["tokyo"]),
    ]
    assert [(one["vantage"], one["cause"]) for one in found["islands"]] == [("tokyo", "offline")]
    network, site = found["availability"]
    assert network["unobserved_seconds"] == HOUR
    assert network["observed_seconds"] == 23 * HOUR
    assert network["availability"] == pytest.approx(1 - 9.5 / 23, abs=1e-3)
    assert network["availability_min"] < network["availability"] < network["availability_max"]
    assert (site["availability"], site["peninsulas"], site["peninsula_seconds"]) == (1.0, 1, 1800)


def test_skew_is_said_and_widens(two: tuple[str, ...]) -> None:
    plain, wide = told(*two), told(*two, "--clock-skew", "100ms")
    before, after = plain["outages"][0], wide["outages"][0]
    assert after["duration_max_seconds"] == pytest.approx(before["duration_max_seconds"] + 0.2)
    assert after["duration_seconds"] == before["duration_seconds"]
    assert {one["clock_skew_seconds"] for one in wide["vantages"]} == {0.1}
    assert "--clock-skew" in plain["notes"][0]


def test_a_window_counts_what_lies_in_it(two: tuple[str, ...]) -> None:
    found = told(*two, "--since", "2014-12-22T20:00:00Z", "--until", "2014-12-22T21:00:00Z", "--name", "star-kp-176")
    (row,) = found["availability"]
    assert (row["availability"], row["outage_seconds"], row["outages"]) == (0.0, HOUR, 1)


def test_what_ended_after_the_window_is_certain_in_all_of_it(two: tuple[str, ...]) -> None:
    window = ("--since", "2014-12-22T20:00:00Z", "--until", "2014-12-22T21:00:00Z", "--scope", "network")
    found = told(*two, *window)
    ((one,), (row,)) = found["outages"], found["availability"]
    assert (one["class"], one["ongoing"], one["ended_after"]) == ("outage", True, "2014-12-22T21:00:00Z")
    assert one["duration_min_seconds"] == pytest.approx(4.75 * HOUR - 30)
    assert (row["availability_min"], row["availability_max"], row["outage_min_seconds"]) == (0.0, 0.0, HOUR)
    assert "4 h 44 min so far" in run(*two, *window).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "nonsuch"], 'has the name "nonsuch"; there is kcna, star-kp-176'),
        (["--name", "kcna", "--scope", "network"], "there is a site of that name: --scope site"),
    ],
)
def test_a_name_that_nothing_has(arguments: list[str], said: str, two: tuple[str, ...]) -> None:
    done = run(*two, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert run(*two, "--name", "kcna").exit_code == 0


def test_a_scope_that_a_vantage_does_not_watch_gets_no_vote_of_it(tmp_path: Path) -> None:
    night = ended(outage(), HOUR)
    ledger(tmp_path / "a", night)
    ledger(tmp_path / "b", vantage="tokyo", watched=(("site", "kcna"),))
    (one,) = told("--ledger", str(tmp_path / "a"), "--ledger", str(tmp_path / "b"))["outages"]
    assert (one["kind"], one["blind"]) == ("outage", ["b"])  # without a record or a snapshot, it goes by its directory


SEVERAL = f"""
vantages: [hanover, osaka, tokyo]
conditions:
  - {{match: {{network: north, vantage: hanover}}, {during(0.5, 0.7)}, down: true}}
  - {{match: {{network: south, vantage: [hanover, osaka]}}, {during(0.5, 0.7)}, down: true}}
  - {{match: {{network: south, vantage: tokyo}}, {during(0, 1)}, down: true}}
"""


def test_a_ledger_of_several_vantages(tmp_path: Path) -> None:
    """As `prober replay --ledger` leaves it: also who had nothing to record is in it."""
    world = world_of(SEVERAL, hours=1)
    replayed = replay(world, ledger=tmp_path / "l")
    assert {outage.vantage for outage in replayed.outages()} == {"hanover", "osaka"}
    found = told("--ledger", str(tmp_path / "l"), "--scope", "network")
    assert [one["vantage"] for one in found["vantages"]] == ["hanover", "osaka", "tokyo"]
    assert [(one["kind"], one["name"], one["down"], one["up"], one["blind"]) for one in found["outages"]] == [
        ("outage", "south", ["hanover", "osaka"], [], ["tokyo"]),
        ("peninsula", "north", ["hanover"], ["osaka", "tokyo"], []),
    ]
    assert [one for one in fused_json(fused(replayed)) if one["scope"] == "network"] == found["outages"]
    shown = CliRunner().invoke(cli, ["outages", "--data-dir", str(tmp_path / "l"), "--scope", "network"]).stdout
    assert sorted(line.split()[2] for line in shown.splitlines()[1:]) == ["hanover", "hanover", "osaka"]
    listed = json.loads(CliRunner().invoke(cli, ["outages", "--data-dir", str(tmp_path / "l"), "--json"]).stdout)
    assert len(listed) == len(replayed.outages())


@pytest.mark.parametrize("names", [5, ["hanover"], {"hanover": 5}, {"hanover": ["network"]}])
def test_vantages_that_no_replay_names(names: object, tmp_path: Path) -> None:
    ledger(tmp_path / "a")
    with closing(open_writing(tmp_path / "a" / FILE_NAME)) as connection:
        write_snapshot(connection, Snapshot({"vantages": names}, LAST))
    done = run("--ledger", str(tmp_path / "a"))
    assert done.exit_code == 2
    assert "not a readable ledger" in done.output


def test_who_had_nothing_to_record_goes_by_its_name(tmp_path: Path) -> None:
    world = world_of("vantages: [osaka]", hours=0.2)
    replay(world, ledger=tmp_path / "l")
    assert [one["vantage"] for one in told("--ledger", str(tmp_path / "l"))["vantages"]] == ["osaka"]


def test_a_renamed_vantage_is_one(tmp_path: Path) -> None:
    ledger(tmp_path / "a", ended(outage(), HOUR))
    with closing(open_writing(tmp_path / "a" / FILE_NAME)) as connection:
        batch = Batch()
        batch.add_outage(OutageEntry(replace(ended(outage(begin=BEGIN + 4 * HOUR), HOUR), id="t:1", vantage="tokyo")))
        write(connection, batch)
    (vantage,) = from_ledgers([tmp_path / "a"])
    assert (vantage.name, len(vantage.outages)) == ("tokyo", 2)


def test_names_steer_nothing(tmp_path: Path) -> None:
    watched = (("network", HOSTILE),)
    directory = ledger(tmp_path / "a", ended(outage(name=HOSTILE), HOUR), vantage=HOSTILE, watched=watched)
    shown = run("--ledger", str(directory)).stdout
    assert "\x1b" not in shown
    rows = [line for line in shown.splitlines() if "star" in line or "=x" in line]
    assert rows
    for row in rows:
        cells = row.replace("\\|", "").strip("|").count("|")
        assert cells == (4 if "taken as right" in row else 7 if "%" in row else 9)
        assert "</td>" not in row.replace("\\<", "").replace("\\>", "")
    (record,) = list(csv.DictReader(io.StringIO(run("--ledger", str(directory), "--format", "csv").stdout)))
    assert record["name"].startswith("'=x|y\\u001b")
    assert told("--ledger", str(directory))["outages"][0]["name"] == HOSTILE


def test_nothing_observed_is_a_negative_result(two: tuple[str, ...]) -> None:
    done = run(*two, "--since", "2020-01-01", "--until", "2020-01-02")
    assert done.exit_code == 1
    assert "Nothing was observed." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ledger", "/nowhere"], "there is no ledger; name the data directory of an agent, or its ledger file, with"),
        (["--prometheus", "ftp://x"], "not a URL of http or https"),
        (["--prometheus", "http://localhost:99999"], "not a URL"),
        (["--prometheus", "http://u:hidden@127.0.0.1:1/"], "http://127.0.0.1:1: cannot be reached"),
        (["--prometheus", "http://u:hidden@127.0.0.1:1", "--bearer-token-file", "f"], "name one way to log in"),
        (["--prometheus", "http://127.0.0.1:1", "--basic-auth-file", "/nowhere"], "/nowhere: cannot be read"),
        (["--prometheus", "http://127.0.0.1:1", "--ledger", "x"], "exclude each other"),
        (["--basic-auth-file", "x"], "are for --prometheus"),
        (["--since", "2020-01-02", "--until", "2020-01-01"], "not after"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert "hidden" not in done.output
    assert "--data-dir" not in done.output
    assert "Traceback" not in done.output


def test_the_same_vantage_twice(tmp_path: Path) -> None:
    ledger(tmp_path / "a", ended(outage(), HOUR))
    ledger(tmp_path / "b", ended(outage(), HOUR))
    done = run("--ledger", str(tmp_path / "a"), "--ledger", str(tmp_path / "b"))
    assert (done.exit_code, "a name of its own" in done.output) == (2, True)


def test_a_way_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "user").write_text("me:pass:word\n")
    assert access("http://h:1/p/", bearer_token_file=tmp_path / "token").headers == {"Authorization": "Bearer abc"}
    assert access("http://h", basic_auth_file=tmp_path / "user").headers == {"Authorization": "Basic bWU6cGFzczp3b3Jk"}
    way = access("https://me:a%20b@h/x/")
    assert (way.url, way.shown) == ("https://h/x", "https://h/x")
    for text, said in ((b"a\nb", "holds several lines; it must hold one"), (b" \n", "is empty"), (b"\xff", "no text")):
        (tmp_path / "bad").write_bytes(text)
        with pytest.raises(PrometheusError, match=said):
            access("http://h", bearer_token_file=tmp_path / "bad")


def test_ongoing_and_empty() -> None:
    found = report([Vantage("a", (outage(),), (), FIRST, LAST)])
    assert "| ONGOING" in as_markdown(found)
    assert found.records[0].fused.duration_min_seconds == 30
    assert "No vantage has anything on record." in as_markdown(report([]))
    assert not report([]).observed


def test_figures_never_flatter() -> None:
    assert percent(0.999999999) == "99.999 %"
    assert percent(1.0) == "100 %"
    assert percent(None) == "not observed"
    assert name_of("x" * 100).endswith("…")


def test_spans() -> None:
    some = union([(5.0, 7.0), (0.0, 2.0), (2.0, 3.0), (4.0, 4.0)])
    assert some == ((0.0, 3.0), (5.0, 7.0))
    assert common(some, [(1.0, 6.0)]) == ((1.0, 3.0), (5.0, 6.0))
    assert without(some, [(1.0, 2.0), (2.5, 6.0)]) == ((0.0, 1.0), (2.0, 2.5), (6.0, 7.0))
    assert without([(0.0, 9.0)], some) == ((3.0, 5.0), (7.0, 9.0))
    assert clipped(some, 2.0, 6.0) == ((2.0, 3.0), (5.0, 6.0))
    assert length(some) == 5.0
