"""The lab: a namespace with all servers, and in it the original and our agent with the same modules."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.blackbox import certificates
from tests.blackbox.cases import Case
from tests.blackbox.servers import Servers
from tests.lab import Namespace, Process, Routed

HERE = Path(__file__).parent
AT_ONCE = 6
"""Probes under way at the same time: more would only queue for two cores."""


class Reply(NamedTuple):
    """What came back over HTTP."""

    status: int
    content_type: str
    text: str


class Lab:
    """Hosts, servers and files. The exporters run in `client`; the servers on its loopback, one host two hops away."""

    def __init__(self, directory: Path, make: Callable[[str], Namespace]) -> None:
        self.directory = directory
        routed = Routed(make)
        self.client = routed.client
        self.client.resolver("127.0.0.1")
        # ip-netns(8) puts this over /etc/hosts; the machine's own may or may not know localhost's IPv6 address.
        Path("/etc/netns", self.client.name, "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        # A host that is not there would be looked for over three seconds before the router says so.
        routed.router.reject("ip daddr 198.51.100.9", chain="forward")
        certificates.make(directory)
        for name, text in {
            "body.txt": "from a file\n",
            "password.txt": "mysecret\n",
            "token.txt": "lab-token\n",
            "api-key.txt": "key from a file\n",
        }.items():
            (directory / name).write_text(text)

    def servers(self) -> Servers:
        return Servers(self.client, self.directory)

    def modules(self, version: str) -> Path:
        """A blackbox.yml with every module of the matrix that this version of the original knows."""
        parts = ["examples.yml", "modules.yml"]
        if version != "0.23":
            parts += ["examples-0.28.yml", "modules-0.28.yml"]
        path = self.directory / f"blackbox-{version}.yml"
        path.write_text("".join((HERE / part).read_text() for part in parts).replace("LAB", str(self.directory)))
        return path

    def exporter(self, program: str, version: str, port: int = 9115) -> Process:
        """The original, listening on loopback."""
        flags = (f"--config.file={self.modules(version)}", f"--web.listen-address=127.0.0.1:{port}")
        return Process(program, *flags, port=port, namespace=self.client, cwd=self.directory)

    def settings(self) -> Path:
        """Settings of our agent: the same modules, and all of the lab may be probed."""
        path = self.directory / "settings.yml"
        loopback_and_lab = ["127.0.0.0/8", "::1", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
        sockets = [f"unix:{self.directory}/{name}.sock" for name in ("ping", "tls", "nowhere")]
        settings = {
            "blackbox": str(self.modules("0.28")),
            "limits": {"packets_per_second": 100_000, "per_prefix_per_second": 100_000},  # all on one prefix, at once
            "probe_endpoint": {
                "enabled": True,
                "allow": ["public", "unknown.example", *loopback_and_lab, *sockets],
                "requests_per_second": 10_000,
                "requests_per_second_per_client": 10_000,
            },
        }
        path.write_text(yaml.safe_dump(settings))
        return path

    def ask(self, port: int, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """One request over a connection of its own."""
        with self.client.entered():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(connection):
                connection.request("GET", path.replace("LAB", str(self.directory)), headers=dict(headers or {}))
                response = connection.getresponse()
                return Reply(response.status, response.getheader("Content-Type", ""), response.read().decode())

    def probe_all(self, port: int, cases: Iterable[Case], at_once: int = AT_ONCE) -> dict[str, str]:
        """The exposition of every case, by name."""

        def probe(case: Case) -> tuple[str, str]:
            reply = self.ask(port, case.path, case.headers)
            assert reply.status == 200, (case.name, reply)
            return case.name, reply.text

        with ThreadPoolExecutor(at_once) as threads:
            return dict(threads.map(probe, cases))
