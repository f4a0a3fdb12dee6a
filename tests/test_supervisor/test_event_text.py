"""The line of plain words that each event has, letter for letter."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from event_samples import ESCALATED, GAVE_UP, a_crash, an_event

from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, CrashReport, abnormal
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import (
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
    EventData,
    EventGap,
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
from orchestree.supervisor.phrases import duration
from orchestree.supervisor.states import AgentState, RunMode

pytestmark = pytest.mark.policy

ONE_CHANGE = PolicyChange("shutdown", "5.0", "1.0")
OOM = CrashReport(cause=Cause.OOM, message="killed", uptime_s=600.0)

# Each line without its path, which stands behind the verb.
LINES: list[tuple[EventData, str, str]] = [
    (OrchestratorStarted("app", RunMode.DAEMON, 3, 1),
     "STARTED", "app: 3 agents, 1 supervisor; runs until it is stopped"),
    (OrchestratorStarted("app", RunMode.DAEMON, 0, 2),
     "STARTED", "app: 0 agents, 2 supervisors; runs until it is stopped"),
    (OrchestratorStarted("app", RunMode.DAEMON, 3, 1, metrics_port=9464, metrics_host="127.0.0.1"),
     "STARTED", "app: 3 agents, 1 supervisor; runs until it is stopped; metrics on http://127.0.0.1:9464/metrics"),
    (OrchestratorStarted("app", RunMode.DAEMON, 3, 0, metrics_port=1, metrics_host="::1"),
     "STARTED", "app: 3 agents; runs until it is stopped; metrics on http://[::1]:1/metrics"),
    (OrchestratorStarted("app", RunMode.STOP_ON_EMPTY, 1, 0),
     "STARTED", "app: 1 agent; ends when nothing is left to run"),
    (OrchestratorStopping("command"), "STOPPING", "as asked"),
    (OrchestratorStopping("all_agents_terminated"), "STOPPING", "nothing is left to run"),
    (OrchestratorStopping("start_failed"), "STOPPING", "the start failed"),
    (OrchestratorStopping("signal"), "STOPPING", "by a signal"),
    (OrchestratorStopping("auto_shutdown"), "STOPPING", "its significant agents have ended"),
    (OrchestratorStopping("max_restarts"), "STOPPING", "too many restarts"),
    (OrchestratorStopping("escalated"), "STOPPING", "a policy said so"),
    (OrchestratorStopping("a cause without words"), "STOPPING", "a cause without words"),
    (OrchestratorStopped(0, "command"), "STOPPED", "exit code 0"),
    (OrchestratorStopped(1, "command", ("a", "b/c")), "STOPPED", "exit code 1; not well: a, b/c"),
    (SupervisorStarted(tuple("abcde")), "STARTING", "its children: a, b, c, d, e"),
    (SupervisorStarted(tuple("abcdef")), "STARTING", "its children: a, b, c, d, e and 1 more"),
    (SupervisorStarted(tuple("abcdefg")), "STARTING", "its children: a, b, c, d, e and 2 more"),
    (SupervisorStarted(()), "STARTING", "no children"),
    (SupervisorReady(0.126), "READY", "after 0.13 s"),
    (SupervisorRestarting(RestartCause.FAILURE, 0.5, 3), "RESTART", "in 0.5 s (3rd failure in a row)"),
    (SupervisorTerminated(GAVE_UP, "a"), "GAVE UP", "too many restarts in a short time, the last one for a"),
    (SupervisorTerminated(GAVE_UP), "GAVE UP", "too many restarts in a short time, the last one for a child"),
    (SupervisorTerminated(ESCALATED, "a"), "GAVE UP", "because a failed for good"),
    (SupervisorTerminated(ESCALATED), "GAVE UP", "because a child failed for good"),
    (SupervisorTerminated(SHUTDOWN), "STOPPED", ""),
    (SupervisorTerminated(abnormal(Cause.LOST)), "STOPPED", "abnormal (lost)"),
    (AgentRegistered("app:Sensor", "thread", "transient", ()), "ADDED", "app:Sensor (thread, transient)"),
    (AgentRegistered("app:Sensor", "thread", "transient", ("a", "b")),
     "ADDED", "app:Sensor (thread, transient), after a, b"),
    (AgentWaiting(("a", "b")), "WAITING", "for a, b"),
    (AgentQueued(8), "QUEUED", "8 agents may run at once"),
    (AgentQueued(1), "QUEUED", "1 agent may run at once"),
    (AgentStarting("process"), "STARTING", "incarnation 3 (process)"),
    (AgentStarting("thread", chosen=True), "STARTING", "incarnation 3 (thread), chosen by choose_next"),
    (AgentReady(0.0), "READY", "after 0 s"),
    (AgentCrashed(abnormal(Cause.OOM), OOM), "CRASHED", "incarnation 3, up 10 min: killed"),
    (AgentCrashed(abnormal(Cause.OOM), OOM, classified=True),
     "CRASHED", "incarnation 3, up 10 min: killed; classify_exit: abnormal (oom)"),
    (AgentHung(12.34, "", 10.0), "HUNG", "no progress for 12 s (watchdog 10 s)"),
    (AgentHung(0.5, "loading 7", 0.5), "HUNG", "no progress for 0.5 s (watchdog 0.5 s); it said last: loading 7"),
    (AgentHung(0.5, "", 0.5, 'Current thread 0x1 (most recent call first):\n  File "b.py", line 7 in hog\n  File "x"'),
     "HUNG", 'no progress for 0.5 s (watchdog 0.5 s); it blocks its event loop: File "b.py", line 7 in hog'),
    (AgentRestarting(RestartCause.FAILURE, 0.0, 1), "RESTART", "at once"),
    (AgentRestarting(RestartCause.FAILURE, 0.25, 2), "RESTART", "in 0.25 s (2nd failure in a row)"),
    (AgentRestarting(RestartCause.FAILURE, 0.25, 2, "OSError: x"),
     "RESTART", "in 0.25 s (2nd failure in a row); failed while it was stopped: OSError: x"),
    (AgentRestarting(RestartCause.GROUP, 1.0, 0), "RESTART", "in 1 s, with its group"),
    (AgentRestarting(RestartCause.GROUP, 1.0, 0, "OSError: x"),
     "RESTART", "in 1 s, with its group; failed while it was stopped: OSError: x"),
    (AgentRestarting(RestartCause.COMMAND, 0.0, 0), "RESTART", "at once, as asked"),
    (AgentRestarting(RestartCause.COMMAND, 0.0, 0, "OSError: x"),
     "RESTART", "at once, as asked; failed while it was stopped: OSError: x"),
    (AgentRestarting(RestartCause.MEMORY, 0.0, 0), "RESTART", "at once, planned: it used too much memory"),
    (AgentRestarting(RestartCause.MAX_AGE, 0.0, 0), "RESTART", "at once, planned: it reached its max_age"),
    (AgentRestarting(RestartCause.BLOCKED, 0.0, 0), "RESTART", "at once, on a fresh event loop"),
    (AgentStopping(StopCause.COMMAND), "STOPPING", "as asked"),
    (AgentStopping(StopCause.RESTART), "STOPPING", "to be started again, as asked"),
    (AgentStopping(StopCause.GROUP), "STOPPING", "another one of its group failed"),
    (AgentStopping(StopCause.SUPERVISOR), "STOPPING", "its supervisor stops"),
    (AgentStopping(StopCause.START_TIMEOUT), "STOPPING", "its setup takes too long"),
    (AgentStopping(StopCause.WATCHDOG), "STOPPING", "it makes no progress"),
    (AgentStopping(StopCause.MEMORY), "STOPPING", "it uses too much memory"),
    (AgentTerminated(NORMAL, AgentState.COMPLETED), "DONE", "its work is finished"),
    (AgentTerminated(NORMAL, AgentState.COMPLETED, "OSError: x"),
     "DONE", "its work is finished; failed while it was stopped: OSError: x"),
    (AgentTerminated(IGNORED, AgentState.COMPLETED), "DONE", "not needed"),
    (AgentTerminated(SHUTDOWN, AgentState.STOPPED), "STOPPED", ""),
    (AgentTerminated(SHUTDOWN, AgentState.STOPPED, "OSError: x"),
     "STOPPED", "failed while it was stopped: OSError: x"),
    (AgentTerminated(abnormal(Cause.EXIT), AgentState.FAILED), "FAILED", "is not restarted"),
    (AgentTerminated(abnormal(Cause.EXIT), AgentState.FAILED, "OSError: x"),
     "FAILED", "is not restarted; failed while it was stopped: OSError: x"),
    (AgentParked("failed 5 times in a row", 5),
     "PARKED", "failed 5 times in a row; stays down until it is started by hand"),
    (AgentWedged(StopCause.COMMAND), "WEDGED", "did not stop in time and cannot be killed (as asked)"),
    (AgentWedged(StopCause.BLOCKED), "WEDGED", "is left behind: another one blocks its event loop"),
    (AgentUnregistered(), "REMOVED", ""),
    (AgentMessage("level", {"value": 3, "unit": "m"}), "MESSAGE", "level value=3 unit='m'"),
    (AgentMessage("tick", {}), "MESSAGE", "tick"),
    (AllAgentsTerminated(()), "DONE", "no agent runs or comes back"),
    (AllAgentsTerminated(("a", "b")), "DONE", "no agent runs or comes back; still waiting: a, b"),
    (PolicyChanged((ONE_CHANGE,)), "POLICY", "shutdown 5.0 -> 1.0"),
    (PolicyChanged((ONE_CHANGE, PolicyChange("significant", "False", "True"))),
     "POLICY", "shutdown 5.0 -> 1.0, significant False -> True"),
    (PolicyChanged((ONE_CHANGE,), 0.0), "POLICY", "shutdown 5.0 -> 1.0; restarts at once"),
    (PolicyChanged((ONE_CHANGE,), 0.5), "POLICY", "shutdown 5.0 -> 1.0; restarts in 0.5 s"),
    (Command("stop_agent", {"timeout": 5}), "COMMAND", "stop_agent timeout=5"),
    (HandlerFailed("app.notify", "KeyError: 'x'"), "FAILED", "event handler app.notify: KeyError: 'x'"),
    (ServiceFailed("metrics", "port in use"), "FAILED", "metrics: port in use"),
    (LeakFound((12, 17)), "LEAK", "still there, and cannot be ended: 12, 17"),
    (EventGap(5, 9), "LOST", "events 5 to 9 (too many at once)"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "verb", "details"), LINES)
def test_a_line_says_what_happened_to_whom_and_what_there_is_to_know(data: EventData, verb: str, details: str) -> None:
    assert describe(an_event(data)) == f"{verb:<8} sensor-b      {details}".rstrip()


def test_every_kind_of_event_has_its_line() -> None:
    assert {type(data) for data, _, _ in LINES} == set(get_args(EventData))


def test_something_that_is_no_event_has_no_line() -> None:
    with pytest.raises(AssertionError, match="a surprise"):
        describe(dataclasses.replace(an_event(AgentReady(0.0)), data="a surprise"))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="a whim"):
        describe(an_event(AgentRestarting("a whim", 0.0, 1)))  # type: ignore[arg-type]


def test_a_line_about_a_crash_says_how_long_it_ran_what_it_died_of_and_what_else_failed() -> None:
    assert describe(a_crash()) == "CRASHED  sensor-b      incarnation 3, up 4.2 s: ValueError: no such sensor"
    assert describe(a_crash("X: y", phase="setup", notes=("teardown: OSError: x", "on_stop: KeyError: 1"))) == (
        "CRASHED  sensor-b      incarnation 3, up 4.2 s: X: y (in setup)"
        "; also: teardown: OSError: x; also: on_stop: KeyError: 1"
    )


def test_the_root_is_called_the_orchestrator() -> None:
    assert describe(an_event(SupervisorReady(1.0), path="")) == "READY    orchestrator  after 1 s"


def test_a_long_path_is_shown_whole() -> None:
    assert describe(an_event(AgentReady(1.0), path="ingest/collector")) == "READY    ingest/collector  after 1 s"


def test_a_line_is_one_line_and_no_message_can_steer_the_terminal() -> None:
    text = describe(a_crash("ValueError: one\ntwo \x1b[2J three"))
    assert text == "CRASHED  sensor-b      incarnation 3, up 4.2 s: ValueError: one two  [2J three"


def test_a_long_value_of_a_message_is_cut() -> None:
    line = describe(an_event(AgentMessage("dump", {"text": "x" * 1_000})))
    assert line.startswith("MESSAGE  sensor-b      dump text='xxx")
    assert len(line) < 80


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"), (12, "12th"), (13, "13th"), (14, "14th"),
        (20, "20th"), (21, "21st"), (22, "22nd"), (23, "23rd"), (24, "24th"), (101, "101st"), (111, "111th"),
        (112, "112th"), (113, "113th"), (212, "212th"), (1003, "1003rd"),
    ],
)  # fmt: skip
def test_failures_in_a_row_are_counted_as_people_do(attempt: int, words: str) -> None:
    line = describe(an_event(AgentRestarting(RestartCause.FAILURE, 0.0, attempt)))
    assert line == f"RESTART  sensor-b      at once ({words} failure in a row)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.004, "0 s"), (0.25, "0.25 s"), (4.256, "4.26 s"), (1.0, "1 s"), (9.5, "9.5 s"), (9.99, "9.99 s"),
        (10, "10 s"), (10.4, "10 s"), (42.4, "42 s"), (59.4, "59 s"),
        (59.9, "1 min"), (60, "1 min"), (61, "1 min 1 s"), (200, "3 min 20 s"), (3599, "59 min 59 s"),
        (3600, "1 h"), (3659, "1 h"), (3660, "1 h 1 min"), (18060, "5 h 1 min"), (86399, "23 h 59 min"),
        (86400, "1 d"), (89999, "1 d"), (90000, "1 d 1 h"), (183600, "2 d 3 h"), (1e300, "1e+300 s"),
    ],
)  # fmt: skip
def test_a_duration_has_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text
