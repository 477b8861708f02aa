"""A real Prometheus: evaluates the shipped rules over what a replay scraped, and is asked for a report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import prober
from prober.config import World
from prober.replay.openmetrics import write_openmetrics
from prober.replay.run import Replayed, replay
from prober.replay.scrape import SCRAPE_SECONDS
from tests.lab import Process, free_port, missing, require_program
from tests.replays import START, TARGETS, during, world_of

RULES = Path(prober.__file__).parents[1] / "deploy/prometheus/rules/fused.yml"
HOURS = 3.0
WORLD = f"""
seed: 3
vantages: [hanover, tokyo]
loss: 0.02
conditions:
  - {{match: {{network: [north, south]}}, {during(0.6, 0.9)}, down: true}}
  - {{match: {{network: north, vantage: tokyo}}, {during(1.1, 1.35)}, down: true}}
  - {{match: {{network: south}}, {during(1.5, 1.65)}, down: true}}
  - {{match: {{network: [north, south]}}, {during(2.0, 2.5)}, down: true}}
  - {{match: {{network: south, vantage: tokyo}}, {during(2.6, 2.85)}, down: true}}
observer:
  - {{vantage: tokyo, {during(0.3, 0.42)}, offline: true}}
  - {{vantage: hanover, {during(2.1, 2.25)}, stopped: true}}
  - {{vantage: tokyo, {during(2.12, 2.2)}, offline: true}}
  - {{vantage: tokyo, {during(0.892, 0.911)}, stopped: true}}
  - {{vantage: hanover, {during(1.25, 1.3)}, stopped: true}}
  - {{vantage: hanover, {during(2.65, 2.72)}, stopped: true}}
"""
"""An outage (of which one vantage sees the end late), a peninsula (of which the witness goes after a while), a partial
country, an island, an outage of which for a while nobody sees anything, and a peninsula of which the witness goes at
once.
"""

AT_HOME = TARGETS.replace("paper: {}", "paper: {}, news: {}").replace("network: south,", "network: south, site: news,")
"""With a site at home beside the one abroad."""


@pytest.fixture(scope="module")
def small() -> World:
    return world_of(WORLD, hours=HOURS, targets=AT_HOME)


@pytest.fixture(scope="module")
def written(small: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Replayed, Path, Path]:
    """The replay, its text with every scrape, its ledger."""
    directory = tmp_path_factory.mktemp("replayed")
    (directory / "scrapes").mkdir()
    replayed = replay(small, ledger=directory / "ledger", scrapes=directory / "scrapes", keep_scrapes=1)
    write_openmetrics(replayed, directory / "world.om", directory / "scrapes", keep_scrapes=1)
    return replayed, directory / "world.om", directory / "ledger"


def samples(file: Path) -> Iterator[tuple[str, str, float, float]]:
    """(name, labels, value, time) of an OpenMetrics text."""
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            head, value, at = line.rsplit(" ", 2)
            name, _, labels = head.partition("{")
            yield name, labels.removesuffix("}"), float(value), float(at)


READ_BY_RULES = (
    "prober_clock_timestamp_seconds",
    "prober_observer_up",
    "prober_observed",
    "prober_up",
    "prober_outage_seconds",
    "prober_outage_started_after_timestamp_seconds",
    "prober_outage_started_by_timestamp_seconds",
    "prober_past_outage_ended_after_timestamp_seconds",
    "prober_past_outage_ended_by_timestamp_seconds",
    "prober_past_outage_seconds",
)


LEAD = 40
"""Scrapes before the world's start: promtool's tests begin in 1970, where 0 would be a time and not "none"."""


def shifted(value: float) -> float:
    """A value on the time of promtool's tests."""
    return value - START + LEAD * SCRAPE_SECONDS if value >= START else value


