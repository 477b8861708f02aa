"""The documents say what is so. That what a running agent exports is documented: tests/e2e/test_exposition.py.

That what README.md and docs/getting-started.md have a reader type works: tests/e2e/test_documents.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from math import ceil, log
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from prober.blackbox.kind import KINDS
from prober.config import Settings, check_files, json_schema, load
from prober.config.schema import SchemaKind
from prober.config.settings import Judgement
from prober.judge.responsiveness import CHANCE, LEAST, MOST, SUCCESS_WHEN_DOWN, threshold
from prober.probes import PROBES
from prober.state import CERTIFICATE_EXPIRY
from tests.documents import ROOT, keys_of

GENERATED = ROOT / "docs"
EXAMPLES = ROOT / "docs" / "examples"


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# what is generated


def test_the_generated_documents_are_what_make_docs_writes() -> None:
    assert {name: (GENERATED / name).read_text() for name in generate.DOCUMENTS} == generate.files(), "run make docs"


def test_the_list_of_metrics_has_no_name_twice() -> None:
    names = re.findall(r"^\| `([a-z_]+)`", (GENERATED / "metrics.md").read_text(), flags=re.MULTILINE)
    assert len(names) > 50
    assert len(names) == len(set(names))


def test_the_fact_that_is_held_is_one_that_kinds_give() -> None:
    giving = {kind.name for kind in PROBES.values() if CERTIFICATE_EXPIRY in {spec.key for spec in kind.facts}}
    assert giving >= {"dns", "http", "tcp"}


def test_the_examples_are_good_ones() -> None:
    files = sorted(path for path in EXAMPLES.glob("*.yml") if path.name != "web.yml")  # settings.yml reads that one
    assert [str(problem) for problem in check_files(files).problems] == []
    load(Settings(targets=(EXAMPLES / "targets.yml",), references=EXAMPLES / "references.yml",
                  blackbox=EXAMPLES / "blackbox.yml"))  # fmt: skip


def keys_in(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from keys_in(inner)
    for inner in value if isinstance(value, list) else ():
        yield from keys_in(inner)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("settings", "settings"), ("targets", "targets"), ("references", "references"), ("world", "world")],
)
def test_the_examples_have_every_key(name: str, kind: SchemaKind) -> None:
    has = set(keys_in(yaml.safe_load((EXAMPLES / f"{name}.yml").read_text())))
    wanted = set(keys_of(json_schema(kind)))
    if kind == "references":
        wanted &= {"defaults", "references", "name", "title", "network", "interval", "timeout", "checks"}
    if kind == "world":  # as in the settings
        wanted -= set(Judgement.model_fields) | set(keys_of(json_schema("settings")["$defs"]["Limits"]))
    not_by_hand = {"ca_file"}  # needs a certificate
    further = set(KINDS) - {"icmp", "dns", "http", "tcp", "module"}  # a kind that is being written is in no example
    for one in further:
        not_by_hand |= {one, *KINDS[one].options.model_fields}
    assert wanted - has <= not_by_hand


# what is told with numbers, and examples


@pytest.mark.parametrize("arguments", [["failures"], ["check", "--schema", "targets"]], ids=" ".join)
def test_the_commands_that_need_nothing_work(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prober", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    if "--schema" in arguments:
        assert json.loads(done.stdout)["properties"]
    else:
        assert "network_unreachable" in done.stdout


def test_the_targets_file_of_the_readme_is_a_good_one(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", text_of(Path("README.md")), flags=re.DOTALL)
    assert block is not None
    file = tmp_path / "my-targets.yml"
    file.write_text(block[1])
    assert [str(problem) for problem in check_files([file]).problems] == []
    (entity,) = load(Settings(targets=(file,))).entities
    assert {check.kind for target in entity.targets for check in target.checks} >= {"icmp", "dns", "http", "tcp"}


def test_judging_has_the_right_numbers_of_failures() -> None:
    text = text_of(Path("docs/judging.md"))
    (head,) = re.findall(r"^\| A \|(.+)\|$", text, flags=re.MULTILINE)
    rates = [float(cell.split()[0]) for cell in head.split("|")]
    rows = re.findall(r"^\| (0\.\d+)(?: and (?:above|below))? \|([\d |]+)\|$", text, flags=re.MULTILINE)
    assert [float(rows[0][0]), float(rows[-1][0])] == [MOST, LEAST]
    for answering, cells in rows:
        ratio = log((1 - SUCCESS_WHEN_DOWN) / (1 - float(answering)))
        assert [int(cell) for cell in cells.split("|")] == [ceil(threshold(60.0, rate) / ratio) for rate in rates]
    told = re.findall(r"\(A = (0\.\d+): (\d+); (0\.\d+): (\d+); (0\.\d+): (\d+)\)", text)
    numbers = [*told[0]]
    for answering, losses in zip(numbers[::2], numbers[1::2], strict=True):
        assert int(losses) == ceil(log(CHANCE) / log(1 - float(answering)))


def test_the_worked_example_gives_what_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prober", "replay", "docs/examples/judging.yml", "--score"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    shown = [line.rstrip() for line in done.stdout.splitlines()]
    quoted = re.findall(r"```text\n(.*?)```", text_of(Path("docs/judging.md")), flags=re.DOTALL)
    assert len(quoted) == 2
    for line in "".join(quoted).splitlines():
        assert line in shown, "docs/judging.md quotes another run: take over the new figures, in its tables too"
