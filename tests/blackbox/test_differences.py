"""docs/blackbox.md lists what differs from the original. Whoever changes one changes the other."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import prober
from prober.blackbox.modules import load
from prober.config import ConfigError
from tests.blackbox import compare
from tests.blackbox.cases import CASES
from tests.blackbox.conftest import ORIGINAL, Sides
from tests.blackbox.listed import CHANGED, LISTED
from tests.lab import require_program

DOCUMENT = Path(prober.__file__).parent.parent / "docs" / "blackbox.md"
ELSEWHERE = {
    "timeout-metric",
    "websocket",
    "websocket-options",
    "proxy-scheme",
    "strict-files",
    "http3",
    "text-of-logs",
}
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


@pytest.mark.parametrize("option", ["expect_bytes: a", "labels: [{name: a, value: b}]", "starttls: true"])
def test_websocket_options(option: str, tmp_path: Path) -> None:
    path = tmp_path / "blackbox.yml"
    common = "http_config: {follow_redirects: true, enable_http2: true}"
    path.write_text(f"modules:\n  ws: {{prober: websocket, websocket: {{{common}}}}}\n")
    assert load(path)["ws"].prober == "websocket"
    path.write_text(f"modules:\n  ws: {{prober: websocket, websocket: {{query_response: [{{{option}}}]}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"modules.ws.websocket.query_response[0]: {option.partition(':')[0]} means nothing" in str(caught.value)


@pytest.mark.parametrize("scheme", ["https", "socks5"])
def test_proxy_scheme(scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "blackbox.yml"
    path.write_text(f"modules:\n  m: {{prober: http, http: {{proxy_url: '{scheme}://proxy.example:1080'}}}}\n")
    assert loads_there(path)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "modules.m.http.proxy_url" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "option"),
    [
        ("{prober: icmp, timeout: -5s}", ".timeout"),
        ("{prober: icmp, icmp: {preferred_ip_protocol: ipv4}}", ".icmp.preferred_ip_protocol"),
        ("{prober: dns, dns: {query_name: a, transport_protocol: tls}}", ".dns.transport_protocol"),
        ("{prober: http, http: {compression: zstd}}", ".http.compression"),
        ("{prober: dns, dns: {query_name: a, valid_rcodes: [noerror]}}", ".dns.valid_rcodes[0]"),
        (
            "{prober: dns, dns: {query_name: a, validate_answer_rrs: {fail_if_matches_regexp: ['(']}}}",
            ".dns.validate_answer_rrs.fail_if_matches_regexp[0]",
        ),
    ],
)
def test_strict_files(module: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "blackbox.yml"
    path.write_text(f"modules:\n  m: {module}\n")
    assert loads_there(path), "the original takes it"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"blackbox.yml:2: modules.m{option}: " in str(caught.value)


def loads_there(path: Path) -> bool:
    """Whether Debian's blackbox_exporter takes a file."""
    program = require_program(ORIGINAL)
    command = [program, "--config.check", f"--config.file={path}"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


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
