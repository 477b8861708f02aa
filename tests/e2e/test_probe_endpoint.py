"""/probe as an attacker would try it: refused before a packet is sent, answered with the reason, and bounded."""

from __future__ import annotations

import base64
import http.client
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlencode

import bcrypt
import pytest
from click.testing import CliRunner

from prober.cli import cli
from tests.e2e.agent import PORT, Agent, Answer, Metrics, open_directory
from tests.e2e.traps import PUBLIC, Traps, traps_in
from tests.lab import Namespace, wait_until

MODULES = """\
modules:
  http_2xx: {prober: http, timeout: 4s, http: {preferred_ip_protocol: ip4}}
  patient: {prober: http, timeout: 60s, http: {preferred_ip_protocol: ip4}}
  http_post: {prober: http, timeout: 4s, http: {method: POST, body: x, preferred_ip_protocol: ip4}}
  http_secret:
    prober: http
    timeout: 4s
    http:
      preferred_ip_protocol: ip4
      basic_auth: {username: me, password: hunter2}
      headers: {X-Api-Key: hunter2}
  http_through_proxy: {prober: http, timeout: 4s, http: {preferred_ip_protocol: ip4, proxy_url: "http://ok.test:80"}}
  http_blindly:
    prober: http
    timeout: 4s
    http: {skip_resolve_phase_with_proxy: true, proxy_url: "http://ok.test:80"}
  http_bad_proxy: {prober: http, timeout: 4s, http: {preferred_ip_protocol: ip4, proxy_url: "http://127.0.0.1:80"}}
  tcp: {prober: tcp, timeout: 4s, tcp: {preferred_ip_protocol: ip4}}
  tcp_says: {prober: tcp, timeout: 4s, tcp: {query_response: [{send: "GET / HTTP/1.0\\r\\n\\r\\n"}]}}
  icmp: {prober: icmp, timeout: 4s, icmp: {preferred_ip_protocol: ip4}}
  dns: {prober: dns, timeout: 4s, dns: {query_name: ok.test, query_type: A, preferred_ip_protocol: ip4}}
  grpc: {prober: grpc, timeout: 4s}
  unix: {prober: unix, timeout: 4s}
  websocket: {prober: websocket, timeout: 4s}
"""
SETTINGS = """\
blackbox: {directory}/blackbox.yml
opt_out: [out.test]
limits: {{packets_per_second: 10000, per_prefix_per_second: 10000}}
probe_endpoint:
  enabled: true
  allow: [public, "127.0.0.9:80", named.test]
  requests_per_second: 10000
  requests_per_second_per_client: 10000
"""


class Endpoint:
    """An agent that serves /probe among the traps."""

    def __init__(self, agent: Agent, traps: Traps, directory: Path) -> None:
        self.agent = agent
        self.traps = traps
        self.directory = directory

    def probe(self, target: str, module: str = "http_2xx", **more: str) -> Answer:
        return self.agent.ask("/probe?" + urlencode({"target": target, "module": module, **more}))

    def refused(self, target: str, module: str = "http_2xx", **more: str) -> str:
        """Why; the answer is 200 with probe_success 0, and no trap was sprung."""
        answer = self.probe(target, module, **more)
        assert answer.status == 200, answer
        metrics = Metrics(answer.text)
        assert metrics.value("probe_success") == 0.0
        assert self.traps.reached() == set(), "it was reached"
        assert "vantage" not in answer.text
        reasons = metrics.all("prober_probe_refused_info")
        return reasons[0].labels["reason"] if reasons else ""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with ExitStack() as stack:
        namespace = stack.enter_context(Namespace("probed"))
        namespace.allow_unprivileged_icmp()
        traps = stack.enter_context(traps_in(namespace))
        directory = stack.enter_context(open_directory())
        (directory / "blackbox.yml").write_text(MODULES)
        (directory / "settings.yml").write_text(SETTINGS.format(directory=directory))
        agent = stack.enter_context(Agent(namespace, "--config", directory / "settings.yml"))
        yield Endpoint(agent, traps, directory)


@pytest.fixture(autouse=True)
def forget_hits(endpoint: Endpoint) -> None:
    endpoint.traps.hits.clear()


