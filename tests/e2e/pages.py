"""The desk of who is on call: a real Prometheus and a real Alertmanager on the shipped rules, and what they send.

The shipped files are used as they are but for their times, all of which are divided by SCALE: waits in expressions
(`time() - 45`), ranges and offsets below an hour, `for`, `interval`, and Alertmanager's waits.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.agent import CODE
from tests.lab import Namespace, Process, link, require_program

SCALE: Final = 12
DEPLOY: Final = CODE / "deploy"
RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
RESEND_DELAY: Final = 120
"""`--rules.alert.resend-delay` of the compose deployment, in seconds."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WAIT = re.compile(r"(?P<before>time\(\) - )(?P<number>\d+)(?P<unit>)\b")
_RANGE = re.compile(r"(?P<before>\[|offset )(?P<number>\d+)(?P<unit>[smhd])")
_KEY = re.compile(r"(?P<before>\b(?:for|\w*interval|\w*timeout|group_wait): )(?P<number>\d+)(?P<unit>[smhd])")
_HOUR = 3600


def scaled(text: str) -> str:
    """Rules or configuration with every time below an hour divided by SCALE."""

    def divide(found: re.Match[str]) -> str:
        seconds = int(found["number"]) * _UNITS.get(found["unit"], 1)
        if seconds >= _HOUR:
            return found[0]
        if found["unit"]:
            return f"{found['before']}{round(seconds * 1000 / SCALE)}ms"
        return f"{found['before']}{seconds / SCALE:g}"

    for pattern in (_WAIT, _RANGE, _KEY):
        text = pattern.sub(divide, text)
    return text


@dataclass(frozen=True)
class Note:
    """One alert in one notification."""

    at: float  # Unix time
    number: int  # of the notification
    receiver: str
    status: str  # firing, resolved
    labels: dict[str, str]
    summary: str

    @property
    def what(self) -> tuple[str, str]:
        """The alert, and what it is about."""
        return self.labels["alertname"].removeprefix("Prober"), self.labels.get("name", self.labels.get("vantage", ""))


