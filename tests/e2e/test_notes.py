"""`prober note` and `prober status` beside a running agent, and after its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import CODE, Agent, Answer, Metrics, open_directory
from tests.lab import Namespace, wait_until

TARGETS = """\
entity: lab
title: Lab
references: []
defaults: {interval: 1s, timeout: 500ms}
networks: {north: {prefix: 127.0.0.0/24}}
targets:
  - {name: a, network: north, checks: [{tcp: {address: "127.0.0.1:9911"}}]}
"""
AT = "2014-12-22T18:00:00Z"


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as directory:
        (directory / "targets.yml").write_text(TARGETS)
        (directory / "settings.yml").write_text("targets: [targets.yml]\ndata_dir: data\n")
        data = directory / "data"
        data.mkdir()
        data.chmod(0o777)  # the agent is nobody
        yield directory


def prober(namespace: Namespace, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the agent's host, by root."""
    command = (sys.executable, "-m", "prober", arguments[0], "--config", str(directory / "settings.yml"))
    return subprocess.run(
        namespace.command(*command, *arguments[1:]),
        cwd=CODE,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def noted(metrics: Metrics) -> list[tuple[str, float]]:
    return [(sample.labels["text"], sample.value) for sample in metrics.all("prober_note_timestamp_seconds")]


def ask(agent: Agent, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """A request with a body, from the agent's own host."""
    code = (
        "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9911, timeout=30);"
        "c.request(sys.argv[1], sys.argv[2], sys.argv[3], dict(a.split('=', 1) for a in sys.argv[4:]));"
        "r = c.getresponse(); print(r.status); print(r.read().decode())"
    )
    given = [f"{name.replace('_', '-')}={value}" for name, value in headers.items()]
    done = subprocess.run(
        agent.namespace.command(sys.executable, "-c", code, method, path, body, *given),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, _, text = done.stdout.partition("\n")
    return Answer(int(status), text)


def test_beside_an_agent_and_after_its_end(namespace: Namespace, directory: Path) -> None:
    with Agent(namespace, "--config", directory / "settings.yml") as agent:
        agent.metrics_when(lambda m: bool(m.all("prober_up", scope="entity")), 30.0, "the entity is known")
        status = prober(namespace, directory, "status")
        assert status.stdout.startswith("Lab: reachable. 1 of 1 network up. No outage on record.\n"), status
        assert status.returncode == 0

        added = prober(namespace, directory, "note", "an attack", "--at", AT, "--entity", "lab", "--json")
        assert (added.returncode, added.stderr) == (0, "")
        note = json.loads(added.stdout)
        assert json.loads(agent.ask("/api/v1/notes").text)["notes"] == [note]
        agent.metrics_when(lambda m: noted(m) == [("an attack", 1_419_271_200.0)], 30.0, "the note is exported")

        made = ask(agent, "POST", "/api/v1/notes", json.dumps({"text": "by API"}), Content_Type="application/json")
        assert made.status == 201, made
        agent.metrics_when(lambda m: len(noted(m)) == 2, 30.0, "so is the other")
        evil = {"Origin": "https://evil.example", "Content_Type": "application/json"}
        assert ask(agent, "POST", "/api/v1/notes", '{"text": "x"}', **evil).status == 403
        assert ask(agent, "DELETE", f"/api/v1/notes/{note['id']}").status == 204
        assert "by API" in prober(namespace, directory, "note", "--list").stdout

        assert agent.metrics().value("prober_ledger_writable") == 1
        agent.process.stop()
    left = sorted(path.name for path in (directory / "data").iterdir())
    again = prober(namespace, directory, "note", "after the end", "--entity", "lab")
    assert (again.returncode, again.stderr) == (0, "")
    assert sorted(path.name for path in (directory / "data").iterdir()) == left  # nothing of root's is left behind
    status = prober(namespace, directory, "status")
    assert status.returncode in (0, 1)  # for 30 s its last word is as good as new
    assert "Lab: " in status.stdout

    with Agent(namespace, "--config", directory / "settings.yml") as agent:  # nobody's own file, still
        wait_until(lambda: len(noted(agent.metrics())) == 2, timeout=30.0, what="both notes are there again")
        assert agent.metrics().value("prober_ledger_writable") == 1
