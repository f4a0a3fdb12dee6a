"""One line of plain words for every event: what happened, to whom, why, and what comes next. Pure."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, assert_never

from orchestree.agents.ends import Cause, ExitReason

from .events import (
    AgentCrashed,
    AgentHung,
    AgentMessage,
    AgentParked,
    AgentQueued,
    AgentReady,
    AgentRegistered,
    AgentRestarting,
    AgentStarting,
    AgentStopping,
    AgentTerminated,
    AgentUnregistered,
    AgentWaiting,
    AgentWedged,
    AllAgentsTerminated,
    Command,
    Event,
    EventData,
    EventGap,
    HandlerFailed,
    LeakFound,
    OrchestratorStarted,
    OrchestratorStopped,
    OrchestratorStopping,
    PolicyChanged,
    RestartCause,
    ServiceFailed,
    StopCause,
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from .phrases import counted, duration, listed, ordinal
from .states import AgentState, RunMode

GIVING_UP: Final = frozenset({Cause.MAX_RESTARTS, Cause.ESCALATED})
"""Why a supervisor ends by its own decision."""

_STOP_CAUSES: Final = MappingProxyType(
    {
        StopCause.COMMAND: "as asked",
        StopCause.RESTART: "to be started again, as asked",
        StopCause.GROUP: "another one of its group failed",
        StopCause.SUPERVISOR: "its supervisor stops",
        StopCause.START_TIMEOUT: "its setup takes too long",
        StopCause.WATCHDOG: "it makes no progress",
        StopCause.MEMORY: "it uses too much memory",
        StopCause.BLOCKED: "another one blocks its event loop",
    }
)
_END_CAUSES: Final = MappingProxyType(
    {
        "command": "as asked",
        "all_agents_terminated": "nothing is left to run",
        "start_failed": "the start failed",
        "signal": "by a signal",
        "auto_shutdown": "its significant agents have ended",
        "max_restarts": "too many restarts",
        "escalated": "a policy said so",
    }
)
_RUN_MODES: Final = MappingProxyType(
    {RunMode.STOP_ON_EMPTY: "ends when nothing is left to run", RunMode.DAEMON: "runs until it is stopped"}
)


def describe(event: Event, *, room: int = 12) -> str:
    """Return one line such as ``RESTART  sensor-b      in 0.25 s (2nd failure in a row)``; `room` is for the path."""
    verb, details = _words(event.data, event.incarnation)
    line = f"{verb:<8} {event.path or 'orchestrator':<{room}}  {details}".rstrip()
    # An agent's error message may hold line breaks, or escapes that a terminal obeys.
    return line if line.isprintable() else "".join(c if c.isprintable() else " " for c in line)


def _words(data: EventData, incarnation: int) -> tuple[str, str]:
    """Return the verb, at most 8 letters, and the details, perhaps empty."""
    match data:
        case OrchestratorStarted():
            return "STARTED", _started(data)
        case OrchestratorStopping():
            return "STOPPING", _END_CAUSES.get(data.cause, data.cause)
        case OrchestratorStopped():
            unhealthy = f"; not well: {listed(data.unhealthy)}" if data.unhealthy else ""
            return "STOPPED", f"exit code {data.exit_code}{unhealthy}"
        case SupervisorStarted():
            return "STARTING", f"its children: {listed(data.children)}" if data.children else "no children"
        case SupervisorReady() | AgentReady():
            return "READY", f"after {duration(data.startup_s)}"
        case SupervisorRestarting() | AgentRestarting():
            return "RESTART", _restart(data)
        case SupervisorTerminated():
            return _supervisor_end(data)
        case AgentRegistered():
            after = f", after {listed(data.depends_on)}" if data.depends_on else ""
            return "ADDED", f"{data.agent} ({data.executor}, {data.restart}){after}"
        case AgentWaiting():
            return "WAITING", f"for {listed(data.waiting_for)}"
        case AgentQueued():
            return "QUEUED", f"{counted(data.max_workers, 'agent')} may run at once"
        case AgentStarting():
            chosen = ", chosen by choose_next" if data.chosen else ""
            return "STARTING", f"incarnation {incarnation} ({data.executor}){chosen}"
        case AgentCrashed():
            return "CRASHED", f"incarnation {incarnation}, {_crash(data)}"
        case AgentHung():
            return "HUNG", _hung(data)
        case AgentStopping():
            return "STOPPING", _STOP_CAUSES[data.cause]
        case AgentTerminated():
            return _agent_end(data)
        case AgentParked():
            return "PARKED", f"{data.why}; stays down until it is started by hand"
        case AgentWedged():
            return "WEDGED", _wedged(data)
        case AgentUnregistered():
            return "REMOVED", ""
        case AgentMessage() | Command():
            return "MESSAGE" if isinstance(data, AgentMessage) else "COMMAND", _call(data)
        case AllAgentsTerminated():
            waiting = f"; still waiting: {listed(data.left_waiting)}" if data.left_waiting else ""
            return "DONE", f"no agent runs or comes back{waiting}"
        case PolicyChanged():
            changes = ", ".join(f"{change.field} {change.old} -> {change.new}" for change in data.changes)
            when = "" if data.delay is None else f"; restarts {_in(data.delay)}"
            return "POLICY", f"{changes}{when}"
        case HandlerFailed():
            return "FAILED", f"event handler {data.handler}: {data.error}"
        case ServiceFailed():
            return "FAILED", f"{data.service}: {data.error}"
        case LeakFound():
            return "LEAK", f"still there, and cannot be ended: {listed(tuple(map(str, data.pids)))}"
        case EventGap():
            return "LOST", f"events {data.first} to {data.last} (too many at once)"
        case _:
            assert_never(data)


def _started(data: OrchestratorStarted) -> str:
    supervisors = f", {counted(data.supervisors, 'supervisor')}" if data.supervisors else ""
    port = data.metrics_port
    metrics = "" if port is None else f"; metrics on {metrics_address(data.metrics_host, port)}"
    return f"{data.name}: {counted(data.agents, 'agent')}{supervisors}; {_RUN_MODES[data.run_mode]}{metrics}"


def metrics_address(host: str, port: int) -> str:
    """Return the URL at which the metrics are served; an empty `host` is the loopback address."""
    shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
    return f"http://{shown}:{port}/metrics"


def _in(delay: float) -> str:
    return f"in {duration(delay)}" if delay else "at once"


def _restart(data: SupervisorRestarting | AgentRestarting) -> str:
    when = _in(data.delay)
    error = _shutdown_error(data.shutdown_error if isinstance(data, AgentRestarting) else None)
    match data.cause:
        case RestartCause.FAILURE:
            streak = f" ({ordinal(data.attempt)} failure in a row)" if data.attempt > 1 else ""
            return f"{when}{streak}{error}"
        case RestartCause.GROUP:
            return f"{when}, with its group{error}"
        case RestartCause.COMMAND:
            return f"{when}, as asked{error}"
        case RestartCause.MEMORY:
            return f"{when}, planned: it used too much memory{error}"
        case RestartCause.MAX_AGE:
            return f"{when}, planned: it reached its max_age{error}"
        case RestartCause.BLOCKED:
            return f"{when}, on a fresh event loop{error}"
        case _:
            assert_never(data.cause)


def _crash(data: AgentCrashed) -> str:
    report = data.report
    phase = f" (in {report.phase})" if report.phase != "execute" else ""
    verdict = f"; classify_exit: {data.reason}" if data.classified else ""
    notes = "".join(f"; also: {note}" for note in report.notes)
    return f"up {duration(report.uptime_s)}: {report.message}{phase}{verdict}{notes}"


def _hung(data: AgentHung) -> str:
    doing = f"; it said last: {data.doing}" if data.doing else ""
    place = next((line.strip() for line in data.stack.splitlines() if line.startswith("  ")), "")
    where = f"; it blocks its event loop: {place}" if data.stack else ""
    return f"no progress for {duration(data.silent_s)} (watchdog {duration(data.watchdog_s)}){doing}{where}"


def _wedged(data: AgentWedged) -> str:
    why = _STOP_CAUSES[data.cause]
    is_reached = data.cause is not StopCause.BLOCKED
    return f"did not stop in time and cannot be killed ({why})" if is_reached else f"is left behind: {why}"


def _supervisor_end(data: SupervisorTerminated) -> tuple[str, str]:
    offender = data.offender or "a child"
    match data.reason.cause:
        case Cause.MAX_RESTARTS:
            return "GAVE UP", f"too many restarts in a short time, the last one for {offender}"
        case Cause.ESCALATED:
            return "GAVE UP", f"because {offender} failed for good"
        case _:
            return "STOPPED", "" if data.reason.cause is Cause.SHUTDOWN else str(data.reason)


def _agent_end(data: AgentTerminated) -> tuple[str, str]:
    error = _shutdown_error(data.shutdown_error)
    match data.state:
        case AgentState.COMPLETED:
            return "DONE", _end_of_work(data.reason) + error
        case AgentState.FAILED:
            return "FAILED", f"is not restarted{error}"
        case _:
            return "STOPPED", error.removeprefix("; ")


def _end_of_work(reason: ExitReason) -> str:
    return "not needed" if reason.cause is Cause.IGNORE else "its work is finished"


def _shutdown_error(error: str | None) -> str:
    return f"; failed while it was stopped: {error}" if error else ""


def _call(data: AgentMessage | Command) -> str:
    arguments: Mapping[str, object] = data.data if isinstance(data, AgentMessage) else data.arguments
    call = " ".join([data.name, *(f"{key}={reprlib.repr(value)}" for key, value in arguments.items())])
    return call + _by(data) if isinstance(data, Command) else call


def _by(data: Command) -> str:
    if data.token is not None:
        return f", by token {data.token}"
    return f", by uid {data.uid} (pid {data.pid})" if data.uid is not None else ""
