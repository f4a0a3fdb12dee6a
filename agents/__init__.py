"""What runs: the kinds of agents, the executors that run them, and how a run ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")

if TYPE_CHECKING:
    from .agent import (
        Agent as Agent,
        LoopingAgent as LoopingAgent,
        LoopingProcessAgent as LoopingProcessAgent,
        LoopingThreadAgent as LoopingThreadAgent,
        PeriodicAgent as PeriodicAgent,
        PeriodicProcessAgent as PeriodicProcessAgent,
        PeriodicThreadAgent as PeriodicThreadAgent,
        ProcessAgent as ProcessAgent,
    )
    from .async_agent import (
        AsyncAgent as AsyncAgent,
        LoopingAsyncAgent as LoopingAsyncAgent,
        PeriodicAsyncAgent as PeriodicAsyncAgent,
    )
    from .base import BaseAgent as BaseAgent
    from .ends import (
        IGNORE as IGNORE,
        Cause as Cause,
        CrashReport as CrashReport,
        ExitKind as ExitKind,
        ExitReason as ExitReason,
        Ignore as Ignore,
        Shutdown as Shutdown,
    )
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".agent": (
                "Agent LoopingAgent LoopingProcessAgent LoopingThreadAgent PeriodicAgent "
                "PeriodicProcessAgent PeriodicThreadAgent ProcessAgent"
            ),
            ".async_agent": "AsyncAgent LoopingAsyncAgent PeriodicAsyncAgent",
            ".base": "BaseAgent",
            ".ends": "IGNORE Cause CrashReport ExitKind ExitReason Ignore Shutdown",
        },
    )