# -- what is allowed works ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("http_2xx", "http://ok.test/"),
        ("http_2xx", "ok.test"),
        ("http_2xx", f"{PUBLIC}"),
        ("http_2xx", "http://127.0.0.9/"),
        ("http_2xx", "http://ok.test/?to=http://ok.test/"),
        ("http_secret", "http://ok.test/"),
        ("http_through_proxy", "http://ok.test/"),
        ("http_blindly", "http://named.test/"),
        ("tcp", "ok.test:80"),
        ("icmp", "ok.test"),
    ],
)
def test_what_is_allowed_is_probed(endpoint: Endpoint, module: str, target: str) -> None:
    answer = endpoint.probe(target, module)
    metrics = Metrics(answer.text)
    assert metrics.value("probe_success") == 1.0, answer.text
    assert not metrics.all("prober_probe_refused_info")
    assert "vantage" not in answer.text
    assert endpoint.traps.reached() <= {"127.0.0.9"}


# -- what is not allowed -----------------------------------------------------------------------------------------------

LITERALS = {
    "http://169.254.169.254/latest/meta-data/": "metadata",
    "http://[::ffff:169.254.169.254]/": "metadata",
    "http://[::ffff:a9fe:a9fe]/": "metadata",
    "http://[64:ff9b::a9fe:a9fe]/": "metadata",
    "http://[fd00:ec2::254]/": "metadata",
    "http://ok.test@169.254.169.254/": "metadata",
    "169.254.169.254": "metadata",
    "http://127.0.0.1/": "loopback",
    "http://127.0.0.9:9911/metrics": "loopback",
    "http://127.127.127.127/": "loopback",
    "http://[::1]/": "loopback",
    "http://[::ffff:127.0.0.1]/": "loopback",
    "http://localhost/": "loopback",
    "http://LOCALHOST./": "loopback",
    "http://0.0.0.0/": "unspecified",
    "http://[::]/": "unspecified",
    "http://10.0.0.1/": "private",
    "http://172.16.0.1/": "private",
    "http://192.168.0.1/": "private",
    "http://100.64.0.1/": "shared",
    "http://192.0.2.1/": "documentation",
    "http://224.0.0.1/": "multicast",
    "http://[ff02::1]/": "multicast",
    "http://255.255.255.255/": "broadcast",
    "http://[fe80::1]/": "link_local",
    "http://[2002:7f00:1::1]/": "tunnel",
    "http://[::127.0.0.1]/": "tunnel",
}
NAMES = {
    "http://loop.test/": "loopback",
    "http://loop6.test/": "loopback",
    "http://mapped.test/": "loopback",
    "http://nat64.test/": "loopback",
    "http://meta.test/latest/meta-data/": "metadata",
    "http://meta6.test/": "metadata",
    "http://private.test/": "private",
    "http://shared.test/": "shared",
    "http://zero.test/": "unspecified",
    "http://6to4.test/": "tunnel",
    "http://out.test/": "opted_out",
}


@pytest.mark.parametrize(("target", "reason"), {**LITERALS, **NAMES}.items())
def test_a_forbidden_address_is_refused_and_never_reached(endpoint: Endpoint, target: str, reason: str) -> None:
    assert endpoint.refused(target) == reason
    assert endpoint.traps.hits == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [item for item in {**LITERALS, **NAMES}.items() if "://" in item[0] and "@" not in item[0]],
)
def test_a_redirect_leads_nowhere_else_either(endpoint: Endpoint, target: str, reason: str) -> None:
    assert endpoint.refused(f"http://ok.test/?to={quote(target, safe='')}") == reason
    assert [address for address, _, _ in endpoint.traps.hits] == [PUBLIC]


