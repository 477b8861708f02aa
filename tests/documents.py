"""The documents as data, and a shell that runs their commands as they stand there.

A block of commands is indented by four spaces. HTML comments above it, which a reader of the page does not see, say how
a test runs it:

    <!-- not run: WHY -->           it is not; what these are is listed in tests/e2e/test_documents.py
    <!-- terminal: NAME -->         it keeps running in a terminal of its own, until
    <!-- Ctrl-C: NAME -->           stands somewhere further down
    <!-- until: REGEX -->          it is repeated until its output matches; what keeps running is waited for instead
    <!-- status: N -->              it ends with this status, and not with 0
    <!-- file: NAME -->             the fenced block below it is saved under this name
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

import prober
from tests.lab import Namespace, Process

ROOT: Final = Path(prober.__file__).parent.parent
WITHIN_SECONDS: Final = 60.0
"""How long a block may take, and how long it may have to be repeated."""

_NOT_OURS: Final = (".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info")
_COMMENT: Final = re.compile(r"<!-- (not run|terminal|Ctrl-C|until|status|file): (.+) -->$")


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    # What begins with a dot is a cache or an environment; a directory of those that `make` makes holds others' files.
    return sorted(p for p in found if not any(part.startswith(".") or part in ("build", "data") for part in p.parts))


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together; empty for a comment that stands alone (Ctrl-C)."""

    line: int
    commands: str
    told: dict[str, str] = field(default_factory=dict)


def blocks(path: Path) -> list[Block]:
    """What a document has a reader type, in order."""
    return list(_blocks((ROOT / path).read_text(encoding="utf-8").splitlines()))


def _blocks(lines: list[str]) -> Iterator[Block]:
    told: dict[str, str] = {}
    held: list[str] = []
    begins = 0
    fenced = False
    for number, line in enumerate([*lines, "end"], start=1):
        is_fence = line.lstrip().startswith("```")
        if not is_fence and (fenced or line.startswith("    ") or (held and not line)):
            begins = begins or number
            held.append(line if fenced else line.removeprefix("    "))
            continue
        if held and (not fenced or "file" in told):
            yield Block(begins, "\n".join(held).rstrip() + "\n", told)
        if held:
            held, begins, told = [], 0, {}
        if is_fence:
            fenced = not fenced
        elif (match := _COMMENT.match(line)) is not None and match[1] == "Ctrl-C":
            yield Block(number, "", {match[1]: match[2]})
        elif match is not None:
            told = {**told, match[1]: match[2]}
        elif line:
            told = {}  # what stood above text is about no block


def keys_of(schema: Any) -> Iterator[str]:
    """Every key that a JSON schema knows, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for inner in schema.values():
            yield from keys_of(inner)
    for inner in schema if isinstance(schema, list) else ():
        yield from keys_of(inner)


class Reader:
    """Somebody at a fresh clone without a network, who types what a document says."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        self.directory = directory / "prober"
        self._namespace = namespace
        self._terminals: dict[str, Process] = {}
        self._stack = ExitStack()
        copy_of_the_repository(self.directory)
        self._env = {"PYTHONPATH": str(self.directory), "PYTHONUNBUFFERED": "1"}
        _environment(self.directory / ".venv")

    def follow(self, path: Path) -> None:
        """Type everything that is to be run."""
        for block in blocks(path):
            if "not run" not in block.told:
                self._type(block, f"{path}:{block.line}")

    def _type(self, block: Block, place: str) -> None:
        if (name := block.told.get("Ctrl-C")) is not None:
            self._interrupt(name, place)
        elif (name := block.told.get("file")) is not None:
            (self.directory / name).write_text(block.commands)
        elif (name := block.told.get("terminal")) is not None:
            assert name not in self._terminals, f"{place}: the terminal {name} is taken"
            command = ("bash", "-e", "-c", block.commands)
            process = Process(*command, namespace=self._namespace, cwd=self.directory, env=self._env)
            self._terminals[name] = self._stack.enter_context(process)
            if (until := block.told.get("until")) is not None:
                self._await(process, re.compile(until), place)
        else:
            self._run(block, place)

    def _await(self, process: Process, wanted: re.Pattern[str], place: str) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while not wanted.search(process.output()):
            self._look_after_terminals(place)
            if time.monotonic() >= deadline:
                self._fail(f"{place}: {wanted.pattern} was not shown")
            time.sleep(0.05)

    def _run(self, block: Block, place: str) -> None:
        """In the terminal where nothing keeps running."""
        wanted = re.compile(block.told.get("until", ""), re.MULTILINE)
        expected = int(block.told.get("status", 0))
        deadline = time.monotonic() + WITHIN_SECONDS
        while True:
            done = subprocess.run(
                self._namespace.command("bash", "-e", "-o", "pipefail", "-c", block.commands),
                cwd=self.directory,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=WITHIN_SECONDS,
            )
            if done.returncode == expected and wanted.search(done.stdout):
                return
            if "until" not in block.told or time.monotonic() >= deadline:
                self._fail(f"{place}: status {done.returncode}, {block.told}\n{block.commands}\n{done.stdout}")
            self._look_after_terminals(place)
            time.sleep(1.0)  # a command costs a second of CPU

    def _look_after_terminals(self, place: str) -> None:
        for name, process in self._terminals.items():
            if process.popen.poll() is not None:
                self._fail(f"{place}: what ran in the terminal {name} has ended")

    def _interrupt(self, name: str, place: str) -> None:
        """Ctrl-C: SIGINT to all that runs in the terminal."""
        process = self._terminals.pop(name)
        if process.popen.poll() is not None:
            self._fail(f"{place}: what ran in the terminal {name} has ended before:\n{process.output()}")
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(WITHIN_SECONDS)
        assert status in (0, 130, -signal.SIGINT), f"{place}: {status}\n{process.output()}"

    def _fail(self, text: str) -> None:
        shown = (f"--- terminal {name}:\n{process.output()[-4000:]}" for name, process in self._terminals.items())
        pytest.fail("\n".join([text, *shown]), pytrace=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        left = sorted(self._terminals)
        self._stack.close()
        assert error is not None or not left, f"still running at the end: {left}"


def copy_of_the_repository(directory: Path) -> Path:
    """What a fresh clone would have, in a directory that does not exist yet."""
    shutil.copytree(ROOT, directory, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_OURS))
    return directory


def _environment(directory: Path) -> None:
    """A .venv that `make` takes for set up: this Python, and the copy's code (PYTHONPATH)."""
    (directory / "bin").mkdir(parents=True)
    for name, command in (("python", f'"{sys.executable}"'), ("prober", f'"{sys.executable}" -m prober')):
        script = directory / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
    for stamp in (".made", ".runtime", ".dev"):  # newer than pyproject.toml, which the copy has with its old time
        (directory / stamp).touch()
