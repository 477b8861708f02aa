"""The peers at the same work. blackbox_exporter is asked as Prometheus would: a connection kept per target."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.figures import Cost
from tests.bench.lab import CODE, NotMeasured, cpu_seconds, last_words, memory_bytes, program, quiet
from tests.lab import Namespace, Process

BLACKBOX_PORT, SMOKEPING_PORT = 9115, 9374
FAILED_MOST = 0.05
"""Share of probes that may fail: a busy machine loses some."""
MODULES = """
modules:
  icmp: {prober: icmp, timeout: 5s, icmp: {preferred_ip_protocol: ip4}}
  http: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}
  tcp: {prober: tcp, timeout: 5s, tcp: {preferred_ip_protocol: ip4}}
  dns: {prober: dns, timeout: 5s, dns: {preferred_ip_protocol: ip4, query_name: host.bench.test, query_type: A}}
"""
PROGRAMS = {
    "blackbox_exporter": ("prometheus-blackbox-exporter", "blackbox_exporter"),
    "smokeping_prober": ("prometheus-smokeping-prober", "smokeping_prober"),
    "fping": ("fping",),
}
"""Name -> what it is called as a program; Debian's packages come first."""


def found(name: str) -> str | None:
    """The path of a peer."""
    return next((path for path in map(program, PROGRAMS[name]) if path), None)


@contextlib.contextmanager
def blackbox(namespace: Namespace, directory: Path) -> Iterator[Process]:
    """blackbox_exporter, listening."""
    config = directory / "blackbox.yml"
    config.write_text(MODULES)
    command = (found("blackbox_exporter") or "", f"--config.file={config}", "--log.level=error")
    listen = f"--web.listen-address=127.0.0.1:{BLACKBOX_PORT}"
    with quiet(), Process(*command, listen, namespace=namespace, port=BLACKBOX_PORT) as process:
        yield process


@contextlib.contextmanager
def asking(namespace: Namespace, module: str, targets: Sequence[str], interval: float, out: Path) -> Iterator[None]:
    """Asks blackbox_exporter for a probe of each target every `interval` seconds, beside us. `out`: what it told."""
    listed = out.with_suffix(".targets")
    listed.write_text("\n".join(targets))
    command = (sys.executable, "-m", "tests.bench.peers", module, str(interval), str(listed), str(out))
    with quiet(), Process(*command, namespace=namespace, cwd=CODE) as process:
        yield
        if process.popen.poll() is not None:
            raise NotMeasured(f"whoever asks blackbox_exporter ended: {last_words(process)}")


def blackbox_cost(
    namespace: Namespace, directory: Path, module: str, targets: Sequence[str], interval: float, seconds: float
) -> Cost:
    """What the probes of `seconds` cost it."""
    out = directory / "asked.json"
    with blackbox(namespace, directory) as process, asking(namespace, module, targets, interval, out):
        time.sleep(1.5 + interval)
        before, used = _told(out), cpu_seconds(process.pid)
        time.sleep(seconds)
        used, after = cpu_seconds(process.pid) - used, _told(out)
        if after["failed"] > FAILED_MOST * after["probes"]:
            raise NotMeasured(f"{after['failed']:g} of {after['probes']:g} probes failed")
        return Cost(after["probes"] - before["probes"], used, memory_bytes(process.pid))


def _told(out: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(out.read_text())
    return found


def smokeping_cost(namespace: Namespace, addresses: Sequence[str], interval: float, seconds: float) -> Cost:
    """smokeping_prober, unprivileged, at the same pace."""
    command = (
        found("smokeping_prober") or "",
        f"--web.listen-address=127.0.0.1:{SMOKEPING_PORT}",
        f"--ping.interval={interval:g}s",
        "--log.level=error",
        "--config.file=",
        *addresses,
    )
    with quiet(), Process(*command, namespace=namespace, port=SMOKEPING_PORT) as process:
        time.sleep(2.0 + interval)  # it spreads the starts
        used = cpu_seconds(process.pid)
        time.sleep(seconds)
        return Cost(len(addresses) * seconds / interval, cpu_seconds(process.pid) - used, memory_bytes(process.pid))


def fping_cost(namespace: Namespace, addresses: Sequence[str], interval: float, seconds: float) -> Cost:
    """fping, which pings them in a loop."""
    gap = max(0.01, 1000.0 * interval / len(addresses) * 0.8)
    command = (found("fping") or "", "-l", "-q", "-p", f"{1000 * interval:g}", "-i", f"{gap:.2f}", *addresses)
    with quiet(), Process(*command, namespace=namespace) as process:
        time.sleep(1.0 + interval)
        used = cpu_seconds(process.pid)
        time.sleep(seconds)
        if process.popen.poll() is not None:
            raise NotMeasured(f"fping ended: {last_words(process)}")
        return Cost(len(addresses) * seconds / interval, cpu_seconds(process.pid) - used, memory_bytes(process.pid))


# -- the one who asks, a process of its own ----------------------------------------------------------------------------


async def _ask(
    module: str, target: str, interval: float, first: float, told: dict[str, float], rtts: list[object]
) -> None:
    request = (
        f"GET /probe?module={module}&target={target} HTTP/1.1\r\nHost: 127.0.0.1:{BLACKBOX_PORT}\r\n"
        "Accept: text/plain;version=0.0.4\r\nUser-Agent: Prometheus/3.5.0\r\n"
        "X-Prometheus-Scrape-Timeout-Seconds: 5\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", BLACKBOX_PORT)
    due = first
    while True:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += interval
        at = time.time()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"chunked" in head:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        told["probes"] += 1
        told["failed"] += b"\nprobe_success 1" not in body
        if module == "icmp":
            rtts.append((target, at, float(body.partition(b'phase="rtt"} ')[2].split()[0])))


async def _main(module: str, interval: float, targets: list[str], out: Path) -> None:
    told, rtts = {"probes": 0.0, "failed": 0.0}, list[object]()
    begin = time.monotonic() + 0.5
    async with asyncio.TaskGroup() as tasks:
        for place, target in enumerate(targets):
            first = begin + interval * place / len(targets)
            tasks.create_task(_ask(module, target, interval, first, told, rtts))
        while True:
            for path, text in ((out, told), (out.with_suffix(".rtts"), rtts)):
                new = path.with_suffix(path.suffix + ".new")
                new.write_text(json.dumps(text))
                new.replace(path)
            await asyncio.sleep(0.2 if module != "icmp" else 1.0)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]).read_text().split("\n"), Path(sys.argv[4])))
