"""What is compared between a log and a replay: what was decided, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from event_samples import an_event

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, abnormal
from orchestree.supervisor import events as made
from orchestree.supervisor.events import EventData, RestartCause, StopCause
from orchestree.supervisor.inputs import Emit
from orchestree.supervisor.simulation.replayed.matching import agrees, differences, divergence_at
from orchestree.supervisor.states import AgentState, RunMode

pytestmark = pytest.mark.policy

CRASH = CrashReport(cause=Cause.EXCEPTION, message="boom", decision="restart", delay_s=0.5)
DECIDED: list[tuple[EventData, dict[str, Any]]] = [
    (
        made.OrchestratorStarted("name", RunMode.DAEMON, 2, 1),
        {"run_mode": RunMode.STOP_ON_EMPTY, "agents": 3, "supervisors": 2},
    ),
    (made.OrchestratorStopping("command"), {"cause": "signal"}),
    (made.OrchestratorStopped(0, "command"), {"exit_code": 1, "cause": "empty", "unhealthy": ("a",)}),
    (made.SupervisorStarted(("a", "b")), {"children": ("b", "a")}),
    (made.SupervisorReady(1.0), {}),
    (
        made.SupervisorRestarting(RestartCause.FAILURE, 1.0, 1),
        {"cause": RestartCause.GROUP, "delay": 1.5, "attempt": 2},
    ),
    (made.SupervisorTerminated(SHUTDOWN), {"reason": NORMAL, "offender": "a"}),
    (
        made.AgentRegistered("module:Kind", "thread", "transient", ()),
        {"executor": "process", "restart": "permanent", "depends_on": ("a",)},
    ),
    (made.AgentWaiting(("a",)), {"waiting_for": ("b",)}),
    (made.AgentQueued(3), {"max_workers": 4}),
    (made.AgentStarting("thread"), {"executor": "async", "chosen": True}),
    (made.AgentReady(1.0), {}),
    (made.AgentHung(1.0, "", 1.0), {}),
    (
        made.AgentRestarting(RestartCause.FAILURE, 1.0, 1),
        {"cause": RestartCause.COMMAND, "delay": 0.0, "attempt": 0, "reason": NORMAL},
    ),
    (made.AgentStopping(StopCause.COMMAND), {"cause": StopCause.GROUP}),
    (made.AgentTerminated(NORMAL, AgentState.COMPLETED), {"reason": SHUTDOWN, "state": AgentState.STOPPED}),
    (made.AgentParked("failed", 1), {"why": "a rule says so", "attempt": 2, "reason": NORMAL}),
    (made.AgentWedged(StopCause.COMMAND), {"cause": StopCause.GROUP}),
    (made.AgentUnregistered(), {}),
    (made.AgentMessage("said", {}), {}),
    (made.AllAgentsTerminated(()), {"left_waiting": ("a",)}),
    (made.PolicyChanged((), 1.0), {"delay": None}),
    (made.Command("stop"), {"name": "start"}),
]


def said(data: EventData, path: str = "sensor-b", incarnation: int = 3) -> Emit:
    """Return what a core says, of the run of `an_event`."""
    values = tuple(getattr(data, one.name) for one in fields(data))
    return Emit._make((path, incarnation, type(data), values))


@pytest.mark.parametrize(("data", "others"), DECIDED, ids=[type(data).__name__ for data, _ in DECIDED])
def test_each_thing_that_was_decided_is_compared(data: EventData, others: dict[str, Any]) -> None:
    event = an_event(data)
    assert agrees(said(data), event)
    for name, value in others.items():
        other: Any = replace(data, **{name: value})
        assert not agrees(said(other), event), name
        (told,) = differences(other, data)
        assert told.startswith(f"{name}=")


@pytest.mark.parametrize(
    ("data", "others"),
    [
        (made.AgentRestarting(RestartCause.GROUP, 1.0, 0), {"shutdown_error": "OSError: x"}),
        (made.AgentTerminated(SHUTDOWN, AgentState.STOPPED), {"shutdown_error": "OSError: x"}),
        (made.AgentHung(1.0, "", 1.0), {"silent_s": 2.0, "doing": "x", "stack": "y"}),
        (made.AgentReady(1.0), {"startup_s": 2.0}),
        (made.AgentMessage("said", {}), {"data": {"a": 1}}),
        (made.Command("stop"), {"uid": 3, "arguments": {"a": 1}}),
        (made.OrchestratorStarted("name", RunMode.DAEMON, 2, 1), {"name": "other", "seed": 5, "socket": "/x"}),
    ],
    ids=["restarting", "terminated", "hung", "ready", "message", "command", "started"],
)
def test_what_is_only_handed_on_is_not_compared(data: EventData, others: dict[str, Any]) -> None:
    for name, value in others.items():
        assert agrees(said(replace(data, **{name: value})), an_event(data)), name


def test_of_a_crash_its_reason_and_what_was_decided_are_compared() -> None:
    data = made.AgentCrashed(abnormal(Cause.EXCEPTION), CRASH)
    for name, other in (
        ("decision", replace(data, report=replace(CRASH, decision="park"))),
        ("delay_s", replace(data, report=replace(CRASH, delay_s=None))),
        ("reason", replace(data, reason=abnormal(Cause.EXIT))),
    ):
        assert [one.partition("=")[0] for one in differences(other, data)] == [name]
    for handed_on in (replace(data, classified=True), replace(data, report=replace(CRASH, message="other"))):
        assert differences(handed_on, data) == ()


def test_moments_may_differ_by_what_computing_makes_of_them() -> None:
    data = made.AgentRestarting(RestartCause.FAILURE, 0.0, 1)
    assert agrees(said(replace(data, delay=5e-7)), an_event(data))
    assert not agrees(said(replace(data, delay=5e-6)), an_event(data))
    late = replace(data, delay=1e6)
    assert agrees(said(replace(late, delay=1e6 + 0.5)), an_event(late))
    assert not agrees(said(replace(late, delay=1e6 + 5.0)), an_event(late))


def test_another_run_or_type_is_told_whole() -> None:
    event = replace(an_event(made.AgentStarting("thread")), time=5.0, monotonic=7.0, seq=9, run="r")
    for other in (
        said(made.AgentStarting("thread"), path="x"),
        said(made.AgentStarting("thread"), incarnation=4),
        said(made.AgentWaiting(("x",))),
    ):
        assert not agrees(other, event)
        divergence = divergence_at(event, other)
        kind = made.TYPE_OF[type(other.data)]
        would = replace(event, path=other.path, incarnation=other.incarnation, data=other.data, type=kind)
        assert (divergence.event, divergence.would, divergence.differs) == (event, would, ())
    assert divergence_at(event, None).would is None
    of_the_same = divergence_at(event, said(made.AgentStarting("async")))
    assert of_the_same.differs == ("executor=async where the log has thread",)
