"""The command `completion`: what a shell needs to complete commands, options, paths and names."""

from __future__ import annotations

import click

from .exit_codes import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    For bash or zsh, put `eval "$(orchestree completion bash)"` into ~/.bashrc, or the same with zsh into ~/.zshrc.

    For fish, put `orchestree completion fish | source` into ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click has these three
    click.echo(found(context.find_root().command, {}, "orchestree", "_ORCHESTREE_COMPLETE").source())
