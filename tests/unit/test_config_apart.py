"""Reading a configuration beside one that is in use: what is equal is the same object, in a child process or not."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import pytest

from prober.config import Config, ConfigError, Settings, apart, load
from prober.config.apart import load_beside

HEAD = "entity: {0}\ntargets:\n"
TARGET = "  - {{name: {0}, checks: [{{icmp: {{address: 192.0.2.1}}}}, {{tcp: {{address: '{0}.example:80'}}}}]}}\n"


def write(directory: Path, entity: str, *targets: str) -> Path:
    file = directory / f"{entity}.yml"
    file.write_text(HEAD.format(entity) + "".join(map(TARGET.format, targets)))
    return file


@pytest.fixture(params=["child", "thread"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(apart, "CHECKS_MIN", 0 if request.param == "child" else 10**9)
    monkeypatch.setattr(apart, "PIECE", 2)
    word: str = request.param
    return word


def test_what_is_equal_is_taken_from_before(tmp_path: Path, how: str) -> None:
    files = (write(tmp_path, "one", "a", "b", "c"), write(tmp_path, "two", "d"))
    settings = Settings(targets=files, references=references(tmp_path))
    before = load(settings)
    assert load_beside(before, settings).entities is before.entities

    write(tmp_path, "one", "a", "x", "c")
    after = load_beside(before, settings)
    assert after == load(settings)
    assert after.entities[1] is before.entities[1]
    assert after.entities[0] is not before.entities[0]
    assert [one is other for one, other in zip(after.entities[0].targets, before.entities[0].targets, strict=True)] == [
        True,
        False,
        True,
    ]
    assert gc.isenabled()


def test_a_check_that_stays_in_a_target_that_changed_is_the_same(tmp_path: Path, how: str) -> None:
    file = write(tmp_path, "one", "a")
    settings = Settings(targets=(file,), references=references(tmp_path))
    before = load(settings)
    file.write_text(file.read_text().replace("name: a,", "name: a, title: A,").replace("192.0.2.1", "192.0.2.2"))
    (old,), (new,) = before.entities[0].targets, load_beside(before, settings).entities[0].targets
    assert new.title == "A"
    assert new.checks[0] != old.checks[0]
    assert new.checks[1] is old.checks[1]


def test_every_problem_arrives(tmp_path: Path, how: str) -> None:
    file = write(tmp_path, "one", "a")
    settings = Settings(targets=(file,), references=references(tmp_path))
    before = load(settings)
    file.write_text("entity: one\ntargets: [{name: a, checks: [{icmp: {adress: x}}, {tpc: {}}]}]\n")
    with pytest.raises(ConfigError) as theirs:
        load_beside(before, settings)
    with pytest.raises(ConfigError) as ours:
        load(settings)
    assert theirs.value.problems == ours.value.problems
    assert len(ours.value.problems) >= 2


@pytest.mark.parametrize("child", ["print('hello')", "import sys; sys.exit(1)", "raise SystemExit"])
def test_where_the_child_does_not_do_its_work_the_agent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, child: str
) -> None:
    monkeypatch.setattr(apart, "CHECKS_MIN", 0)
    monkeypatch.setattr(apart, "_CHILD", child)
    settings = Settings(targets=(write(tmp_path, "one", "a"),), references=references(tmp_path))
    before = load(settings)
    assert load_beside(before, settings) == before
    assert [record.name for record in caplog.records] == ["prober.config.apart"]


def test_a_machine_that_starts_no_child_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError("no more processes")

    settings = Settings(targets=(write(tmp_path, "one", "a"),), references=references(tmp_path))
    before: Config = load(settings)
    monkeypatch.setattr(apart, "CHECKS_MIN", 0)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert load_beside(before, settings).entities is before.entities


def references(directory: Path) -> Path:
    file = directory / "references.yml"
    file.write_text("references: [{name: r, network: AS1, checks: [{icmp: {address: 192.0.2.9}}]}]\n")
    return file
