"""The executors by name, one file each, loaded when first asked for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orchestree.agents.executor import Executor

EXECUTORS: Final = {
    "thread": f"{__name__}.thread:ThreadExecutor",
    "async": f"{__name__}.coroutine:CoroutineExecutor",
    "process": f"{__name__}.process:ProcessExecutor",
}
"""A new executor is a file here and a line in this table."""


def executor_class(name: str) -> type[Executor]:
    """Return the class whose instances, made with the host, run agents as `name` says."""
    made: type[Executor] = resolve_name(EXECUTORS[name])
    return made
