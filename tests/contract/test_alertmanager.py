"""The shipped Alertmanager configuration: that it starts as it is, who is told of what, what silences what."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.contract.test_rules import ALERTS, ROOT, TEST_FILES
from tests.lab import Process, free_port, require_program

SHIPPED: Final = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
CONFIG: Final = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
TEMPLATES: Final = ROOT / "deploy" / "alertmanager" / "templates"
_MATCHER = re.compile(r'^\s*(\w+)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$')

DARK: Final = {"alertname": "ProberEntityDark", "scope": "entity", "name": "xx", "severity": "critical"}
AGAIN: Final = {"alertname": "ProberReachableAgain", "scope": "entity", "name": "xx", "severity": "info", "outage": "o"}
PARTIAL: Final = {"alertname": "ProberEntityPartial", "scope": "entity", "name": "xx", "severity": "warning"}
NETWORK: Final = {"alertname": "ProberNetworkDown", "scope": "network", "name": "n", "network": "n", "inside": "yes"}
SITE: Final = {"alertname": "ProberSiteDown", "scope": "site", "name": "s", "site": "s", "inside": "no"}
SITE_HOME: Final = {"alertname": "ProberSiteDown", "scope": "site", "name": "h", "site": "h", "inside": "yes"}
TARGET: Final = {"alertname": "ProberTargetDown", "scope": "target", "name": "t", "target": "t"} | {
    "network": "n",
    "site": "s",
    "inside": "yes",
}
MIRROR: Final = {"alertname": "ProberTargetDown", "scope": "target", "name": "m", "target": "m"} | {
    "site": "s",
    "hosted_in": "YY",
    "inside": "no",
}
OTHER: Final = TARGET | {"name": "o", "target": "o", "network": "other", "site": "other"}
CHECK: Final = TARGET | {"alertname": "ProberCheckDown", "scope": "check", "name": "t/icmp"}
MIRROR_CHECK: Final = MIRROR | {"alertname": "ProberCheckDown", "scope": "check", "name": "m/http"}
PENINSULA: Final = {"alertname": "ProberPeninsula", "scope": "entity", "name": "xx", "inside": "no"}
PENINSULA_NETWORK: Final = NETWORK | {"alertname": "ProberPeninsula"}
PENINSULA_TARGET: Final = TARGET | {"alertname": "ProberPeninsula"}
PENINSULA_MIRROR: Final = MIRROR | {"alertname": "ProberPeninsula"}
OFFLINE: Final = {"alertname": "ProberVantageOffline", "vantage": "v"}
GONE: Final = {"alertname": "ProberAgentGone", "vantage": "v"}
INJECTED: Final = {"alertname": "ProberDnsInjected", "vantage": "v", "target": "t", "check": "dns"}
BEHIND: Final = {"alertname": "ProberRemoteWriteBehind", "vantage": "v"}
LEDGER: Final = {"alertname": "ProberLedgerNotWritable", "vantage": "v"}
ELSEWHERE: Final = INJECTED | {"vantage": "w"}
CERTIFICATE: Final = {"alertname": "ProberCertificateExpiring", "target": "t", "check": "http"}
WATCHDOG: Final = {"alertname": "ProberWatchdog", "severity": "none"}

Labels = dict[str, str]

SILENCED: Final[dict[str, tuple[list[Labels], list[Labels], list[Labels]]]] = {
    # what fires, what of it is silenced, what is not
    "dark": (
        [DARK],
        [NETWORK, SITE_HOME, TARGET, OTHER, CHECK, PENINSULA_NETWORK],
        [MIRROR, PENINSULA_MIRROR, CERTIFICATE],
    ),
    "dark-check": ([DARK], [CHECK], [MIRROR_CHECK]),
    "dark-and-site": ([DARK, SITE], [NETWORK, TARGET, MIRROR, MIRROR_CHECK], []),
    "again": ([AGAIN], [NETWORK, SITE_HOME, TARGET, CHECK], [MIRROR, DARK, PARTIAL]),
    "again-site": ([AGAIN | {"scope": "site", "name": "s", "site": "s"}], [], [NETWORK, SITE, SITE_HOME]),
    "partial": ([PARTIAL], [NETWORK], [SITE, OTHER]),
    "network": ([NETWORK], [TARGET, CHECK, PENINSULA_TARGET], [OTHER, MIRROR]),
    "site": ([SITE], [TARGET, MIRROR, MIRROR_CHECK, CHECK], [OTHER, SITE_HOME, NETWORK]),
    "target": ([TARGET], [CHECK], [MIRROR_CHECK, OTHER]),
    "peninsula": ([PENINSULA], [PENINSULA_NETWORK, PENINSULA_TARGET], [PENINSULA_MIRROR, OTHER, PARTIAL]),
    "peninsula-network": ([PENINSULA_NETWORK], [PENINSULA_TARGET], [PENINSULA_MIRROR, TARGET]),
    "peninsula-site": ([SITE | {"alertname": "ProberPeninsula"}], [PENINSULA_TARGET, PENINSULA_MIRROR], [TARGET]),
    "offline": ([OFFLINE], [INJECTED, BEHIND], [LEDGER, ELSEWHERE, TARGET, CERTIFICATE, WATCHDOG]),
    "gone": ([GONE], [OFFLINE, INJECTED, BEHIND, LEDGER], [ELSEWHERE, TARGET, CERTIFICATE, WATCHDOG]),
    "nothing": ([], [], [TARGET, MIRROR, PENINSULA_TARGET, INJECTED, BEHIND, LEDGER]),
    "nothing-else": ([], [], [CHECK, MIRROR_CHECK, OFFLINE]),
}

ROUTES: Final = [
    (DARK, "page"),
    (AGAIN, "recovery"),
    (AGAIN | {"scope": "site"}, "recovery"),
    (SITE | {"severity": "critical"}, "page"),
    (NETWORK | {"severity": "warning"}, "notice"),
    (PARTIAL, "notice"),
    (CHECK | {"severity": "info"}, "notice"),
    (GONE | {"severity": "critical"}, "page"),
    (LEDGER | {"severity": "critical"}, "page"),
    (OFFLINE | {"severity": "warning"}, "notice"),
    (CERTIFICATE | {"severity": "info"}, "notice"),
    (WATCHDOG, "watchdog"),
    ({"alertname": "SomebodyElses"}, "notice"),
]


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [require_program("amtool"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_examples(directory: Path) -> Path:
    """The shipped configuration with the examples of its receivers in use."""
    text = re.sub(r"^    #(?! [^ ])", "    ", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path = directory / "alertmanager.yml"
    path.write_text(text.replace("templates/", f"{TEMPLATES}/"), encoding="utf-8")
    return path


def test_alertmanager_takes_it_as_it_is() -> None:
    assert "4 receivers" in amtool("check-config", SHIPPED)


def test_alertmanager_takes_the_examples_and_their_secrets_are_files(tmp_path: Path) -> None:
    path = with_examples(tmp_path)
    amtool("check-config", path)
    receivers = yaml.safe_load(path.read_text(encoding="utf-8"))["receivers"]
    assert all(len(receiver) == 2 for receiver in receivers)
    for receiver in receivers:
        for entry in next(value for key, value in receiver.items() if key.endswith("_configs")):
            assert entry["send_resolved"] is False
    assert len(re.findall(r"_file: /run/secrets/alertmanager/\w+", path.read_text(encoding="utf-8"))) == len(receivers)


@pytest.mark.parametrize(("labels", "receiver"), ROUTES, ids=lambda value: value if isinstance(value, str) else "")
def test_routes(labels: Labels, receiver: str) -> None:
    pairs = [f"{key}={value}" for key, value in {"entity": "xx", **labels}.items()]
    amtool("config", "routes", "test", f"--config.file={SHIPPED}", f"--verify.receivers={receiver}", *pairs)


def test_parts_wait_longer_than_prometheus_takes_to_repeat_the_whole() -> None:
    """And the rule that knows what was told waits as long, less one evaluation."""
    routes = CONFIG["route"]["routes"]
    waits = {route["group_wait"] for route in routes if "scope" in str(route["matchers"])}
    assert waits == {"150s"}
    compose = (ROOT / "deploy" / "docker-compose.yml").read_text(encoding="utf-8")
    assert "--rules.alert.resend-delay=2m" in compose
    assert f"offset {150 - 15}s" in (ROOT / "deploy" / "prometheus" / "rules" / "fused.yml").read_text(encoding="utf-8")


def matches(matchers: list[str], labels: Labels) -> bool:
    """Whether labels are what Alertmanager's matchers want."""
    for matcher in matchers:
        found = _MATCHER.match(matcher)
        assert found, matcher
        value, sign, wanted = labels.get(found[1], ""), found[2], found[3]
        hit = re.fullmatch(wanted, value) is not None if "~" in sign else value == wanted
        if hit == sign.startswith("!"):
            return False
    return True


