"""The dashboards are what the generator writes, ask only for what exists, and Prometheus understands them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

import prober
from docs.source import metrics
from grafana import generate
from grafana.source.model import DATASOURCE_UID
from grafana.source.series import state_now, state_timeline, vantages_verdict_timeline
from tests.lab import Process, free_port, require_program

ROOT: Final = Path(prober.__file__).parent.parent
FILES: Final = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
DASHBOARDS: Final = {path.name: json.loads(path.read_text()) for path in FILES}

FILLED: Final = {
    "__interval": "5m",
    "__rate_interval": "5m",
    "__range": "6h",
    "scope": "entity|network",
    "entity": "north-korea",
    "target": "kcna.kp",
    "check": "icmp|http",
    "vantage": "tokyo|berlin",
    "fused": "(entity|network)",
}
"""Variables as Grafana would fill them in."""


class Expression(NamedTuple):
    """What a panel, an annotation or a variable asks for."""

    where: str
    text: str

    @property
    def filled(self) -> str:
        text = re.sub(r"\$(\w+)", lambda match: FILLED[match[1]], self.text)
        text = text.replace("[90d:", "[1d:")  # parsed the same, and not 130,000 moments to be looked at
        assert "$" not in text, f"{self.where}: {text}"
        return text


def panels(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[Expression]:
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Expression(f"{name}: {panel['title']} {target['refId']}", target["expr"])
        for annotation in dashboard["annotations"]["list"]:
            yield Expression(f"{name}: {annotation['name']}", annotation["expr"])
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
                assert asked is not None, variable["definition"]
                yield Expression(f"{name}: ${variable['name']}", f"count by ({asked[2]}) ({asked[1]})")


def exported() -> set[str]:
    """Every metric that an agent exports, and every series that the rules record."""
    names: set[str] = set()
    for rows in (metrics.of_checks, metrics.of_targets, metrics.of_scopes, metrics.of_vantage, metrics.of_agent):
        for row in rows():
            histogram = [f"{row.name}_{suffix}" for suffix in ("bucket", "sum", "count")]
            names |= set(histogram) if row.type == "histogram" else {row.name}
    names |= {row.name for row, _kinds in metrics.of_kinds()}
    names |= {  # of prometheus_client's, on Linux (docs/metrics.md does not list them)
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    }
    for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            names |= {rule["record"] for rule in group["rules"] if "record" in rule}
    return names


def names_in(text: str) -> set[str]:
    """The names of series in an expression. A regular expression for names stands for itself, with a ~ before it."""
    patterns = {f"~{pattern}" for pattern in re.findall(r'__name__=~"([^"]+)"', text)}
    text = re.sub(r'"[^"]*"', '""', text)
    text = re.sub(r"\{[^}]*\}", "", text)
    text = re.sub(r"\[[^\]]*\]|\boffset -?[\w$]+", "", text)
    text = re.sub(r"\b(by|on|ignoring|without|group_left|group_right) \([^)]*\)", "", text)
    words = re.findall(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()", text)
    return patterns | ({*words} - {"and", "or", "unless", "bool"})


def test_the_files_are_what_the_generator_writes() -> None:
    assert {path.name: path.read_text() for path in FILES} == generate.files(), "run make docs"


def test_uids_titles_and_numbers_are_unique() -> None:
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    assert uids == {"prober-overview", "prober-entity", "prober-target", "prober-vantages"}  # bookmarks hold them
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) == 4
    for dashboard in DASHBOARDS.values():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        titles = [panel["title"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers)
        assert len(set(titles)) == len(titles)
        assert dashboard["timezone"] == "utc"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_says_what_it_is_and_what_it_means_when_it_is_empty(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert len(panel["description"]) > 10, panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_covers_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_series_that_is_asked_for_exists() -> None:
    known = exported()
    for expression in expressions():
        names = names_in(expression.text)
        assert names, f"{expression.where}: no series in {expression.text}"
        for name in names:
            pattern = name.removeprefix("~") if name.startswith("~") else re.escape(name)
            assert any(re.fullmatch(pattern, other) for other in known), f"{expression.where}: {name} is not exported"


def test_names_of_series_are_found_wherever_they_stand() -> None:
    text = 'max by (a, b) (x:y{c=~"d|e"}) or 2 * (min_over_time(f[$__interval:1m] offset -$__interval) > bool 1)'
    text += " and on (g) h"
    assert names_in(text) == {"x:y", "f", "h"}
    assert names_in('avg by (p) ({__name__=~"i_(j|k)", l="m"}) / n ^ 0') == {"~i_(j|k)", "n"}


def test_links_lead_to_dashboards_and_hand_on_variables_that_these_have() -> None:
    variables = {
        dashboard["uid"]: {variable["name"] for variable in dashboard["templating"]["list"]}
        for dashboard in DASHBOARDS.values()
    }
    links = re.findall(r'"/d/([\w-]+)\?([^"]*)"', "".join(path.read_text() for path in FILES))
    assert len(links) > 5
    for uid, query in links:
        assert uid in variables
        assert set(re.findall(r"&var-(\w+)=", query)) <= variables[uid]


def test_every_panel_is_in_the_document() -> None:
    text = (ROOT / "docs" / "dashboards.md").read_text()
    for dashboard in DASHBOARDS.values():
        section = text.split(f"\n## {dashboard['title']}\n")[1].split("\n## ")[0]
        for panel in panels(dashboard):
            title = panel["title"].replace("$check", "a check").removesuffix(", as each vantage recorded them")
            assert re.search(rf"^\| ([^|]*, )?{re.escape(title)}[ ,]", section, re.MULTILINE), title


def test_provisioning_agrees_with_the_dashboards_and_with_the_mounts() -> None:
    directory = ROOT / "grafana" / "provisioning"
    (source,) = yaml.safe_load((directory / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["uid"] == DATASOURCE_UID
    (provider,) = yaml.safe_load((directory / "dashboards" / "prober.yml").read_text())["providers"]
    compose = (ROOT / "deploy" / "docker-compose.yml").read_text()
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in compose
    assert "../grafana/provisioning:/etc/grafana/provisioning:ro" in compose


def test_every_expression_is_understood_by_prometheus(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text("{}\n")
    command = (
        require_program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with Process(*command, ready=lambda: answers(f"http://127.0.0.1:{port}/-/ready"), timeout=60.0):
        for expression in expressions():
            body = urllib.parse.urlencode({"query": expression.filled}).encode()
            said = ask(f"http://127.0.0.1:{port}/api/v1/query", body)
            assert said["status"] == "success", f"{expression.where}: {said.get('error')}\n{expression.filled}"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def ask(url: str, body: bytes) -> Any:
    try:
        with urllib.request.urlopen(url, body, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


# -- what the states say, evaluated by promtool ------------------------------------------------------------------------

STEP_MINUTES: Final = 90  # of a chart over 90 days
MOMENT: Final = "1d"  # the point that is looked at: it stands for the 90 minutes after it

FUSED_CASES: Final = {
    "up": ("1x2000", 1),
    "ten minutes of outage": ("1x1480 0x9 1x500", 0),
    "an outage just before": ("1x1400 0x30 1x500", 1),
    "partial beats not observed": ("1x1460 3x9 4x9 1x500", 3),
    "peninsula beats not observed": ("1x1460 2x9 4x9 1x500", 2),
    "outage beats all": ("1x1460 2x9 3x9 4x9 0x4 5x5 1x500", 0),
    "not observed": ("1x1460 4x5 1x500", 4),
    "an outage that is not observed": ("5x2000", 5),
    "never seen up": ("6x2000", 6),
}
AGENT_CASES: Final = {
    "all up": (("1x2000", "1x2000"), ("1x2000", "1x2000"), 1),
    "both down for ten minutes": (("1x1480 0x9 1x500", "1x1482 0x9 1x500"), ("1x2000", "1x2000"), 0),
    "one down for ten minutes": (("1x1480 0x9 1x500", "1x2000"), ("1x2000", "1x2000"), 2),
    "one down": (("0x2000", "1x2000"), ("1x2000", "1x2000"), 2),
    "one down, the other blind": (("0x2000", "1x2000"), ("1x2000", "0x2000"), 0),
    "both blind": (("1x2000", "1x2000"), ("0x2000", "0x2000"), 4),
    "both blind in an outage": (("0x2000", "0x2000"), ("0x2000", "0x2000"), 5),
    "never seen up": (("_x2000", "_x2000"), ("0x2000", "0x2000"), 6),
}
VERDICT_CASES: Final = {
    "up": ("1x2000", "1x2000", 2),
    "ten minutes down": ("1x1480 0x9 1x500", "1x2000", 0),
    "not observed": ("1x2000", "0x2000", 1),
    "down and not observed": ("0x2000", "0x2000", 3),
    "never seen up": ("_x2000", "0x2000", 1),
    "gone": ("_x2000", "_x2000", 4),
}
SCOPE: Final = 'scope="network",name="n"'


def check_with_promtool(directory: Path, cases: list[tuple[str, dict[str, str], str, str, float]]) -> None:
    """Each case: its name, series with their values a minute apart, an expression, labels and value at MOMENT."""
    tests = [
        {
            "interval": "1m",
            "name": name,
            "input_series": [{"series": series, "values": values} for series, values in found.items()],
            "promql_expr_test": [
                {
                    "expr": expr.replace("$__interval", f"{STEP_MINUTES}m").replace("$fused", "()"),
                    "eval_time": MOMENT,
                    "exp_samples": [{"labels": f"{{{labels}}}", "value": value}],
                },
                # promtool loads samples up to the latest moment that is asked for, and the charts look ahead.
                {"expr": "vector(1)", "eval_time": "2d", "exp_samples": [{"labels": "{}", "value": 1}]},
            ],
        }
        for name, found, expr, labels, value in cases
    ]
    file = directory / "tests.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}, sort_keys=False))
    done = subprocess.run(
        [require_program("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worst_state_wins_however_short_it_was(tmp_path: Path) -> None:
    expr = state_timeline('scope="network"')
    check_with_promtool(
        tmp_path,
        [
            (name, {f"scope:prober_state:quorum{{{SCOPE}}}": values}, expr, SCOPE, value)
            for name, (values, value) in FUSED_CASES.items()
        ],
    )


def test_without_recorded_series_the_agents_themselves_are_asked(tmp_path: Path) -> None:
    cases = []
    for name, (ups, observed, value) in AGENT_CASES.items():
        series = {f'prober_up{{{SCOPE},vantage="v{n}"}}': values for n, values in enumerate(ups)}
        series |= {f'prober_observed{{{SCOPE},vantage="v{n}"}}': values for n, values in enumerate(observed)}
        cases.append((name, series, state_timeline('scope="network"'), SCOPE, float(value)))
        if not any(" " in values for values in ups):  # the same all the time
            cases.append((name, series, state_now('scope="network"'), SCOPE, float(value)))
    check_with_promtool(tmp_path, cases)


def test_what_each_vantage_says(tmp_path: Path) -> None:
    labels = f'{SCOPE},vantage="v"'
    check_with_promtool(
        tmp_path,
        [
            (
                name,
                {
                    f"prober_up{{{labels}}}": up,
                    f"prober_observed{{{labels}}}": observed,
                    f"scope_vantage:prober_watched:hold{{{labels}}}": "1x2000",
                },
                vantages_verdict_timeline('name="n"'),
                'vantage="v"',
                float(value),
            )
            for name, (up, observed, value) in VERDICT_CASES.items()
        ],
    )