class _Webhook(ThreadingHTTPServer):
    """Keeps every notification. `/page` is told as the shipped receivers are, `/all` of what is resolved too."""

    daemon_threads = True

    def __init__(self) -> None:
        self.notes: list[tuple[str, Note]] = []
        self.lock = threading.Lock()
        self.count = 0
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.count += 1
            for alert in body["alerts"]:
                note = Note(
                    time.time(),
                    self.server.count,
                    body["receiver"],
                    alert["status"],
                    alert["labels"],
                    alert["annotations"]["summary"],
                )
                self.server.notes.append((self.path, note))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the notes say it."""


class Desk:
    """Prometheus and Alertmanager in a namespace with a cable to each of the hosts that they scrape."""

    def __init__(self, stack: ExitStack, label: str, directory: Path, hosts: Iterable[Namespace]) -> None:
        self._stack = stack
        self._directory = directory
        directory.mkdir()
        self.namespace = stack.enter_context(Namespace(f"{label}-desk"))
        targets = []
        for number, host in enumerate(hosts):
            link(self.namespace, host, f"10.77.{number}.1/30", f"10.77.{number}.2/30")
            targets.append(f"10.77.{number}.2:9911")
        with self.namespace.entered():
            self._webhook = _Webhook()
            stack.callback(self._webhook.server_close)
            threading.Thread(target=self._webhook.serve_forever, name=f"webhook-{label}", daemon=True).start()
            stack.callback(self._webhook.shutdown)
        (directory / "rules").mkdir()
        for path in RULES:
            (directory / "rules" / path.name).write_text(scaled(path.read_text()))
        self._write_prometheus(targets)
        self._write_alertmanager()
        self.alertmanager = stack.enter_context(self._start_alertmanager())
        self.prometheus = self._start_prometheus()

    def _write_prometheus(self, targets: list[str]) -> None:
        config = yaml.safe_load(scaled((DEPLOY / "prometheus" / "prometheus.yml").read_text()))
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] != "grafana"]
        text = yaml.safe_dump(config).replace("alertmanager:9093", "localhost:9093")
        (self._directory / "prometheus.yml").write_text(text)

    def _write_alertmanager(self) -> None:
        shipped = DEPLOY / "alertmanager"
        config = yaml.safe_load(scaled((shipped / "alertmanager.yml").read_text()))
        config["templates"] = [str(shipped / one) for one in config["templates"]]
        url = f"http://127.0.0.1:{self._webhook.server_port}"
        for receiver in config["receivers"]:
            if receiver["name"] != "watchdog":
                receiver["webhook_configs"] = [
                    {"url": f"{url}/page", "send_resolved": False},
                    {"url": f"{url}/all", "send_resolved": True},
                ]
        (self._directory / "alertmanager.yml").write_text(yaml.safe_dump(config))

    def _start_alertmanager(self) -> Process:
        return Process(
            require_program("prometheus-alertmanager"),
            f"--config.file={self._directory / 'alertmanager.yml'}",
            f"--storage.path={self._directory / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
            namespace=self.namespace,
            port=9093,
            timeout=30.0,
        )

    def _start_prometheus(self) -> Process:
        return self._stack.enter_context(
            Process(
                require_program("prometheus"),
                f"--config.file={self._directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._directory / 'tsdb'}",
                "--web.listen-address=127.0.0.1:9090",
                f"--rules.alert.resend-delay={RESEND_DELAY // SCALE}s",
                namespace=self.namespace,
                port=9090,
                timeout=30.0,
            )
        )

    def restart_prometheus(self) -> None:
        """End it and start it on what it had stored."""
        self.prometheus.stop(grace=20.0)
        self.prometheus = self._start_prometheus()

    # -- what was sent -------------------------------------------------------------------------------------------------

    def _notes(self, path: str, status: str) -> list[Note]:
        with self._webhook.lock:
            return [note for at, note in self._webhook.notes if at == path and note.status == status]

    @property
    def told(self) -> list[tuple[str, str]]:
        """Every alert of every notification, in order: (alert, what about)."""
        return [note.what for note in self._notes("/page", "firing")]

    @property
    def resolved(self) -> list[tuple[str, str]]:
        """What Alertmanager took to be over."""
        return [note.what for note in self._notes("/all", "resolved")]

    def expect(self, alert: str, about: str, within: float, times: int = 1) -> Note:
        """Wait until this was told so often; the last of them. Fails the test after `within` seconds."""
        deadline = time.monotonic() + within
        while True:
            found = [note for note in self._notes("/page", "firing") if note.what == (alert, about)]
            if len(found) >= times:
                return found[times - 1]
            if time.monotonic() >= deadline:
                pytest.fail(f"not told within {within:g} s: {alert} {about}\n{self.report()}")
            time.sleep(0.2)

    def only(self, *wanted: tuple[str, str]) -> None:
        """These were told, each once for each time that it is named, each in a notification of its own, and no more."""
        assert sorted(self.told) == sorted(wanted), self.report()
        notes = self._notes("/page", "firing")
        assert len({note.number for note in notes}) == len(notes), self.report()

    def ask(self, expression: str) -> list[Any]:
        """The result of an instant query."""
        return list(self._get(9090, f"/api/v1/query?query={_quoted(expression)}")["data"]["result"])

    def ask_when(self, expression: str, within: float) -> list[Any]:
        """Wait until a query has a result."""
        return self.wait(lambda: self.ask(expression), within, expression)

    def summaries(self, alert: str) -> list[str]:
        """What Alertmanager shows of an alert that is active."""
        found = self._get(9093, "/api/v2/alerts")
        return [one["annotations"]["summary"] for one in found if one["labels"]["alertname"] == f"Prober{alert}"]

    def wait(self, what: Callable[[], list[Any]], within: float, name: str) -> list[Any]:
        """Wait until `what` gives something."""
        deadline = time.monotonic() + within
        while not (found := what()):
            if time.monotonic() >= deadline:
                pytest.fail(f"not within {within:g} s: {name}\n{self.report()}")
            time.sleep(0.3)
        return found

    def _get(self, port: int, path: str) -> Any:
        with self.namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
            finally:
                connection.close()
        assert response.status == 200, body
        return json.loads(body)

    def report(self) -> str:
        """For a person who looks for the cause."""
        with self._webhook.lock:
            lines = [
                f"{note.at:.1f} {path} #{note.number} {note.receiver} {note.status} {note.what}: {note.summary}"
                for path, note in self._webhook.notes
            ]
        for one in self.ask('ALERTS{alertname!="ProberWatchdog"} or scope:prober_state:quorum'):
            lines.append(f"now {one['metric']} {one['value'][1]}")
        return "\n".join(lines)


def _quoted(expression: str) -> str:
    return "".join(c if c.isalnum() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in expression)


_PART = re.compile(r"([0-9.]+) (d|h|min|s)\b")


def spoken_seconds(text: str) -> float:
    """`9 h 31 min` in seconds."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in _PART.findall(text))
