"""A replay as OpenMetrics text: in order, whole, of the same replay; and the fused outages beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from prober.cli import cli
from prober.replay.openmetrics import write_openmetrics
from prober.replay.run import replay
from prober.replay.scrape import KEEP_SCRAPES, SCRAPE_SECONDS
from prober.replay.spool import Spool
from tests.contract.test_dashboards import expressions, names_in
from tests.lab import require_program
from tests.replays import START, TARGETS, during, moment, world_of

WORLD = f"""
seed: 5
vantages: [hanover, tokyo]
loss: 0.05
conditions:
  - {{match: {{entity: land}}, {during(0.5, 0.8)}, down: true}}
observer:
  - {{vantage: tokyo, {during(1.0, 1.2)}, stopped: true}}
  - {{vantage: hanover, {during(0.6, 0.7)}, stopped: true}}
  - {{vantage: tokyo, at: {moment(1.4)}, clock_step: 30s}}
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    world = world_of(WORLD, hours=1.5)
    (tmp_path / "scrapes").mkdir()
    replayed = replay(world, scrapes=tmp_path / "scrapes")
    size = write_openmetrics(replayed, tmp_path / "world.om", tmp_path / "scrapes")
    assert size == (tmp_path / "world.om").stat().st_size
    # to be looked at changes nothing
    assert [one.to_json() for one in replay(world).outages()] == [one.to_json() for one in replayed.outages()]
    assert replay(world).gaps() == replayed.gaps()
    return tmp_path / "world.om"


def test_families_are_together_and_samples_in_order(text: Path) -> None:
    """The reference parser reads it; promtool makes blocks of it (tests/e2e/test_report_prometheus.py)."""
    lines = text.read_text().splitlines()
    assert lines[-1] == "# EOF"
    families = list(text_string_to_metric_families(text.read_text()))  # type: ignore[no-untyped-call]
    assert len({family.name for family in families}) == len(families) > 25
    latest: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#"):
            head, _, at = line.rsplit(" ", 2)
            assert float(at) > latest.get(head, 0.0), line
            latest[head] = float(at)
            assert (float(at) - START) % SCRAPE_SECONDS == 0
    for series in latest:
        if "prober_" in series.split("{")[0] and ":" not in series.split("{")[0]:
            assert 'job="prober"' in series
            assert 'instance="hanover:9911"' in series or 'instance="tokyo:9911"' in series


def test_panels_find_a_sample_within_the_look_back(text: Path) -> None:
    times: dict[str, list[float]] = {}
    for line in text.read_text().splitlines():
        if line.startswith(("prober_up{", "prober_observed{", "scope:prober_up:quorum{", "scope:prober_state:quorum{")):
            head, _, at = line.rsplit(" ", 2)
            if 'scope="check"' not in head or "quorum" in head:
                times.setdefault(head, []).append(float(at))
    assert KEEP_SCRAPES * SCRAPE_SECONDS < 300
    assert len(times) > 30
    for head, seen in times.items():
        close = "state" in head or ('scope="entity"' in head and "vantage=" in head)
        widest = (120 if 'scope="check"' in head else 60) if close else KEEP_SCRAPES * SCRAPE_SECONDS
        stopped = 0.2 * 3600 + 30 if "vantage=" in head else 0.0
        apart = [later - one for one, later in pairwise(seen) if later - one > widest]
        assert len(apart) <= (stopped > 0), (head, apart)
        assert all(seconds <= stopped + widest for seconds in apart)


