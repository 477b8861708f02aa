"""Agents in small worlds: every feature of a world, and what is made of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from prober.cli import cli
from prober.judge.records import GapCause, Outage
from prober.ledger import read_gaps, read_outages
from prober.replay import run
from prober.replay.fused import _vantages, fused
from prober.replay.run import Replayed, ReplayFailed, replay
from prober.replay.score import score
from prober.replay.timeline import show
from prober.report.report import report
from tests.replays import START, TARGETS, during, moment, told, world_of


def outages(text: str, hours: float = 24.0, seed: int | None = None) -> list[Outage]:
    return replay(world_of(text, hours), seed=seed).outages()


def test_a_quiet_world() -> None:
    replayed = replay(world_of("loss: 0.05\n", 72))
    assert replayed.outages() == []
    assert replayed.gaps() == []
    figures = score(replayed)
    assert list(figures) == ["check", "target", "network", "site", "entity"]
    check = figures["check"].to_json()
    assert check["true_outages"] == check["missed"] == check["false_outages"] == 0
    assert check["target_years"] == pytest.approx(5 * 3 / 365.2425)
    assert 1.02 < check["probes_per_regular_round"] < 1.10


def test_an_outage_of_every_scope() -> None:
    replayed = replay(
        world_of(f"loss: 0.02\nconditions: [{{match: {{entity: land}}, {during(10, 12)}, down: true}}]\n")
    )
    found = replayed.outages()
    for scope, names in {
        "entity": ["land"],
        "network": ["north", "south"],
        "site": ["paper"],
        "target": ["mirror", "n1", "n2", "s1"],
        "check": ["mirror/http", "n1/icmp", "n2/dns", "n2/icmp", "s1/icmp"],
    }.items():
        assert sorted(told(found, scope)) == [(name, 10.0, 12.0) for name in names]
    for figures in score(replayed).values():
        one = figures.to_json()
        assert one["found"] == one["true_outages"] == one["records"] > 0
        assert one["coverage"] == {"starts": 1.0, "ends": 1.0}
        assert one["detection_delay_seconds"]["max"] < 90
        assert one["duration_error_seconds"]["max"] < 60
        assert one["certain_time_true"] == one["outages_with_long_run"] == 1.0


def test_the_same_seed_gives_the_same_result_and_another_does_not() -> None:
    text = f"loss: 0.2\nconditions: [{{match: {{network: north}}, {during(4, 5)}, down: true}}]\n"

    def said(seed: int) -> list[dict[str, object]]:
        return [outage.to_json() for outage in outages(text, 8, seed)]

    assert said(5) == said(5)
    assert said(5) != said(6)


def test_vantages_are_staggered_and_see_their_own_loss() -> None:
    text = f"vantages: [a, b, c]\nconditions: [{{match: {{target: s1}}, {during(4, 5)}, down: true}}]\n"
    found = [one for one in outages(text, 8) if one.scope == "check"]
    assert [one.vantage for one in sorted(found, key=lambda one: one.vantage)] == ["a", "b", "c"]
    after = sorted(((one.started_after or 0.0) - START) % 60 for one in found)
    assert after[1] - after[0] == pytest.approx(20, abs=0.1)
    assert after[2] - after[1] == pytest.approx(20, abs=0.1)
    assert len({one.id for one in found}) == 3


def test_a_peninsula_is_down_for_its_vantage_alone() -> None:
    text = f"vantages: [a, b]\nconditions: [{{match: {{network: south, vantage: b}}, {during(4, 5)}, down: true}}]\n"
    replayed = replay(world_of(text, 8))
    assert {one.vantage for one in replayed.outages()} == {"b"}
    assert score(replayed)["network"].true_outages == 1


def test_an_observer_offline_is_a_gap_and_nobodys_outage() -> None:
    replayed = replay(world_of(f"loss: 0.05\nobserver: [{{{during(4, 5)}, offline: true}}]\n", 8))
    assert replayed.outages() == []
    (gap,) = replayed.gaps()
    assert gap.cause is GapCause.OFFLINE
    assert gap.end is not None
    assert gap.begin - START == pytest.approx(4 * 3600, abs=30)
    assert gap.end - START == pytest.approx(5 * 3600, abs=30)


@pytest.mark.parametrize("later", [0, 24, 36, 46, 54])
def test_what_was_lost_before_the_vantage_saw_again_is_no_last_failure(later: int) -> None:
    """The outage ends while the vantage is offline: its headline is the middle of what is not known, in any scope."""
    back = 2.0 + later / 3600
    text = (
        f"conditions: [{{match: {{entity: land}}, {during(0.5, 1)}, down: true}}]\n"
        f"observer: [{{{during(0.9, back)}, offline: true}}]\n"
    )
    found = outages(text, 2.2)
    assert {one.scope for one in found} == {"check", "target", "network", "site", "entity"}
    for one in found:
        assert one.end is not None
        assert one.end - START == pytest.approx((0.9 + back) / 2 * 3600, abs=60), one.name
        assert one.ended_after - START < 0.9 * 3600


def test_references_that_fail_together_are_an_observer_offline_and_one_alone_is_ignored() -> None:
    down = f"{during(4, 5)}, down: true}}"
    text = f"conditions:\n  - {{match: {{target: s1}}, {down}\n  - {{match: {{reference: r1}}, {down}\n"
    assert told(outages(text, 8), "check") == [("s1/icmp", 4.0, 5.0)]
    replayed = replay(world_of(text + f"  - {{match: {{reference: [r2, r3]}}, {down}\n", 8))
    assert replayed.outages() == []
    assert [gap.cause for gap in replayed.gaps()] == [GapCause.OFFLINE]


def test_a_killed_agent_goes_on_with_its_outages() -> None:
    text = (
        f"conditions: [{{match: {{network: south}}, {during(4, 6)}, down: true}}]\n"
        f"observer: [{{{during(4.5, 5)}, stopped: true}}]\n"
    )
    replayed = replay(world_of(text, 8))
    (outage,) = [one for one in replayed.outages() if one.scope == "network"]
    assert told([outage], "network") == [("south", 4.0, 6.0)]
    assert outage.unobserved_seconds == pytest.approx(1800, abs=11)
    (gap,) = replayed.gaps()
    assert gap.cause is GapCause.STOPPED
    assert gap.end is not None
    assert (gap.begin - START) / 3600 == pytest.approx(4.5, abs=6 / 3600)  # a heartbeat each 5 s
    assert (gap.end - START) / 3600 == pytest.approx(5.0, abs=1e-6)
    figures = score(replayed)["network"]
    assert (figures.found, figures.missed, figures.false_outages) == (1, 0, 0)


def test_an_outage_that_nobody_could_see_is_not_missed() -> None:
    text = (
        f"conditions: [{{match: {{network: south}}, {during(4.2, 4.8)}, down: true}}]\n"
        f"observer: [{{{during(4, 5)}, stopped: true}}]\n"
    )
    replayed = replay(world_of(text, 8))
    assert replayed.outages() == []
    assert score(replayed)["network"].true_outages == 0


@pytest.mark.parametrize(
    ("whose", "observer", "blind_hours"),
    [
        ("", "", 1.0),  # the references too: nothing can vouch for this vantage
        ("reference: [r1, r2]", "", 1.0),
        ("reference: r1", "", None),  # the other two can
        ("target: n1", f"{{{during(0, 4.1)}, stopped: true}}", 4.1),  # never seen up before
    ],
)
def test_what_nobody_could_know_is_neither_missed_nor_watched(
    whose: str, observer: str, blind_hours: float | None
) -> None:
    down = f"{during(4, 5)}, down: true}}"
    replayed = replay(
        world_of(
            f"conditions: [{{match: {{entity: land}}, {down}, {{match: {{{whose}}}, {down}]\nobserver: [{observer}]\n",
            8,
        )
    )
    figures = score(replayed)["network"]
    assert (figures.missed, figures.false_outages) == (0, 0)
    assert figures.found == (2 if blind_hours is None else 0)
    assert figures.target_years == pytest.approx(2 * (8 - (blind_hours or 0.0)) / 24 / 365.2425)


@pytest.mark.parametrize(
    ("begin", "end", "what"),
    [
        (0.8, 1.0, "stopped"),  # over its start
        (1.2, 1.4, "stopped"),
        (1.8, 2.4, "stopped"),  # over its end
        (0.8, 1.0, "offline"),
        (1.2, 1.4, "offline"),
        (1.8, 2.4, "offline"),
    ],
)
def test_what_was_not_observed_of_an_outage(begin: float, end: float, what: str) -> None:
    """It is a part of the headline's duration, and a report of this vantage alone says the same."""
    replayed = replay(
        world_of(
            f"conditions: [{{match: {{network: south}}, {during(0.9, 2)}, down: true}}]\n"
            f"observer: [{{{during(begin, end)}, {what}: true}}]\n",
            2.6,
        )
    )
    (gap,) = replayed.gaps()
    (outage,) = [one for one in replayed.outages() if one.scope == "network"]
    (record,) = [one for one in fused(replayed) if one.scope == "network"]
    assert outage.end is not None
    assert gap.end is not None
    expected = min(gap.end, outage.end) - max(gap.begin, outage.start)
    assert 0 < outage.unobserved_seconds < outage.end - outage.start
    assert outage.unobserved_seconds == pytest.approx(expected, abs=0.01)
    assert record.fused.unobserved_seconds == pytest.approx(expected, abs=0.01)


