"""Where the bench runs: one host of its own without an uplink, servers in it, and what processes use, from /proc."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import prober
from tests import servers
from tests.bench.figures import Cost
from tests.lab import Namespace, Process

CODE = Path(prober.__file__).parent.parent
AGENT_PORT = 9911
ZONE = "@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\nhost IN A 192.0.2.1\n"
QUERY = "host.bench.test"
DNS_PORT, HTTP_PORT = 5353, 8080
GZIP = {"Accept-Encoding": "gzip"}


class NotMeasured(Exception):
    """A program did not do its work; the text says what happened."""


FAILURES = (NotMeasured, pytest.fail.Exception, RuntimeError, OSError)
"""What ends a measurement, and not the bench: tests.lab is made for tests, and says so in their way."""


def program(name: str) -> str | None:
    """Where a program is."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


def address(number: int) -> str:
    """The number's address: each in a /24 of the loopback network of its own, from 127.1.0.1 on."""
    return f"127.{1 + number // 250 % 120}.{number % 250}.{1 + number // 30_000}"


def targets(
    file: Path, count: int, checks: Callable[[int], str], interval: float, each: int = 100, timeout: float = 5.0
) -> list[Path]:
    """Targets files of `each` targets, an entity a file, with these checks every `interval` seconds."""
    defaults = f"{{interval: {interval * 1000:.0f}ms, timeout: {min(interval, timeout) * 1000:.0f}ms}}"
    files = []
    for first in range(0, count, each):
        path = file.with_name(f"{file.stem}-{first}.yml")
        lines = [f"entity: e{first}", f"defaults: {defaults}", "targets:"]
        lines += [f"  - {{name: t{n}, checks: [{checks(n)}]}}" for n in range(first, min(first + each, count))]
        path.write_text("\n".join(lines) + "\n")
        files.append(path)
    return files


def icmp(number: int) -> str:
    """A check that pings the number's address."""
    return f"{{icmp: {{address: {address(number)}}}}}"


def settings(directory: Path, files: Sequence[Path], packets_per_second: int = 20_000) -> Path:
    """The agent's settings: budgets out of the way, three references beside the targets."""
    references = directory / "references.yml"
    references.write_text(
        "references:\n"
        + "".join(
            f"  - {{name: r{n}, network: AS{n}, checks: [{{icmp: {{address: 127.200.{n}.1}}}}]}}\n" for n in range(3)
        )
    )
    path = directory / "settings.yml"
    path.write_text(
        f"targets: [{', '.join(map(str, files))}]\nreferences: {references}\ncontact: mailto:noc@example.org\n"
        f"limits: {{packets_per_second: {packets_per_second}, per_prefix_per_second: 5000}}\nlog: {{level: error}}\n"
    )
    return path


@contextlib.contextmanager
def host() -> Iterator[Namespace]:
    """A host without an uplink in which everybody may ping."""
    with Namespace("bench") as namespace:
        namespace.allow_unprivileged_icmp()
        namespace.sysctl("net.ipv4.ip_local_port_range", "20000 65000")
        namespace.sysctl("net.ipv4.tcp_tw_reuse", 1)
        yield namespace


@contextlib.contextmanager
def answering(namespace: Namespace, directory: Path) -> Iterator[None]:
    """nsd and nginx in the namespace."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(servers.nsd(directory / "nsd", {"bench.test": ZONE}, port=DNS_PORT, namespace=namespace))
        (directory / "nginx").mkdir()
        nginx = stack.enter_context(
            servers.nginx(directory / "nginx", 'return 200 "bench\\n";', port=HTTP_PORT, namespace=namespace)
        )
        assert nginx.port == HTTP_PORT
        try:
            yield
        finally:
            with quiet():
                stack.close()


# -- what a process uses -----------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads and the children it waited for. Nanoseconds where the kernel tells."""
    ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = (int(ended[13]) + int(ended[14])) / os.sysconf("SC_CLK_TCK")
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9 + children


