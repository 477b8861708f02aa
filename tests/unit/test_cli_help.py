"""Every command's help: short, within 80 columns, with examples that are understood; and completion."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from prober.cli import cli

COMMANDS = sorted(cli.commands)
ROOT = Path(__file__).parents[2]


def examples(command: click.Command) -> list[list[str]]:
    """The `prober` commands in a help text, as arguments, without what is said of them two blanks behind."""
    found = []
    for line in (command.help or "").splitlines():
        line = re.split(r" {2,}| > ", line.strip())[0]
        line = re.sub(r"^source <\((.*)\)$", r"\1", line)
        if line.startswith("prober "):
            found.append(shlex.split(line)[1:])
    return found


def understood(arguments: list[str]) -> str:
    """The command that these arguments are for. Raises click.ClickException for what it does not understand."""
    name, *rest = arguments
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command is not None, name
        command.make_context(name, rest)
    return name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example_that_is_understood(name: str) -> None:
    found = examples(cli.commands[name])
    assert found
    assert {understood(arguments) for arguments in found} == {name}


def test_the_overview_shows_what_is_used_every_day() -> None:
    shown = {understood(arguments) for arguments in examples(cli)}
    assert shown == {"run", "check", "probe", "status", "outages", "page", "note", "report", "replay"}


def test_what_is_not_understood_is_seen_here() -> None:
    with pytest.raises(click.UsageError):
        understood(["outages", "--colour"])


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal(name: str) -> None:
    done = CliRunner().invoke(cli, [*([name] if name else []), "--help"], prog_name="prober", terminal_width=80)
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "..." not in (done.stdout.partition("Commands:")[2])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_what_lists_something_has_json() -> None:
    options = {name: {word for one in command.params for word in one.opts} for name, command in cli.commands.items()}
    assert {name for name, words in options.items() if "--json" in words} == set(COMMANDS) - {
        "run",
        "page",
        "completion",
    }


# -- completion --------------------------------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What is offered for the last of these words."""
    shell = BashComplete(cli, {}, "prober", "_PROBER_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_commands_options_and_names_are_completed(tmp_path: Path) -> None:
    file = tmp_path / "targets.yml"
    file.write_text("entity: e\ntargets:\n  - {name: abc.example, checks: [{tcp: {address: '127.0.0.1:9'}}]}\n")
    assert completed("st") == ["status"]
    assert completed("outages", "--on") == ["--ongoing"]
    assert completed("note", "x", "--entity", "nor") == ["north-korea"]
    assert "star-kp-176" in completed("outages", "--name", "star")
    assert completed("probe", "-t", str(file), "a") == ["abc.example"]


def test_a_bad_file_completes_to_nothing(tmp_path: Path) -> None:
    assert completed("probe", "-t", str(tmp_path / "absent.yml"), "a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"prober completion {shell}" in done.stdout
    assert f"_PROBER_COMPLETE={shell}_complete" in done.stdout
    if shell == "zsh":
        assert done.stdout.startswith("#compdef prober\n")
    if shutil.which(shell) is None:  # what click makes is click's business; that bash takes it is seen in any case
        assert shell != "bash"
        return
    checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True, timeout=30, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_has_it_after_sourcing(tmp_path: Path) -> None:
    """What the script defines is called as bash would at a press of Tab."""
    script = CliRunner().invoke(cli, ["completion", "bash"]).stdout
    program = tmp_path / "prober"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m prober "$@"\n')
    program.chmod(0o755)
    call = (
        'COMP_WORDS=(prober outages --on); COMP_CWORD=2; _prober_completion prober --on outages; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{call}; echo "${{COMPREPLY[@]}}"'],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "--ongoing" in done.stdout, (done.stdout, done.stderr)
