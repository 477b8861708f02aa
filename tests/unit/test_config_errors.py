"""Every configuration error and its exact text: golden/config/NAME.txt is what NAME.yml, or what is in NAME/, gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prober.blackbox.kind import KINDS
from prober.config import ConfigError, check_files
from prober.config.messages import PYDANTIC_CODES
from prober.config.parse import read_document
from prober.config.problems import Code

GOLDEN = Path(__file__).parent.parent / "golden" / "config"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.txt"))

TESTED_ELSEWHERE = {
    Code.NO_MODULES,  # test_probe_endpoint.py: what the settings lack the command line may give
    Code.FILE_TOO_LARGE,  # test_config_parse.py: no file of 64 MiB belongs into a repository
    Code.UNREADABLE,  # test_config_parse.py: depends on the file system
    # test_config_messages.py: nothing in our files can be wrong in this way yet
    "list_type",
}


def files_of(name: str) -> list[Path]:
    """The files of a fixture, relative to the directory of the fixtures. A missing file is a fixture too."""
    return sorted(Path(name).glob("*.yml")) if (GOLDEN / name).is_dir() else [Path(f"{name}.yml")]


@pytest.mark.parametrize("name", NAMES)
def test_error_has_its_exact_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    problems = check_files(files_of(name)).problems
    expected = (GOLDEN / f"{name}.txt").read_text("utf-8").replace("{kinds}", ", ".join(KINDS))
    assert "".join(f"{problem}\n" for problem in problems) == expected
    assert problems, "a fixture without an error"


@pytest.mark.parametrize("name", NAMES)
def test_error_lines_are_well_formed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, sorted; every message has a remedy, and none speaks pydantic."""
    monkeypatch.chdir(GOLDEN)
    problems = check_files(files_of(name)).problems
    for problem in problems:
        assert str(problem).isprintable()
        assert ";" in problem.message or problem.code == "value_error"  # the kinds' own words
        assert "Input should be" not in problem.message
        assert "Value error" not in problem.message
    for file in {problem.file for problem in problems}:
        lines = [problem.line for problem in problems if problem.file == file]
        assert lines == sorted(lines)


def test_every_fixture_has_its_text() -> None:
    fixtures = {path.stem for path in GOLDEN.iterdir() if path.is_dir() or path.suffix == ".yml"}
    assert fixtures - set(NAMES) == set()


def test_every_kind_of_error_has_a_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    seen = {problem.code for name in NAMES for problem in check_files(files_of(name)).problems}
    assert (set(Code) | PYDANTIC_CODES) - seen == TESTED_ELSEWHERE
    assert seen - (set(Code) | PYDANTIC_CODES) == set()


def test_a_named_pipe_that_nobody_writes_into_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="the file holds nothing"):
        read_document(pipe)