def test_a_hostile_name_is_one_label(tmp_path: Path) -> None:
    promtool = require_program("promtool")
    entity = replace(world_of("", hours=0.2).entities[0], country='x"} 1\n# EOF\n\x07\\')
    world = replace(world_of("", hours=0.2), entities=(entity,))
    (tmp_path / "scrapes").mkdir()
    write_openmetrics(replay(world, scrapes=tmp_path / "scrapes"), tmp_path / "w.om", tmp_path / "scrapes")
    assert (tmp_path / "w.om").read_text().count("# EOF\n") == 1
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "w.om"), str(tmp_path / "blocks")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "country" in (tmp_path / "w.om").read_text()


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "targets.yml").write_text(TARGETS)
    head = f"world: A test\nstart: {moment(0)}\nend: {moment(1.5)}\ntargets: targets.yml\n"
    (tmp_path / "world.yml").write_text(head + WORLD)
    world, file, ledger = (str(tmp_path / name) for name in ("world.yml", "world.om", "ledger"))
    done = CliRunner().invoke(cli, ["replay", world, "--json", "--openmetrics", file, "--ledger", ledger])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"outages", "fused", "score"}
    (entity,) = [one for one in found["fused"] if one["scope"] == "entity"]
    assert (entity["kind"], entity["down"], entity["blind"]) == ("outage", ["hanover", "tokyo"], ["hanover"])
    assert Path(file).read_text().endswith("# EOF\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    # the ledger that it leaves tells the same
    scopes = [word for scope in ("entity", "network", "site", "target", "check") for word in ("--scope", scope)]
    told = json.loads(CliRunner().invoke(cli, ["report", "--ledger", ledger, "--format", "json", *scopes]).stdout)
    assert told["outages"] == found["fused"]
    shown = CliRunner().invoke(cli, ["replay", world]).stdout
    assert "all vantages together" in shown
    assert "| entity" in shown


@pytest.mark.parametrize("where", ["nowhere/world.om", "."])
def test_a_place_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    (tmp_path / "targets.yml").write_text(TARGETS)
    head = f"world: A test\nstart: {moment(0)}\nend: {moment(0.1)}\ntargets: targets.yml\n"
    (tmp_path / "world.yml").write_text(head)
    done = CliRunner().invoke(cli, ["replay", str(tmp_path / "world.yml"), "--openmetrics", str(tmp_path / where)])
    assert done.exit_code == 2
    assert "world.om: is in no directory" in done.output or "is a directory; name a file" in done.output


def small_world(directory: Path) -> str:
    (directory / "targets.yml").write_text(TARGETS)
    head = f"world: A test\nstart: {moment(0)}\nend: {moment(0.1)}\ntargets: targets.yml\n"
    (directory / "world.yml").write_text(head)
    return str(directory / "world.yml")


@pytest.mark.parametrize("option", ["--openmetrics", "--ledger"])
def test_what_is_no_regular_file_is_left_as_it_is(option: str, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.x", tmp_path / "link.x"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        done = CliRunner().invoke(cli, ["replay", small_world(tmp_path), option, str(path)])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert f"{path}: is no regular file" in done.stderr
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link.om", tmp_path / "there/world.om"
    link.symlink_to("there/world.om")
    for before in (None, "old"):
        if before is not None:
            file.write_text(before)
        done = CliRunner().invoke(cli, ["replay", small_world(tmp_path), "--openmetrics", str(link)])
        assert done.exit_code == 0, done.output
        assert link.is_symlink()
        assert file.read_text().endswith("# EOF\n")
        assert [path.name for path in (tmp_path / "there").iterdir()] == ["world.om"]
    (tmp_path / "loop").symlink_to("loop")
    done = CliRunner().invoke(cli, ["replay", small_world(tmp_path), "--openmetrics", str(tmp_path / "loop")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_counters_begin_with_their_zero(text: Path) -> None:
    """`increase` sees what grew between two samples: the first minutes of a first outage must not be the first one."""
    counted: dict[str, list[tuple[float, float]]] = {}
    for line in text.read_text().splitlines():
        if line.startswith(("prober_outage_seconds_total{", "prober_outages_total{", "prober_state_seconds_total{")):
            head, count, when = line.rsplit(" ", 2)
            counted.setdefault(head, []).append((float(when), float(count)))
    networks = [head for head in counted if "_outage_seconds_total" in head and 'scope="network"' in head]
    assert len(networks) == 4  # also of those that were never down
    grew = 0
    for head, samples in counted.items():
        assert samples[0][0] == START, head
        for (at, value), (after, more) in pairwise(samples):
            if value == 0 and more > 0:
                grew += 1
                assert after - at == SCRAPE_SECONDS, head
    assert grew > 20


def test_a_spool_gives_back_what_was_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prober.replay.spool.BUFFERED_MAX", 7)
    spool = Spool(tmp_path / "s")
    series = [spool.series("f", f'a="{number}",') for number in range(3)]
    expected: dict[int, list[tuple[float, float]]] = {one: [] for one in series}
    for moment_ in range(50):
        for one in series:
            if moment_ % (one + 1) == 0:
                spool.put(one, float(moment_), moment_ * 1.5)
                expected[one].append((float(moment_), moment_ * 1.5))
    spool.flush()
    assert {one: list(spool.samples(one)) for one in series} == expected
    assert spool.series("f", 'a="1",') == series[1]


IMPOSSIBLE = {
    # what a simulated probe does not have
    "probe_http_status_code",
    "probe_icmp_reply_hop_limit",
    "probe_tcp_handshake_rtt_seconds",
    "prober_certificate_expiry_timestamp_seconds",
    "prober_icmp_unmatched_replies_total",
    # what nobody wrote
    "prober_note_timestamp_seconds",
    # what never happened
    "prober_internal_errors_total",
    # what an agent costs: nothing ran but the replay
    "prober_loop_stall_seconds_sum",
    "prober_schedule_lateness_seconds_bucket",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
}


def test_what_dashboards_ask_for_is_there(text: Path) -> None:
    asked = {name for expression in expressions() for name in names_in(expression.text)}
    patterns = {name[1:] for name in asked if name.startswith("~")}
    there = {line.split("{")[0] for line in text.read_text().splitlines() if not line.startswith("#")}
    assert {name for name in asked if not name.startswith("~")} - there == IMPOSSIBLE
    assert all(any(re.fullmatch(pattern, name) for name in there) for pattern in patterns)


def test_a_failure_is_seen_by_the_minute(text: Path) -> None:
    """`increase` over a minute needs several samples: there is one before a failure, and some after it."""
    counted: dict[str, list[tuple[float, float]]] = {}
    for line in text.read_text().splitlines():
        if line.startswith("prober_probe_failures_total{"):
            head, count, when = line.rsplit(" ", 2)
            counted.setdefault(head, []).append((float(when), float(count)))
    grew = 0
    for samples in counted.values():
        for (at, value), (after, more) in pairwise(samples):
            if more > value:
                grew += 1
                assert after - at == SCRAPE_SECONDS
    assert grew > 50
