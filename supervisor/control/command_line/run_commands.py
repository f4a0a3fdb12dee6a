"""The commands `run` and `check`: they load a TARGET. The runtime is imported when one of them is called."""

from __future__ import annotations

import inspect
import os
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from .choosing import complete_file
from .human import printable
from .tables import as_json, print_json

if TYPE_CHECKING:
    from orchestree.supervisor.control.settings.keys import Given
    from orchestree.supervisor.control.settings.shown import EffectiveValue
    from orchestree.supervisor.orchestrator import Orchestrator
    from orchestree.supervisor.order import StartStep

    from .target import Use

_Function = TypeVar("_Function", bound=Callable[..., Any])

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


_ON_SETTINGS: Final = """\
--set goes before --config, that before variables, they before the code. KEY is a field of
Orchestrator.Config (max_workers=4, history=none), agents.PATH.FIELD, for a field of the agent's
registration or of its own Config (agents.ingest/collector.interval=2), or supervisors.PATH.FIELD.
A variable is written ORCHESTREE_MAX_WORKERS, ORCHESTREE_AGENTS__INGEST_COLLECTOR__INTERVAL.
VALUE is JSON or text; TOML has no null. Children that come only when the tree runs cannot be set,
nor those that `before_start` adds.
"""


def _takes_target(command: _Function) -> _Function:
    """Give a command its TARGET, and what can be set of it from outside of its code."""
    command.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{_ON_SETTINGS}"
    for decorate in (
        click.option("--config", "file", metavar="FILE.toml", help="The same keys as tables: [agents.writer-a]."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one field; can be repeated."),
        click.argument("arguments", nargs=-1),
        click.argument("target", shell_complete=complete_file),
    ):
        command = decorate(command)
    return command


@click.command()
@_takes_target
@click.option("--log-json", is_flag=True, help="Log one JSON object a line instead of text.")
def run(target: str, arguments: tuple[str, ...], settings: tuple[str, ...], file: str | None, log_json: bool) -> None:
    """Run TARGET until it ends or Ctrl-C stops it.

    What stands after `--` is handed on: ARGUMENTS are sys.argv[1:] of TARGET.

    Exit codes: 0 done, 1 something was parked, failed or left waiting, 70 the root supervisor gave up,
    78 bad TARGET or configuration, 128 + n stopped at once by a second signal.
    """
    given = _given(settings, file)

    from orchestree.supervisor.logging_setup import setup_logging

    def use(orchestrator: Orchestrator) -> NoReturn:
        raise Finished(_run(orchestrator, given))

    setup_logging(json=log_json)
    _allow_many_files()
    try:
        use(_load(target, arguments, use))
    except Finished as finished:
        sys.exit(finished.exit_code)


@click.command()
@_takes_target
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
    given = _given(settings, file)

    def use(orchestrator: Orchestrator) -> NoReturn:
        code = _check(orchestrator, given, show_all=show_all, as_json=as_json)
        sys.stdout.flush()
        os._exit(code)  # what the file would do at its end belongs to a tree that has run

    sys.exit(_check(_load(target, arguments, use), given, show_all=show_all, as_json=as_json))


def _given(options: tuple[str, ...], file: str | None) -> Given:
    """Return what was set from outside, not yet compared with the tree."""
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.control.settings import keys

    settings = []
    for text in options:
        setting = keys.option(text)
        if setting is None:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint="--set")
        settings.append(setting)
    try:
        tables = {} if file is None else keys.toml_tables(_content(file), file)
    except SpecError as error:
        raise BadTarget(str(error)) from None
    return keys.Given(tuple(settings), file or "", tables, keys.variables(os.environ))


def _content(file: str) -> str:
    from orchestree.strategies.errors import did_you_mean

    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [path.name for path in Path(file).parent.glob("*.toml")]
        raise BadTarget(f"{file}: no such file{did_you_mean(Path(file).name, near)}") from None
    except (OSError, ValueError) as error:
        raise BadTarget(f"{file}: {getattr(error, 'strerror', None) or error}") from None


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
