"""docs/blackbox.md, the migration guide: its settings are good ones, and its tables say what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

import prober
from prober.blackbox.policy import REASONS
from prober.cli import cli
from prober.config import check_files, load_settings
from prober.config.settings import Limits, ProbeEndpoint

TEXT = (Path(prober.__file__).parent.parent / "docs" / "blackbox.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"(?:^ {4,}|`)(prober (?:run|check|outages)[^`#\n]*)", TEXT, flags=re.MULTILINE)


def block(begin: str) -> str:
    (found,) = (text for text in BLOCKS if begin in text)
    return str(found)


def test_the_settings_and_targets_are_good_ones(tmp_path: Path) -> None:
    (tmp_path / "blackbox.yml").write_text("modules: {http_2xx: {prober: http}}\n")
    settings = block("# settings.yml").replace("web: {config_file: web.yml}", "")
    (tmp_path / "settings.yml").write_text(settings)
    (tmp_path / "targets.yml").write_text(block("# targets.yml"))
    files = [tmp_path / name for name in ("blackbox.yml", "settings.yml", "targets.yml")]
    assert [str(problem) for problem in check_files(files).problems] == []
    endpoint = load_settings(tmp_path / "settings.yml").probe_endpoint
    assert endpoint.enabled
    assert len(endpoint.allow) == 7


def test_the_other_blocks_are_yaml() -> None:
    assert len(BLOCKS) == 4
    for text in BLOCKS:
        assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_understood(command: str) -> None:
    _, name, *rest = shlex.split(command)
    with click.Context(cli) as context:
        found = cli.get_command(context, name)
        assert found is not None
        found.make_context(name, list(rest))


def test_every_reason_is_in_the_table() -> None:
    table = TEXT.partition("| `prober_probe_refused_info{reason}`")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| ([^|]+) \|", table, flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(REASONS)


def test_the_defaults_are_what_they_are() -> None:
    rows = dict(re.findall(r"^\| `((?:probe_endpoint|limits)\.\w+)` \| ([0-9.]+) \|", TEXT, flags=re.MULTILINE))
    assert len(rows) == 6
    for name, value in rows.items():
        section, _, key = name.partition(".")
        model = ProbeEndpoint() if section == "probe_endpoint" else Limits()
        assert getattr(model, key) == float(value), name
