"""The lab, the original and our agent, once for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.blackbox import recordings
from tests.blackbox.cases import CASES
from tests.blackbox.lab import Lab, Reply
from tests.e2e.agent import PORT, Agent, open_directory
from tests.lab import Namespace, require_program, require_root

ORIGINAL = "prometheus-blackbox-exporter"
ORIGINAL_PORT = 9115


@dataclass(frozen=True)
class Sides:
    """What both sides said. `theirs` by version, `ours`: case -> exposition; `ask_*`: more questions, of a path."""

    theirs: Mapping[str, Mapping[str, str]]
    ours: Mapping[str, str]
    ask_original: Callable[..., Reply]
    ask_ours: Callable[..., Reply]
    directory: Path


@pytest.fixture(scope="session")
def sides() -> Iterator[Sides]:
    """The whole matrix, probed by the original and by our agent on the same servers."""
    require_root()
    program = require_program(ORIGINAL)
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        lab = Lab(directory, lambda label: stack.enter_context(Namespace(label)))
        stack.enter_context(lab.servers())
        agent = stack.enter_context(Agent(lab.client, "--config", lab.settings(), root=True, wait=False))
        stack.enter_context(lab.exporter(program, "0.23", ORIGINAL_PORT))
        old = lab.probe_all(ORIGINAL_PORT, [case for case in CASES if case.since == "0.23"])
        agent.ready()
        yield Sides(
            {"0.23": old, "0.28": recordings.load()},
            lab.probe_all(PORT, CASES),
            lambda path, headers=None: lab.ask(ORIGINAL_PORT, path, headers),
            lambda path, headers=None: lab.ask(PORT, path, headers),
            directory,
        )
