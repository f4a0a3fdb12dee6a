"""The tree: child specifications, the core that decides, the driver that acts, and the `Orchestrator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")

if TYPE_CHECKING:
    from orchestree.strategies.errors import (
        AlreadyPresent as AlreadyPresent,
        AlreadyStarted as AlreadyStarted,
        MetricError as MetricError,
        NotFound as NotFound,
        NotRunning as NotRunning,
        OrchestreeError as OrchestreeError,
        Restarting as Restarting,
        Running as Running,
        SpecError as SpecError,
        StartError as StartError,
    )

    from .events import Event as Event, EventType as EventType
    from .orchestrator import Orchestrator as Orchestrator
    from .spec import AgentEntry as AgentEntry, SupervisorEntry as SupervisorEntry
    from .states import AgentState as AgentState, RunMode as RunMode
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".events": "Event EventType",
            ".orchestrator": "Orchestrator",
            ".spec": "AgentEntry SupervisorEntry",
            ".states": "AgentState RunMode",
            "orchestree.strategies.errors": (
                "AlreadyPresent AlreadyStarted MetricError NotFound NotRunning OrchestreeError "
                "Restarting Running SpecError StartError"
            ),
        },
    )
