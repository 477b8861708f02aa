"""A large set of targets read on several cores: the same as read in one go, and the same words for what is wrong."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from functools import cached_property
from pathlib import Path

import pytest
from pydantic import ValidationError

from prober.blackbox.kind import KINDS
from prober.config import ConfigError, Settings, load
from prober.config import shares as shares_module
from prober.config.parse import parse_document
from prober.config.problems import Problem
from prober.config.shares import ShareFailed, cores, in_processes, shares
from prober.config.targets import TargetsReader
from prober.contract import Options

LOADING = importlib.import_module("prober.config.load")  # `prober.config.load` is the function

# Tests run beside threads of their framework, which a child here never asks for anything.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

TARGET = "  - {{name: {0}, checks: [{{icmp: {{address: 192.0.2.1}}}}, {{tcp: {{address: '{0}.example:80'}}}}]}}\n"
OF_NETWORK = "  - {{name: {0}, network: n, checks: [{{icmp: {{address: {1}}}}}]}}\n"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "SHARE_BYTES_MIN", 1)


def references(directory: Path) -> Path:
    file = directory / "references.yml"
    file.write_text("references:\n  - {name: r, network: AS1, checks: [{icmp: {address: 192.0.2.9}}]}\n")
    return file


def write(directory: Path, **texts: str) -> tuple[Path, ...]:
    files = []
    for name, text in texts.items():
        files.append(directory / f"{name}.yml")
        files[-1].write_text(text)
    return tuple(files)


def entity(name: str, *targets: str, head: str = "") -> str:
    return f"entity: {name}\n{head}targets:\n" + "".join(map(TARGET.format, targets))


def test_files_are_divided_in_order_by_size(tmp_path: Path) -> None:
    files = write(tmp_path, a="x" * 60, b="x" * 20, c="x" * 20, d="x" * 100)
    assert shares(files, 2) == [list(files[:3]), list(files[3:])]
    assert shares(files, 1) == [list(files)]
    assert [path for share in shares(files, 3) for path in share] == list(files)
    assert shares((*files, tmp_path / "none.yml"), 2) == [[*files, tmp_path / "none.yml"]]
    assert shares((), 2) == []
    assert shares(write(tmp_path, e="", f=""), 2) == [[tmp_path / "e.yml", tmp_path / "f.yml"]]


def test_little_is_not_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "SHARE_BYTES_MIN", 100)
    files = write(tmp_path, a="x" * 100, b="x" * 99)
    assert len(shares(files, 4)) == 1
    assert len(shares((*files, *write(tmp_path, c="x")), 4)) == 2


def test_the_same_comes_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(
        tmp_path,
        a=entity("one", "a", "b", head="title: One\nreferences: [r]\nnetworks: {n: {prefix: 192.0.2.0/24}}\n"),
        b=entity("two", "c", head="sites: {s: {title: S}}\n"),
        # The first entity goes on in another share, and is in a network of the first.
        c="entity: one\ncountry: KP\ntargets:\n" + OF_NETWORK.format("d", "192.0.2.4"),
        d=entity("three", "e"),
    )
    settings = Settings(targets=files, references=references(tmp_path))
    expected = load(settings)
    monkeypatch.setattr(LOADING, "read_context", None)  # what reading in one go would ask
    for number in (2, 3, 4):
        found = load(settings, cores=number)
        assert found == expected
        assert [entity.name for entity in found.entities] == ["one", "two", "three"]
    assert found.entities[0].networks[0].prefix == "192.0.2.0/24"
    assert [target.name for target in found.entities[0].targets] == ["a", "b", "d"]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("entity: [\n", id="no YAML"),
        pytest.param(entity("two", "b b"), id="a bad name"),
        pytest.param(entity("two", "a"), id="a target of the first file"),
        pytest.param(entity("one", "b", head="title: Other\n"), id="another title"),
        pytest.param(entity("two", "b", head="networks: {n: {prefix: 192.0.2.0/24}}\n"), id="a network of the first"),
        pytest.param(entity("two", "b", head="sites: {s: {}}\n"), id="a site of the first"),
        pytest.param(entity("two", "b", head="references: [q]\n"), id="an unknown reference"),
        pytest.param("entity: one\ntargets:\n" + OF_NETWORK.format("b", "198.51.100.1"), id="outside the network"),
        pytest.param("entity: two\ntargets:\n" + OF_NETWORK.format("b", "192.0.2.1"), id="no such network"),
        pytest.param(entity("two", "r"), id="named like a reference"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
def test_what_is_wrong_is_said_in_the_same_words(tmp_path: Path, last: str, turned: bool) -> None:
    head = "title: One\nnetworks: {n: {prefix: 192.0.2.0/24}}\nsites: {s: {}}\n"
    files = write(tmp_path, a=entity("one", "a", head=head), b=last)
    settings = Settings(targets=files[::-1] if turned else files, references=references(tmp_path))
    with pytest.raises(ConfigError) as expected:
        load(settings)
    with pytest.raises(ConfigError) as found:
        load(settings, cores=2)
    assert found.value.problems == expected.value.problems


def test_a_file_that_is_named_twice_is_noticed(tmp_path: Path) -> None:
    (file,) = write(tmp_path, a="entity: one\n")
    settings = Settings(targets=(file, file), references=references(tmp_path))
    with pytest.raises(ConfigError, match="named twice"):
        load(settings, cores=2)


def test_a_child_that_ends_early_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, a=entity("one", "a"), b=entity("two", "b"))
    settings = Settings(targets=files, references=references(tmp_path))
    expected = load(settings)
    parent, read = os.getpid(), LOADING.read_all
    killed = []

    def killed_in_the_child(*arguments: object) -> object:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        killed.append(True)
        return read(*arguments)

    monkeypatch.setattr(LOADING, "read_all", killed_in_the_child)
    assert load(settings, cores=2) == expected
    assert len(killed) > 2


def fails_elsewhere(share: list[Path]) -> list[str]:
    if share != [Path("a")]:
        raise ValueError("of which nobody is told")
    return ["done", "with it"]


def test_whoever_cannot_do_a_share_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert in_processes(fails_elsewhere, [[Path("a")]]) == ["done", "with it"]
    assert in_processes(fails_elsewhere, [[Path("a")]] * 3) == ["done", "with it"] * 3
    with pytest.raises(ShareFailed):
        in_processes(fails_elsewhere, [[Path("a")], [Path("b")]])
    with pytest.raises(ValueError, match="nobody"):
        in_processes(fails_elsewhere, [[Path("b")], [Path("a")]])
    assert capfd.readouterr() == ("", "")


def test_a_machine_that_starts_no_process_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("no more processes")

    files = write(tmp_path, a=entity("one", "a"), b=entity("two", "b"))
    settings = Settings(targets=files, references=references(tmp_path))
    expected = load(settings)
    monkeypatch.setattr(os, "fork", refuse)
    assert load(settings, cores=2) == expected


def test_nobody_is_left_behind_when_the_parent_is_killed(tmp_path: Path) -> None:
    """A child that has more to say than a pipe holds would wait for ever for a reader, if it were one itself."""
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from prober.config.shares import in_processes\n"
        "def work(share):\n"
        "    if share == ['parent']:\n"
        "        time.sleep(60)\n"
        "    Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    return [b'x' * 1_000_000] * 3\n"
        "in_processes(work, [['parent'], ['child'], ['child']])\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as parent:
        try:
            wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        finally:
            parent.kill()
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert len(children) == 2
    wait_for(lambda: not any(Path("/proc", str(child), "cmdline").exists() for child in children))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_only_a_process_with_one_thread_divides_its_work() -> None:
    script = (
        "import threading, time\n"
        "from prober.config.shares import cores\n"
        "print(cores())\n"
        "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
        "print(cores())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    most = min(len(os.sched_getaffinity(0)), shares_module.CORES_MAX)
    assert done.stdout.split() == [str(most), "1"]
    assert 1 <= cores() <= most


OPTIONS = {
    "icmp": "{address: 192.0.2.1, packets: 3, packet_interval: 100ms}",
    "tcp": "{address: '192.0.2.1:25', send: a, tls: {server_name: a.example}}",
    "dns": "{server: 192.0.2.1, query: a.example, type: SOA, expect: {rcode: [NOERROR]}}",
    "http": "{url: 'http://a.example/', headers: {A: b}, expect: {status: [200, 404]}}",
    "module": "{name: m, target: a.example}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_is_handed_over_whole(kind: str) -> None:
    text = "entity: e\nsites: {s: {}}\ntargets:\n  - name: t\n    title: T\n    site: s\n    hosted_in: KP\n"
    text += f"    require: all\n    interval: 30s\n    checks: [{{{kind}: {OPTIONS[kind]}, name: n, timeout: 7s}}]\n"
    problems: list[Problem] = []
    reader = TargetsReader(KINDS, problems, {})  # no word on modules: a check of one is taken as it stands
    reader.read(parse_document("targets.yml", text.encode()))
    assert problems == []
    (target,) = reader.contributions()[0].targets
    (check,) = target.checks
    for name in dir(type(check.options)):  # what is worked out once is handed over or worked out again
        if isinstance(getattr(type(check.options), name), cached_property):
            getattr(check.options, name)
    found = pickle.loads(pickle.dumps(target))
    assert found == target
    assert repr(found) == repr(target)
    (other,) = found.checks
    assert isinstance(check.options, Options)
    assert isinstance(other.options, Options)
    assert other.key == "t/n"
    assert other.options.model_fields_set == check.options.model_fields_set
    assert other.options.__dict__ == check.options.__dict__
    assert other.options.model_copy() == check.options
    told = replace(check, prober="http")
    assert pickle.loads(pickle.dumps(told)) == told
    for frozen, field in (
        (found, "name"),
        (other, "kind"),
        (other.options, next(iter(other.options.model_fields_set))),
    ):
        with pytest.raises((FrozenInstanceError, ValidationError)):
            setattr(frozen, field, "other")
