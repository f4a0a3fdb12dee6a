"""The tree: child specifications, the core that decides, the driver that acts, and the `Orchestrator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")

if TYPE_CHECKING:
    from orchestree.strategies.errors import (
        AlreadyPresent as AlreadyPresent,
        AlreadyStarted as AlreadyStarted,
        MaxChildren as MaxChildren,
        MetricError as MetricError,
        NotFound as NotFound,
        NotRunning as NotRunning,
        OrchestreeError as OrchestreeError,
        Restarting as Restarting,
        Running as Running,
        SpecError as SpecError,
        StartError as StartError,
    )
    from orchestree.supervisor.simulation.explained.explanation import Explanation as Explanation
    from orchestree.supervisor.simulation.replayed.replay_result import Replay as Replay
    from orchestree.supervisor.simulation.result import Simulation as Simulation

    from .event_subscriptions import Subscription as Subscription
    from .events import (
        AgentCrashed as AgentCrashed,
        AgentHung as AgentHung,
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
        LeakFound as LeakFound,
        OrchestratorStarted as OrchestratorStarted,
        OrchestratorStopped as OrchestratorStopped,
        OrchestratorStopping as OrchestratorStopping,
        PolicyChange as PolicyChange,
        PolicyChanged as PolicyChanged,
        ServiceFailed as ServiceFailed,
        SupervisorReady as SupervisorReady,
        SupervisorRestarting as SupervisorRestarting,
        SupervisorStarted as SupervisorStarted,
        SupervisorTerminated as SupervisorTerminated,
    )
    from .explaining import explain as explain
    from .orchestrator import Orchestrator as Orchestrator
    from .order import check_childspecs as check_childspecs
    from .predicting import simulate as simulate
    from .reading import Stats as Stats
    from .registry import Partitions as Partitions, Supervisor as Supervisor
    from .replaying import replay as replay
    from .spec import (
        INHERIT as INHERIT,
        AgentEntry as AgentEntry,
        ChildEntry as ChildEntry,
        Policy as Policy,
        SupervisorEntry as SupervisorEntry,
    )
    from .states import AgentState as AgentState, RunMode as RunMode
    from .status import ChildCounts as ChildCounts, Status as Status, TreeNode as TreeNode
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".event_subscriptions": "Subscription",
            ".events": (
                "Event EventType AgentCrashed AgentHung AgentMessage AgentParked AgentQueued "
                "AgentReady AgentRegistered AgentRestarting AgentStarting AgentStopping AgentTerminated "
                "AgentUnregistered AgentWaiting AgentWedged AllAgentsTerminated Command EventGap LeakFound "
                "HandlerFailed OrchestratorStarted OrchestratorStopped OrchestratorStopping ServiceFailed "
                "PolicyChange PolicyChanged "
                "SupervisorReady SupervisorRestarting SupervisorStarted SupervisorTerminated "
            ),
            ".explaining": "explain",
            ".orchestrator": "Orchestrator",
            ".order": "check_childspecs",
            ".predicting": "simulate",
            ".reading": "Stats",
            ".registry": "Partitions Supervisor",
            ".simulation.explained.explanation": "Explanation",
            ".replaying": "replay",
            ".simulation.replayed.replay_result": "Replay",
            ".simulation.result": "Simulation",
            ".spec": "INHERIT AgentEntry ChildEntry Policy SupervisorEntry",
            ".states": "AgentState RunMode",
            ".status": "ChildCounts Status TreeNode",
            "orchestree.strategies.errors": (
                "AlreadyPresent AlreadyStarted MaxChildren MetricError NotFound NotRunning OrchestreeError "
                "Restarting Running SpecError StartError"
            ),
        },
    )
