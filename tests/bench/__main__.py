"""`make bench`: measures this agent and its peers in network namespaces without an uplink, writes docs/performance.md.

As root, for namespaces are made. ARGS="--quick" takes a look in less than two minutes and prints; ARGS="--parts cost"
measures some of it: cost (of a probe, beside the peers), accuracy (of round trips), scale (10,000 targets), outage (of
all of them), curve (100 to 100,000 checks, start and reload). ARGS="--rounds 5" repeats the cost more often. Before
each measurement, unless it is a quick look, it waits until the machine is as quick as it was, for five minutes at most.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from prober import __version__
from tests.bench import accuracy, cost, curve, peers, scale
from tests.bench.calm import Calm, additions, ticks
from tests.bench.figures import PARTS, Results
from tests.bench.lab import CODE, FAILURES, first_line, program
from tests.bench.page import PLOT, page
from tests.bench.plot import svg
from tests.lab import sweep

PAGE = CODE / "docs" / "performance.md"


class Progress:
    """What is being done, one line each on stderr, with the time."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        seconds = round(time.monotonic() - self._began)
        print(f"bench {seconds // 60:2}:{seconds % 60:02} {text}", file=sys.stderr, flush=True)

    @property
    def took(self) -> str:
        return f"{(time.monotonic() - self._began) / 60:.1f} minutes"


def machine() -> dict[str, str]:
    """What it ran on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    return {
        "machine": f"{len(os.sched_getaffinity(0))} processors ({model}), {memory:.0f} GiB",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def versions() -> dict[str, str]:
    """Who took part."""
    found = {"prober": f"{__version__}, aiohttp {version('aiohttp')}, pydantic {version('pydantic')}"}
    for name, flag in (("blackbox_exporter", "--version"), ("fping", "-v"), ("smokeping_prober", "--version")):
        if path := peers.found(name):
            found[name] = first_line(path, flag).partition("(branch")[0].removeprefix(f"{path}: ").strip(" ,")
    for name, flag in (("nginx", "-v"), ("nsd", "-v")):
        if path := program(name):
            found[name] = first_line(path, flag)
    return found


def measure(parts: Sequence[str], rounds: int, quick: bool, say: Progress) -> Results:
    """Measure these parts. What cannot be measured is said, and the rest goes on."""
    results = Results(machine(), versions())
    for name in peers.PROGRAMS:
        if peers.found(name) is None:
            results.skipped[name] = "not installed"
    calm = Calm(say)
    speeds, stolen = [additions()], {}
    for part in parts:
        begun = ticks()
        try:
            _part(part, rounds, quick, results, say, (lambda: None) if quick else calm.wait)
        except FAILURES as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            say(f"{part}: not measured: {why}")
            results.skipped[f"part {part}"] = why
        speeds.append(additions())
        taken, passed = (now - before for now, before in zip(ticks(), begun, strict=True))
        stolen[part] = taken / passed
    least, usual, most = min(speeds) * 1000, median(speeds) * 1000, max(speeds) * 1000
    results.machine["speed"] = f"a million additions in Python take {usual:.0f} ms ({least:.0f} to {most:.0f})"
    shares = ", ".join(f"{part} {share:.1%}" for part, share in stolen.items())
    results.machine["neighbours"] = f"took of the processors' time meanwhile (steal): {shares}"
    if calm.waited_seconds:
        results.machine["waited"] = f"{calm.waited_seconds / 60:.1f} minutes in all for a calm machine"
    return results


def _part(part: str, rounds: int, quick: bool, results: Results, say: Progress, calm: Callable[[], None]) -> None:
    if part == "cost":
        seconds = 2.0 if quick else 8.0
        counts = dict.fromkeys(cost.KINDS, 100 if quick else 400) | {"icmp": 200 if quick else 1_000}
        for number in range(rounds):
            calm()
            results.rounds.append(
                cost.one_round(seconds, counts, results.skipped, number % 2 == 1, lambda text: say(text))
            )
    elif part == "accuracy":
        count = 500 if quick else 5_000
        calm()
        say(f"accuracy: prober, {count} in flight")
        results.accuracy["prober"], results.in_flight = accuracy.ours(count)
        for name, run in (("blackbox_exporter", accuracy.blackbox), ("fping", accuracy.fping)):
            if name not in results.skipped:
                say(f"accuracy: {name}")
                results.accuracy[name] = run(count)
    elif part == "scale":
        calm()
        results.scale = scale.busy(500 if quick else 10_000, 10.0 if quick else 60.0, say)
    elif part == "outage":
        calm()
        results.outage = scale.outage(500 if quick else 10_000, 2_000 if quick else 5_000, say)
    else:
        for count in (100, 1_000) if quick else curve.INTERVALS:
            calm()
            results.curve[count], results.start = curve.one(count, 5.0 if quick else 20.0, say)
            results.scrapes[count] = results.start["scrape_cpu_seconds"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 where a part could not be measured; 2 for usage."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in two minutes, to standard output")
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of the cost; 3 if not given, 1 if quick")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("run it as root: it makes network namespaces")
    # Of a quick look the slow ones are left out: every check of those has to have had its turn first.
    parts = given.parts or (("cost", "accuracy", "curve") if given.quick else PARTS)
    sweep()  # what a run that was killed has left
    say = Progress()
    results = measure(parts, 1 if given.quick else given.rounds, given.quick, say)
    text = page(results, say.took)
    if given.quick or given.parts:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text)
        points = {checks: one.per_probe * 1e6 for checks, one in results.curve.items()}
        if points:
            PAGE.with_name(PLOT).write_text(svg(points, "CPU per ICMP probe by the number of checks", "us"))
        say(f"written: {PAGE.relative_to(CODE)}")
    return int(any(name.startswith("part ") for name in results.skipped))


if __name__ == "__main__":
    sys.exit(main())
