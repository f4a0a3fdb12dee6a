"""The states of agents and supervisors, and the named sets that rules are written in.

Pure: the vocabulary of the core, of `status()` and of the metrics.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RunMode(StrEnum):
    """When the orchestrator ends by itself."""

    STOP_ON_EMPTY = "stop_on_empty"
    """It ends as soon as no agent runs, waits for a restart or can still come to run."""
    DAEMON = "daemon"
    """It ends when it is told to, or when the root supervisor gives up."""


class AgentState(StrEnum):
    """Where an agent is. Supervisors have the same states except ``QUEUED`` and ``WEDGED``."""

    REGISTERED = "registered"
    WAITING = "waiting"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    PARKED = "parked"
    WEDGED = "wedged"


# By these names the core calls them: in Python 3.11 to look a member up in its class takes as long as to call a
# function, and a crash is decided with thirty of them.
REGISTERED: Final = AgentState.REGISTERED
WAITING: Final = AgentState.WAITING
QUEUED: Final = AgentState.QUEUED
STARTING: Final = AgentState.STARTING
READY: Final = AgentState.READY
STOPPING: Final = AgentState.STOPPING
BACKOFF: Final = AgentState.BACKOFF
COMPLETED: Final = AgentState.COMPLETED
STOPPED: Final = AgentState.STOPPED
FAILED: Final = AgentState.FAILED
PARKED: Final = AgentState.PARKED
WEDGED: Final = AgentState.WEDGED

RUNNING_STATES: Final = frozenset({STARTING, READY, STOPPING})
"""A run of it is alive and under control."""

PENDING_STATES: Final = frozenset({WAITING, QUEUED, BACKOFF})
"""Nothing of it runs, but it starts by itself as soon as it may."""

WAITS_TO_START: Final = frozenset({WAITING, QUEUED})
"""It is due, but something has to come first: a sibling, or a worker slot."""

NOT_DUE_STATES: Final = frozenset({COMPLETED, STOPPED, PARKED, FAILED, WEDGED})
"""Under REST_FOR_ONE nobody behind it waits for it."""

UNHEALTHY_STATES: Final = frozenset({PARKED, FAILED, WEDGED})
"""One of these at the end makes the exit code 1."""
