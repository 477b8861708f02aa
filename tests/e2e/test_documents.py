"""What README.md and docs/getting-started.md have a reader type works as written, in a fresh clone, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.documents import Reader, blocks
from tests.lab import Namespace, require_program

DOCUMENTS: Final = (Path("README.md"), Path("docs/getting-started.md"))

NOT_RUN: Final = {
    "README.md": [
        "it is what runs this",
        "takes half a minute; tests/unit/test_incidents.py replays it",
        "needs docker and the network",
    ],
    "docs/getting-started.md": [
        "needs root and the network",
        "the test runs in a copy of the repository",
        "takes half a minute; tests/unit/test_incidents.py replays it",
        "needs docker and the network",
    ],
}
"""Why a block is not run. Each is a command that nobody notices when it breaks: keep them few."""

OUTER_MAKE: Final = ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
"""What `make test ARGS=...` hands down to its tests. A reader's shell has none of it, and `make run` would heed it."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_the_commands_run_as_written(
    path: Path, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("bash", "curl", "make", "unshare"):
        require_program(program)
    for name in OUTER_MAKE:
        monkeypatch.delenv(name, raising=False)
    with Reader(tmp_path, namespace) as reader:
        reader.follow(path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_what_is_not_run_is_listed(path: Path) -> None:
    found = [block.told["not run"] for block in blocks(path) if "not run" in block.told]
    assert found == NOT_RUN[str(path)]
