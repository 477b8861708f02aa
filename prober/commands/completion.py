"""`prober completion`: what a shell needs to complete our commands, options and names."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from prober.commands.options import CONTEXT

_VARIABLE: Final = "_PROBER_COMPLETE"
_HOW: Final = {
    "bash": "# Now:     source <(prober completion bash)\n"
    "# Always:  prober completion bash > ~/.local/share/bash-completion/completions/prober\n",
    "zsh": "# Now:     source <(prober completion zsh)\n"
    '# Always:  prober completion zsh > "${fpath[1]}/_prober"     (a directory that you may write)\n',
    "fish": "# Now:     prober completion fish | source\n"
    "# Always:  prober completion fish > ~/.config/fish/completions/prober.fish\n",
}


@click.command(context_settings=CONTEXT, short_help="Complete our words in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(sorted(_HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what SHELL needs to complete commands, options, and names of entities, scopes and targets.

    What is printed begins with how to have it in every new shell.

    \b
    source <(prober completion bash)
    prober completion zsh > "${fpath[1]}/_prober"
    prober completion fish > ~/.config/fish/completions/prober.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # click has these three
    source = found(ctx.find_root().command, {}, "prober", _VARIABLE)
    # bash's own would first ask which bash it is, by running it
    script = source.source_template % source.source_vars()
    head, newline, rest = script.partition("\n")
    if head.startswith("#compdef"):  # zsh wants this line first
        click.echo(f"{head}{newline}{_HOW[shell]}{rest}".rstrip("\n"))
    else:
        click.echo(f"{_HOW[shell]}{script}".rstrip("\n"))
