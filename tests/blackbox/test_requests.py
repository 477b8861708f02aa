"""What is asked of /probe and its neighbours in odd ways: the same statuses and words as the original's."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import yaml

from tests.blackbox import compare
from tests.blackbox.cases import CASES, Case
from tests.blackbox.conftest import Sides

PAGE = "target=http://127.0.0.1:8080/ok"
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


@pytest.mark.parametrize(
    "path",
    [
        "/probe",
        "/probe?target=",
        "/probe?module=http_2xx",
        "/probe?module=nowhere",
        f"/probe?module=nowhere&{PAGE}",
        f"/probe?module=no%22where%0a&{PAGE}",
        f"/probe?module=HTTP_2XX&{PAGE}",
        f"/probe?module=http_host&{PAGE}&hostname=other.example",
        f"/probe?module=nowhere&{PAGE}&debug=true",
    ],
)
def test_a_bad_request_is_answered_in_the_same_words(path: str, sides: Sides) -> None:
    theirs, ours = sides.ask_original(path), sides.ask_ours(path)
    assert theirs.status == 400
    assert (ours.status, ours.text.strip()) == (theirs.status, theirs.text.strip())
    assert ours.content_type == theirs.content_type


@pytest.mark.parametrize(
    "path",
    [
        f"/probe?{PAGE}",
        f"/probe?module=&{PAGE}",
        f"/probe?module=http_2xx&module=nowhere&{PAGE}",
        f"/probe?module=http_2xx&{PAGE}&target=http://127.0.0.1:8099/",
        f"/probe?module=http_2xx&{PAGE}&hostname=",
        f"/probe?module=http_host&{PAGE}&hostname=vhost.example.com:81",
        f"/probe?module=http_2xx&{PAGE}&debug=1",
        f"/probe?module=http_2xx&{PAGE}&debug=",
        f"/probe?module=http_2xx&{PAGE}&other=thing",
        "/probe?module=tcp&target=127.0.0.1:7001&hostname=x.example",
        "/probe?target=127.0.0.1:8080%2Fok",
    ],
)
def test_a_request_is_read_alike(path: str, sides: Sides) -> None:
    theirs, ours = sides.ask_original(path), sides.ask_ours(path)
    assert (theirs.status, ours.status) == (200, 200)
    assert ours.content_type.split("; escaping")[0] == theirs.content_type == "text/plain; version=0.0.4; charset=utf-8"
    newer = compare.NEWER_THAN_023 | compare.NEWER_THAN_028
    found = compare.differences(
        Case("", ""), compare.parse(theirs.text), compare.without(compare.parse(ours.text), newer, set())
    )
    assert not found


@pytest.mark.parametrize("value", ["soon", "1s", "1,5", "0x", "--1"])
def test_a_scrape_timeout_that_is_no_number(value: str, sides: Sides) -> None:
    path = f"/probe?{PAGE}"
    theirs, ours = sides.ask_original(path, {TIMEOUT: value}), sides.ask_ours(path, {TIMEOUT: value})
    assert (theirs.status, ours.status) == (500, 500)
    assert ours.text.startswith("Failed to parse timeout from Prometheus header: ")
    assert theirs.text.startswith("Failed to parse timeout from Prometheus header: ")


@pytest.mark.parametrize("value", ["10", "2.5", "0", "-1", "1e1", ""])
def test_a_scrape_timeout_that_is_a_number(value: str, sides: Sides) -> None:
    path = f"/probe?{PAGE}"
    theirs, ours = sides.ask_original(path, {TIMEOUT: value}), sides.ask_ours(path, {TIMEOUT: value})
    assert theirs.status == ours.status == 200
    assert _success(theirs.text) == _success(ours.text)


def _success(text: str) -> float:
    return compare.parse(text)["probe_success", ()]


HEADINGS = ["Logs for the probe:", "Metrics that would have been returned:", "Module configuration:"]


def _parts(text: str) -> list[str]:
    assert [line for line in text.splitlines() if line in HEADINGS] == HEADINGS
    _, rest = text.split(HEADINGS[0])
    logs, rest = rest.split(HEADINGS[1])
    return [logs, *rest.split(HEADINGS[2])]


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("http_basic", "http://127.0.0.1:8080/needs-password"),
        ("http_bearer", "http://127.0.0.1:8080/missing"),
        ("http_2xx_example", "http://127.0.0.1:8080/ok"),
        ("http_host", "http://127.0.0.1:8080/ok"),
        ("tcp_echo", "127.0.0.1:7007"),
        ("smtp_starttls", "good.example:2526"),
        ("dns_authority", "127.0.0.1:5301"),
        ("icmp_df", "198.51.100.1"),
    ],
)
def test_debug_output_has_the_same_parts(module: str, target: str, sides: Sides) -> None:
    path = f"/probe?module={module}&target={quote(target)}&debug=true"
    theirs, ours = sides.ask_original(path), sides.ask_ours(path)
    assert (ours.status, ours.content_type.split(";")[0]) == (theirs.status, theirs.content_type.split(";")[0])
    their_logs, their_metrics, their_module = _parts(theirs.text)
    our_logs, our_metrics, our_module = _parts(ours.text)
    assert their_logs.strip()
    assert our_logs.strip()
    newer = compare.NEWER_THAN_023 | compare.NEWER_THAN_028
    our_samples = compare.without(compare.parse(our_metrics), newer, compare.NEWER_LABELS)
    assert not compare.differences(Case(module, target), compare.parse(their_metrics), our_samples)
    assert "mysecret" not in ours.text
    assert "lab-token" not in ours.text
    _has_all(yaml.safe_load(their_module), yaml.safe_load(our_module), module)


def _has_all(theirs: object, ours: object, where: str) -> None:
    """All that theirs says, ours says too; ours may know more options."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            # A bearer_token is shown as the authorization that it stands for.
            if key == "authorization" and ours.keys() & {"bearer_token", "bearer_token_file"}:
                continue
            if key == "min_version":  # a number in 0.23
                continue
            # The blocks of the other probers are defaults that a module of this one does not have.
            if key in {"http", "tcp", "dns", "icmp", "grpc"} - {theirs.get("prober")} and "prober" in theirs:
                continue
            assert key in ours, f"{where}.{key}"
            _has_all(value, ours[key], f"{where}.{key}")
    else:
        assert ours == theirs, where


