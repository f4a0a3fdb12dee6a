"""Every event that an orchestrator can emit, and what each carries. Pure data, all in this one file.

The core decides on events; the driver numbers and stamps them; the event manager hands them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, get_args

from orchestree.agents.ends import CrashReport, ExitReason

from .event_types import EventType as EventType, RestartCause as RestartCause, StopCause as StopCause
from .states import AgentState, RunMode


@dataclass(frozen=True, slots=True)
class OrchestratorStarted:
    """The tree starts. Counts are of what was registered at that moment.

    Attributes:
        socket: path of the control API's; empty without one.
        metrics_port: at which Prometheus finds the metrics; None if they are not served.
        metrics_host: as configured; empty if they are not served.
        seed: that the jitter of all restart delays is drawn from, so that `replay` draws the same; None: not known.
        settings: ``backoff max_workers strict_start`` that are no defaults, as `PolicyChange` shows values.
        policies: of each supervisor, by path, the fields of its specification that are no defaults, shown likewise.
            Empty if an earlier version made the event.
    """

    name: str
    run_mode: RunMode
    agents: int
    supervisors: int
    socket: str = ""
    metrics_port: int | None = None
    metrics_host: str = ""
    seed: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrchestratorStopping:
    """The whole tree stops.

    Attributes:
        cause: ``command signal all_agents_terminated start_failed auto_shutdown max_restarts escalated``.
        timeout_s: seconds after which all that is left is killed or abandoned; None for no limit.
    """

    cause: str
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class OrchestratorStopped:
    """The tree has ended; `unhealthy` are the paths that make the exit code 1, in start order."""

    exit_code: int
    cause: str
    unhealthy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SupervisorStarted:
    """A supervisor starts its children; names in start order."""

    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SupervisorReady:
    """Each child has been ready, completed or ignored once."""

    startup_s: float


@dataclass(frozen=True, slots=True)
class SupervisorRestarting:
    """A supervisor that ended comes back after `delay` seconds; `attempt` is the failure's number in its streak."""

    cause: RestartCause
    delay: float
    attempt: int


@dataclass(frozen=True, slots=True)
class SupervisorTerminated:
    """A supervisor has ended and all its children are down. `offender` is the child that made it give up."""

    reason: ExitReason
    offender: str | None = None


@dataclass(frozen=True, slots=True)
class AgentRegistered:
    """An agent became part of the tree. `agent` is ``module:qualname`` of its class.

    Attributes:
        policy: further fields of its specification that are no defaults, as `PolicyChange` shows values; neither
            ``config`` nor ``params``.
        has_rounds: whether its runs can end between two rounds, as those of looping agents.
    """

    agent: str
    executor: str
    restart: str
    depends_on: tuple[str, ...]
    policy: Mapping[str, str] = field(default_factory=dict)
    has_rounds: bool = False


@dataclass(frozen=True, slots=True)
class AgentWaiting:
    """The agent is due but has to wait for these siblings (names, in start order)."""

    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentQueued:
    """The agent is due but ``max_workers`` agents run already."""

    max_workers: int


@dataclass(frozen=True, slots=True)
class AgentStarting:
    """The incarnation of this event starts. `chosen`: ``choose_next`` picked it from the queue."""

    executor: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class AgentReady:
    """``setup()`` returned after `startup_s` seconds."""

    startup_s: float


@dataclass(frozen=True, slots=True)
class AgentCrashed:
    """The run ended abnormally. `classified`: ``classify_exit`` gave the reason."""

    reason: ExitReason
    report: CrashReport
    classified: bool = False


@dataclass(frozen=True, slots=True)
class AgentHung:
    """The run is alive and makes no progress; it is ended, and that is a crash.

    Attributes:
        silent_s: seconds without progress. Time in which supervision itself could not look does not count. Of one
            that was found by the watchdog of another, which it holds up: seconds that it is known to do that.
        doing: what it said last that it was doing (``self.progress(text)``); empty if it never did.
        watchdog_s: seconds that it may take.
        stack: of the thread of its event loop, if it is a coroutine agent that blocks that; else empty.
    """

    silent_s: float
    doing: str
    watchdog_s: float
    stack: str = ""