@pytest.mark.parametrize(
    "target",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "①②⑦.0.0.1", "127。0。0。1", "::1%lo"],
)
def test_other_spellings_of_loopback_reach_nothing(endpoint: Endpoint, target: str) -> None:
    for module in ("http_2xx", "icmp"):
        endpoint.refused(target, module)
    endpoint.refused(f"{target}:80", "tcp")
    assert endpoint.traps.hits == []


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("tcp", "127.0.0.1:80"),
        ("tcp", "loop.test:80"),
        ("tcp", "127.0.0.9:81"),  # allowed, but not that port
        ("tcp_says", "169.254.169.254:80"),
        ("icmp", "127.0.0.1"),
        ("icmp", "127.0.0.9"),  # allowed for a port, and icmp has none
        ("icmp", "meta.test"),
        ("dns", "127.0.0.53"),
        ("dns", "127.0.0.53:53"),
        ("dns", "loop.test"),
        ("grpc", "127.0.0.1:80"),
        ("grpc", "loop.test:80"),
        ("websocket", "ws://127.0.0.1:80/"),
        ("websocket", "ws://loop.test/"),
        ("http_post", "http://loop.test/"),
        ("http_bad_proxy", "http://ok.test/"),
        ("http_through_proxy", "http://169.254.169.254/"),
        ("http_through_proxy", "http://loop.test/"),
        ("http_blindly", "http://169.254.169.254/"),
        ("http_blindly", "http://loop.test/"),
        ("http_blindly", "http://ok.test/"),  # public: but nobody here knows where it leads
        ("unix", "/run/docker.sock"),
        ("unix", "unix:///run/docker.sock"),
    ],
)
def test_every_kind_of_module_asks(endpoint: Endpoint, module: str, target: str) -> None:
    assert endpoint.refused(target, module) != ""
    assert endpoint.traps.hits == []


@pytest.mark.parametrize(
    "scheme", ["file:///etc/passwd", "gopher://127.0.0.1:80/_x", "ftp://127.0.0.1/", "dict://127.0.0.1:80/"]
)
def test_other_schemes_lead_nowhere(endpoint: Endpoint, scheme: str) -> None:
    endpoint.refused(scheme)
    answer = endpoint.probe(f"http://ok.test/?to={quote(scheme, safe='')}", debug="true")
    assert "root:" not in answer.text
    assert "probe_success 0" in answer.text
    assert endpoint.traps.reached() == set()


def test_a_name_that_changes_between_two_questions_gains_nothing(endpoint: Endpoint) -> None:
    """DNS rebinding: every other answer is 127.0.0.1. What was checked is what is connected to."""
    successes = sum(Metrics(endpoint.probe("http://rebind.test/").text).value("probe_success") for _ in range(12))
    assert endpoint.traps.reached() == set()
    assert 0 < successes < 12, "both answers were met"
    assert "rebind.test" in endpoint.traps.asked


@pytest.mark.parametrize(
    "text", ["ok.test\r\nX-Evil: 1", "ok.test\nX-Evil: 1", "ok.test\0", "ok.test X", "ok.test/..", "a" * 300]
)
def test_a_hostname_cannot_write_headers(endpoint: Endpoint, text: str) -> None:
    assert endpoint.refused("http://ok.test/", hostname=text) == "invalid_hostname"
    assert endpoint.traps.hits == []


def test_an_honest_hostname_is_sent(endpoint: Endpoint) -> None:
    assert Metrics(endpoint.probe("http://ok.test/", hostname="vhost.test:81").text).value("probe_success") == 1.0
    assert endpoint.traps.hits[0][2]["Host"] == "vhost.test:81"


@pytest.mark.parametrize(
    "target", ["http://ok.test/\r\nX-Evil: 1", "http://ok.test/ HTTP/1.1\r\nX-Evil: 1\r\n", "ok.test\n", "\x00"]
)
def test_a_target_cannot_write_headers(endpoint: Endpoint, target: str) -> None:
    assert endpoint.refused(target) == "invalid_target"
    assert endpoint.traps.hits == []


def test_a_redirect_cannot_write_headers(endpoint: Endpoint) -> None:
    endpoint.probe(f"http://ok.test/?to={quote('http://ok.test/%0d%0aX-Evil:1')}")
    assert all("X-Evil" not in headers for _, _, headers in endpoint.traps.hits)


def test_who_may_not_probe_a_name_does_not_learn_where_it_leads(endpoint: Endpoint) -> None:
    answer = endpoint.probe("http://private.test/", debug="true")
    assert "private" in answer.text
    assert "10.0.0.1" not in answer.text
    assert "probe_ip_addr_hash" not in answer.text


