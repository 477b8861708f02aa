"""What a command has no use for it does not import: it would be most of its time. And no probe waits for an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import prober
from tests.unit.test_architecture import imported

ROOT = Path(prober.__file__).parent.parent
TARGETS = ROOT / "targets" / "north-korea.yml"

RUN = """
import sys
from prober.__main__ import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
sys.stderr.write("\\n".join(sys.modules))
"""
LISTED = "import sys, {0}; sys.stderr.write(chr(10).join(sys.modules))"

HEAVY = {"aiohttp", "cryptography", "h2", "brotli", "jinja2", "prometheus_client", "rich"}
"""What serves, asks and shows."""
OF_FILES = {"pydantic", "pydantic_core", "yaml", "dns", "prober.config", "prober.probes", "prober.contract"}
"""What knows what may stand in a file."""
OF_THE_AGENT = {
    f"prober.{name}" for name in ("app", "blackbox.probe", "judge", "ledger", "metrics", "page", "report", "web")
}


def modules_after(code: str, *arguments: str) -> set[str]:
    """The modules that a new process has when it has run this."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split("\n"))


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"], ["completion", "bash"]], ids=str)
def test_what_only_prints_imports_next_to_nothing(arguments: list[str]) -> None:
    found = modules_after(RUN, *arguments)
    assert {"click", "prober.cli"} <= found
    assert not found & (HEAVY | OF_FILES | OF_THE_AGENT | {"asyncio"})


def test_check_imports_what_knows_files() -> None:
    found = modules_after(RUN, "check", str(TARGETS))
    assert found >= OF_FILES
    assert not found & (HEAVY | OF_THE_AGENT)


def test_no_probe_waits_for_an_import() -> None:
    """What is imported at the first probe of a kind, the agent has when it starts: it would stop the agent for long."""
    there = modules_after(LISTED.format("prober.app"))
    for kind in ("prober.probes.http", "prober.blackbox.kind"):
        late = imported(kind) - modules_after(LISTED.format(kind)) - {"__future__"}
        assert late
        assert late <= there
    assert "cryptography.x509" in there  # of prober.net.tls
