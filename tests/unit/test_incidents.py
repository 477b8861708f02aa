"""The shipped incidents: what was published of them is what the replay finds."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prober.config import SHIPPED, check_files, load_world
from prober.judge.records import Onset, Outage, OutageClass
from prober.replay.run import Replayed, replay
from prober.replay.score import score

INCIDENTS = sorted((SHIPPED / "incidents").glob("2*.yml"))
DECEMBER = SHIPPED / "incidents" / "2014-12-north-korea.yml"


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def december() -> Replayed:
    return replay(load_world(DECEMBER))


def dark(replayed: Replayed, vantage: str) -> list[Outage]:
    return [one for one in replayed.outages() if one.scope == "entity" and one.vantage == vantage]


@pytest.mark.parametrize("file", INCIDENTS, ids=lambda file: file.stem)
def test_incidents_are_good_files(file: Path) -> None:
    assert check_files([file, file.with_name("north-korea-2014.yml")]).problems == ()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("vantage", ["hanover", "tokyo"])
def test_december_2014(december: Replayed, vantage: str) -> None:
    night, morning, afternoon = dark(december, vantage)
    assert {one.outage_class for one in (night, morning, afternoon)} == {OutageClass.OUTAGE}
    assert night.onset is Onset.PROGRESSIVE
    assert night.degraded_since == pytest.approx(utc("2014-12-21T16:15:00"), abs=3 * 3600)
    assert night.started_after is not None
    assert night.ended_by is not None
    assert night.duration_seconds is not None
    assert night.started_after < utc("2014-12-22T16:15:00") <= night.started_by
    assert night.ended_after < utc("2014-12-23T01:46:00") <= night.ended_by
    assert night.duration_seconds == pytest.approx(9 * 3600 + 31 * 60, abs=30)
    assert night.restored_full == pytest.approx(utc("2014-12-23T02:31:00"), abs=120)
    assert morning.start == pytest.approx(utc("2014-12-23T07:58:00"), abs=30)
    assert afternoon.start == pytest.approx(utc("2014-12-23T15:41:00"), abs=30)
    for shorter in (morning, afternoon):
        assert shorter.duration_seconds is not None
        assert 1800 < shorter.duration_seconds < 3600


def test_in_december_2014_the_mirror_in_japan_is_up_throughout(december: Replayed) -> None:
    assert {one.name for one in december.outages() if one.scope == "site"} >= {"rodong"}
    assert not [one for one in december.outages() if "kcna.co.jp" in one.name or one.name == "kcna"]


def test_in_december_2014_nothing_is_missed_or_made_up(december: Replayed) -> None:
    for figures in score(december).values():
        assert (figures.missed, figures.false_outages) == (0, 0)
        assert figures.found == figures.true_outages > 0


@pytest.mark.timeout(400)
def test_the_result_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """Not on the hashes of strings either, which are other ones in each process."""
    (tmp_path / "targets.yml").write_text((SHIPPED / "incidents" / "north-korea-2014.yml").read_text("utf-8"), "utf-8")
    world = tmp_path / "world.yml"
    world.write_text(
        "world: W\nstart: 2014-12-22T00:00:00Z\nend: 2014-12-22T06:00:00Z\ntargets: targets.yml\nloss: 0.3\n"
        "conditions: [{from: 2014-12-22T03:00:00Z, to: 2014-12-22T04:00:00Z, down: true, match: {site: [kcna, vok]}}]\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-m", "prober", "replay", str(world), "--json"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_in_june_2015_the_sites_in_china_are_down_and_the_country_is_up() -> None:
    replayed = replay(load_world(SHIPPED / "incidents" / "2015-06-china-hosted-mirrors.yml"))
    assert {(one.scope, one.name) for one in replayed.outages() if one.scope in ("entity", "network", "site")} == {
        ("site", "uriminzokkiri"),
        ("site", "dprktoday"),
    }