def test_another_sites_page_cannot_probe(endpoint: Endpoint) -> None:
    path = "/probe?target=ok.test"
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert endpoint.agent.ask(path, headers={"Sec-Fetch-Site": site}).status == status


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_secrets_are_shown_nowhere(endpoint: Endpoint) -> None:
    debug = endpoint.probe("http://joe:swordfish@ok.test/", "http_secret", debug="true")
    assert "Module configuration:" in debug.text
    shown = [debug.text, endpoint.agent.ask("/config").text, endpoint.agent.ask("/logs").text]
    assert 'href="logs"' in endpoint.agent.ask("/").text
    listed = next(line for line in shown[2].splitlines() if "ok.test" in line)
    number = listed.partition("logs?id=")[2].partition('"')[0]
    shown.append(endpoint.agent.ask(f"/logs?id={number}").text)
    assert shown[3] == debug.text
    for text in (*shown, "\n".join(endpoint.agent.log())):
        assert "hunter2" not in text
        assert "swordfish" not in text
    assert "<secret>" in shown[1]


def test_logs_tell_the_last_probes_and_why_they_failed(endpoint: Endpoint) -> None:
    endpoint.probe("http://<b>ok</b>.test/", "http_2xx")
    endpoint.probe("10.0.0.1")
    text = endpoint.agent.ask("/logs").text
    assert "refused (private)" in text
    assert "<b>ok" not in text
    assert "Destination refused" in endpoint.agent.ask("/logs?target=10.0.0.1").text
    assert endpoint.agent.ask("/logs?id=99999999").status == 404
    assert endpoint.agent.ask("/logs?target=never.test").status == 404
    assert endpoint.agent.ask("/logs?target=a&id=1").status == 400


def test_metrics_count_what_was_asked(endpoint: Endpoint) -> None:
    def value(name: str, **labels: str) -> float:
        return endpoint.agent.metrics().value(name, **labels)

    before = value("prober_endpoint_requests_total", outcome="refused")
    endpoint.probe("10.0.0.1")
    assert value("prober_endpoint_requests_total", outcome="refused") == before + 1
    assert value("blackbox_exporter_config_last_reload_successful") == 1.0
    assert value("prober_endpoint_probes_in_flight") == 0.0
    unknown = value("blackbox_module_unknown_total")
    assert endpoint.probe("ok.test", "nowhere") == Answer(400, 'Unknown module "nowhere"\n')
    assert value("blackbox_module_unknown_total") == unknown + 1


# -- who goes away, and what is reloaded -------------------------------------------------------------------------------


def test_a_request_that_its_client_abandons_is_cancelled(endpoint: Endpoint) -> None:
    agent = endpoint.agent
    agent.namespace.drop("ip daddr 93.184.215.99")
    agent.namespace.run("ip", "route", "add", "local", "93.184.215.99", "dev", "lo")
    before = agent.metrics().value("prober_endpoint_requests_total", outcome="abandoned")
    with agent.namespace.entered():
        client = socket.create_connection(("127.0.0.1", PORT))
    client.sendall(b"GET /probe?module=patient&target=http://93.184.215.99/ HTTP/1.1\r\nHost: x\r\n\r\n")
    agent.metrics_when(lambda m: m.value("prober_endpoint_probes_in_flight") == 1.0, 10, "the probe is under way")
    client.close()
    agent.metrics_when(
        lambda m: (
            m.value("prober_endpoint_probes_in_flight") == 0.0
            and m.value("prober_endpoint_requests_total", outcome="abandoned") == before + 1
        ),
        20,  # the module's own timeout is 60 s
        "the probe is cancelled",
    )


def test_a_reload_changes_modules_and_a_bad_file_changes_nothing(endpoint: Endpoint) -> None:
    agent, file = endpoint.agent, endpoint.directory / "blackbox.yml"
    try:
        file.write_text(MODULES.replace("  icmp:", "  ping:"))
        assert agent.ask("/-/reload", "POST").status == 200
        assert endpoint.probe("ok.test", "ping").status == 200
        assert endpoint.probe("ok.test", "icmp").status == 400
        file.write_text("modules: {x: {prober: http, http: {nonsense: 1}}}\n")
        answer = agent.ask("/-/reload", "POST")
        assert answer.status == 500
        assert "nonsense" in answer.text
        assert "Traceback" not in answer.text
        assert endpoint.probe("ok.test", "ping").status == 200, "the old modules stay"
        metrics = agent.metrics()
        assert metrics.value("blackbox_exporter_config_last_reload_successful") == 0.0
        file.write_text(MODULES)
        agent.signal(signal.SIGHUP)
        wait_until(lambda: endpoint.probe("ok.test", "icmp").status == 200, 20, "SIGHUP reloads, too")
        assert agent.metrics().value("blackbox_exporter_config_last_reload_successful") == 1.0
    finally:
        file.write_text(MODULES)


