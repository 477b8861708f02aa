"""What `prober run` says: one line when it cannot start, log lines in a pipe, a table in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import CODE, PORT, RUN, Agent
from tests.lab import Namespace

FAILING = (
    "entity: e\ndefaults: {interval: 1s, timeout: 1s}\ntargets:\n"
    '  - name: a\n    title: "가 = \\"b\\" c"\n    checks:\n'
    '      - tcp: {address: "127.0.0.1:9"}\n      - icmp: {address: 127.0.0.1}\n'
    '      - http: {url: "http://127.0.0.1:9911/", expect: {body: "not there"}}\n'
)
LINE = re.compile(r'(?:[\w.-]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]*)(?: |$))+')
"""One line of logfmt."""


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    file = tmp_path / "targets.yml"
    file.write_text(FAILING)
    return file


def start(namespace: Namespace, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """An agent that is to end by itself."""
    return subprocess.run(
        namespace.command(*RUN, *map(str, arguments)), cwd=CODE, capture_output=True, text=True, timeout=99, check=False
    )


# -- it cannot start ---------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_line(namespace: Namespace, targets: Path) -> None:
    with namespace.entered(), socket.create_server(("127.0.0.1", PORT)):
        ended = start(namespace, targets, "--log-level", "warning")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "cannot listen on 127.0.0.1:9911: Address already in use; free the port or choose another\n"
    )


def test_each_problem_of_a_file_is_one_line(namespace: Namespace, tmp_path: Path) -> None:
    bad, absent, settings = tmp_path / "bad.yml", tmp_path / "absent.yml", tmp_path / "settings.yml"
    bad.write_text("entity: e\ntargets:\n  - name: a\n    checks:\n      - icmp: {addres: x}\n      - pong: {}\n")
    settings.write_text("listen: here\nvantagee: x\n")
    for arguments, told in (
        ((bad, absent), [f"{absent}:", f"{bad}:5:", f"{bad}:6:"]),
        (("--config", settings), [f"{settings}:1:", f"{settings}:2:"]),
    ):
        ended = start(namespace, *arguments)
        assert ended.returncode == 2
        assert ended.stdout == ""
        lines = ended.stderr.splitlines()
        assert len(lines) == len(told), ended.stderr
        for line, beginning in zip(sorted(lines), told, strict=True):
            assert line.startswith(beginning)


# -- in a pipe ---------------------------------------------------------------------------------------------------------


def test_in_a_pipe_every_line_is_logfmt(namespace: Namespace, targets: Path) -> None:
    with Agent(namespace, targets, root=True) as agent:
        agent.metrics_when(lambda m: len(m.checks) == 3, 30.0, "every check has a result")
        agent.signal(signal.SIGTERM)
        assert agent.process.wait() == 0
        lines = agent.log()
    assert len(lines) > 5
    for line in lines:
        assert LINE.fullmatch(line), line
        assert re.match(r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(info|warning) logger=prober\.\S+ msg=", line)
    # References are asked beside a failure, and fail here too if they come to it before the end.
    failing = {found[1] for line in lines if (found := re.search(r'msg="check fails".* check=(a/\S+)', line))}
    assert failing == {"a/tcp", "a/http"}


def test_as_json_every_line_is_an_object(namespace: Namespace, targets: Path) -> None:
    with Agent(namespace, targets, "--log-format", "json", root=True) as agent:
        agent.metrics_when(lambda m: len(m.checks) == 3, 30.0, "every check has a result")
        targets.write_text("entity: \u001b[31m\n")
        agent.ask("/-/reload", "POST")
        agent.signal(signal.SIGTERM)
        assert agent.process.wait() == 0
        lines = [json.loads(line) for line in agent.log()]
    assert all({"ts", "level", "logger", "msg"} <= line.keys() for line in lines)
    fails = [line for line in lines if line["msg"] == "check fails"]
    failing = {(line["check"], line["operation"], line["failure"]) for line in fails if line["check"].startswith("a/")}
    assert failing == {("a/tcp", "connect", "refused"), ("a/http", "validate", "http_body")}
    assert [line for line in lines if line["level"] == "error"]


def test_nobody_reading_the_pipe_does_not_stop_it(namespace: Namespace, targets: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writing, False)
        with open(writing, "wb", buffering=0) as full:
            while full.write(b"x" * 4096):
                pass
            os.set_blocking(writing, True)
            agent = subprocess.Popen(namespace.command(*RUN, str(targets)), cwd=CODE, stderr=full)
        try:
            watched = Silent(namespace, agent)
            watched.answers_within(60.0)
            agent.terminate()
            assert agent.wait(30.0) == 0
        finally:
            agent.kill()
            agent.wait()
        assert pipe.closed is False


class Silent:
    """An agent of which only the HTTP face can be asked."""

    def __init__(self, namespace: Namespace, process: subprocess.Popen[bytes]) -> None:
        self._namespace = namespace
        self._process = process

    def answers_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._namespace.entered():
                try:
                    with socket.create_connection(("127.0.0.1", PORT), timeout=1.0) as sock:
                        sock.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
                        if b" 200 " in sock.recv(100):
                            return
                except OSError:
                    pass
            assert self._process.poll() is None, "the agent has ended"
            time.sleep(0.05)
        pytest.fail("it never became ready")


# -- in a terminal -----------------------------------------------------------------------------------------------------

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
COLUMNS, LINES = 120, 20


class Terminal:
    """A terminal with an agent in it."""

    def __init__(self, command: list[str]) -> None:
        self.master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.attributes = termios.tcgetattr(self._slave)
        self.text = ""
        self.process = subprocess.Popen(
            # Leader of a session whose terminal this is, so that Ctrl-C reaches it.
            ["setsid", "--ctty", *command],
            cwd=CODE,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.set_blocking(self.master, False)

    def read(self) -> str:
        """All that was shown so far."""
        while True:
            try:
                data = os.read(self.master, 65536)
            except BlockingIOError:
                return self.text
            except OSError:  # EIO: the other side is closed
                return self.text
            self.text += data.decode(errors="replace")

    def shows(self, *texts: str, within: float = 60.0) -> None:
        """Wait until each of the texts was shown."""
        deadline = time.monotonic() + within
        while not all(text in self.read() for text in texts):
            assert time.monotonic() < deadline, f"{texts} not among {self.text[-3000:]!r}"
            time.sleep(0.02)

    def is_as_before(self) -> bool:
        """Whether its modes are what they were."""
        return termios.tcgetattr(self._slave) == self.attributes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminal(namespace: Namespace, targets: Path) -> Iterator[Terminal]:
    opened = Terminal(namespace.command(*RUN, str(targets)))
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.alone
@pytest.mark.parametrize("end", ["SIGTERM", "Ctrl-C"])
def test_in_a_terminal_it_draws_a_table_and_leaves_the_terminal_as_it_was(terminal: Terminal, end: str) -> None:
    terminal.shows(HIDE, "http://127.0.0.1:9911", "1 answered, 2 failed, 0 waiting", "refused during connect")
    began = time.monotonic()
    if end == "SIGTERM":
        terminal.process.terminate()
    else:
        os.write(terminal.master, b"\x03")
    assert terminal.process.wait(30.0) == 0
    assert time.monotonic() - began < 2.0
    shown = terminal.read()
    assert "Traceback" not in shown
    assert shown.count(HIDE) == shown.count(SHOW)
    assert shown.rfind(SHOW) > shown.rfind(HIDE)
    assert "waiting" not in shown[shown.rfind(SHOW) :], "it drew on after it had given the terminal back"
    assert "msg=stopping" in shown  # log lines stand above the table
    assert terminal.is_as_before()


def test_plain_writes_log_lines_in_a_terminal_too(namespace: Namespace, targets: Path) -> None:
    opened = Terminal(namespace.command(*RUN, str(targets), "--plain"))
    try:
        opened.shows("msg=running", "check=a/tcp")
        opened.process.terminate()
        assert opened.process.wait(30.0) == 0
        assert "\x1b" not in opened.read()
    finally:
        opened.close()


def test_what_ends_it_at_once_is_one_line_in_a_terminal_too(namespace: Namespace, targets: Path) -> None:
    with namespace.entered(), socket.create_server(("127.0.0.1", PORT)):
        opened = Terminal(namespace.command(*RUN, str(targets), "--log-level", "warning"))
        try:
            assert opened.process.wait(60.0) == 2
            shown = opened.read()
            assert opened.is_as_before()
        finally:
            opened.close()
    assert shown.count("cannot listen on 127.0.0.1:9911") == 1
    assert "Traceback" not in shown
    assert shown.rfind(SHOW) >= shown.rfind(HIDE)
