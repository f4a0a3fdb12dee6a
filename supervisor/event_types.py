"""The types of events, and why things are restarted and stopped: the words that events are told in. Pure."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """The type of an event; the value is its name in lower case."""

    ORCHESTRATOR_STARTED = "orchestrator_started"
    ORCHESTRATOR_STOPPING = "orchestrator_stopping"
    ORCHESTRATOR_STOPPED = "orchestrator_stopped"
    SUPERVISOR_STARTED = "supervisor_started"
    SUPERVISOR_READY = "supervisor_ready"
    SUPERVISOR_RESTARTING = "supervisor_restarting"
    SUPERVISOR_TERMINATED = "supervisor_terminated"
    AGENT_REGISTERED = "agent_registered"
    AGENT_WAITING = "agent_waiting"
    AGENT_QUEUED = "agent_queued"
    AGENT_STARTING = "agent_starting"
    AGENT_READY = "agent_ready"
    AGENT_CRASHED = "agent_crashed"
    AGENT_HUNG = "agent_hung"
    AGENT_RESTARTING = "agent_restarting"
    AGENT_STOPPING = "agent_stopping"
    AGENT_TERMINATED = "agent_terminated"
    AGENT_PARKED = "agent_parked"
    AGENT_WEDGED = "agent_wedged"
    AGENT_UNREGISTERED = "agent_unregistered"
    AGENT_MESSAGE = "agent_message"
    ALL_AGENTS_TERMINATED = "all_agents_terminated"
    POLICY_CHANGED = "policy_changed"
    COMMAND = "command"
    HANDLER_FAILED = "handler_failed"
    SERVICE_FAILED = "service_failed"
    LEAK_FOUND = "leak_found"
    EVENT_GAP = "event_gap"


class RestartCause(StrEnum):
    """Why something is restarted."""

    FAILURE = "failure"
    """It ended abnormally, or it is PERMANENT and ended."""
    GROUP = "group"
    """A sibling failed and the strategy takes this one along."""
    COMMAND = "command"
    """`restart_agent` asked for it."""
    MEMORY = "memory"
    """It had more memory than ``max_memory`` and ended between two rounds, as asked: planned, no failure."""
    MAX_AGE = "max_age"
    """It was older than ``max_age`` and ended between two rounds, as asked: planned, no failure."""
    BLOCKED = "blocked"
    """Another one blocks its event loop, and ``replace_wedged`` has it go on, on a fresh loop: no failure."""


class StopCause(StrEnum):
    """Why a run is asked to stop."""

    COMMAND = "command"
    """`stop_agent` or `unregister_agent`."""
    RESTART = "restart"
    """`restart_agent`."""
    GROUP = "group"
    """A sibling failed and the strategy takes this one along."""
    SUPERVISOR = "supervisor"
    """Its supervisor terminates: with the whole tree, by giving up, or because something above it stops it."""
    START_TIMEOUT = "start_timeout"
    """``setup()`` did not return within ``start_timeout``."""
    WATCHDOG = "watchdog"
    """It made no progress for longer than ``watchdog``."""
    MEMORY = "memory"
    """It has more memory than ``max_memory``, and did not end by itself between two rounds."""
    BLOCKED = "blocked"
    """Another one blocks its event loop for good; it is left behind there, and starts again on a fresh loop."""
