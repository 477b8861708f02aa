"""How true round trips are with thousands of requests in flight: what is reported less what the cable saw."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from tests.bench import peers
from tests.bench.lab import CODE, Agent, NotMeasured, host, quiet, settings, targets
from tests.lab import Namespace, Process, link

DELAY = 1.9
"""Seconds until the far end answers; with a request per target every 2 s, nearly all are in flight at any moment."""
INTERVAL = 2.0
SAME_SECONDS = 0.25
"""A report and a packet on the cable are of one probe if they were sent this close together."""

Trips = Mapping[str, Sequence[tuple[float, float]]]


def far(number: int) -> str:
    """The number's address at the far end (RFC 2544's network)."""
    return str(IPv4Address("198.18.0.1") + number // 200 * 256 + number % 200)


@contextlib.contextmanager
def cable(delay: float, directory: Path) -> Iterator[tuple[Namespace, Callable[[], Trips]]]:
    """A host whose cable leads to a far end that answers for 198.18.0.0/15; and what the cable saw, once it is over."""
    with host() as near, Namespace("far") as there:
        ends = link(near, there, "192.0.2.1/24", "192.0.2.2/24")
        near.route("198.18.0.0/15", "via", "192.0.2.2")
        there.route("local", "198.18.0.0/15", "dev", "lo")
        there.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
        out = directory / "trips.json"
        program = (sys.executable, "-m", "tests.bench.wire")
        with (
            quiet(),
            Process(*program, "answer", str(delay), namespace=there, cwd=CODE),
            Process(*program, "watch", ends[0], str(out), namespace=near, cwd=CODE) as watching,
        ):
            time.sleep(1.0)

            def saw() -> Trips:
                watching.stop()
                found: Trips = json.loads(out.read_text())
                return found

            yield near, saw


def errors(reported: Mapping[str, tuple[float, float]], trips: Trips) -> list[float]:
    """Reported less true seconds, of each address of which both are known: the packet closest to the report."""
    found = []
    for address, (at, seconds) in reported.items():
        close = min(trips.get(address, ()), key=lambda trip: abs(trip[0] - at), default=None)
        if close is not None and abs(close[0] - at) < SAME_SECONDS:
            found.append(seconds - close[1])
    return found


def _check(number: int) -> str:
    return f"{{icmp: {{address: {far(number)}}}}}"


def ours(count: int) -> tuple[list[float], float]:
    """Our errors, and how many requests were in flight."""
    with tempfile.TemporaryDirectory(prefix="prober-bench-") as path:
        directory = Path(path)
        directory.chmod(0o755)
        with cable(DELAY, directory) as (near, saw):
            files = targets(directory / "t.yml", count, _check, INTERVAL, timeout=(DELAY + INTERVAL) / 2)
            with Agent(near, settings(directory, files), directory / "data") as agent:
                agent.ready()
                agent.all_seen(count, 90.0)
                time.sleep(3 * INTERVAL)
                scraped = agent.scrape()
            in_flight = scraped.value("prober_probes_in_flight")
            trips = saw()
    names = {f"t{number}": far(number) for number in range(count)}
    at = dict(re.findall(r'^prober_check_last_run_timestamp_seconds{.*target="(\w+)".*} (\S+)$', scraped.text, re.M))
    rtt = dict(re.findall(r'^probe_icmp_duration_seconds{.*target="(\w+)".*phase="rtt"} (\S+)$', scraped.text, re.M))
    reported = {names[name]: (float(at[name]), float(seconds)) for name, seconds in rtt.items() if name in names}
    if len(reported) < 0.9 * count:
        raise NotMeasured(f"only {len(reported)} of {count} targets have a round trip")
    return errors(reported, trips), in_flight


def blackbox(count: int) -> list[float]:
    """blackbox_exporter's errors, as many in flight as it bears: it is asked for a tenth of the probes."""
    with tempfile.TemporaryDirectory(prefix="prober-bench-") as path:
        directory = Path(path)
        directory.chmod(0o755)
        with cable(DELAY, directory) as (near, saw):
            out = directory / "asked.json"
            wanted = [far(number) for number in range(max(20, count // 10))]
            with peers.blackbox(near, directory), peers.asking(near, "icmp", wanted, INTERVAL, out):
                time.sleep(4 * INTERVAL + 2.0)
            trips = saw()
        told = json.loads(out.with_suffix(".rtts").read_text())
    return errors({target: (at, seconds) for target, at, seconds in told}, trips)


def fping(count: int) -> list[float]:
    """fping's errors: it prints a line for each reply, at which time it does not say, so the last are compared."""
    with tempfile.TemporaryDirectory(prefix="prober-bench-") as path:
        directory = Path(path)
        directory.chmod(0o755)
        with cable(DELAY, directory) as (near, saw):
            wanted = [far(number) for number in range(count)]
            gap = 1000 * INTERVAL / count * 0.8
            program = peers.found("fping") or ""
            command = (program, "-C3", "-q", "-t2500", f"-p{1000 * INTERVAL:g}", f"-i{gap:.2f}", *wanted)
            done = near.run(*command, check=False)
            trips = saw()
    found = []
    for line in (done.stdout + done.stderr).splitlines():
        address, colon, times = line.partition(" : ")
        seconds = [float(word) / 1000 for word in times.split() if word != "-"] if colon else []
        true = [trip[1] for trip in trips.get(address.strip(), ())]
        if len(seconds) == len(true) == 3:
            found += [one - other for one, other in zip(seconds, true, strict=True)]
    return found
