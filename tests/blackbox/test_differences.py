"""docs/blackbox.md lists what differs from the original. Whoever changes one changes the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import prober
from prober.blackbox.modules import load
from prober.config import ConfigError
from tests.blackbox import compare
from tests.blackbox.cases import CASES
from tests.blackbox.conftest import Sides
from tests.blackbox.listed import CHANGED, LISTED

DOCUMENT = Path(prober.__file__).parent.parent / "docs" / "blackbox.md"
ELSEWHERE = {"timeout-metric", "websocket", "http3", "text-of-logs"}
"""Rows that a test in this file shows; every other row is one of `listed`."""


def _rows() -> list[str]:
    """The first cells of the tables between the two marks."""
    marked = re.search(r"<!-- differences: begin.*?-->\n(.*)<!-- differences: end -->", DOCUMENT.read_text(), re.DOTALL)
    assert marked is not None
    return re.findall(r"^\| `([^`]+)` \|", marked[1], re.MULTILINE)


def test_the_document_lists_what_is_tested() -> None:
    rows = _rows()
    assert len(rows) == len(set(rows))
    assert set(rows) == {entry.name for entry in (*LISTED, *CHANGED)} | ELSEWHERE


def test_the_list_names_cases_of_the_matrix() -> None:
    assert {case for difference in LISTED for case in difference.cases} <= {case.name for case in CASES}
    for change in CHANGED:
        assert any(re.fullmatch(change.cases, case.name) for case in CASES), change.name


def test_timeout_metric(sides: Sides) -> None:
    series = ("probe_timeout_seconds", ())
    assert all(series in compare.parse(text) for text in sides.ours.values())
    for version in sides.theirs.values():
        assert not any(series in compare.parse(text) for text in version.values())


def test_websocket(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.yml"
    path.write_text("modules:\n  ws: {prober: websocket}\n")
    assert load(path)["ws"].prober == "websocket"


def test_http3(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.yml"
    path.write_text("modules:\n  h3:\n    prober: http\n    http: {enable_http3: true, enable_http2: false}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "modules.h3.http.enable_http3" in str(caught.value)


@pytest.mark.parametrize("hostname", ["a%20b", "x%0d%0aX-Injected:%201", "x/../y", "[::1"])
def test_hostname_refused(hostname: str, sides: Sides) -> None:
    """A `hostname` that is none is never sent, and the answer says why."""
    path = f"/probe?module=http_2xx&target=http://127.0.0.1:8080/host&hostname={hostname}"
    answer = sides.ask_ours(path)
    assert answer.status == 200
    samples = compare.parse(answer.text)
    assert samples["probe_success", ()] == 0
    assert ("prober_probe_refused_info", (("reason", "invalid_hostname"),)) in samples
    assert not any(name == "probe_http_status_code" for name, _ in samples)


def test_text_of_logs(sides: Sides) -> None:
    """The lines that a probe logs are our own words; what failed is in the agent's closed vocabulary."""
    path = "/probe?module=http_2xx&target=http://127.0.0.1:8099/&debug=true"
    assert "failure=refused" in sides.ask_ours(path).text
    assert "failure=" not in sides.ask_original(path).text
