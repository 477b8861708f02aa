"""What ARCHITECTURE.md says of the code's structure is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import prober

ROOT = Path(prober.__file__).parent
TEXT = (ROOT.parent / "ARCHITECTURE.md").read_text()
LINES_MAX = 150

PURE = ("model", "failures", "schedule", "judge")
CLOCKS = {"time", "asyncio"}

# The document names the layers by what is most of them. The rest stands beside these.
BESIDE = {
    "duration": "schedule",
    "regex": "schedule",
    "clock": "schedule",
    "alarms": "schedule",
    "deadline": "schedule",
    "logs": "schedule",
    "printable": "schedule",
    "selfmetrics": "metrics",
    "textformat": "schedule",
    "gzipparts": "schedule",
    "scopeviews": "scopes",
    "shard": "schedule",
    "ledger_cli": "api",
    "sentence": "api",
    "live": "metrics",
    "hints": "schedule",
    "status": "report",
    "once": "web",
}


def module_of(file: Path) -> str:
    """`prober.net.dial` of prober/net/dial.py, `prober.net` of its __init__.py."""
    return ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(file): file for file in sorted(ROOT.rglob("*.py"))}


@cache  # and not once for all at the top: every process of pytest-xdist's imports this file in every part
def imported(module: str) -> set[str]:
    """The modules that a file imports, wherever in it: also those for type checking alone and those in functions."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides where it leads"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & FILES.keys()) or {node.module}
    return found


def part_of(module: str) -> str:
    """`net` of prober.net.dial: what the layers are made of."""
    return module.split(".")[1] if "." in module else ""


def ranks() -> dict[str, int]:
    """Part -> the number of its layer, the lowest 0."""
    sentence = re.search(r"Imports point one way: ([^.]+)\.", TEXT)
    assert sentence is not None
    layers = [[part.strip(" `\n") for part in layer.split(",")] for layer in sentence[1].split("<-")]
    found = {part: rank for rank, layer in enumerate(layers) for part in layer}
    found.update({part: found[other] for part, other in BESIDE.items()})
    return found | {"": -1, "__main__": len(layers)}


def test_every_part_has_its_layer() -> None:
    assert {part_of(module) for module in FILES} == set(ranks())


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    rank = ranks()
    for other in imported(module):
        if other.split(".")[0] == "prober":
            assert rank[part_of(other)] <= rank[part_of(module)], f"{module} imports {other}"


@pytest.mark.parametrize("part", PURE)
def test_the_core_knows_no_clock_and_no_library(part: str) -> None:
    modules = [module for module in FILES if part_of(module) == part]
    assert modules
    for module in sorted(set().union(*(imported(module) for module in modules))):
        top = module.split(".")[0]
        assert top not in CLOCKS, module
        if top == "prober":
            assert part_of(module) in PURE, module
        else:
            assert top in sys.stdlib_module_names, module


def test_imports_run_in_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done or module not in FILES:
            return
        for other in sorted(imported(module)):
            visit(other, (*path, module))
        done.add(module)

    for module in FILES:
        visit(module, ())


IMPORT_EACH = """
import importlib, os, sys
import prober.app, prober.cli  # so that the libraries are there, and the children take no time
for name in [name for name in sys.modules if name.split(".")[0] == "prober"]:
    del sys.modules[name]
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException as error:
            print(f"{module}: {error!r}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_each_module_can_be_imported_first() -> None:
    """Importing a module runs its package's __init__ first, which may need what is not there yet."""
    # Where that __init__ imports modules of its own package, it makes no difference which of them was asked for.
    whole = {module for module in FILES if any(other.startswith(f"{module}.") for other in imported(module))} - {
        "prober"
    }
    modules = {module for module in FILES if module.rpartition(".")[0] not in whole} - {"prober.__main__"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *sorted(modules)],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    assert done.stdout == ""


def test_the_document_is_short() -> None:
    assert len(TEXT.splitlines()) <= LINES_MAX


def test_every_module_that_the_document_names_exists() -> None:
    table = re.findall(r"^\| ((?:`[\w/]+`(?:, )?)+) \|", TEXT, flags=re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`([\w/]+)`", cell)}
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).is_dir() if name.endswith("/") else (ROOT / f"{name}.py").is_file(), name
    parts = {part_of(module) for module in FILES} - {"", "__main__"}
    assert parts - {name.strip("/") for name in named} <= {"regex", "duration"}, (
        "modules that the document is silent on"
    )
