"""In which state an event leaves what it is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from orchestree.agents.ends import SHUTDOWN
from orchestree.supervisor.events import (
    AgentParked,
    AgentQueued,
    AgentReady,
    AgentRegistered,
    AgentRestarting,
    AgentStarting,
    AgentStopping,
    AgentTerminated,
    AgentWaiting,
    AgentWedged,
    Command,
    Event,
    EventData,
    OrchestratorStarted,
    OrchestratorStopping,
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.states import AgentState

Absent = Literal["not in the tree"]
State = AgentState | Absent

ABSENT: Final[Absent] = "not in the tree"

_STATES: Final[Mapping[type[EventData], State]] = MappingProxyType(
    {
        OrchestratorStarted: AgentState.REGISTERED,
        AgentRegistered: AgentState.REGISTERED,
        AgentWaiting: AgentState.WAITING,
        AgentQueued: AgentState.QUEUED,
        AgentStarting: AgentState.STARTING,
        SupervisorStarted: AgentState.STARTING,
        AgentReady: AgentState.READY,
        SupervisorReady: AgentState.READY,
        AgentRestarting: AgentState.BACKOFF,
        SupervisorRestarting: AgentState.BACKOFF,
        AgentStopping: AgentState.STOPPING,
        OrchestratorStopping: AgentState.STOPPING,
        AgentParked: AgentState.PARKED,
        AgentWedged: AgentState.WEDGED,
    }
)


def state_told(event: Event) -> State | None:
    """Return the state in which an event leaves what is at its path; None if it says nothing of that."""
    match event.data:
        case AgentTerminated(state=state):
            return state
        case Command("register"):
            return AgentState.REGISTERED
        case SupervisorTerminated(reason, offender) if reason == SHUTDOWN:
            return AgentState.COMPLETED if offender is not None and event.path else AgentState.STOPPED
        case SupervisorTerminated():
            return AgentState.FAILED
        case data:
            return _STATES.get(type(data))


def is_about(event: Event, path: str) -> bool:
    """Return whether an event is about what is at `path`: the start of the whole is about each supervisor."""
    return event.path == path or (isinstance(event.data, OrchestratorStarted) and path in event.data.policies)