def test_an_agent_that_never_runs_has_seen_nothing(tmp_path: Path) -> None:
    before = "from: 2023-01-01, to: 2025-01-01"
    replayed = replay(world_of(f"observer: [{{{before}, stopped: true}}]\n", 8), ledger=tmp_path / "kept")
    assert replayed.outages() == []
    (gap,) = replayed.gaps()
    assert (gap.cause, gap.begin, gap.end) == (GapCause.STOPPED, START, START + 8 * 3600)
    assert "????" in written(replayed, 80)
    assert not report(_vantages(replayed)).observed
    assert score(replayed)["entity"].to_json()["target_years"] == 0
    assert read_gaps(tmp_path / "kept") == list(replayed.gaps())


@pytest.mark.parametrize("step", ["1h", "-1h"])
def test_a_clock_step_is_no_outage_and_moves_the_open_ones(step: str) -> None:
    text = (
        "loss: 0.05\n"
        f"conditions: [{{match: {{network: south}}, {during(4, 6)}, down: true}}]\n"
        f"observer: [{{at: {moment(5)}, clock_step: {step}}}]\n"
    )
    replayed = replay(world_of(text, 8))
    hours = 1 if step == "1h" else -1
    assert told(replayed.outages(), "network") == [("south", 4.0 + hours, 6.0 + hours)]
    assert [gap.cause for gap in replayed.gaps()] == [GapCause.CLOCK_STEP]
    figures = score(replayed)["check"].to_json()
    assert (figures["found"], figures["missed"], figures["false_outages"]) == (1, 0, 0)
    assert figures["duration_error_seconds"]["max"] < 60
    assert figures["coverage"] == {"starts": 1.0, "ends": 1.0}


