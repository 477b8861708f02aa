"""What a running agent exports, judged by those who read it: promtool, Prometheus, and docs/metrics.md."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.agent import CODE, PORT, Metrics, open_directory
from tests.e2e.conftest import Watched
from tests.lab import Process, require_program, wait_until

PROMETHEUS_PORT = 9090


@pytest.fixture(scope="module")
def metrics(watched: Watched) -> Metrics:
    """The exposition of an agent that has probed with all kinds."""
    metrics = watched.agent.metrics_when(lambda m: m.checks == watched.checks, 30.0, "every check has a result")
    assert {s.labels["kind"] for s in metrics.all("probe_success")} == {"icmp", "dns", "http", "tcp"}
    return metrics


def test_promtool_accepts_the_exposition(metrics: Metrics) -> None:
    promtool = require_program("promtool")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_metric_that_is_exported_is_documented(metrics: Metrics) -> None:
    documented = set(re.findall(r"^\| `([a-z_]+)`", (CODE / "docs" / "metrics.md").read_text(), flags=re.MULTILINE))
    exported = set(re.findall(r"^# TYPE (\S+)", metrics.text, flags=re.MULTILINE))
    assert exported > {"probe_success", "probe_http_status_code", "probe_dns_serial", "probe_tls_version_info"}
    assert {name for name in exported if not name.startswith(("process_", "python_"))} <= documented


def test_the_vantage_is_on_every_series(metrics: Metrics) -> None:
    series = re.findall(r"^[^#].*$", metrics.text, flags=re.MULTILINE)
    assert len(series) > 500
    assert [line for line in series if 'vantage="hanover"' not in line] == []


# -- a real Prometheus -------------------------------------------------------------------------------------------------


class Prometheus:
    """A Prometheus that scrapes the agent every half second, beside it."""

    def __init__(self, watched: Watched) -> None:
        self._namespace = watched.agent.namespace

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query: a list of {metric, value}."""
        with self._namespace.entered(), closing(http.client.HTTPConnection("127.0.0.1", PROMETHEUS_PORT)) as asked:
            asked.request("GET", f"/api/v1/query?query={quote(promql)}")
            answer = json.load(asked.getresponse())
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(watched: Watched, metrics: Metrics) -> Iterator[Prometheus]:
    with open_directory() as directory:
        (directory / "prometheus.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            f"scrape_configs: [{{job_name: prober, static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]}}]\n"
        )
        command = (
            require_program("prometheus"),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
            "--log.level=warn",
        )
        with Process(*command, namespace=watched.agent.namespace, port=PROMETHEUS_PORT, timeout=30.0) as process:
            asked = Prometheus(watched)
            # Ready to be asked later than it listens.
            wait_until(lambda: "error" in process.output() or bool(_up(asked)), timeout=60.0, what="a scrape succeeded")
            yield asked


def _up(asked: Prometheus) -> bool:
    try:
        return [sample["value"][1] for sample in asked.query("up")] == ["1"]
    except (OSError, ValueError):
        return False


def test_prometheus_scrapes_it(prometheus: Prometheus, watched: Watched) -> None:
    found = prometheus.query("probe_success")
    assert {f"{s['metric']['target']}/{s['metric']['check']}" for s in found} == watched.checks
    for sample in found:
        assert set(sample["metric"]) == {"__name__", "instance", "job", "target", "check", "kind", "vantage"}
        assert sample["metric"]["vantage"] == "hanover"
        assert sample["metric"]["kind"] in {"icmp", "dns", "http", "tcp"}
    failing = [f"{s['metric']['target']}/{s['metric']['check']}" for s in found if s["value"][1] == "0"]
    assert failing == [watched.refused]


def test_prometheus_takes_every_sample(prometheus: Prometheus) -> None:
    scraped = prometheus.query("scrape_samples_scraped")[0]["value"][1]
    kept = prometheus.query("scrape_samples_post_metric_relabeling")[0]["value"][1]
    assert int(scraped) == int(kept) > 500
    # By the text format, what a series is called in Prometheus is its family's name.
    types = prometheus.query('count({__name__=~"prob.+"}) by (__name__)')
    assert len(types) > 40


def test_a_join_by_target_gives_what_is_known_of_it(prometheus: Prometheus) -> None:
    joined = prometheus.query(
        "probe_success{kind='icmp'} * on (vantage, target) group_left(network, hosted_in) prober_target_info"
    )
    networks = {s["metric"]["target"]: s["metric"].get("network") for s in joined}
    assert networks["kcna.kp"] == "star-kp-176"
    assert {s["metric"].get("hosted_in") for s in joined if s["metric"]["target"] != "further"} == {"KP"}