# -- other settings ----------------------------------------------------------------------------------------------------


def test_off_unless_enabled_and_alone_without_targets(namespace: Namespace) -> None:
    with open_directory() as directory:
        (directory / "blackbox.yml").write_text(MODULES)
        with Agent(namespace, "--blackbox", directory / "blackbox.yml") as agent:
            for path in ("/probe?target=ok.test", "/config", "/logs", "/logs?id=0"):
                answer = agent.ask(path)
                assert answer.status == 403
                assert "probe_endpoint: {enabled: true, allow: [...]}" in answer.text
                assert len(answer.text.splitlines()) == 1
            assert not agent.metrics().all("prober_probes_total"), "no targets are named, so none are probed"


def test_an_empty_list_allows_nothing_and_is_named_at_the_start(namespace: Namespace) -> None:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    with open_directory() as directory, traps_in(namespace) as traps:
        (directory / "blackbox.yml").write_text(MODULES)
        (directory / "web.yml").write_text(f"basic_auth_users: {{prometheus: '{hashed}'}}\n")
        (directory / "settings.yml").write_text(
            f"blackbox: {directory}/blackbox.yml\nprobe_endpoint: {{enabled: true}}\n"
            f"web: {{config_file: {directory}/web.yml}}\n"
        )
        with Agent(namespace, "--config", directory / "settings.yml") as agent:
            assert agent.log("probe_endpoint.allow is missing")
            assert agent.ask("/probe?target=ok.test").status == 401
            login = {"Authorization": "Basic " + base64.b64encode(b"prometheus:secret").decode()}
            for target in ("ok.test", PUBLIC, "127.0.0.1"):
                answer = agent.ask(f"/probe?target={target}", headers=login)
                assert answer.status == 200
                (found,) = Metrics(answer.text).all("prober_probe_refused_info")
                assert found.labels == {"reason": "no_allow_list"}
            assert traps.hits == []
            assert traps.asked == [], "not even the name was resolved"


def test_the_packet_budgets_hold_for_probes_too(namespace: Namespace) -> None:
    """Of 2 packets a second to one prefix: who cannot be served within its scrape is told so, not shown as down."""
    with open_directory() as directory:
        (directory / "blackbox.yml").write_text(MODULES)
        arguments = ("--blackbox", directory / "blackbox.yml", "--allow", "127.7.0.0/16")
        with Agent(namespace, *arguments) as agent:
            begin = time.monotonic()
            answers = [
                agent.ask("/probe?module=tcp&target=127.7.0.1:9", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
                for _ in range(6)
            ]
            assert {answer.status for answer in answers} <= {200, 503}
            assert sum(answer.status == 200 for answer in answers) <= 2 + 2 * (time.monotonic() - begin)
            connections = []
            with agent.namespace.entered():
                for _ in range(20):
                    connections.append(http.client.HTTPConnection("127.0.0.1", PORT, timeout=10))
                    connections[-1].connect()
            for connection in connections:
                headers = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}
                connection.request("GET", "/probe?module=tcp&target=127.7.0.1:9", headers=headers)
            responses = [connection.getresponse() for connection in connections]
            busy = [response for response in responses if response.status == 503]
            assert len(busy) >= 10
            assert busy[0].headers["Retry-After"]
            assert b"limits.per_prefix_per_second" in busy[0].read()
            for connection in connections:
                connection.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--allow", "*.example.org", "--blackbox", "b.yml"],
            '--allow: "*.example.org" is a pattern; write .example.org',
        ),
        (["--allow", "example.org"], "--allow: probe_endpoint: it has no modules to probe with; set blackbox:"),
        (["--config", "s.yml"], "s.yml: probe_endpoint: it has no modules to probe with; set blackbox:"),
        (["--blackbox", "nowhere.yml"], "nowhere.yml: "),
        (["--blackbox", "bad.yml"], "bad.yml:1: modules.x.http.nonsense"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.yml").write_text(MODULES)
    (tmp_path / "s.yml").write_text("probe_endpoint: {enabled: true}\n")
    (tmp_path / "bad.yml").write_text("modules: {x: {prober: http, http: {nonsense: 1}}}\n")
    done = CliRunner().invoke(cli, ["run", "--data-dir", "data", *arguments])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr
