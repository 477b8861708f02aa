"""The real agent as a process of its own in a network namespace, and what a test asks of it over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

import prober
from prober.config import Settings, load
from prober.failures import Failure, Side, side_of
from tests.lab import Namespace, Process, require_program, wait_until

CODE = Path(prober.__file__).parent.parent
"""The repository: where `python -m prober` finds the code under test."""

SHIPPED = CODE / "targets" / "north-korea.yml"
PORT = 9911
"""The agent's default. Every namespace has it free."""

RUN = (sys.executable, "-m", "prober", "run")


@cache
def as_nobody() -> tuple[str, ...]:
    """What to put before a command to run it as a user without any privilege.

    Where that user may not read the code or this Python (both may stand below /root), it is given the right to read,
    and nothing else.
    """
    plain = (require_program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs")
    # A Python whose own library is out of reach may start with the system's: ask which one came up.
    which = "import sys, os, prober.app; print(sys.version, os.__file__)"
    tried = subprocess.run([*plain, sys.executable, "-c", which], cwd=CODE, capture_output=True, text=True, check=False)
    if tried.stdout.strip() == f"{sys.version} {os.__file__}":
        return plain
    reading = "-all,+dac_read_search"
    return (*plain, f"--inh-caps={reading}", f"--ambient-caps={reading}", f"--bounding-set={reading}")


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may read, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="prober-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def quick(file: Path, directory: Path, interval: str, timeout: str) -> Path:
    """A copy of a targets file with these intervals and timeouts, in `directory`."""
    text = file.read_text()
    text = re.sub(r"interval: \w+", f"interval: {interval}", text)
    text = re.sub(r"timeout: \w+", f"timeout: {timeout}", text)
    copy = directory / file.name
    copy.write_text(text)
    return copy


def checks_in(*files: Path) -> set[str]:
    """`target/check` of every check in targets files."""
    entities = load(Settings(targets=files)).entities
    return {check.key for entity in entities for target in entity.targets for check in target.checks}


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    text: str


class Sample(NamedTuple):
    """One series with its value."""

    name: str
    labels: Mapping[str, str]
    value: float

    @property
    def check(self) -> str:
        """`target/check`."""
        return f"{self.labels['target']}/{self.labels['check']}"


class Metrics:
    """One exposition, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.families = {family.name: family for family in families}
        self._samples = [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]

    def all(self, name: str, /, **labels: str) -> list[Sample]:
        """The series of this name that have these labels (and others)."""
        return [s for s in self._samples if s.name == name and labels.items() <= s.labels.items()]

    def value(self, name: str, /, **labels: str) -> float:
        """The value of the only series of this name that has these labels."""
        found = self.all(name, **labels)
        assert len(found) == 1, f"{len(found)} series {name} with {labels}"
        return found[0].value

    @property
    def checks(self) -> set[str]:
        """`target/check` of every check that has been probed."""
        return {sample.check for sample in self.all("probe_success")}

    @property
    def failing(self) -> set[str]:
        """`target/check` of every check whose last probe failed."""
        return {sample.check for sample in self.all("probe_success") if not sample.value}

    def failures(self) -> dict[tuple[str, str, str], float]:
        """(`target/check`, operation, failure) -> how often."""
        found = self.all("prober_probe_failures_total")
        return {(s.check, s.labels["operation"], s.labels["failure"]): s.value for s in found if s.value}

    def sides(self) -> set[Side]:
        """Whose trouble the failures so far were."""
        return {side_of(Failure(failure)) for _, _, failure in self.failures()}


class Agent:
    """`prober run` in a namespace, ended with the block. Unprivileged unless `root` is set.

    Ready when its log says that it is running, which is `started` (time.monotonic). `wait=False`: call `ready` later.
    """

    def __init__(
        self,
        namespace: Namespace,
        *arguments: str | Path,
        root: bool = False,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.namespace = namespace
        self._directory = ExitStack()
        further = _own_ledger(arguments, self._directory)
        command = (*(() if root else as_nobody()), *RUN, *map(str, arguments), *map(str, further))
        self.process = Process(*command, namespace=namespace, env=env, cwd=CODE)
        self.started = 0.0
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until it runs. Importing takes a second of CPU, and the machine may be busy: up to 60 s."""
        try:
            wait_until(self._runs, timeout=60.0, what="the agent runs")
        except BaseException:
            self.process.stop()
            raise
        self.started = time.monotonic()

    def ask(self, path: str = "/metrics", method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """One request over a connection of its own. Raises OSError when nobody listens."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
            with contextlib.closing(connection):
                connection.request(method, path, headers=dict(headers or {}))
                response = connection.getresponse()
                return Answer(response.status, response.read().decode())

    def metrics(self) -> Metrics:
        """What /metrics says now."""
        answer = self.ask()
        assert answer.status == 200, answer
        return Metrics(answer.text)

    def metrics_when(self, holds: Callable[[Metrics], bool], within: float, what: str) -> Metrics:
        """The first exposition of which `holds`, looked for every 50 ms. Fails the test after `within` seconds."""
        deadline = time.monotonic() + within
        while not holds(metrics := self.metrics()):
            if time.monotonic() >= deadline:
                pytest.fail(f"not within {within:g} s: {what}\nchecks that fail: {sorted(metrics.failing)}")
            time.sleep(0.05)
        return metrics

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def log(self, containing: str = "") -> list[str]:
        """The lines that it wrote so far which contain this."""
        return [line for line in self.process.output().splitlines() if containing in line]

    def _runs(self) -> bool:
        if self.process.popen.poll() is not None:
            pytest.fail(f"the agent ended with status {self.process.popen.returncode}:\n{self.process.output()}")
        return bool(self.log("msg=running ") or self.log('"msg": "running"'))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stop()
        self._directory.close()


def _own_ledger(arguments: Sequence[object], stack: ExitStack) -> tuple[object, ...]:
    """A data directory for an agent that was given none: two agents must not meet in the default one."""
    words = [str(argument) for argument in arguments]
    named = [Path(word) for before, word in itertools.pairwise(words) if before == "--config"]
    if "--data-dir" in words or any("data_dir:" in path.read_text() for path in named):
        return ()
    directory = stack.enter_context(open_directory())
    directory.chmod(0o777)  # the agent may be nobody
    return "--data-dir", directory / "ledger"
