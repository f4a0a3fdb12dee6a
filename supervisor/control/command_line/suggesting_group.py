"""A group of commands that says which one was probably meant. Newer releases of click do that themselves."""

from __future__ import annotations

import click


class SuggestingGroup(click.Group):
    """A mistyped command ends with exit code 2 and one suggestion."""

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
