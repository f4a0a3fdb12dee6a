"""The commands `run` and `check`: they load a TARGET. The runtime is imported when one of them is called."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, NoReturn

import click

from .human import printable
from .loading_target import BAD_CONFIGURATION, given_settings, load, takes_target
from .tables import as_json, print_json

if TYPE_CHECKING:
    from orchestree.supervisor.control.settings.keys import Given
    from orchestree.supervisor.control.settings.shown import EffectiveValue
    from orchestree.supervisor.orchestrator import Orchestrator
    from orchestree.supervisor.order import StartStep


class Finished(BaseException):
    """Carries the exit code of a tree out through the file that would have run it, past its ``finally``."""

    def __init__(self, exit_code: int) -> None:
        """Carry `exit_code`."""
        super().__init__(exit_code)
        self.exit_code = exit_code


@click.command()
@takes_target
@click.option("--log-json", is_flag=True, help="Log one JSON object a line instead of text.")
def run(target: str, arguments: tuple[str, ...], settings: tuple[str, ...], file: str | None, log_json: bool) -> None:
    """Run TARGET until it ends or Ctrl-C stops it.

    What stands after `--` is handed on: ARGUMENTS are sys.argv[1:] of TARGET.

    Exit codes: 0 done, 1 something was parked, failed or left waiting, 70 the root supervisor gave up,
    78 bad TARGET or configuration, 128 + n stopped at once by a second signal.
    """
    given = given_settings(settings, file)

    from orchestree.supervisor.logging_setup import setup_logging

    def use(orchestrator: Orchestrator) -> NoReturn:
        raise Finished(_run(orchestrator, given))

    setup_logging(json=log_json)
    _allow_many_files()
    try:
        use(load(target, arguments, use))
    except Finished as finished:
        sys.exit(finished.exit_code)


@click.command()
@takes_target
@click.option("--all", "show_all", is_flag=True, help="Also print values that are the default.")
@as_json
def check(
    target: str,
    arguments: tuple[str, ...],
    settings: tuple[str, ...],
    file: str | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """Check TARGET and print its start order, and which values hold and where each comes from.

    Nothing is started, so a `before_start` hook and modules that only fail in an agent's process are not
    seen. Exit code 78 if it is bad.
    """
    given = given_settings(settings, file)

    def use(orchestrator: Orchestrator) -> NoReturn:
        code = _check(orchestrator, given, show_all=show_all, as_json=as_json)
        sys.stdout.flush()
        os._exit(code)  # what the file would do at its end belongs to a tree that has run

    sys.exit(_check(load(target, arguments, use), given, show_all=show_all, as_json=as_json))


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: each process agent takes six."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a kernel may refuse what its own limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(orchestrator: Orchestrator, given: Given) -> int:
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.control.settings.applying import apply

    from .waiting_logged import WaitingLog

    try:
        apply(given, orchestrator)
    except SpecError as error:
        return _bad(error)
    with WaitingLog(orchestrator):
        return orchestrator.simple_join()


def _check(orchestrator: Orchestrator, given: Given, *, show_all: bool, as_json: bool) -> int:
    """Print what would be started with which values, or what is wrong; return the exit code."""
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.control.settings.applying import apply
    from orchestree.supervisor.control.settings.shown import DEFAULT, effective_values

    try:
        sources = apply(given, orchestrator)
        steps = orchestrator.check()
    except SpecError as error:
        return _bad(error)
    values = [one for one in effective_values(orchestrator, sources) if show_all or one.source != DEFAULT]
    if as_json:
        print_json({"start_order": [asdict(step) for step in steps], "values": [asdict(one) for one in values]})
    else:
        _show(steps, values)
    return 0


def _bad(error: Exception) -> int:
    from .target import one_line

    click.echo(f"Error: {one_line(error)}", err=True)
    return BAD_CONFIGURATION


def _show(steps: Sequence[StartStep], values: Sequence[EffectiveValue]) -> None:
    from orchestree.supervisor.control.settings.shown import as_text

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
    held = [[one.key, printable(as_text(one.value)), one.source] for one in values]
    for line in [*_aligned(rows), *[""] * bool(rows), *_aligned(held), *[""] * bool(held)]:
        click.echo(line)
    kinds = [step.kind for step in steps]
    click.echo(f"ok: {_count(kinds.count('agent'), 'agent')}, {_count(kinds.count('supervisor'), 'supervisor')}")


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return each row as one line, its cells padded to the widest of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
