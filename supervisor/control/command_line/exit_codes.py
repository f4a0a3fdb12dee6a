"""What the commands' exit codes mean, and how errors become one line and an exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import click

from .client import Refused, Unreachable
from .human import printable


class Exit(IntEnum):
    """Exit codes of all commands but `run` and `check`."""

    DONE = 0
    FAILED = 1
    """The reason is the one line on stderr."""
    USAGE = 2
    """Wrong options, or several orchestrators to choose from."""
    NO_ORCHESTRATOR = 3
    NOT_PERMITTED = 4
    WAIT_RAN_OUT = 5
    """What was asked for goes on."""
    UNHEALTHY = 6
    """Only `ps --check`: something is parked or wedged."""
    INTERRUPTED = 130
    """Ctrl-C, as Docker has it. What was asked for goes on."""


REFUSALS: Final = frozenset({401, 403})


class Failed(click.ClickException):
    """Ends the command with one line on stderr."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        """Keep the line, in which nothing is left that a terminal obeys."""
        super().__init__(printable(" ".join(message.split())))
        self.code = exit_code
        self.exit_code = exit_code  # type: ignore[misc]  # one class for all codes, where click has one for each


def failure_of(error: Refused | Unreachable) -> Failed:
    """Return how a command ends that met `error`."""
    if isinstance(error, Unreachable):
        return Failed(str(error), Exit.NO_ORCHESTRATOR)
    return Failed(error.detail, Exit.NOT_PERMITTED if error.status in REFUSALS else Exit.FAILED)


class Command(click.Command):
    """A command whose errors are one line each, and which Ctrl-C ends without a word."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        try:
            return super().invoke(ctx)
        except (Refused, Unreachable) as error:
            raise failure_of(error) from None
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
