"""The kind `module`: a module of blackbox.yml as a check in a targets file."""

from __future__ import annotations

from pathlib import Path

import pytest

from prober.blackbox.kind import KIND, KINDS, ModuleOptions
from prober.clock import SystemClock
from prober.config import ConfigError, Settings, check_files, load
from prober.contract import Io
from prober.deadline import StallMeter
from prober.failures import Failure, Operation
from prober.judge.detector import Detector
from prober.judge.records import Settings as JudgeSettings
from prober.judge.rollup import build
from prober.model import Check, Observation
from prober.runner import Runner
from prober.schedule import Budgets
from tests.fakes import NoPinger
from tests.leaks import assert_no_leaks
from tests.streams import USER_AGENT, Names, hang, saying, serving

MODULES = """
modules:
  http_2xx: {prober: http, timeout: 2s, http: {fail_if_body_not_matches_regexp: [ok]}}
  quick: {prober: http, timeout: 100ms}
  patient: {prober: http}
"""


def checks_in(directory: Path, check: str, modules: str = MODULES) -> list[Check]:
    """The checks of a targets file with this one, read with the settings that name the modules. Raises ConfigError."""
    (directory / "blackbox.yml").write_text(modules)
    (directory / "targets.yml").write_text(
        f"entity: e\ndefaults: {{timeout: 1s}}\ntargets:\n  - name: t\n    checks:\n      - {check}\n"
    )
    settings = Settings(targets=(directory / "targets.yml",), blackbox=directory / "blackbox.yml")
    return [check for entity in load(settings).entities for target in entity.targets for check in target.checks]


async def execute(check: Check) -> Observation:
    """One probe as the runner makes it."""
    runner = Runner(
        clock=SystemClock(),
        io=Io(Names({}), NoPinger(), USER_AGENT),
        kinds=KINDS,
        budgets=Budgets(500, 500),
        concurrency=1,
        meter=StallMeter(),
        sinks=(),
    )
    return await runner.execute(check)


async def test_a_module_is_judged_like_any_other_check(tmp_path: Path) -> None:
    for body, failed in ((b"ok", None), (b"no", (Operation.VALIDATE, Failure.HTTP_BODY))):
        async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)) as address:
            (check,) = checks_in(tmp_path, f'module: {{name: http_2xx, target: "http://{address}/"}}')
            async with assert_no_leaks():
                observation = await execute(check)
        assert (check.kind, check.name) == ("module", "module")
        assert observation.success is (failed is None)
        assert (observation.operation, observation.failure) == (failed or (None, None))
        assert observation.facts["status_code"] == 200
        assert observation.facts["failed_due_to_regex"] == float(failed is not None)
        assert {"resolve", "connect", "processing", "transfer"} <= set(observation.phases)
        assert observation.address == "127.0.0.1"


@pytest.mark.parametrize("name", ["quick", "patient"])
async def test_the_shorter_timeout_counts(tmp_path: Path, name: str) -> None:
    async with serving(hang) as address:
        (check,) = checks_in(tmp_path, f'{{module: {{name: {name}, target: "http://{address}/"}}, timeout: 300ms}}')
        observation = await execute(check)
    assert (observation.operation, observation.failure) == (Operation.RECEIVE, Failure.TIMEOUT)
    assert observation.duration_seconds >= (0.1 if name == "quick" else 0.3)


def test_a_check_stays_the_same_while_its_module_does(tmp_path: Path) -> None:
    """An outage goes on over a reload of the same files, and ends with the module that it was of."""
    written = 'module: {name: http_2xx, target: "http://192.0.2.1/"}'
    before, again = checks_in(tmp_path, written), checks_in(tmp_path, written)
    assert before == again
    assert before != checks_in(tmp_path, written, MODULES.replace("[ok]", "[fine]"))
    assert before == checks_in(tmp_path, written, MODULES.replace("100ms", "200ms"))


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://example.org:8080/x", "example.org"),
        ("example.org", "example.org"),
        ("example.org:25", "example.org"),
        ("192.0.2.1:25", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:53", "2001:db8::1"),
        ("wss://[2001:db8::1]/", "2001:db8::1"),
        ("/run/socket", "127.0.0.1"),
        ("http://[x", "http://[x"),
    ],
)
def test_the_host_is_what_budgets_are_for(target: str, host: str) -> None:
    assert KIND.host(ModuleOptions(name="m", target=target)) == host


