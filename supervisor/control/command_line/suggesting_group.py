"""A group of commands that says which one was probably meant, as newer releases of click do, and obeys Ctrl-C."""

from __future__ import annotations

from typing import Any

import click

from .exit_codes import Exit, writing


class SuggestingGroup(click.Group):
    """A mistyped command ends with exit code 2 and one suggestion; Ctrl-C ends any of them without a word."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Parse what stands before the command, and perhaps show the help."""
        with writing():
            return super().make_context(*arguments, **settings)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name of the command, the command, and its arguments.

        Raises:
            click.UsageError: there is no such command.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            from orchestree.strategies.errors import did_you_mean

            raise click.UsageError(f"No such command {name!r}.{did_you_mean(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the command's own words, and call it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
