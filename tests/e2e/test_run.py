"""`prober run` on the shipped targets: without a network, and with one that answers. And where ICMP is forbidden."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from prober.config import Settings, load
from prober.failures import Side
from tests.e2e.agent import SHIPPED, Agent, Metrics, checks_in, open_directory, quick
from tests.e2e.conftest import Watched
from tests.lab import Namespace

INTERVAL_SECONDS = 3.0
GRACE_SECONDS = 1.5
"""What a busy machine may be late by; far from another interval."""

OFFLINE = {
    "nothing-listens-at-the-resolver": ["127.0.0.53"],
    "no-resolver": [],
    "no-route-to-the-resolver": ["192.0.2.53"],
    "loopback-down": ["127.0.0.53"],
}
"""Ways to be without a network -> the nameservers of resolv.conf."""


@dataclass(frozen=True)
class Seen:
    """What an agent said after one interval and after another, and its log."""

    first: Metrics
    second: Metrics
    log: list[str]


@pytest.fixture(scope="module")
def offline() -> Iterator[dict[str, Seen]]:
    """An agent for each way to be without a network, all at once, on a quick copy of the shipped targets."""
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        targets = quick(SHIPPED, directory, f"{INTERVAL_SECONDS:g}s", "1s")
        settings = directory / "settings.yml"
        settings.write_text(f"targets: [{targets}]\nlimits: {{per_prefix_per_second: 100}}\n")
        agents = {}
        for way, resolvers in OFFLINE.items():
            host = stack.enter_context(Namespace(way[:8].rstrip("-"), loopback=way != "loopback-down"))
            host.allow_unprivileged_icmp()
            host.resolver(*resolvers)
            agents[way] = stack.enter_context(Agent(host, "--config", settings, wait=False))
        for agent in agents.values():
            agent.ready()
        after_interval = [
            _metrics_at(agent, agent.started + INTERVAL_SECONDS + GRACE_SECONDS) for agent in agents.values()
        ]
        later = time.monotonic() + INTERVAL_SECONDS + GRACE_SECONDS
        yield {
            way: Seen(first, _metrics_at(agent, later), agent.log())
            for (way, agent), first in zip(agents.items(), after_interval, strict=True)
        }


def _metrics_at(agent: Agent, moment: float) -> Metrics:
    time.sleep(max(0.0, moment - time.monotonic()))
    agent.namespace.run("ip", "link", "set", "lo", "up")  # so that it can be asked
    return agent.metrics()


@pytest.mark.parametrize("way", OFFLINE)
def test_without_a_network_every_check_has_a_result_within_one_interval(offline: dict[str, Seen], way: str) -> None:
    assert offline[way].first.checks == checks_in(SHIPPED)


@pytest.mark.parametrize("way", OFFLINE)
def test_without_a_network_it_keeps_running_and_every_failure_is_on_our_side(
    offline: dict[str, Seen], way: str
) -> None:
    first, second, log = offline[way].first, offline[way].second, offline[way].log
    assert second.failing == second.checks == checks_in(SHIPPED)
    assert second.sides() == {Side.OURS}, second.failures()
    for key in second.checks:
        target, check = key.split("/")
        before, after = (m.value("prober_probes_total", target=target, check=check) for m in (first, second))
        assert after > before, f"{key} was not probed again"
    assert not second.all("prober_internal_errors_total")
    assert not [line for line in log if "Traceback" in line or "a defect" in line]


@pytest.mark.soak
@pytest.mark.timeout(700)
def test_the_shipped_file_as_it_is_without_a_network(namespace: Namespace) -> None:
    entities = load(Settings(targets=(SHIPPED,))).entities
    interval = max(check.interval_seconds for e in entities for t in e.targets for check in t.checks)
    namespace.allow_unprivileged_icmp()
    namespace.resolver("127.0.0.53")
    with Agent(namespace) as agent:
        for round_ in (1, 2):
            metrics = _metrics_at(agent, agent.started + round_ * interval)
            assert metrics.failing == metrics.checks == checks_in(SHIPPED)
            assert metrics.sides() == {Side.OURS}, metrics.failures()
            assert min(s.value for s in metrics.all("prober_probes_total")) >= round_
        assert not agent.log("a defect")


def test_the_shipped_checks_succeed_where_their_addresses_answer(watched: Watched) -> None:
    metrics = watched.agent.metrics_when(lambda m: m.checks == watched.checks, 30.0, "every check has a result")
    assert metrics.failing == {watched.refused}, metrics.failures()
    assert set(metrics.failures()) == {(watched.refused, "connect", "refused")}


def test_listening_for_a_forger_is_no_part_of_a_dns_probes_duration(watched: Watched) -> None:
    metrics = watched.agent.metrics_when(lambda m: m.checks == watched.checks, 30.0, "every check has a result")
    durations = {s.check: s.value for s in metrics.all("probe_duration_seconds", kind="dns")}
    assert len(durations) > 6
    assert max(durations.values()) < 0.9, durations  # the window is 1 s


def test_a_certificates_expiry_is_exported(watched: Watched) -> None:
    metrics = watched.agent.metrics_when(lambda m: m.checks == watched.checks, 30.0, "every check has a result")
    for check in ("http", "tcp-tls"):
        expiry = metrics.value("prober_certificate_expiry_timestamp_seconds", target="further", check=check)
        assert expiry > time.time()


def test_where_icmp_is_forbidden_one_line_says_what_to_do_and_the_rest_goes_on(namespace: Namespace) -> None:
    namespace.allow_unprivileged_icmp(False)
    with open_directory() as directory:
        targets = directory / "targets.yml"
        targets.write_text(
            "entity: e\ndefaults: {interval: 1s, timeout: 1s}\ntargets:\n"
            "  - name: self\n    checks:\n"
            "      - icmp: {address: 127.0.0.1}\n"
            "      - {name: icmp-by-name, icmp: {address: localhost}}\n"
            '      - {name: icmp6, icmp: {address: "::1"}}\n'
            '      - http: {url: "http://127.0.0.1:9911/-/healthy"}\n'
            '      - tcp: {address: "127.0.0.1:9911"}\n'
        )
        with Agent(namespace, targets) as agent:
            metrics = agent.metrics_when(
                lambda m: all(s.value >= 2 for s in m.all("prober_probes_total")), 30.0, "two rounds of each check"
            )
            log = agent.log("level=error")
    assert metrics.failing == {"self/icmp", "self/icmp-by-name", "self/icmp6"}
    assert {(operation, failure) for _, operation, failure in metrics.failures()} == {("prepare", "permission_denied")}
    assert len(log) == 1
    assert "net.ipv4.ping_group_range" in log[0]
    assert "CAP_NET_RAW" in log[0]


def test_it_listens_on_loopback_alone_unless_told_otherwise(namespace: Namespace, tmp_path: Path) -> None:
    with Agent(namespace):
        listening = namespace.run("ss", "--listening", "--numeric", "--no-header", "--tcp", "--udp").stdout.split("\n")
    assert [line.split()[4] for line in listening if line.startswith("tcp")] == ["127.0.0.1:9911"]
    assert not [line for line in listening if line.startswith("udp")]
