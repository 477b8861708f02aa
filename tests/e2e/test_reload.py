"""Signals and /-/reload: a new configuration, a bad one, and the end."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import PORT, Agent, open_directory
from tests.lab import Namespace, wait_until

STOP_SECONDS = 2.0

HEAD = "entity: e\ndefaults: {interval: 1s, timeout: 900ms}\ntargets:\n"
FIRST = '  - name: first\n    checks: [{http: {url: "http://127.0.0.1:9911/-/healthy"}}]\n'
SECOND = '  - name: second\n    checks: [{tcp: {address: "127.0.0.1:9911"}}]\n'
THIRD = "  - name: third\n    checks: [{icmp: {address: 127.0.0.1}}]\n"
BAD = (
    '  - name: bad\n    checks:\n      - http: {url: "http://127.0.0.1/", bodyy: x}\n'
    "      - icmp: {address: 127.0.0.1, tll: 3}\n"
)


class Reloadable:
    """An agent on one targets file that the test rewrites."""

    def __init__(self, agent: Agent, file: Path) -> None:
        self.agent = agent
        self.file = file

    def write(self, *targets: str) -> None:
        self.file.write_text(HEAD + "".join(targets))

    def successful(self) -> bool:
        return self.agent.metrics().value("prober_config_last_reload_successful") == 1

    def probed(self, target: str) -> float:
        found = self.agent.metrics().all("prober_probes_total", target=target)
        return found[0].value if found else 0.0

    def targets(self) -> set[str]:
        return {sample.labels["target"] for sample in self.agent.metrics().all("prober_target_info")}


@pytest.fixture(scope="module")
def reloadable() -> Iterator[Reloadable]:
    """One agent for all tests of reloading; each leaves it with a good configuration."""
    with open_directory() as directory, Namespace("reload") as host:
        host.allow_unprivileged_icmp()
        file = directory / "targets.yml"
        file.write_text(HEAD + FIRST + SECOND)
        with Agent(host, file) as agent:
            yield Reloadable(agent, file)


def by_signal(agent: Agent) -> None:
    agent.signal(signal.SIGHUP)


def by_post(agent: Agent) -> None:
    assert agent.ask("/-/reload", "POST") == (200, "reloaded\n")


@pytest.mark.parametrize("reload", [by_signal, by_post])
def test_reloading_adds_removes_and_keeps_targets(reloadable: Reloadable, reload: Callable[[Agent], None]) -> None:
    agent = reloadable.agent
    reloadable.write(FIRST, SECOND)
    by_post(agent)
    wait_until(lambda: reloadable.probed("first") >= 2 and reloadable.probed("second") > 0, what="both are probed")
    before = reloadable.probed("first")
    reloadable.write(FIRST, THIRD)
    reload(agent)
    wait_until(lambda: reloadable.targets() == {"first", "third"}, what="the targets are those of the new file")
    assert reloadable.probed("first") >= before, "the counter of a target that stays began anew"
    wait_until(lambda: reloadable.probed("third") > 0 and reloadable.probed("first") > before, what="both are probed")
    assert not agent.metrics().failing


def test_a_changed_interval_holds_from_the_reload_on(reloadable: Reloadable) -> None:
    agent = reloadable.agent
    reloadable.write(FIRST.replace("    checks", "    interval: 1h\n    checks"), SECOND)
    by_post(agent)
    wait_until(lambda: reloadable.probed("second") > 0, what="the other target is probed")
    before = reloadable.probed("first"), reloadable.probed("second")
    wait_until(lambda: reloadable.probed("second") >= before[1] + 3, what="three seconds pass")
    assert reloadable.probed("first") - before[0] <= 1
    reloadable.write(FIRST, SECOND)
    by_post(agent)
    wait_until(lambda: reloadable.probed("first") >= before[0] + 2, what="it is probed every second again")


def test_a_bad_file_changes_nothing_and_says_so(reloadable: Reloadable) -> None:
    agent, file = reloadable.agent, reloadable.file
    reloadable.write(FIRST, SECOND)
    by_post(agent)
    loaded = agent.metrics().value("prober_config_last_reload_success_timestamp_seconds")
    logged = len(agent.log())
    reloadable.write(FIRST, BAD)

    refused = agent.ask("/-/reload", "POST")

    assert refused.status == 500
    problems = [line for line in refused.text.splitlines() if line.startswith(f"{file}:")]
    assert [line.split(": ")[0] for line in problems] == [f"{file}:8", f"{file}:9"], refused.text
    assert not reloadable.successful()
    assert agent.metrics().value("prober_config_last_reload_success_timestamp_seconds") == loaded
    assert reloadable.targets() == {"first", "second"}
    wait_until(lambda: len(agent.log("configuration refused")) >= len(problems), what="the problems are in the log")
    told = [line for line in agent.log()[logged:] if "level=error" in line]
    assert len(told) == len(problems)
    for line, problem in zip(told, problems, strict=True):
        assert problem.split(": ", 1)[0] in line
    probed = reloadable.probed("first")
    wait_until(lambda: reloadable.probed("first") > probed, what="the old configuration goes on")

    agent.signal(signal.SIGHUP)  # the same by the other way
    wait_until(lambda: len(agent.log("configuration refused")) == 2 * len(problems), what="refused again")
    assert not reloadable.successful()

    reloadable.write(FIRST, SECOND)
    by_signal(agent)
    wait_until(reloadable.successful, what="a good file is taken")
    assert agent.metrics().value("prober_config_last_reload_success_timestamp_seconds") > loaded


def test_a_reload_that_comes_again_and_again_costs_no_probe_and_no_memory(reloadable: Reloadable) -> None:
    agent = reloadable.agent
    reloadable.write(FIRST, SECOND)
    by_post(agent)
    failures = agent.metrics().failures()
    descriptors = agent.metrics().value("process_open_fds")
    for _ in range(30):
        agent.signal(signal.SIGHUP)
        by_post(agent)
    before = reloadable.probed("first")
    wait_until(lambda: reloadable.probed("first") >= before + 2, what="the schedule goes on")
    metrics = agent.metrics()
    assert metrics.failures() == failures
    assert metrics.value("process_open_fds") <= descriptors + 3
    assert not agent.log("a defect")


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent(namespace: Namespace) -> Iterator[int]:
    """The port of a server that accepts and never says a word."""
    with namespace.entered(), socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_two_seconds_with_probes_in_flight_and_clients_connected(
    namespace: Namespace, silent: int, number: int
) -> None:
    checks = "".join(
        f'      - {{name: h{n}, http: {{url: "http://127.0.0.1:{silent}/"}}}}\n'
        f'      - {{name: t{n}, tcp: {{address: "127.0.0.1:{silent}", expect: x}}}}\n'
        f'      - {{name: d{n}, dns: {{server: "127.0.0.1:{silent}", transport: tcp, query: x.example}}}}\n'
        for n in range(2)
    )
    targets = f"entity: e\ndefaults: {{interval: 12s, timeout: 11s}}\ntargets:\n  - name: t\n    checks:\n{checks}"
    namespace.allow_unprivileged_icmp()
    with open_directory() as directory:
        (directory / "targets.yml").write_text(targets)
        with Agent(namespace, directory / "targets.yml") as agent:
            agent.metrics_when(
                lambda m: m.value("prober_probes_in_flight") == 6, 30.0, "6 probes are under way at one time"
            )
            with namespace.entered():
                idle = http.client.HTTPConnection("127.0.0.1", PORT)
                mute = socket.create_connection(("127.0.0.1", PORT))
            with contextlib.closing(idle), mute:
                idle.request("GET", "/-/healthy")  # a connection that is kept alive, as a scraper's
                idle.getresponse().read()
                began = time.monotonic()
                agent.signal(number)
                assert agent.process.wait(30.0) == 0
                took = time.monotonic() - began
            lines = agent.log()
    assert took < STOP_SECONDS, f"{took:.2f} s"
    assert "msg=stopping" in lines[-1]
    assert not [line for line in lines if "Traceback" in line or "level=error" in line]