def test_every_source_carries_its_equal_labels() -> None:
    """Labels that both sides lack are equal too: such a source would silence everybody's targets."""
    tested = [
        {"alertname": case["alertname"], **alert["exp_labels"]}
        for path in TEST_FILES
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", [])
        for alert in case["exp_alerts"]
    ]
    for rule in CONFIG["inhibit_rules"]:
        sources = [labels for labels in tested if matches(rule["source_matchers"], labels)]
        assert sources, f"no tested alert is a source of {rule}"
        for labels in sources:
            assert all(labels.get(key) for key in rule["equal"]), (rule, labels)
        assert any(matches(rule["target_matchers"], {"alertname": name, **fill}) for name in ALERTS for fill in FILLS)


FILLS: Final[list[Labels]] = [
    {"scope": scope, "inside": "yes", "vantage": "v"} for scope in ("network", "site", "target", "check")
]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The shipped configuration, running; its port."""
    port = free_port()
    with Process(
        require_program("prometheus-alertmanager"),
        f"--config.file={SHIPPED}",
        f"--storage.path={tmp_path_factory.mktemp('alertmanager')}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        port=port,
        timeout=30.0,
    ):
        yield port


def ask(port: int, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
    finally:
        connection.close()
    return json.loads(text) if text else None


def test_what_silences_what(alertmanager: int) -> None:
    """Every case at once: each has an entity and vantages of its own."""
    wanted: dict[tuple[tuple[str, str], ...], bool] = {}
    for case, (sources, silenced, heard) in SILENCED.items():
        for labels, silent in [*((one, False) for one in [*sources, *heard]), *((one, True) for one in silenced)]:
            own = {**labels, "entity": case}
            if "vantage" in labels:
                own["vantage"] = f"{labels['vantage']}-{case}"
            wanted[tuple(sorted(own.items()))] = silent
    now = datetime.now(UTC).isoformat()
    ask(alertmanager, "/api/v2/alerts", [{"labels": dict(one), "startsAt": now, "annotations": {}} for one in wanted])

    # The API asks the inhibitor, which hears of the alerts a moment later. Nothing waits for group_wait here.
    deadline = time.monotonic() + 20.0
    while True:
        found = {
            tuple(sorted(one["labels"].items())): bool(one["status"]["inhibitedBy"])
            for one in ask(alertmanager, "/api/v2/alerts")
        }
        if found == wanted or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    wrong = [dict(one) for one, silent in wanted.items() if found.get(one) != silent]
    assert wrong == []


def notification(*alerts: tuple[str, str, str]) -> dict[str, Any]:
    """Data for a template: (status, alert, summary) of each."""
    return {
        "receiver": "page",
        "status": "firing" if any(status == "firing" for status, _, _ in alerts) else "resolved",
        "externalURL": "http://alertmanager.example.org",
        "groupLabels": {},
        "commonLabels": {"alertname": alerts[0][1], "severity": "critical"},
        "commonAnnotations": {},
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": name, "severity": "critical", "name": "xx"},
                "annotations": {"summary": summary, "runbook": f"docs/runbooks.md#{name.lower()}"},
                "startsAt": "2014-12-22T16:15:00Z",
                "endsAt": "2014-12-23T01:46:00Z",
            }
            for status, name, summary in alerts
        ],
    }


TOLD: Final = "North Korea is dark since 2014-12-22 16:15:00 UTC, seen by 2 of 3 vantages"


def rendered(template: str, data: dict[str, Any], directory: Path) -> str:
    path = directory / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    text = f'{{{{ template "{template}" . }}}}'
    kind = "html" if template.endswith("html") else "text"
    return amtool(
        "template",
        "render",
        f"--template.glob={TEMPLATES}/*.tmpl",
        f"--template.text={text}",
        f"--template.type={kind}",
        f"--template.data={path}",
    ).strip()


def test_templates(tmp_path: Path) -> None:
    one = notification(("firing", "ProberEntityDark", TOLD))
    two = notification(("firing", "ProberEntityDark", TOLD), ("firing", "ProberSiteDown", "<Site> & more"))
    assert rendered("prober.title", one, tmp_path) == f"[CRITICAL] {TOLD}"
    assert rendered("prober.title", two, tmp_path) == f"[CRITICAL] {TOLD} (and 1 more)"
    assert rendered("prober.color", one, tmp_path) == "danger"
    assert rendered("prober.color", notification(("firing", "ProberReachableAgain", "")), tmp_path) == "good"
    text = rendered("prober.text", two, tmp_path)
    assert text.splitlines() == [
        TOLD,
        "  ProberEntityDark, what to do: docs/runbooks.md#proberentitydark",
        "<Site> & more",
        "  ProberSiteDown, what to do: docs/runbooks.md#probersitedown",
        "http://alertmanager.example.org",
    ]
    page = rendered("prober.html", two, tmp_path)
    assert TOLD in page
    assert "&lt;Site&gt; &amp; more" in page


@pytest.mark.parametrize("template", ["prober.title", "prober.text", "prober.html"])
def test_what_is_resolved_claims_no_duration(template: str, tmp_path: Path) -> None:
    text = rendered(template, notification(("resolved", "ProberEntityDark", TOLD)), tmp_path)
    assert "No longer firing: ProberEntityDark xx" in text
    assert not re.search(r"dark since|reachable|after|\d\d:\d\d", text), text
