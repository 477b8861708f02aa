"""What a replay leaves for Prometheus: real blocks by promtool, asked of a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from prober.replay.run import ReplayFailed, replay
from tests.lab import Process, free_port, require_program
from tests.replays import START, during, world_of

WORLD = (
    "vantages: [{name: a}, {name: b}]\n"
    "conditions:\n"
    f"  - {{match: {{entity: land}}, {during(1, 1.5)}, down: true}}\n"
    f"observer: [{{vantage: b, {during(2, 2.2)}, offline: true}}]\n"
)


def test_prometheus_can_be_asked_about_a_replayed_outage(tmp_path: Path) -> None:
    text, blocks, port = tmp_path / "world.om", tmp_path / "data", free_port()
    replayed = replay(world_of(WORLD, 3.0), openmetrics=text)
    promtool = (require_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, blocks)
    subprocess.run(promtool, check=True, capture_output=True, timeout=60)
    (tmp_path / "prometheus.yml").write_text("{}\n")
    command = (
        require_program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
    )

    def ask(query: str, hours: float) -> dict[str, float]:
        """By vantage, what Prometheus says for so many hours after the start."""
        values = urllib.parse.urlencode({"query": query, "time": START + hours * 3600})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{values}", timeout=30) as response:
            found: list[Any] = json.load(response)["data"]["result"]
        return {one["metric"]["vantage"]: float(one["value"][1]) for one in found}

    def ready() -> bool:
        try:
            return ask("vector(1)", 0.0) is not None
        except KeyError:
            return True
        except OSError:
            return False

    entity = '{scope="entity",name="land",job="prober"}'
    with Process(*command, ready=ready, timeout=60.0):
        assert ask(f"prober_up{entity}", 0.9) == {"a": 1.0, "b": 1.0}
        assert ask(f"prober_up{entity}", 1.2) == {"a": 0.0, "b": 0.0}
        assert ask(f"prober_up{entity}", 1.6) == {"a": 1.0, "b": 1.0}
        assert ask("prober_observer_up", 2.15) == {"a": 1.0, "b": 0.0}
        assert ask(f"prober_observed{entity}", 2.15) == {"a": 1.0, "b": 0.0}
        assert ask('probe_success{target="s1"}', 1.2) == {"a": 0.0, "b": 0.0}
        ended = {one.vantage: one for one in replayed.outages() if one.scope == "entity"}
        for bound in ("started_after", "started_by", "ended_after", "ended_by"):
            shown = ask(f"prober_past_outage_{bound}_timestamp_seconds{entity}", 2.9)
            assert shown == {name: pytest.approx(getattr(one, bound)) for name, one in ended.items()}
        # How long it has lasted is never older than a sample may be.
        lasted = ask(f"prober_outage_seconds{entity}", 1.45)
        assert all(0.45 * 3600 - 400 < seconds <= 0.45 * 3600 for seconds in lasted.values()), lasted


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "world.om"
    file.write_text("mine")
    with pytest.raises(ReplayFailed, match="is there already"):
        replay(world_of("", 1.0), openmetrics=file)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]
