"""What the commands' exit codes mean, and how errors become one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def writing() -> Iterator[None]:
    """Turn into `Failed` that stdout takes no more; a reader that has gone is left to click.

    Nothing but writing to stdout may raise an OSError in the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        with suppress(OSError):  # a stdout that is no file
            # What could not be written is still in its buffer, and Python would try again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failed(f"cannot write to stdout: {(error.strerror or str(error)).lower()}") from None


class Command(click.Command):
    """A command whose errors are one line each."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Parse the command's words, and perhaps show its help."""
        if sys.stdout is None:
            raise Failed("cannot write to stdout: it is closed")
        with writing():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        try:
            with writing():
                return super().invoke(ctx)
        except (Refused, Unreachable) as error:
            raise failure_of(error) from None
