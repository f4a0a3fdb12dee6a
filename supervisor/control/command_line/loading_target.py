"""What all commands share that take a TARGET: its options, what was set from outside, and how it is loaded.

`run` and `check` call `load`; commands that only look (`simulate`, `explain`, `replay`) call `load_quietly`.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from .choosing import complete_file
from .exit_codes import Exit, writing

if TYPE_CHECKING:
    from orchestree.supervisor.control.settings.keys import Given
    from orchestree.supervisor.orchestrator import Orchestrator

    from .target import Use

_Function = TypeVar("_Function", bound=Callable[..., Any])

BAD_CONFIGURATION: Final = 78
"""Exit code (``EX_CONFIG`` of sysexits.h) when TARGET or its specification is at fault."""

RIGHT_FORM: Final = (
    'do that in an agent\'s setup(), or below `if __name__ == "__main__":`, and let the file only make its tree: '
    "`orchestrator = Orchestrator(...)`"
)


class BadTarget(click.ClickException):
    """Shown as one line without a traceback."""

    exit_code = BAD_CONFIGURATION


_TARGET: Final = click.argument("target", shell_complete=complete_file)

_ON_SETTINGS: Final = """\
--set goes before --config, that before variables, they before the code. KEY is a field of
Orchestrator.Config (max_workers=4, history=none), agents.PATH.FIELD, for a field of the agent's
registration or of its own Config (agents.ingest/collector.interval=2), or supervisors.PATH.FIELD.
A variable is written ORCHESTREE_MAX_WORKERS, ORCHESTREE_AGENTS__INGEST_COLLECTOR__INTERVAL.
VALUE is JSON or text; TOML has no null. Children that come only when the tree runs cannot be set,
nor those that `before_start` adds.
"""


def takes_target(command: _Function) -> _Function:
    """Give a command ``target arguments settings file``: its TARGET, and what can be set from outside of its code."""
    return _taking(command, _TARGET)


def takes_target_and_path(command: _Function) -> _Function:
    """Give a command what `takes_target` does, and ``path`` behind the TARGET: empty if none is given."""
    return _taking(command, click.argument("path", default=""), _TARGET)


def takes_tree(command: _Function) -> _Function:
    """Give a command what `takes_target` does, with its TARGET as the option ``--tree``: None if none is given."""
    return _taking(
        command,
        click.option(
            "--tree",
            "target",
            metavar="TARGET",
            shell_complete=complete_file,
            help="Whose policies decide; not started.",
        ),
    )


def _taking(command: _Function, *target: Callable[[_Function], _Function]) -> _Function:
    command.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{_ON_SETTINGS}"
    for decorate in (
        click.option("--config", "file", metavar="FILE.toml", help="The same keys as tables: [agents.writer-a]."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one field; can be repeated."),
        click.argument("arguments", nargs=-1),
    ):
        command = decorate(command)
    for decorate_with_target in target:
        command = decorate_with_target(command)
    return command


def given_settings(options: tuple[str, ...], file: str | None) -> Given:
    """Return what was set from outside (``--set`` and ``--config``), not yet compared with the tree.

    Raises:
        click.BadParameter: an option is malformed. BadTarget: the file is.
    """
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


def load(target: str, arguments: Sequence[str], use: Use) -> Orchestrator:
    """Return the orchestrator of `target`, see `load_target`; a file that would start it itself never comes back.

    Raises:
        BadTarget: it leads to none.
    """
    from .target import TargetError, load_target

    sys.argv = [target, *arguments]
    try:
        return load_target(target, use)
    except TargetError as error:
        raise BadTarget(str(error)) from None


def load_quietly(target: str, arguments: Sequence[str], given: Given, use: Callable[[Orchestrator], int]) -> NoReturn:
    """Load `target` for a command that only looks at the tree, call `use`, and end with the exit code it returns.

    `use` gets the orchestrator, which has not been started and has what was set from outside (`given`). It writes to
    stdout; what the file itself prints while it is loaded goes to stderr. Any `OrchestreeError` that it raises is
    one line on stderr and exit code 78, a `click.ClickException` its own; a reader of stdout that has gone is no error
    to speak of. A TARGET that leaves threads or processes running is refused with one line, and ends at once.

    Never returns: raises `SystemExit`, or leaves the process where the file itself, or a thread of it, would go on.
    """
    from .left_running import LeftRunning

    before, stdout = LeftRunning.now(), sys.stdout

    def look(orchestrator: Orchestrator) -> int:
        if left := LeftRunning.now().since(before):
            raise BadTarget(f"{target}: starts work when it is loaded: leaves {left} running; {RIGHT_FORM}")
        return _apply_and_use(orchestrator, given, use)

    def look_from_inside(orchestrator: Orchestrator) -> NoReturn:
        with redirect_stdout(stdout):
            code = _exit_code(lambda: look(orchestrator))
        LeftRunning.now().since(before).end_processes()
        _leave(code)  # what the file would do at its end belongs to a tree that has run

    def load_and_look() -> int:
        with redirect_stdout(sys.stderr):
            orchestrator = load(target, arguments, look_from_inside)
        return look(orchestrator)

    code = _exit_code(load_and_look)
    if left := LeftRunning.now().since(before):
        left.end_processes()
        _leave(code)
    sys.exit(code)


def _apply_and_use(orchestrator: Orchestrator, given: Given, use: Callable[[Orchestrator], int]) -> int:
    from orchestree.strategies.errors import OrchestreeError
    from orchestree.supervisor.control.settings.applying import apply

    from .target import one_line

    try:
        apply(given, orchestrator)
        return use(orchestrator)
    except OrchestreeError as error:
        raise BadTarget(one_line(error)) from None


def _exit_code(look: Callable[[], int]) -> int:
    """Return what `look` returns, or the exit code of what it raises, which it has shown."""
    try:
        with writing():
            code = look()
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # what could not be written is still there, and would be tried again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception:  # of ours: the file must not take it for one of the call that it made
        traceback.print_exc()
        return Exit.FAILED
    return code


def _leave(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)