def test_a_failure_of_the_web_server_is_its_checks_outage() -> None:
    text = f"conditions: [{{match: {{target: mirror, check: http}}, {during(4, 5)}, failure: http_status}}]\n"
    found = outages(text, 8)
    assert told(found, "site") == [("paper", 4.0, 5.0)]
    assert told(found, "entity") == []
    assert {label for one in found for label in one.failures} == {"validate/http_status"}


def test_an_outage_at_the_end_of_the_world_is_ongoing() -> None:
    replayed = replay(world_of(f"conditions: [{{match: {{network: south}}, {during(7, 8)}, down: true}}]\n", 8))
    (outage,) = [one for one in replayed.outages() if one.scope == "network"]
    assert outage.ongoing
    assert outage.duration_min_seconds > 3300
    assert score(replayed)["network"].found == 1


def test_bursts_are_recorded_as_what_they_are() -> None:
    replayed = replay(world_of("loss: 0.3\nburst: {mean_seconds: 60}\n", 24))
    figures = score(replayed)["check"].to_json()
    assert figures["records"] > 20
    assert figures["certain_time_true"] > 0.95
    assert figures["outages_with_long_run"] > 0.95


def test_in_processes_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(
        f"loss: 0.1\nvantages: [a, b]\nconditions: [{{{during(1, 2)}, match: {{target: s1}}, down: true}}]\n", 3
    )
    one_by_one = replay(world)
    monkeypatch.setattr(run, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(run, "_processors", lambda: 2)
    shares: list[float] = []
    side_by_side = replay(world, progress=shares.append)
    assert side_by_side == one_by_one
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


@pytest.mark.parametrize("vantages", ["[a]", "[a, b]"])
def test_the_ledger_that_stays(tmp_path: Path, vantages: str) -> None:
    world = world_of(f"vantages: {vantages}\nconditions: [{{match: {{target: s1}}, {during(1, 2)}, down: true}}]\n", 3)
    for place in (tmp_path / "directory", tmp_path / "file.sqlite3"):
        replayed = replay(world, ledger=place)
        assert {one.id for one in read_outages(place)} == {one.id for one in replayed.outages()}
        assert read_gaps(place) == []
        with pytest.raises(ReplayFailed, match="there is a ledger already"):
            replay(world, ledger=place)


def written(replayed: Replayed, width: int) -> str:
    console = Console(width=width, color_system=None, force_terminal=True, highlight=False)
    with console.capture() as capture:
        show(replayed, score(replayed), console)
    return capture.get()


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_everything_fits_into_a_terminal(width: int) -> None:
    text = (
        "vantages: [hanover, tokyo]\n"
        "conditions:\n"
        f"  - {{match: {{network: south}}, {during(1, 1.5)}, down: true}}\n"
        f"  - {{match: {{network: north, vantage: tokyo}}, {during(2, 2.5)}, down: true}}\n"
    )
    lines = written(replay(world_of(text, hours=3)), width).splitlines()
    assert [line for line in lines if len(line) > width] == []
    together = "\n".join(lines[lines.index("all vantages together") :])
    for word in ("outage", "peninsula", "network", "south", "north"):
        assert word in together
    assert ("hanover" in together) == (width >= 80)
    assert "…" not in together


def test_the_timeline_tells_the_states_apart_without_colour() -> None:
    text = (
        "conditions:\n"
        f"  - {{match: {{network: south}}, {during(10, 12)}, down: true}}\n"
        f"  - {{match: {{target: n1}}, {during(14, 18)}, loss: 0.4}}\n"
        f"  - {{match: {{target: mirror}}, from: {moment(15)}, to: {moment(15 + 1 / 60)}, down: true}}\n"
        f"observer: [{{{during(20, 22)}, offline: true}}]\n"
    )
    replayed = replay(world_of(text))
    lines = written(replayed, 140).splitlines()
    cells = {
        line.split()[1]: line.partition(line.split()[1])[2].strip() for line in lines if line.startswith("target ")
    }
    assert {len(text) for text in cells.values()} == {100}
    assert cells["s1"][43:48] == "#####"
    assert cells["n1"][60:74].count(":") > 10
    assert cells["mirror"].count("!") == 1
    assert all(text[85:90] == "?????" for text in cells.values())
    assert cells["n2"][:80] == "." * 80
    assert max(map(len, written(replayed, 80).splitlines())) <= 110  # the legend is wider; the scopes are not


def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """A year of one vantage, which takes minutes: the loop waits for nothing in which it could hear of a signal."""
    (tmp_path / "targets.yml").write_text(TARGETS)
    world = tmp_path / "world.yml"
    world.write_text("world: A year\nstart: 2023-01-01\nend: 2024-01-01\ntargets: targets.yml\nloss: 0.3\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "prober", "replay", str(world)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(scratch.glob("*/0/ledger.sqlite3-wal")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told, trouble = process.communicate(timeout=20)  # it takes a fraction of a second
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert told == ""
    assert trouble.strip() == ""
    assert list(scratch.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "targets.yml").write_text("entity: e\ntargets: [{name: t, checks: [{icmp: {address: 192.0.2.1}}]}]\n")
    world = tmp_path / "world.yml"
    world.write_text(
        "world: W\nstart: 2024-01-01\nend: 2024-01-01T06:00:00Z\ntargets: targets.yml\n"
        "conditions: [{from: 2024-01-01T03:00:00Z, to: 2024-01-01T04:00:00Z, down: true, match: {entity: e}}]\n"
    )
    result = CliRunner().invoke(cli, ["replay", str(world), "--json", "--score"])
    assert result.exit_code == 0
    assert result.stderr == ""
    told_ = json.loads(result.stdout)
    assert [one["scope"] for one in told_["outages"]] == ["check", "entity", "target"]
    assert told_["score"]["entity"]["found"] == 1
    result = CliRunner().invoke(cli, ["replay", str(world), "--ledger", str(tmp_path / "l"), "--seed", "3"])
    assert result.exit_code == 0
    assert "#" in result.stdout
    assert "seed 3" in result.stdout
    assert "score" not in result.stdout
    assert len(read_outages(tmp_path / "l")) == 3
    result = CliRunner().invoke(cli, ["replay", str(world), "--ledger", str(tmp_path / "l")])
    assert result.exit_code == 2
    assert "there is a ledger already" in result.stderr
    result = CliRunner().invoke(cli, ["replay", str(world), "--ledger", str(world)])
    assert result.exit_code == 2
    assert result.stderr == f"prober replay: {world}: exists and is no ledger; name a new file, or a directory\n"
    for place, what in (("/dev/full", "exists and is no directory"), ("/proc/x/y", "no ledger can be made there")):
        result = CliRunner().invoke(cli, ["replay", str(world), "--ledger", place])
        assert result.exit_code == 2
        assert f"prober replay: {place}: {what}" in result.stderr
        assert result.stderr.count("\n") == 1
    world.write_text("world: W\nstart: 2024-01-01\n")
    result = CliRunner().invoke(cli, ["replay", str(world)])
    assert result.exit_code == 2
    assert f'{world}:1: end: missing; add "end:"' in result.stderr
