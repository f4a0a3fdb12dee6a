"""The commands `run` and `check`: they load a TARGET. The runtime is imported when one of them is called."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestree.supervisor.orchestrator import Orchestrator

    from .target import Use

BAD_CONFIGURATION = 78
"""Exit code (``EX_CONFIG`` of sysexits.h) when TARGET or its specification is at fault."""


class BadTarget(click.ClickException):
    """Shown as one line without a traceback."""

    exit_code = BAD_CONFIGURATION


class Finished(BaseException):
    """Carries the exit code of a tree out through the file that would have run it, past its ``finally``."""

    def __init__(self, exit_code: int) -> None:
        """Carry `exit_code`."""
        super().__init__(exit_code)
        self.exit_code = exit_code


@click.command()
@click.argument("target")
@click.argument("arguments", nargs=-1)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line instead of text.")
def run(target: str, arguments: tuple[str, ...], log_json: bool) -> None:
    """Run TARGET until it ends or Ctrl-C stops it.

    What stands after `--` is handed on: ARGUMENTS are sys.argv[1:] of TARGET.

    Exit codes: 0 done, 1 something was parked, failed or left waiting, 70 the root supervisor gave up,
    78 bad TARGET or configuration, 128 + n stopped at once by a second signal.
    """
    from orchestree.supervisor.logging_setup import setup_logging

    def use(orchestrator: Orchestrator) -> NoReturn:
        raise Finished(orchestrator.simple_join())

    setup_logging(json=log_json)
    _allow_many_files()
    try:
        use(_load(target, arguments, use))
    except Finished as finished:
        sys.exit(finished.exit_code)


@click.command()
@click.argument("target")
@click.argument("arguments", nargs=-1)
def check(target: str, arguments: tuple[str, ...]) -> None:
    """Check TARGET and print its start order.

    Nothing is started, so a `before_start` hook and modules that only fail in an agent's process are not
    seen. Exit code 78 if it is bad.
    """

    def use(orchestrator: Orchestrator) -> NoReturn:
        code = _show(orchestrator)
        sys.stdout.flush()
        os._exit(code)  # what the file would do at its end belongs to a tree that has run

    sys.exit(_show(_load(target, arguments, use)))


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: each process agent takes six."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a kernel may refuse what its own limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _show(orchestrator: Orchestrator) -> int:
    """Print the start order, or what is wrong; return the exit code."""
    from orchestree.strategies.errors import SpecError

    from .target import one_line

    try:
        steps = orchestrator.check()
    except SpecError as error:
        click.echo(f"Error: {one_line(error)}", err=True)
        return BAD_CONFIGURATION
    rows = [
        [
            f"{number}.",
            "  " * step.path.count("/") + step.path.rpartition("/")[2] + "/" * (step.kind == "supervisor"),
            step.executor or step.kind,
            step.restart,
            f"after {', '.join(step.depends_on)}" if step.depends_on else "",
        ]
        for number, step in enumerate(steps, start=1)
    ]
    kinds = [step.kind for step in steps]
    for line in _aligned(rows):
        click.echo(line)
    click.echo(f"ok: {_count(kinds.count('agent'), 'agent')}, {_count(kinds.count('supervisor'), 'supervisor')}")
    return 0


def _load(target: str, arguments: Sequence[str], use: Use) -> Orchestrator:
    from .target import TargetError, load_target

    sys.argv = [target, *arguments]
    try:
        return load_target(target, use)
    except TargetError as error:
        raise BadTarget(str(error)) from None


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return each row as one line, its cells padded to the widest of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