def test_config_shows_every_module_without_its_secrets(sides: Sides) -> None:
    theirs, ours = sides.ask_original("/config"), sides.ask_ours("/config")
    assert (ours.status, ours.content_type.split(";")[0]) == (theirs.status, theirs.content_type.split(";")[0])
    their_modules, our_modules = yaml.safe_load(theirs.text)["modules"], yaml.safe_load(ours.text)["modules"]
    assert set(our_modules) == {case.module for case in CASES} | set(their_modules)
    for name, module in their_modules.items():
        _has_all(module, our_modules[name], name)
    assert "mysecret" not in ours.text
    assert "lab-token" not in ours.text


def test_the_metrics_of_the_exporter_itself(sides: Sides) -> None:
    theirs, ours = sides.ask_original("/metrics").text, sides.ask_ours("/metrics").text
    own = {line.split(" ")[2] for line in theirs.splitlines() if line.startswith("# TYPE blackbox_")}
    assert own >= {
        "blackbox_exporter_config_last_reload_successful",
        "blackbox_exporter_config_last_reload_success_timestamp_seconds",
        "blackbox_module_unknown_total",
    }
    assert own - {"blackbox_exporter_build_info"} <= {
        line.split(" ")[2] for line in ours.splitlines() if line.startswith("# TYPE blackbox_")
    }


@pytest.mark.parametrize("path", ["/-/healthy", "/-/reload", "/logs?id=99999999", "/logs?id=x"])
def test_the_pages_around_it_have_the_same_statuses(path: str, sides: Sides) -> None:
    assert sides.ask_ours(path).status == sides.ask_original(path).status
