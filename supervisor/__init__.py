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

    from .event_subscriptions import Subscription as Subscription
    from .events import (
        AgentCrashed as AgentCrashed,
        AgentMessage as AgentMessage,
        AgentParked as AgentParked,
        AgentQueued as AgentQueued,
        AgentReady as AgentReady,
        AgentRegistered as AgentRegistered,
        AgentRestarting as AgentRestarting,
        AgentStarting as AgentStarting,
        AgentStopping as AgentStopping,
        AgentTerminated as AgentTerminated,
        AgentUnregistered as AgentUnregistered,
        AgentWaiting as AgentWaiting,
        AgentWedged as AgentWedged,
        AllAgentsTerminated as AllAgentsTerminated,
        Command as Command,
        Event as Event,
        EventGap as EventGap,
        EventType as EventType,
        HandlerFailed as HandlerFailed,
        OrchestratorStarted as OrchestratorStarted,
        OrchestratorStopped as OrchestratorStopped,
        OrchestratorStopping as OrchestratorStopping,
        ServiceFailed as ServiceFailed,
        SupervisorReady as SupervisorReady,
        SupervisorRestarting as SupervisorRestarting,
        SupervisorStarted as SupervisorStarted,
        SupervisorTerminated as SupervisorTerminated,
    )
    from .orchestrator import Orchestrator as Orchestrator
    from .reading import Stats as Stats
    from .spec import AgentEntry as AgentEntry, ChildEntry as ChildEntry, SupervisorEntry as SupervisorEntry
    from .states import AgentState as AgentState, RunMode as RunMode
    from .status import ChildCounts as ChildCounts, Status as Status, TreeNode as TreeNode
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".event_subscriptions": "Subscription",
            ".events": (
                "Event EventType AgentCrashed AgentMessage AgentParked AgentQueued "
                "AgentReady AgentRegistered AgentRestarting AgentStarting AgentStopping AgentTerminated "
                "AgentUnregistered AgentWaiting AgentWedged AllAgentsTerminated Command EventGap "
                "HandlerFailed OrchestratorStarted OrchestratorStopped OrchestratorStopping ServiceFailed "
                "SupervisorReady SupervisorRestarting SupervisorStarted SupervisorTerminated "
            ),
            ".orchestrator": "Orchestrator",
            ".reading": "Stats",
            ".spec": "AgentEntry ChildEntry SupervisorEntry",
            ".states": "AgentState RunMode",
            ".status": "ChildCounts Status TreeNode",
            "orchestree.strategies.errors": (
                "AlreadyPresent AlreadyStarted MetricError NotFound NotRunning OrchestreeError "
                "Restarting Running SpecError StartError"
            ),
        },
    )
