"""The fixed metric families: the one table that the page, the reference and the shipped alerts and board go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from orchestree.agents.ends import Cause
from orchestree.supervisor.states import AgentState

PREFIX: Final = "orchestree_"

STATES: Final = tuple(AgentState)
"""Values of the label `state`."""

SUPERVISOR_STATES: Final = tuple(state for state in STATES if state not in (AgentState.QUEUED, AgentState.WEDGED))
"""Its values where it is a supervisor's."""

CAUSES: Final = tuple(cause for cause in Cause if cause not in (Cause.MAX_RESTARTS, Cause.ESCALATED))
"""Values of the label `cause`: what can end the run of an agent. The other two end supervisors."""


FAILURES: Final = frozenset(CAUSES) - {Cause.NORMAL, Cause.IGNORE, Cause.SHUTDOWN}
"""Those of them that are a failure of the agent."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family as Prometheus knows it.

    Attributes:
        name: in full; that of a counter ends with ``_total``.
        labels: names, in the order in which values are given.
        buckets: upper bounds of a histogram, ascending, without +Inf.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def base(self) -> str:
        """The name by which OpenMetrics introduces it: that of a counter without ``_total``."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name


def _gauge(name: str, help: str, *labels: str) -> Family:
    return Family(PREFIX + name, "gauge", help, labels)


def _counter(name: str, help: str, *labels: str) -> Family:
    return Family(PREFIX + name, "counter", help, labels)


def _histogram(name: str, help: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Family:
    return Family(PREFIX + name, "histogram", help, labels, buckets)


AGENT_STATE: Final = _gauge("agent_state", "1 for the state the agent is in, 0 for all others.", "agent", "state")
AGENT_INFO: Final = _gauge("agent_info", "What the agent is; always 1.", "agent", "class", "executor", "restart")
AGENT_UP: Final = _gauge("agent_up", "1 while the agent is ready, else 0.", "agent")
AGENT_READY: Final = _gauge("agent_ready_seconds", "Seconds since the agent became ready; 0 while it is not.", "agent")
AGENT_STARTS: Final = _counter("agent_starts_total", "Starts of the agent.", "agent")
AGENT_ENDS: Final = _counter("agent_ends_total", "Ends of the runs of the agent, by what ended them.", "agent", "cause")
AGENT_RESTARTS: Final = _counter("agent_restarts_total", "Restarts of the agent that were decided.", "agent")
AGENT_STREAK: Final = _gauge("agent_restart_streak", "Failures of the agent in a row; 0 after a stable run.", "agent")
AGENT_NEXT_RESTART: Final = _gauge(
    "agent_next_restart_seconds", "Seconds until the agent starts again; 0 unless it waits for that.", "agent"
)
AGENT_BEAT_AGE: Final = _gauge(
    "agent_heartbeat_age_seconds", "Seconds since the agent made progress last; only while it is ready.", "agent"
)
AGENT_CPU: Final = _counter(
    "agent_cpu_seconds_total", "Processor time of all processes of the agent; only of process agents.", "agent"
)
AGENT_MEMORY: Final = _gauge(
    "agent_memory_bytes", "Resident memory of the process of the agent; only while it has one.", "agent"
)
SUPERVISOR_RESTART_DURATION: Final = _histogram(
    "supervisor_restart_duration_seconds",
    "Seconds from the end of an agent directly below the supervisor until its restart has made it ready again, the "
    "delay included; not where it comes back with a restart of the supervisor.",
    ("supervisor",),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
SUPERVISOR_WINDOW: Final = _gauge(
    "supervisor_restarts_in_window", "Restarts that count against the limit of the supervisor now.", "supervisor"
)
SUPERVISOR_LIMIT: Final = _gauge(
    "supervisor_restarts_limit", "Restarts within its window that the supervisor bears.", "supervisor"
)
SUPERVISOR_TERMINATIONS: Final = _counter(
    "supervisor_terminations_total", "Times the supervisor gave up.", "supervisor"
)
SUPERVISOR_STATE: Final = _gauge(
    "supervisor_state", "1 for the state the supervisor is in, 0 for all others.", "supervisor", "state"
)
SUPERVISOR_RESTARTS: Final = _counter(
    "supervisor_restarts_total", "Restarts of the supervisor that were decided.", "supervisor"
)
AGENTS: Final = _gauge("agents", "Agents in each state.", "state")
WORKERS_LIMIT: Final = _gauge("workers_limit", "Agents that may run at once; +Inf for no limit.")
QUEUE_LENGTH: Final = _gauge("queue_length", "Agents that are due and wait for one of the workers.")
PARKED: Final = _gauge("parked", "Agents that were given up on.")
WEDGED_THREADS: Final = _gauge("wedged_threads", "Threads and tasks that cannot be ended.")
EVENTS: Final = _counter("events_total", "Events, by type.", "type")
HANDLER_ERRORS: Final = _counter("event_handler_errors_total", "Event handlers and hooks that raised.")
EVENTS_DROPPED: Final = _counter(
    "events_dropped_total", "Events that were cut in a flood, or that a reader was too slow for."
)
HISTORY_LAG: Final = _gauge(
    "history_lag_seconds", "Seconds for which the oldest event that is not in the history file has been waiting."
)
LOOP_LAG: Final = _histogram(
    "loop_lag_seconds",
    "Seconds from a wake-up of the supervision loop to its turn.",
    (),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BUILD_INFO: Final = _gauge(
    "build_info",
    "Versions of Orchestree and of Python, and name and run of the orchestrator; always 1.",
    *("version", "python", "name", "run"),
)

FAMILIES: Final = (
    AGENT_STATE,
    AGENT_INFO,
    AGENT_UP,
    AGENT_READY,
    AGENT_STARTS,
    AGENT_ENDS,
    AGENT_RESTARTS,
    AGENT_STREAK,
    AGENT_NEXT_RESTART,
    AGENT_BEAT_AGE,
    AGENT_CPU,
    AGENT_MEMORY,
    SUPERVISOR_RESTART_DURATION,
    SUPERVISOR_WINDOW,
    SUPERVISOR_LIMIT,
    SUPERVISOR_TERMINATIONS,
    SUPERVISOR_STATE,
    SUPERVISOR_RESTARTS,
    AGENTS,
    WORKERS_LIMIT,
    QUEUE_LENGTH,
    PARKED,
    WEDGED_THREADS,
    EVENTS,
    HANDLER_ERRORS,
    EVENTS_DROPPED,
    HISTORY_LAG,
    LOOP_LAG,
    BUILD_INFO,
)
"""All of them, in the order of the page."""
