"""Real servers for tests, on loopback or in a namespace, from configuration written to the test's own directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import Namespace, Process, free_port, require_program


@dataclass(frozen=True)
class Server:
    """A server that runs. `port` serves TCP and, of a DNS server, UDP."""

    process: Process
    address: str
    port: int

    @property
    def at(self) -> str:
        """`address:port`, an IPv6 address in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def nsd(
    directory: Path,
    zones: Mapping[str, str],
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    namespace: Namespace | None = None,
) -> Server:
    """An authoritative DNS server (nsd). `zones`: zone name -> the zone file's text, which begins with its SOA record.

    It answers any rate (`rrl-ratelimit: 0`), and REFUSED for a zone it does not have.
    """
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    declared = ""
    for number, (zone, text) in enumerate(zones.items()):
        (directory / f"{number}.zone").write_text(f"$ORIGIN {zone.rstrip('.')}.\n$TTL 60\n{text}\n")
        declared += f'zone:\n  name: "{zone}"\n  zonefile: "{number}.zone"\n'
    config = directory / "nsd.conf"
    config.write_text(
        f'server:\n  ip-address: {address}@{port}\n  server-count: 1\n  username: ""\n  rrl-ratelimit: 0\n'
        f'  zonesdir: "{directory}"\n  pidfile: ""\n  zonelistfile: "{directory}/zone.list"\n'
        f'  xfrdfile: ""\n  xfrdir: "{directory}"\n  database: ""\n  cookie-secret-file: ""\n  hide-version: yes\n'
        f"remote-control:\n  control-enable: no\n{declared}"
    )
    process = Process(require_program("nsd"), "-d", "-c", str(config), address=address, port=port, namespace=namespace)
    return Server(process, address, port)


def unbound(
    directory: Path,
    stubs: Mapping[str, str],
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    namespace: Namespace | None = None,
    extra: str = "",
) -> Server:
    """A recursive resolver (unbound). `stubs`: zone -> `address@port` of its only name server.

    Everything else is answered NXDOMAIN from its own knowledge: it never asks anybody outside. `extra` goes into the
    `server:` clause.
    """
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    declared = "".join(f'stub-zone:\n  name: "{zone}"\n  stub-addr: {where}\n' for zone, where in stubs.items())
    opened = "".join(f'  local-zone: "{zone}" transparent\n' for zone in stubs)
    config = directory / "unbound.conf"
    config.write_text(
        f"server:\n  interface: {address}@{port}\n  access-control: {address} allow\n  num-threads: 1\n"
        f'  username: ""\n  chroot: ""\n  directory: "{directory}"\n  pidfile: ""\n  use-syslog: no\n  verbosity: 1\n'
        f'  do-not-query-localhost: no\n  module-config: "iterator"\n  cache-max-ttl: 0\n  cache-max-negative-ttl: 0\n'
        # TCP learns at once that a name server is gone: SERVFAIL within a test's patience, where UDP takes 20 s.
        f"  tcp-upstream: yes\n  outbound-msg-retry: 1\n"
        f'  local-zone: "." always_nxdomain\n{opened}{extra}\n'
        f"remote-control:\n  control-enable: no\n{declared}"
    )
    process = Process(
        require_program("unbound"), "-d", "-p", "-c", str(config), address=address, port=port, namespace=namespace
    )
    return Server(process, address, port)


def nginx(
    directory: Path,
    server: str,
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    namespace: Namespace | None = None,
    listen: str = "",
) -> Server:
    """A web server (nginx). `server` is the text inside its `server { }` block; `listen` is added to that directive
    (`ssl`). Files are served from `directory/www`.
    """
    port = port or free_port()
    (directory / "www").mkdir(parents=True, exist_ok=True)
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    temporary = "".join(
        f"  {kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/nginx.pid;\nerror_log stderr notice;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{\n  access_log off;\n{temporary}  default_type text/plain;\n  root {directory}/www;\n"
        f"  server {{\n    listen {where} {listen};\n    {server}\n  }}\n}}\n"
    )
    process = Process(
        require_program("nginx"),
        "-p",
        str(directory),
        "-e",
        "stderr",
        "-c",
        str(config),
        address=address,
        port=port,
        namespace=namespace,
    )
    return Server(process, address, port)
