"""From the TARGET of a command to the orchestrator that it names. Loads and looks; never starts anything."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from orchestree.agents.loading import USER_MAIN, GoOn, StopLoading, load_file, load_module, loading
from orchestree.strategies.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator

_T = TypeVar("_T")


class TargetError(SpecError):
    """TARGET does not lead to an orchestrator; the message is one line that says what to do."""


Use = Callable[["Orchestrator"], NoReturn]
"""What is done with an orchestrator inside the call of its file that would have started it."""


def load_target(text: str, use: Use | None = None) -> Orchestrator:
    """Load what `text` names and return its orchestrator, which has not been started.

    If it is a file that would start a tree itself, `use` is called there and then, and nothing is returned: what
    the file does at its end (``finally``, ``with``) must not be done before the tree has run.

    Args:
        use: must not return.
        text: ``path/to/file.py``, ``path/to/file.py:attribute`` or ``module:attribute``; an attribute may be
            dotted. The folder of the file, or the current one for a module, becomes ``sys.path[0]``.

    Raises:
        TargetError: for everything that is wrong with it, also what its own code raises while it is loaded.
    """
    place, attribute = _split(text)

    def found(module: ModuleType) -> Orchestrator:
        return _named(module, attribute, text) if attribute else _only_one(module, place)

    if attribute and not place.endswith(".py") and os.sep not in place:
        return found(_load_module(place))
    go_on: GoOn | None = None
    if use is not None:
        act = use
        go_on = lambda: act(found(sys.modules[USER_MAIN]))  # noqa: E731
    return found(_load_file(place, go_on))


def one_line(error: BaseException) -> str:
    """Return the message of `error` on one line."""
    return " ".join(str(error).split())


def _split(text: str) -> tuple[str, str]:
    """Return the file or module of `text`, and the attribute or an empty string."""
    if ":" not in text or os.path.exists(text):
        return text, ""
    place, _, attribute = text.rpartition(":")
    return place, attribute


def _load_file(text: str, instead: GoOn | None) -> ModuleType:
    path = Path(text)
    if path.is_dir():
        raise TargetError(f"{text}: is a folder, not a Python file")
    if not path.exists():
        hint = did_you_mean(path.name, [near.name for near in path.parent.glob("*.py")])
        other = "" if path.suffix or os.sep in text else "; a module is written module:attribute"
        raise TargetError(f"{text}: no such file{hint}{other}")
    if path.suffix != ".py":
        raise TargetError(f"{text}: not a Python file, its name does not end in .py")
    sys.path.insert(0, str(path.resolve().parent))
    return _guarded(text, lambda: load_file(path.absolute(), instead=instead))


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is neither the name of a module nor of a file that ends in .py")
    sys.path.insert(0, os.getcwd())
    try:
        return _guarded(name, lambda: load_module(name))
    except TargetError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}."):
            raise TargetError(f"{name}: no module named {missing.name!r} here or on sys.path") from None
        raise


def _guarded(what: str, load: Callable[[], _T]) -> _T:
    """Return ``load()``; what the user's code raises becomes a `TargetError` that says where."""
    try:
        return load()
    except TargetError:
        raise
    except StopLoading as stop:
        raise TargetError(
            f"{what}: calls {stop} itself; let it only make the Orchestrator, as in "
            "`def build() -> Orchestrator: return Orchestrator(...)`"
        ) from stop
    except (Exception, SystemExit) as error:
        where = _where(error)
        raise TargetError(f"{what}: {_said(error)}{f' ({where})' if where else ''}") from error


def _said(error: BaseException) -> str:
    if isinstance(error, SpecError):
        return one_line(error)
    message = error.msg if isinstance(error, SyntaxError) else one_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _where(error: BaseException) -> str:
    """Return ``file:line`` of the last frame of `error` in the user's own code, or an empty string."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename)}:{error.lineno}"
    return _own_line(traceback.extract_tb(error.__traceback__))


def own_place(frame: FrameType | None) -> str:
    """Return ``file:line`` of what a thread is doing in the user's own code, or an empty string."""
    return "" if frame is None else _own_line(traceback.extract_stack(frame))


def _own_line(stack: traceback.StackSummary) -> str:
    libraries = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    foreign = ("<frozen ", str(Path(sys.modules["orchestree"].__file__ or "").parent), *libraries)
    own = [frame for frame in stack if not frame.filename.startswith(foreign)]
    return f"{os.path.relpath(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _named(module: ModuleType, attribute: str, text: str) -> Orchestrator:
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            hint = did_you_mean(part, [name for name in dir(value) if not name.startswith("__")])
            raise TargetError(f"{text}: there is no {part!r}{hint}")
        value = getattr(value, part)
    return _result_of(value, text) if callable(value) else _checked(value, f"{text} is")


def _only_one(module: ModuleType, text: str) -> Orchestrator:
    """Return the orchestrator that `module` holds, or else that of its only function which can make one."""
    held: dict[int, str] = {}
    for name, value in vars(module).items():
        if isinstance(value, _orchestrator_class()):
            held.setdefault(id(value), name)
    names = list(held.values()) or _makers(module)
    if not names:
        raise TargetError(f"{text}: nothing to run in it: it holds no Orchestrator and no function that returns one")
    if len(names) > 1:
        raise TargetError(f"{text}: could run {', '.join(names)}; say which: {text}:{names[0]}")
    return _named(module, names[0], f"{text}:{names[0]}")


def _makers(module: ModuleType) -> list[str]:
    """Return the names of the functions of `module` that may make an orchestrator and need no arguments.

    Those are the ones whose annotation says so; if there are none, those that do not say what they return.
    """
    returns = {
        name: _return_type(value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
        if not (name.startswith("_") or inspect.iscoroutinefunction(value) or _required(value))
    }
    wanted = _orchestrator_class()
    declared = [name for name, kind in returns.items() if isinstance(kind, type) and issubclass(kind, wanted)]
    return declared or [name for name, kind in returns.items() if kind is inspect.Signature.empty]


def _return_type(function: Callable[..., object]) -> object:
    try:
        return typing.get_type_hints(function).get("return", inspect.Signature.empty)
    except Exception:  # an annotation whose names exist only for type checkers says nothing at run time
        return inspect.Signature.empty


def _required(function: Callable[..., object]) -> list[str]:
    """Return the names of the arguments that a call cannot do without."""
    optional_kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in optional_kinds
    ]


def _result_of(maker: Callable[..., object], text: str) -> Orchestrator:
    if isinstance(maker, type):
        raise TargetError(f"{text} is a class; name an Orchestrator or a function that returns one")
    if inspect.iscoroutinefunction(maker):
        raise TargetError(f"{text} is a coroutine function; only a plain function can return the Orchestrator")
    if required := _required(maker):
        raise TargetError(f"{text} needs {', '.join(required)}; it is called without arguments")
    with loading():
        made = _guarded(text, maker)
    return _checked(made, f"{text} returned")


def _checked(value: object, said: str) -> Orchestrator:
    if isinstance(value, _orchestrator_class()):
        return value
    shown = " ".join(f"{value!r:.60}".split())
    raise TargetError(f"{said} {shown}, not an Orchestrator or a function that returns one")


def _orchestrator_class() -> type[Orchestrator]:
    # Imported late: a mistyped TARGET is answered before the runtime is loaded.
    from orchestree.supervisor.orchestrator import Orchestrator

    return Orchestrator