@dataclass(frozen=True, slots=True)
class AgentRestarting:
    """A restart was decided; the start itself is ``AGENT_STARTING``.

    Attributes:
        delay: seconds from this event to the start.
        attempt: failures in the agent's streak, this one included; 0 if the cause is no failure of its own.
        shutdown_error: one line, when the run failed while it was being stopped.
        reason: how the run ended, if that was by itself and no crash, as with ``restart="permanent"``; else None.
    """

    cause: RestartCause
    delay: float
    attempt: int
    shutdown_error: str | None = None
    reason: ExitReason | None = None


@dataclass(frozen=True, slots=True)
class AgentStopping:
    """The run was asked to stop."""

    cause: StopCause


@dataclass(frozen=True, slots=True)
class AgentTerminated:
    """The agent ended for good, until somebody asks for it."""

    reason: ExitReason
    state: AgentState
    shutdown_error: str | None = None


@dataclass(frozen=True, slots=True)
class AgentParked:
    """The agent is given up on and stays down until `start_agent` or `restart_agent`; `why` is one line.

    Attributes:
        reason: as `AgentRestarting.reason`.
    """

    why: str
    attempt: int
    reason: ExitReason | None = None


@dataclass(frozen=True, slots=True)
class AgentWedged:
    """The run outlived its shutdown time and cannot be killed."""

    cause: StopCause


@dataclass(frozen=True, slots=True)
class AgentUnregistered:
    """The agent left the tree."""


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """``self.emit(name, **data)``."""

    name: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AllAgentsTerminated:
    """Nothing runs and nothing can come to run without an operator; `left_waiting` in start order."""

    left_waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A person or a program asked for something: through the control API, or the program that runs the tree.

    Attributes:
        name: of the command: ``start stop restart set shutdown``; of the program also ``unregister``, and
            ``register``, which tells of a supervisor that comes while the tree runs.
        arguments: as given; of ``register`` the fields of the specification that are no defaults, as `PolicyChange`
            shows values.
        uid: of the process that asked, as the kernel says; None if it came another way.
        pid: of that process.
        token: name of the token that was shown; None if there was none.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    uid: int | None = None
    pid: int | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class HandlerFailed:
    """An event handler or a hook of a subclass raised. Nobody else is affected."""

    handler: str
    error: str


@dataclass(frozen=True, slots=True)
class ServiceFailed:
    """Something of a service beside supervision (metrics, control, history) does not work; `error` says what."""

    service: str
    error: str


@dataclass(frozen=True, slots=True)
class LeakFound:
    """A process agent has ended and left processes behind that cannot be ended. `pids`: ascending."""

    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EventGap:
    """This reader was too slow, or a flood was cut: events `first` to `last` (inclusive) are missing here."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One field of a child specification, before and after; values as text."""

    field: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """`reconfigure` changed the policy of a child that is not touched otherwise.

    Attributes:
        changes: in the order of the specification's fields.
        delay: seconds from this event to the start of a child whose restart delay was running and is a new one now.
    """

    changes: tuple[PolicyChange, ...]
    delay: float | None = None


# fmt: off
EventData = (
    OrchestratorStarted | OrchestratorStopping | OrchestratorStopped | SupervisorStarted
    | SupervisorReady | SupervisorRestarting | SupervisorTerminated | AgentRegistered | AgentWaiting
    | AgentQueued | AgentStarting | AgentReady | AgentCrashed | AgentHung | AgentRestarting
    | AgentStopping | AgentTerminated | AgentParked | AgentWedged | AgentUnregistered | AgentMessage
    | AllAgentsTerminated | PolicyChanged | Command | HandlerFailed | ServiceFailed | LeakFound
    | EventGap
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        seq: ascending without holes within one orchestrator (an ``EVENT_GAP`` repeats its `last`); it begins with 1,
            or goes on where the history file ends.
        time: wall clock, seconds since the epoch; a label only.
        monotonic: the clock that decisions were made by, seconds.
        type: what happened.
        path: of the agent or supervisor; ``""`` is the root.
        incarnation: of the agent or supervisor; 0 before its first start.
        data: the dataclass of this type.
        run: id of the run of the orchestrator that made it, the same for all its events; empty if it has none.
    """

    seq: int
    time: float
    monotonic: float
    type: EventType
    path: str
    incarnation: int
    data: EventData
    run: str = ""


TYPE_OF: Final = MappingProxyType(
    {data: EventType[re.sub(r"(?<!^)(?=[A-Z])", "_", data.__name__).upper()] for data in get_args(EventData)}
)
"""The event type of each data class, which is its name."""