def test_the_recorded_series_are_what_the_rules_record(written: tuple[Replayed, Path, Path], tmp_path: Path) -> None:
    """`promtool test rules`: the raw series go in, and after every change the rules must say what the replay wrote."""
    promtool = require_program("promtool")
    if not RULES.exists():
        missing(str(RULES), "this tree has no rules")
    scrapes = int(HOURS * 3600 / SCRAPE_SECONDS)
    raw: dict[str, dict[int, float]] = {}
    recorded: dict[str, dict[int, float]] = {}
    entities = ("entity", "network", "site")
    for name, labels, value, at in samples(written[1]):
        number = round((at - START) / SCRAPE_SECONDS)
        if name in READ_BY_RULES:
            raw.setdefault(f"{name}{{{labels}}}", {})[number] = shifted(value)
        elif ":" in name and ('scope="' not in labels or any(f'scope="{scope}"' in labels for scope in entities)):
            recorded.setdefault(f"{name}{{{labels}}}", {})[number] = shifted(value)
    assert raw
    assert recorded
    series = []
    for key, values in raw.items():
        words, gone = [f"_x{LEAD}"], False
        for number in range(scrapes):
            if number in values:
                words.append(repr(values[number]))
                gone = False
            else:  # a series that ended is stale from the next scrape on
                words.append("_" if gone or number - 1 not in values else "stale")
                gone = True
        series.append({"series": key, "values": " ".join(words)})
    tests = []
    for key, values in recorded.items():
        name, _, labels = key.partition("{")
        changes = {number + aside for number in changed(values) for aside in (-1, 0, 1, 10)}
        for number in sorted(changes | set(range(5, scrapes, 61))):
            if not 0 <= number < scrapes:
                continue
            expected: list[dict[str, Any]] = []
            if number in values:
                # what is reckoned of times, whose last digits differ here
                value = float(round(1000 * values[number])) if is_reckoned(name) else values[number]
                expected = [{"labels": f"{{{labels}" if is_reckoned(name) else key, "value": value}]
            look = f"round(1000 * {key})" if is_reckoned(name) else key
            moment = f"{(number + LEAD) * SCRAPE_SECONDS:.0f}s"
            tests.append({"expr": look, "eval_time": moment, "exp_samples": expected})
    assert len(tests) > 1000
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": tests}],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(document))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, (done.stdout + done.stderr)[:6000]


def is_reckoned(name: str) -> bool:
    return name.endswith(("outage_seconds:quorum", "margin_seconds:quorum", "start_timestamp_seconds:avg"))


def changed(values: dict[int, float]) -> Iterator[int]:
    """When a series changed by more than passing time makes it."""
    before: float | None = None
    for number, value in sorted(values.items()):
        if before is not None and value != before and abs(value - before - SCRAPE_SECONDS) > 1e-6:
            yield number
        before = value


@pytest.fixture(scope="module")
def server(written: tuple[Replayed, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that holds the replay."""
    promtool, program = require_program("promtool"), require_program("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", str(written[1]), str(directory / "data")],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (directory / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
    port = free_port()
    with Process(
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        ready=lambda: is_ready(port),
        timeout=60.0,
    ):
        yield f"http://127.0.0.1:{port}"


def is_ready(port: int) -> bool:
    """It listens before it answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def told(*arguments: str) -> Any:
    from click.testing import CliRunner

    from prober.cli import cli

    done = CliRunner().invoke(cli, ["report", "--format", "json", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_prometheus_and_ledgers_tell_the_same(written: tuple[Replayed, Path, Path], server: str) -> None:
    """The bounds are the same to the millisecond; when somebody was blind is known to a minute; blips are not known."""
    window = ("--since", "2024-01-01T00:00:00Z", "--until", "2024-01-01T03:00:00Z")
    asked = told("--prometheus", server, *window)
    read = told("--ledger", str(written[2]), *window)
    known = [one for one in read["outages"] if one["class"] == "outage"]
    assert {one["kind"] for one in known} == {"outage", "peninsula"}
    assert [(one["kind"], one["scope"], one["name"], one["down"], one["ongoing"]) for one in asked["outages"]] == [
        (one["kind"], one["scope"], one["name"], one["down"], one["ongoing"]) for one in known
    ]
    for one, other in zip(asked["outages"], known, strict=True):
        for bound in ("started_after", "started_by", "ended_after", "ended_by"):
            assert one[bound] == other[bound], (one["scope"], one["name"], bound)
        assert one["duration_seconds"] == pytest.approx(other["duration_seconds"], abs=0.01)
    assert [one["vantage"] for one in asked["islands"]] == [one["vantage"] for one in read["islands"]]
    rows = {(one["scope"], one["name"]): one for one in read["availability"]}
    for row in asked["availability"]:
        other = rows[row["scope"], row["name"]]
        assert row["availability"] == pytest.approx(other["availability"], abs=0.02)
        assert row["unobserved_seconds"] == pytest.approx(other["unobserved_seconds"], abs=200)


def test_what_does_not_reach_back_is_said(server: str) -> None:
    asked = told("--prometheus", server, "--since", "2023-12-31T00:00:00Z", "--until", "2024-01-01T02:00:00Z")
    assert any("reach back to 2024-01-01 00:00" in note for note in asked["notes"])
