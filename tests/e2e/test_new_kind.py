"""CONTRIBUTING's recipe for a new kind of probe, followed to the letter in a copy of the repository.

One file (docs/examples/ntp.py), one line, one fixture; then files, schemas, documents, `prober probe` and the agent
know it.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT, copy_of_the_repository
from tests.lab import Process, free_port, wait_until

pytestmark = pytest.mark.timeout(240)

TARGETS: Final = """\
entity: lab
references: []
targets:
  - name: clock
    checks:
      - ntp: {{server: 127.0.0.1, port: {port}, max_stratum: 3}}
        interval: 1s
        timeout: 500ms
"""

FIXTURE: Final = """\
entity: example
targets:
  - name: a
    checks:
      - {name: a, ntp: {server: "not a host"}}
      - {name: b, ntp: {server: 192.0.2.1, port: 0}}
      - {name: c, ntp: {server: 192.0.2.1, sratum: 3}}
"""

NO_HOST: Final = (
    '"not a host" is no host name and no IP address; write one like www.example.org, 192.0.2.1 or 2001:db8::1'
)
TOO_SMALL: Final = "must be at least 1; write a larger value"
REFUSED: Final = f"""\
ntp-options.yml:5: targets[0].checks[0].ntp.server: {NO_HOST}
ntp-options.yml:6: targets[0].checks[1].ntp.port: {TOO_SMALL}
ntp-options.yml:7: targets[0].checks[2].ntp.sratum: unknown key; did you mean "max_stratum"?
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy in which the recipe was followed."""
    copy = copy_of_the_repository(tmp_path / "prober")
    (copy / "prober/probes/ntp.py").write_text((copy / "docs/examples/ntp.py").read_text())
    table = copy / "prober/probes/__init__.py"
    text = table.read_text()
    text = re.sub(r"(from prober\.probes import .*)", r"\1, ntp", text)
    changed = text.replace("        tcp.KIND,\n", "        tcp.KIND,\n        ntp.KIND,\n")
    assert changed.count("ntp") == 2
    table.write_text(changed)
    (copy / "tests/golden/config/ntp-options.yml").write_text(FIXTURE)
    (copy / "tests/golden/config/ntp-options.txt").write_text(REFUSED)
    return copy


def python(repository: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Python with the copy's code."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=repository,
        env={"PYTHONPATH": str(repository), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


class Clock:
    """A time server that can be silent, or of another stratum."""

    def __init__(self, server: socket.socket) -> None:
        self.port: int = server.getsockname()[1]
        self.stratum: int | None = 2
        self._server = server

    def serve(self) -> None:
        while True:
            try:
                question, client = self._server.recvfrom(512)
            except OSError:  # shut down
                return
            if not question:
                return
            if self.stratum is not None:
                answer = bytes([0x24, self.stratum]) + bytes(22) + question[40:48] + bytes(16)
                self._server.sendto(b"\x24" + bytes(47), client)  # answers nobody's question
                self._server.sendto(answer, client)


@contextmanager
def clock() -> Iterator[Clock]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        one = Clock(server)
        thread = threading.Thread(target=one.serve)
        thread.start()
        try:
            yield one
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", one.port))
            thread.join()


def test_the_recipe_is_all_it_takes(repository: Path, tmp_path: Path) -> None:
    python(repository, "-m", "docs.generate")
    assert "## ntp\n" in (repository / "docs/targets.md").read_text()
    assert "`prober_ntp_stratum`" in (repository / "docs/metrics.md").read_text()
    tests = ["tests/unit/test_config_errors.py", "tests/unit/test_docs.py"]
    chosen = ["-k", "ntp-options or kinds or make_docs or every_key"]
    python(repository, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *tests)
    with clock() as server:
        targets = tmp_path / "clock.yml"
        targets.write_text(TARGETS.format(port=server.port))
        assert "1 checks" in python(repository, "-m", "prober", "check", str(targets)).stdout
        probe = ("-m", "prober", "probe", "clock", "--targets", str(targets), "--json")
        assert json.loads(python(repository, *probe).stdout)["facts"]["stratum"] == 2
        server.stratum = 4
        wrong = json.loads(python(repository, *probe, check=False).stdout)
        assert (wrong["operation"], wrong["failure"]) == ("validate", "unexpected_reply")
        server.stratum = None
        silent = json.loads(python(repository, *probe, check=False).stdout)
        assert (silent["operation"], silent["failure"]) == ("receive", "timeout")
        server.stratum = 2
        watch(repository, targets, tmp_path / "data")
    refused = json.loads(python(repository, *probe, check=False).stdout)
    assert (refused["operation"], refused["failure"]) == ("receive", "refused")


def watch(repository: Path, targets: Path, data: Path) -> None:
    """The agent exports what the kind measures."""
    port = free_port()
    command = (sys.executable, "-m", "prober", "run", str(targets), "--listen", f"127.0.0.1:{port}")
    env = {"PYTHONPATH": str(repository)}
    with Process(*command, "--data-dir", str(data), port=port, env=env, cwd=repository, timeout=60.0):
        wait_until(lambda: exported(port), timeout=60.0, what="the stratum is exported")


def exported(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return re.search(r'^prober_ntp_stratum\{.*target="clock".*\} 2', text, flags=re.MULTILINE) is not None


def test_the_recipe_names_the_example() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "docs/examples/ntp.py" in text
    assert "tests/e2e/test_new_kind.py" in text
