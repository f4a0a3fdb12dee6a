"""Events as the tests of what people read need them: of ``sensor-b``, third incarnation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestree.agents.ends import NORMAL, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.supervisor.event_json import data_from_json
from orchestree.supervisor.events import (
    TYPE_OF,
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
    EventType,
    HandlerFailed,
    LeakFound,
    OrchestratorStarted,
    OrchestratorStopped,
    OrchestratorStopping,
    PolicyChange,
    PolicyChanged,
    RestartCause,
    ServiceFailed,
    StopCause,
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.states import AgentState, RunMode

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such sensor\n'


def an_event(data: EventData, path: str = "sensor-b", time: float = 0.0) -> Event:
    return Event(1, time, 0.0, TYPE_OF[type(data)], path, 3, data)


def a_crash(
    message: str = "ValueError: no such sensor", path: str = "sensor-b", time: float = 0.0, **fields: object
) -> Event:
    report = {"cause": Cause.EXCEPTION, "uptime_s": 4.2, "traceback": TRACEBACK, **fields}
    data = AgentCrashed(abnormal(Cause.EXCEPTION), CrashReport(message=message, **report))  # type: ignore[arg-type]
    return an_event(data, path, time)


GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)
ESCALATED = ExitReason(ExitKind.SHUTDOWN, Cause.ESCALATED)

# fmt: off
EVERY_DATA: tuple[EventData, ...] = (
    OrchestratorStarted("main", RunMode.DAEMON, 3, 1, "/run/main.sock", 9464, "127.0.0.1", 7),
    OrchestratorStopping("signal"),
    OrchestratorStopped(1, "command", ("a", "b/c")),
    SupervisorStarted(("a", "b")),
    SupervisorReady(0.25),
    SupervisorRestarting(RestartCause.FAILURE, 1.5, 2),
    SupervisorTerminated(GAVE_UP, "b/c"),
    AgentRegistered("m:Agent", "thread", "transient", ("a",)),
    AgentWaiting(("a", "b")),
    AgentQueued(4),
    AgentStarting("process", True),
    AgentReady(0.125),
    AgentCrashed(
        abnormal(Cause.SIGNAL),
        CrashReport(
            cause=Cause.SIGNAL, message="killed by SIGKILL", phase="setup", exception_types=("E", "B"),
            traceback=TRACEBACK, exit_code=3, signal="SIGKILL", pid=4711, uptime_s=4.2, notes=("n",), progress="row 3",
            silent_s=0.5, stacks="stack", output=("one", "two"), max_memory=2**34, fingerprint="abc", occurrence=7,
            first_seen=1.7e9, decision="restart", delay_s=0.5,
        ),
        classified=True,
    ),
    AgentHung(31.5, "row 3", 30.0, "stack"),
    AgentRestarting(RestartCause.GROUP, 0.5, 3, "teardown failed", NORMAL),
    AgentStopping(StopCause.WATCHDOG),
    AgentTerminated(ESCALATED, AgentState.FAILED, None),
    AgentParked("tried 5 times", 5, NORMAL),
    AgentWedged(StopCause.COMMAND),
    AgentUnregistered(),
    AgentMessage("tick", {"n": 1, "list": [1, 2.5, None], "nested": {"text": "é\x00\""}}),
    AllAgentsTerminated(("a",)),
    PolicyChanged((PolicyChange("restart", "transient", "permanent"),), 0.5),
    Command("stop", {"path": "a", "wait": 1.5}, 1000, 4711, None),
    HandlerFailed("on_event", "ValueError: x"),
    ServiceFailed("history", "disk is full"),
    LeakFound((1, 2)),
    EventGap(1, 1),
)
# fmt: on
"""One of each type, with every field filled."""


def from_json(written: Mapping[str, Any]) -> Event:
    """Return the event that `to_json` wrote."""
    type = EventType(written["type"])
    outer = {name: written[name] for name in ("seq", "time", "monotonic", "path", "incarnation", "run")}
    return Event(type=type, data=data_from_json(type, written["data"]), **outer)
