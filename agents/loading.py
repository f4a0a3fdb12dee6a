"""Executing a user's file for its definitions only: whatever would act at its top level ends the loading.

So a plain script without a main guard can be loaded by the fork server, and by ``orchestree run``. What the file
would do at its end (``finally``, ``with``) must not be done by then: it may belong to the tree that runs. So where
that is possible the loader goes on inside the call that would act, and the file is never returned to.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

from orchestree.strategies.errors import NotRunning

USER_MAIN: Final = "__orchestree_main__"
"""The one name under which a file is loaded that is nobody's module, in every process."""

GoOn = Callable[[], NoReturn]
"""What is done instead of the first call that would act; it does not return."""

_loading = False
_instead: GoOn | None = None
_agent_process = False


class StopLoading(SystemExit):
    """Raised by the first call of a file being loaded that would act; what it has defined so far is kept.

    A ``SystemExit``, so that a thread which the file has started ends without a word.
    """


def refuse_if_copy(call: str, *, defines: bool = False) -> None:
    """Return if this is the orchestrator itself; every method of it that acts calls this first.

    Args:
        call: for the message, such as ``start()``.
        defines: the call only adds to the definition of a tree, which a file being loaded may do anywhere.

    Raises:
        StopLoading: a file is being loaded.
        NotRunning: this is an agent's process.
    """
    if _loading and defines:
        return
    if _loading:
        _stop_loading(call)
    if _agent_process:
        raise NotRunning(
            f"{call}: this is a copy of the orchestrator inside an agent's process; "
            "only the one in the process that started the tree can act"
        )


def _stop_loading(call: str) -> NoReturn:
    global _loading, _instead
    go_on = _instead
    # In another thread, or below an event loop, there is no going on: the file has to be left.
    if go_on is None or threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop():
        raise StopLoading(call)
    _loading, _instead = False, None
    go_on()


@contextmanager
def loading(instead: GoOn | None = None) -> Iterator[None]:
    """Let `refuse_if_copy` end the loading of a file, or (`instead`) go on, until the block is left."""
    global _loading, _instead
    before = (_loading, _instead)
    _loading, _instead = True, instead
    try:
        yield
    finally:
        _loading, _instead = before


def enter_agent_process() -> None:
    """Make `refuse_if_copy` refuse, from now on, as it does in an agent's process."""
    global _agent_process
    _agent_process = True


def load_file(path: str | Path, name: str = USER_MAIN, instead: GoOn | None = None) -> ModuleType:
    """Execute a file as the module `name` and return it; anew at every call.

    At the first call that would act `instead` is called, if it can be, and the file is never returned to.

    A ``SystemExit`` ends the loading as `StopLoading` does. So does the end of the file. Any other exception
    is passed on, and the module is forgotten.
    """
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(Path(path).read_bytes(), str(path), "exec", dont_inherit=True)
    return _execute(module, lambda: exec(code, module.__dict__), instead)


def load_module(name: str, instead: GoOn | None = None) -> ModuleType:
    """Import the module `name`, if it is not there yet, with the same tolerance as `load_file`.

    Raises:
        ModuleNotFoundError: there is none.
    """
    if name in sys.modules:
        return sys.modules[name]
    with loading():
        spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module, execute = importlib.util.module_from_spec(spec), spec.loader.exec_module
    module = _execute(module, lambda: execute(module), instead)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _execute(module: ModuleType, body: Callable[[], None], instead: GoOn | None) -> ModuleType:
    name = module.__name__
    sys.modules[name] = module
    try:
        with loading(instead):
            body()
    except (StopLoading, SystemExit):
        pass
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules.get(name, module)  # a module may put something else into its own place