def test_files_are_checked_together(tmp_path: Path) -> None:
    checks_in(tmp_path, 'module: {name: http_2xx, target: "http://192.0.2.1/"}')
    both = check_files([tmp_path / "blackbox.yml", tmp_path / "targets.yml"])
    assert not both.problems
    assert [(summary.kind, summary.modules) for summary in both.summaries] == [("blackbox", 3), ("targets", 0)]
    alone = check_files([tmp_path / "targets.yml"])
    assert not alone.problems, "without settings and modules nobody can tell which modules there are"
    (tmp_path / "blackbox.yml").write_text("modules: {other: {prober: icmp}}")
    (problem,) = check_files([tmp_path / "targets.yml", tmp_path / "blackbox.yml"]).problems
    assert 'no module "http_2xx"' in problem.message


def test_no_check_is_blamed_for_a_bad_blackbox_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        checks_in(tmp_path, 'module: {name: m, target: "http://192.0.2.1/"}', "modules: {m: {prober: gopher}}")
    assert [Path(problem.file).name for problem in raised.value.problems] == ["blackbox.yml"]
    (tmp_path / "blackbox.yml").unlink()
    settings = Settings(targets=(tmp_path / "targets.yml",))
    with pytest.raises(ConfigError, match="no such file"):
        load(settings.model_copy(update={"blackbox": tmp_path / "blackbox.yml"}))
    with pytest.raises(ConfigError, match="there are no modules; set blackbox:"):
        load(settings)


def test_the_judge_knows_a_module_by_what_it_asks(tmp_path: Path) -> None:
    """Over a reload, and over a restart, of which the snapshot has the text only: an edited module is another check."""

    def asks(modules: str) -> str:
        (check,) = checks_in(tmp_path, 'module: {name: http_2xx, target: "http://192.0.2.1/"}', modules)
        return Detector(check, JudgeSettings()).asks

    secret = MODULES.replace("fail_if", "bearer_token: s3cret, fail_if")
    assert asks(MODULES) == asks(MODULES)
    assert asks(MODULES) != asks(MODULES.replace("[ok]", "[fine]"))
    assert asks(secret) == asks(secret.replace("s3cret", "renewed")), "a new password is no new question"
    assert "s3cret" not in asks(secret)


@pytest.mark.parametrize(("module", "counted"), [("web", True), ("ping", False)])
def test_http_modules_are_http_checks_of_a_mirror(tmp_path: Path, module: str, counted: bool) -> None:
    """A site is up by its http checks, be they modules; a ping that answers does not make a dead site live."""
    (tmp_path / "blackbox.yml").write_text("modules: {web: {prober: http}, ping: {prober: icmp}}")
    (tmp_path / "targets.yml").write_text(
        f"""
entity: e
sites: {{paper: {{}}}}
targets:
  - name: mirror
    site: paper
    checks:
      - {{module: {{name: {module}, target: "192.0.2.1"}}, name: of-module}}
      - icmp: {{address: 192.0.2.1}}
"""
    )
    settings = Settings(targets=(tmp_path / "targets.yml",), blackbox=tmp_path / "blackbox.yml")
    (entity,) = load(settings).entities
    checks = [check for target in entity.targets for check in target.checks]
    nodes = build(entity, {check.key: Detector(check, JudgeSettings()) for check in checks})
    (site,) = (node for node in nodes if node.scope == "site")
    (mirror,) = site.children
    names = {leaf.name for leaf in mirror.children}
    assert names == ({"mirror/of-module"} if counted else {"mirror/of-module", "mirror/icmp"})
