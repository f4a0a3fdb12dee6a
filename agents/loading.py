"""Executing a user's file for its definitions only: whatever would act at its top level ends the loading.

So a plain script without a main guard can be loaded by the fork server, and by ``orchestree run``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from orchestree.strategies.errors import NotRunning

USER_MAIN: Final = "__orchestree_main__"
"""The one name under which a file is loaded that is nobody's module, in every process."""

_loading = False
_agent_process = False


class StopLoading(BaseException):
    """Raised by the first call of a file being loaded that would act; what it has defined so far is kept."""


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
        raise StopLoading(call)
    if _agent_process:
        raise NotRunning(
            f"{call}: this is a copy of the orchestrator inside an agent's process; "
            "only the one in the process that started the tree can act"
        )


@contextmanager
def loading() -> Iterator[None]:
    """Let `refuse_if_copy` end the loading of a file, until the block is left."""
    global _loading
    before, _loading = _loading, True
    try:
        yield
    finally:
        _loading = before


def enter_agent_process() -> None:
    """Make `refuse_if_copy` refuse, from now on, as it does in an agent's process."""
    global _agent_process
    _agent_process = True


def load_file(path: str | Path, name: str = USER_MAIN) -> ModuleType:
    """Execute a file as the module `name` and return it; anew at every call.

    A ``SystemExit`` ends the loading as `StopLoading` does. So does the end of the file. Any other exception
    is passed on, and the module is forgotten.
    """
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(Path(path).read_bytes(), str(path), "exec", dont_inherit=True)
    return _execute(module, lambda: exec(code, module.__dict__))


def load_module(name: str) -> ModuleType:
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
    module = _execute(module, lambda: execute(module))
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _execute(module: ModuleType, body: Callable[[], None]) -> ModuleType:
    name = module.__name__
    sys.modules[name] = module
    try:
        with loading():
            body()
    except (StopLoading, SystemExit):
        pass
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules.get(name, module)  # a module may put something else into its own place
