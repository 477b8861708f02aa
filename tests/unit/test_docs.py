"""The documents say what is so. That what a running agent exports is documented: tests/e2e/test_exposition.py."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import prober
from prober.cli import cli
from prober.config import Settings, check_files, load
from prober.probes import PROBES
from prober.state import CERTIFICATE_EXPIRY

ROOT = Path(prober.__file__).parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def test_the_list_of_metrics_is_what_make_docs_writes() -> None:
    text = runpy.run_path(str(ROOT / "docs" / "generate.py"))["text"]()
    assert (ROOT / "docs" / "metrics.md").read_text() == text, "run make docs"


def test_the_list_of_metrics_has_no_name_twice() -> None:
    names = re.findall(r"^\| `([a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text(), flags=re.MULTILINE)
    assert len(names) > 50
    assert len(names) == len(set(names))


def test_the_fact_that_is_held_is_one_that_kinds_give() -> None:
    giving = {kind.name for kind in PROBES.values() if CERTIFICATE_EXPIRY in {spec.key for spec in kind.facts}}
    assert giving == {"dns", "http", "tcp"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_local_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (ROOT / link).exists(), f"{name}: {link}"


def indented(text: str) -> list[str]:
    """The lines of a document's indented blocks, without their comments."""
    return [line.partition(" #")[0].strip() for line in re.findall(r"^    (.+)$", text, flags=re.MULTILINE)]


def commands(name: str) -> list[list[str]]:
    """The `prober` commands in a document, as arguments."""
    text = (ROOT / name).read_text()
    inline = re.findall(r"`(\.venv/bin/prober [^`]+)`", text)
    words = [shlex.split(line.partition(" >")[0]) for line in [*indented(text), *inline]]
    return [line[1:] for line in words if line and line[0] in ("prober", ".venv/bin/prober")]


@pytest.mark.parametrize("arguments", commands("README.md"), ids=" ".join)
def test_the_commands_of_the_readme_are_understood(arguments: list[str]) -> None:
    name, *rest = arguments
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command is not None
        command.make_context(name, list(rest))


def test_the_readme_shows_every_command() -> None:
    assert {arguments[0] for arguments in commands("README.md")} == set(cli.commands)


@pytest.mark.parametrize(
    "arguments", [a for a in commands("README.md") if a[0] == "failures" or "--schema" in a], ids=" ".join
)
def test_the_commands_that_need_nothing_work(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prober", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    if "--schema" in arguments:
        assert json.loads(done.stdout)["properties"]
    else:
        assert "network_unreachable" in done.stdout


def test_the_targets_file_of_the_readme_is_a_good_one(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert block is not None
    file = tmp_path / "my-targets.yml"
    file.write_text(block[1])
    assert [str(problem) for problem in check_files([file]).problems] == []
    (entity,) = load(Settings(targets=(file,))).entities
    assert {check.kind for target in entity.targets for check in target.checks} == set(PROBES)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_knows_what_documents_tell_to_make(name: str) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    told = set(re.findall(r"(?:`|    |CI=true )make ([a-z]+)", (ROOT / name).read_text()))
    assert told <= known


def test_every_file_that_the_documents_name_exists() -> None:
    for name in DOCUMENTS:
        for path in re.findall(r"`((?:prober|tests|targets|docs|\.ci)/[\w./-]+\.\w+)`", (ROOT / name).read_text()):
            assert (ROOT / path).exists(), f"{name}: {path}"
