"""Recordings of a newer original than Debian bookworm has: the samples of every case, in one file.

`python -m tests.blackbox.recordings PROGRAM`, as root, writes them anew. PROGRAM is the newer blackbox_exporter: Debian
sid's package holds it (`apt-get download prometheus-blackbox-exporter` with sid among apt's sources, `dpkg-deb -x`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.blackbox import compare
from tests.blackbox.cases import CASES
from tests.blackbox.lab import Lab
from tests.lab import Namespace

FILE = Path(__file__).parent.parent / "golden" / "blackbox" / "0.28.txt"


def load() -> dict[str, str]:
    """Case -> exposition without comments."""
    _, *parts = FILE.read_text().split("\n=== ")
    return {name: samples + "\n" for name, _, samples in (part.partition("\n") for part in parts)}


def _duration(text: str) -> float:
    return compare.parse(text)["probe_duration_seconds", ()]


def record(program: str) -> str:
    """Probe every case of the matrix with this program."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prober-test-")))
        lab = Lab(directory, lambda label: stack.enter_context(Namespace(label)))
        stack.enter_context(lab.servers())
        stack.enter_context(lab.exporter(program, "0.28"))
        found = lab.probe_all(9115, CASES)
        for _ in range(3):  # what took long because the machine was busy is recorded again
            slow = [case for case in CASES if _duration(found[case.name]) >= compare.WAIT]
            again = lab.probe_all(9115, slow, at_once=1)
            found |= {name: text for name, text in again.items() if _duration(text) < _duration(found[name])}
    head = "".join(f"# {line.strip()}\n" for line in (version.stdout + version.stderr).splitlines() if line.strip())
    cases = ""
    for name, text in found.items():
        samples = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        cases += f"\n=== {name}\n{samples}"
    return (
        "# Recorded, not written: what the original answered in the lab, less HELP and TYPE. By\n"
        f"{head}# Certificates have the same fields in each run, but other keys: the fingerprints are of that day.\n"
        f"{cases}\n"
    )


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(record(sys.argv[1]))