def memory_bytes(pid: int) -> float:
    """Proportional set size: what is shared counts by its share."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return float(found[1]) * 1024 if found else 0.0


def on_core(core: int | None, command: Sequence[str]) -> list[str]:
    """The command bound to one core, where one is asked for and can be had."""
    taskset = program("taskset")
    return [taskset, "-c", str(core), *command] if core is not None and taskset else list(command)


# -- our agent ---------------------------------------------------------------------------------------------------------


@dataclass
class Scraped:
    """An exposition, as far as the bench reads it."""

    text: str

    def value(self, name: str) -> float:
        """The sum over all series of a metric."""
        return sum(float(line.rpartition(" ")[2]) for line in re.findall(rf"^{name}[{{ ].*$", self.text, re.MULTILINE))

    def histogram(self, name: str) -> dict[float, float]:
        """Upper bound -> cumulative count."""
        lines = re.findall(rf'^{name}_bucket{{.*le="([^"]+)".*}} (\S+)$', self.text, re.MULTILINE)
        return {float(bound): float(count) for bound, count in lines}


class Agent:
    """`prober run` in the namespace."""

    def __init__(self, namespace: Namespace, config: Path, data: Path, core: int | None = None) -> None:
        self.namespace = namespace
        command = [sys.executable, "-m", "prober", "run", "--plain", "--config", str(config), "--data-dir", str(data)]
        self.began = time.monotonic()
        self.process = Process(*on_core(core, command), namespace=namespace, cwd=CODE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> None:
        """Raises NotMeasured with its last words if it has ended."""
        if self.process.popen.poll() is not None:
            raise NotMeasured(f"the agent ended: {last_words(self.process)}")

    def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
        """The body of an answer. Raises OSError while nobody listens."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", AGENT_PORT, timeout=120)
            with contextlib.closing(connection):
                try:
                    connection.request(method, path, headers=dict(headers or {}))
                    return connection.getresponse().read()
                except (http.client.HTTPException, TimeoutError) as error:
                    raise NotMeasured(f"the agent cut {path} off, the machine is too busy: {error!r}") from None

    def scrape(self) -> Scraped:
        """What /metrics says."""
        return Scraped(gzip.decompress(self.ask("/metrics", headers=GZIP)).decode())

    def ready(self, seconds: float = 120.0) -> None:
        """Wait for the first probe."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.alive()
            with contextlib.suppress(OSError):
                if self.ask("/-/ready") == b"ready\n":
                    return
            time.sleep(0.05)
        raise NotMeasured(f"the agent made no probe within {seconds:g} s")

    def all_seen(self, checks: int, seconds: float) -> None:
        """Wait until every check has a result."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.alive()
            with contextlib.suppress(NotMeasured, OSError):  # it has more to do now than later
                if len(re.findall(r"^probe_success{", self.scrape().text, re.MULTILINE)) >= checks:
                    return
            time.sleep(min(15.0, 0.5 + checks / 2_000))  # to ask costs the agent, too
        raise NotMeasured(f"not all of {checks} checks had a result within {seconds:g} s")

    def scraped(self) -> tuple[float, float, int]:
        """Seconds and CPU seconds (of all that the agent did meanwhile) of a scrape, and its bytes."""
        began, used = time.monotonic(), cpu_seconds(self.pid)
        size = len(self.ask("/metrics", headers=GZIP))
        return time.monotonic() - began, cpu_seconds(self.pid) - used, size

    def cost(self, seconds: float, scraped: bool = True) -> Cost:
        """Of the probes in the next `seconds`, one scrape among them, as Prometheus has it every quarter minute."""
        self.ask("/metrics", headers=GZIP)  # the first one of all lays the rows out
        before, used = probes_made(self.scrape()), cpu_seconds(self.pid)
        time.sleep(seconds / 2)
        if scraped:
            self.ask("/metrics", headers=GZIP)
        time.sleep(seconds / 2)
        used = cpu_seconds(self.pid) - used
        self.alive()
        return Cost(probes_made(self.scrape()) - before, used, memory_bytes(self.pid))

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *error: object) -> None:
        with quiet():
            self.process.stop()


def last_words(process: Process) -> str:
    """The last line that it wrote."""
    return (process.output().strip().splitlines() or ["without a word"])[-1][-300:]


def probes_made(scraped: Scraped) -> float:
    """All probes of targets so far."""
    return scraped.value("prober_probes_total")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a `Process` prints when it ends, which is for tests."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def first_line(*command: str) -> str:
    """What a program says of its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().split("\n")[0]
