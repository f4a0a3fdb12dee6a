"""Orchestree: a supervision-tree runtime for Python in the Erlang/OTP style.

Every public name can be imported from here; it is loaded when it is first used, so that a command line tool
which needs none of them starts at once. Nothing but the standard library may be imported at this level.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from os.path import dirname, isfile
from typing import TYPE_CHECKING

if isfile(f"{dirname(__file__)}/supervisor"):
    raise ImportError(
        "src/orchestree/supervisor and its neighbours are plain files where symbolic links are expected: "
        "run `git config core.symlinks true`, then `git checkout -- src`"
    )


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose modules load on first use.

    Args:
        package: ``__name__`` of the package.
        homes: for each module (relative to `package` or absolute) the names that it offers, between spaces.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load(name: str) -> object:
        if f".{name}" in homes:
            return import_module(f".{name}", package)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home_of[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *home_of}), sorted(home_of)


if TYPE_CHECKING:
    from orchestree.agents import *  # noqa: F403 - a star import also re-exports
    from orchestree.strategies import *  # noqa: F403 - a star import also re-exports
    from orchestree.supervisor import *  # noqa: F403 - a star import also re-exports
else:
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".agents": (
                "Agent LoopingAgent LoopingProcessAgent LoopingThreadAgent PeriodicAgent "
                "PeriodicProcessAgent PeriodicThreadAgent ProcessAgent AsyncAgent LoopingAsyncAgent "
                "PeriodicAsyncAgent BaseAgent IGNORE Cause CrashReport ExitKind ExitReason Ignore Shutdown"
            ),
            ".strategies": "Backoff Rule AutoShutdown Restart Strategy RestartWindow",
            ".supervisor": (
                "Event EventType AgentCrashed AgentHung AgentMessage AgentParked AgentQueued "
                "AgentReady AgentRegistered AgentRestarting AgentStarting AgentStopping AgentTerminated "
                "AgentUnregistered AgentWaiting AgentWedged AllAgentsTerminated Command EventGap LeakFound "
                "HandlerFailed OrchestratorStarted OrchestratorStopped OrchestratorStopping ServiceFailed "
                "PolicyChange PolicyChanged "
                "SupervisorReady SupervisorRestarting SupervisorStarted SupervisorTerminated "
                "Orchestrator INHERIT AgentEntry ChildEntry Policy SupervisorEntry AgentState RunMode ChildCounts "
                "Partitions Stats Status Subscription Supervisor TreeNode check_childspecs "
                "AlreadyPresent AlreadyStarted MaxChildren MetricError NotFound NotRunning OrchestreeError "
                "Restarting Running SpecError StartError replay Replay simulate Simulation explain Explanation"
            ),
        },
    )
