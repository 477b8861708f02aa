"""The shipped rules: that Prometheus takes them, that every one is tested, documented, and about metrics that exist."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import prober
from docs.source import metrics
from tests.lab import require_program

ROOT: Final = Path(prober.__file__).parent.parent
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULE_FILES: Final = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES: Final = sorted((PROMETHEUS / "tests").glob("*.yml"))

FOREIGN: Final = {
    "ALERTS",
    "alertmanager_notifications_failed_total",
    "prometheus_notifications_alertmanagers_discovered",
    "prometheus_notifications_dropped_total",
    "prometheus_notifications_errors_total",
    "prometheus_remote_storage_highest_timestamp_in_seconds",
    "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
    "prometheus_rule_evaluation_failures_total",
    "prometheus_rule_group_iterations_missed_total",
}
"""Prometheus' and Alertmanager's own. tests/e2e/test_pages.py looks that they export them."""

_WORDS: Final = {"and", "or", "unless", "offset", "bool"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_IDENTIFIER = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])")


def rules() -> list[dict[str, Any]]:
    """Every shipped rule."""
    return [
        rule
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDS: Final = {rule["record"]: rule for rule in rules() if "record" in rule}


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics in an expression."""
    text = re.sub(r"#.*", "", expression)
    text = re.sub(r'"[^"]*"', "", text)
    text = re.sub(r"\{[^}]*\}", "", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\boffset\s+\w+", "", text)
    text = _GROUPING.sub("", text)
    return set(_IDENTIFIER.findall(text)) - _WORDS


def exported() -> set[str]:
    """Every metric of the agent, from the tables that it renders them from."""
    tables = (metrics.of_checks, metrics.of_targets, metrics.of_scopes, metrics.of_vantage, metrics.of_agent)
    names = {row.name for table in tables for row in table()}
    return names | {row.name for row, _ in metrics.of_kinds()}


def cases(kind: str) -> Iterator[dict[str, Any]]:
    """The alert_rule_test or promql_expr_test entries of all test files."""
    for path in TEST_FILES:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            yield from test.get(kind, [])


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require_program("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_prometheus_takes_the_rules() -> None:
    assert RULE_FILES
    promtool("check", "rules", *RULE_FILES)


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
@pytest.mark.timeout(300)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    firing = {case["alertname"] for case in cases("alert_rule_test") if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases("alert_rule_test") if not case["exp_alerts"]}
    assert firing == set(ALERTS)
    # what always fires cannot be quiet
    assert quiet == set(ALERTS) - {"ProberWatchdog"}


def test_every_recorded_series_is_tested() -> None:
    tested = {name for case in cases("promql_expr_test") if case["exp_samples"] for name in metrics_in(case["expr"])}
    assert set(RECORDS) - tested == set()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert "for" in alert
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"


def test_every_alert_has_a_section_in_the_runbooks_and_no_section_is_left_over() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (\w+)\n\n(?=[^#])", text, flags=re.MULTILINE)
    assert sorted(sections) == sorted(ALERTS)


def test_every_metric_in_the_rules_is_exported_or_recorded() -> None:
    known = exported() | set(RECORDS) | FOREIGN
    used: dict[str, set[str]] = {}
    for rule in rules():
        name = rule.get("alert") or rule["record"]
        used[name] = metrics_in(rule["expr"])
        for text in (*rule.get("annotations", {}).values(), *rule.get("labels", {}).values()):
            used[name] |= set(re.findall(r"\b(?:prober|probe|\w+:prober)_\w+(?::\w+)?", text))
    assert used.keys() == ALERTS.keys() | RECORDS.keys()
    assert {name: unknown for name, found in used.items() if (unknown := found - known)} == {}
    assert {"prober_up", "prober_scope_info", "scope:prober_up:quorum"} <= set.union(*used.values())
    assert set.union(*used.values()) >= FOREIGN


def test_every_recorded_series_is_in_the_table_or_is_read_by_a_rule() -> None:
    text = (PROMETHEUS / "README.md").read_text(encoding="utf-8")
    read = set.union(*(metrics_in(rule["expr"]) for name, rule in {**ALERTS, **RECORDS}.items()))
    assert {name for name in RECORDS if name not in text and name not in read} == set()
    named = set(re.findall(r"`((?:vantage|scope_vantage|scope):prober_\w+:\w+)`", text))
    assert named <= set(RECORDS), "the table names what is not recorded"


def test_the_metrics_of_an_expression_are_found() -> None:
    expression = """
        sum by (scope, name) (a_total{x="b"}[5m] offset 5m) / on (scope) group_left (y) (c:d:e > bool 0)
        unless max_over_time(f[1m]) and label_replace(g, "h", "$1", "i", "(.*)") <= time() - 45
    """
    assert metrics_in(expression) == {"a_total", "c:d:e", "f", "g"}
