"""OTP's rules on reports: L01, L02, L04 to L07. A report is an event, and its line in the log of the tree.

`reports` are the lines above INFO, OTP's error reports; what is at INFO is OTP's progress.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from loguru import logger
from orchestree_testing.each_executor import add_scripted, only
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from orchestree_testing.trees import PATIENCE, a_tree, wait_for
from otp_support import STRATEGIES, child, every_executor, killable
from stories import LIFE, Story, as_event, lines, reports, told
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.strategies import Restart
from orchestree.supervisor import AgentEntry, AgentState, EventType
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentMessage,
    AgentRestarting,
    AgentTerminated,
    Event,
    EventData,
    RestartCause,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.inputs import Emit
from orchestree.supervisor.lifecycle_log import LifecycleLog, level_of
from orchestree.supervisor.phrases import MOST_NAMES

GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)


class Records:
    """Keeps the log records that are about events."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def __call__(self, message: Any) -> None:
        if "event_type" in message.record["extra"]:
            self.records.append(message.record)

    def of(self, path: str, kind: EventType) -> list[Any]:
        """Return the records about events of this path and type."""
        extras = ((record, record["extra"]) for record in self.records)
        return [record for record, extra in extras if (extra["path"], extra["event_type"]) == (path, kind.value)]


@pytest.fixture
def log() -> Iterator[Records]:
    records = Records()
    number = logger.add(records, level=0, format="{message}")
    yield records
    logger.remove(number)


def incarnations(tree: Story, kind: type[EventData]) -> list[int]:
    """Return the incarnations that events of this kind are about."""
    emitted = [effect for effect in tree.effects if isinstance(effect, Emit)]
    return [effect.incarnation for effect in emitted if isinstance(effect.data, kind)]


# L01: {supervisor, context, reason, offender[pid, id, mfargs, restart_type, significant, shutdown, child_type]}


@pytest.mark.otp("L01")
@pytest.mark.slow
@every_executor
def test_the_report_of_a_failure_says_all_about_the_child_its_end_and_its_specification(
    executor: str, log: Records
) -> None:
    tree = a_tree()
    team: Any = tree.add_supervisor("team", auto_shutdown="any_significant")
    kind = AsyncEndsOnce if executor == "async" else EndsOnce
    fields = {"significant": True, "shutdown": 2.5, "backoff": None}
    registered = team.register_agent(kind, "x", executor=executor, execute="raise lost", **fields)
    with tree:
        wait_for(tree, EventType.AGENT_READY, "team/x", count=2)
        entry = tree.get_childspec("team/x")
    event = only(tree, EventType.AGENT_CRASHED, "team/x")
    data = event.data
    assert isinstance(data, AgentCrashed)
    assert event.path.rpartition("/")[0] == "team", "its supervisor"
    assert (event.incarnation, data.reason, data.report.phase) == (1, abnormal(Cause.EXCEPTION), "execute")
    assert data.report.message == "SensorLost: lost"
    assert data.report.exception_types[0].endswith("agents.SensorLost")
    assert "raise SensorLost(text)" in data.report.traceback
    assert (data.report.pid is not None) == (executor == "process")
    assert data.report.pid != os.getpid()
    assert isinstance(entry, AgentEntry)
    assert entry == registered
    assert (entry.agent, entry.name, entry.restart, entry.significant, entry.shutdown, entry.executor) == (
        kind, "x", Restart.TRANSIENT, True, 2.5, executor,
    )  # fmt: skip
    (record,) = log.of("team/x", EventType.AGENT_CRASHED)
    assert record["level"].name == "ERROR"
    assert record["extra"] == {"path": "team/x", "incarnation": 1, "event_type": "agent_crashed"}


# L02

START_FAILED = abnormal(Cause.START_FAILED)


@pytest.mark.otp("L02")
def test_a_failed_start_is_reported_at_the_first_start_at_a_restart_and_at_a_group_restart() -> None:
    tree = Story(killable("a"), child("b"), started=False, strategy="one_for_all", max_restarts=5)
    tree.manual.add("b")
    tree.start()
    tree.end("b", START_FAILED, "no port")
    tree.ready("b")
    tree.crash("b")
    tree.end("b", START_FAILED, "no port")
    tree.ready("b")
    tree.crash("a")
    tree.end("b", NORMAL)
    tree.end("b", START_FAILED, "no port")
    crashes = [(path, data.reason.cause) for _, _, path, data in tree.log if isinstance(data, AgentCrashed)]
    assert crashes == [("b", "start_failed"), ("b", "exception"), ("b", "start_failed"), ("a", "exception"),
                       ("b", "start_failed")]  # fmt: skip
    assert [line for line in reports(tree) if "CRASHED" in line] == [
        "ERROR CRASHED b", "ERROR CRASHED b", "ERROR CRASHED b", "ERROR CRASHED a", "ERROR CRASHED b",
    ]  # fmt: skip


REASONS: dict[str, ExitReason] = {"normal": NORMAL, "shutdown": SHUTDOWN, "failure": abnormal(Cause.EXCEPTION)}


@pytest.mark.otp("L02")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("restart", "reason", "expected"),
    [
        ("permanent", "normal", ["WARNING RESTARTING x"]),
        ("permanent", "shutdown", ["WARNING RESTARTING x"]),
        ("permanent", "failure", ["ERROR CRASHED x", "WARNING RESTARTING x"]),
        ("transient", "normal", []),
        ("transient", "shutdown", []),
        ("transient", "failure", ["ERROR CRASHED x", "WARNING RESTARTING x"]),
        ("temporary", "normal", []),
        ("temporary", "shutdown", []),
        ("temporary", "failure", ["ERROR CRASHED x", "ERROR TERMINATED x"]),
    ],
)
def test_every_end_that_is_restarted_and_every_failure_is_reported_and_no_other(
    restart: str, reason: str, expected: list[str], strategy: str
) -> None:
    tree = Story(child("x", restart=restart), strategy=strategy)
    tree.forget()
    tree.end("x", REASONS[reason])
    assert reports(tree) == expected


@pytest.mark.otp("L02")
@pytest.mark.parametrize("failing", [True, False])
def test_a_failure_while_a_child_is_stopped_is_reported_with_its_stop_and_a_stop_that_goes_well_is_not(
    failing: bool,
) -> None:
    tree = Story(child("a"), child("b"), strategy="one_for_all")
    tree.manual.add("b")
    tree.forget()
    tree.crash("a")
    tree.end("b", abnormal(Cause.EXCEPTION) if failing else NORMAL, "no disk")
    tree.ready("b")
    tree.stop()
    tree.end("b", abnormal(Cause.EXCEPTION) if failing else NORMAL, "no disk")
    error = "no disk" if failing else None
    told_of = [data for _, _, path, data in tree.log if path == "b"]
    assert [data for data in told_of if isinstance(data, AgentRestarting)] == [
        AgentRestarting(RestartCause.GROUP, 0.0, 0, error)
    ]
    assert [data for data in told_of if isinstance(data, AgentTerminated)] == [
        AgentTerminated(SHUTDOWN, AgentState.STOPPED, error)
    ]
    assert sum("failed while it was stopped: no disk" in line for line in lines(tree)) == (2 if failing else 0)


@pytest.mark.otp("L02")
@pytest.mark.parametrize("depth", [0, 1])
def test_too_many_restarts_are_reported_with_the_offender_once_for_each_level(depth: int) -> None:
    inner = supervisor("s", child("x"), child("y"), max_restarts=1, backoff=None, restart="transient")
    tree = Story(inner) if depth else Story(child("x"), child("y"), max_restarts=1)
    path = "s/" if depth else ""
    tree.forget()
    for _ in range(2):
        tree.crash(f"{path}x")
    ((_, data),) = tree.events("SUPERVISOR_TERMINATED")
    assert data == SupervisorTerminated(GAVE_UP, f"{path}x")
    assert [line for line in reports(tree) if "SUPERVISOR" in line] == [
        f"CRITICAL SUPERVISOR_TERMINATED {path.rstrip('/')}".rstrip()
    ]


@pytest.mark.otp("L02")
def test_a_stop_of_the_whole_and_an_automatic_shutdown_are_not_reported() -> None:
    tree = Story(child("a"), supervisor("s", child("x", significant=True), child("y"), auto_shutdown="any_significant",
                                        restart="temporary"))  # fmt: skip
    tree.forget()
    tree.complete("s/x")
    tree.stop_agent("a")
    tree.stop()
    assert reports(tree) == []


# L04


@pytest.mark.otp("L04")
@pytest.mark.parametrize("dynamic", [False, True])
def test_every_successful_start_is_told_as_progress_whoever_asked_for_it(dynamic: bool) -> None:
    """OTP says nothing of the instances of a simple_one_for_one; here there is no silent start."""
    tree = Story(supervisor("s", *([] if dynamic else [agent("first")]), dynamic=dynamic))
    tree.start_child("s", agent("child", restart="permanent"))
    tree.crash("s/child")
    tree.restart_agent("s/child")
    if not dynamic:
        tree.register("s", agent("late"))
        tree.stop_agent("s/first")
        tree.start_agent("s/first")
    ready = [index for index, (_, kind, _, _) in enumerate(tree.log) if kind == "AGENT_READY"]
    assert [tree.log[index][2] for index in ready] == [
        *([] if dynamic else ["s/first"]), "s/child", "s/child", "s/child", *([] if dynamic else ["s/late", "s/first"]),
    ]  # fmt: skip
    starting = [index for index, (_, kind, _, _) in enumerate(tree.log) if kind == "AGENT_STARTING"]
    assert {level_of(as_event(tree, index)) for index in ready + starting} == {"INFO"}


@pytest.mark.otp("L04")
def test_a_start_that_fails_is_no_progress() -> None:
    tree = Story(agent("a"), started=False)
    tree.failing.add("a")
    tree.start()
    assert told(tree, "AGENT_READY") == []


# L05


@pytest.mark.otp("L05")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_failure_is_told_before_the_restart_and_the_restart_before_its_start(strategy: str) -> None:
    tree = Story(child("x"), strategy=strategy)
    tree.forget()
    tree.crash("x")
    assert told(tree) == ["0 CRASHED x", "0 RESTARTING x", "0 STARTING x", "0 READY x"]


@pytest.mark.otp("L05")
def test_on_giving_up_come_the_failure_then_what_fails_while_the_others_stop_then_the_end_with_its_cause() -> None:
    """The cause of the end is told with the end, so after the errors of the others; the failure comes first."""
    tree = Story(child("a"), child("b"), child("x"), child("z"), max_restarts=0)
    tree.manual |= {"a", "z"}
    tree.forget()
    tree.crash("x")
    tree.end("z", abnormal(Cause.EXCEPTION), "no disk")
    tree.end("a", abnormal(Cause.EXCEPTION), "no net")
    assert told(tree, *LIFE, "ORCHESTRATOR_STOPPING") == [
        "0 CRASHED x", "0 TERMINATED x", "0 ORCHESTRATOR_STOPPING",
        "0 STOPPING z", "0 TERMINATED z", "0 STOPPING b", "0 TERMINATED b", "0 STOPPING a", "0 TERMINATED a",
        "0 SUPERVISOR_TERMINATED", "0 ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert [line for line in lines(tree) if "failed while" in line or "too many" in line] == [
        "STOPPING orchestrator  too many restarts",
        "STOPPED  z             failed while it was stopped: no disk",
        "STOPPED  a             failed while it was stopped: no net",
        "GAVE UP  orchestrator  too many restarts in a short time, the last one for x",
    ]


# L06


@pytest.mark.otp("L06")
def test_a_report_is_about_the_incarnation_that_ended_also_when_it_never_became_ready() -> None:
    tree = Story(child("x"), started=False)
    tree.manual.add("x")
    tree.start()
    for _ in range(3):
        tree.end("x", START_FAILED)
    tree.ready("x")
    tree.crash("x")
    assert incarnations(tree, AgentCrashed) == [1, 2, 3, 4]
    assert incarnations(tree, AgentRestarting) == [1, 2, 3, 4]
    attempts = [data.attempt for _, data in tree.events("AGENT_RESTARTING") if isinstance(data, AgentRestarting)]
    assert attempts == [1, 2, 3, 4]


@pytest.mark.otp("L06")
@pytest.mark.slow
def test_the_pid_in_a_report_is_that_of_the_dead_process() -> None:
    tree = a_tree()
    add_scripted(tree, "process", "x", execute="sleep", backoff=None)
    with tree:
        pids = []
        for count in (2, 3):
            pid = tree.status("x").pid
            assert pid is not None
            pids.append(pid)
            os.kill(pid, signal.SIGKILL)
            wait_for(tree, EventType.AGENT_READY, "x", count=count)
            tree.wait_until("x", "ready", PATIENCE)
        crashes = tree.history("x", EventType.AGENT_CRASHED)
        assert [event.incarnation for event in crashes] == [1, 2]
        assert [event.data.report.pid for event in crashes if isinstance(event.data, AgentCrashed)] == pids
        assert tree.status("x").pid not in pids


@pytest.mark.otp("L06")
def test_what_a_dynamic_supervisor_tells_is_about_one_child_each() -> None:
    """OTP counts them (nb_children); here each has its line."""
    tree = Story(supervisor("pool", dynamic=True))
    for number in range(5):
        tree.start_child("pool", killable(str(number), shutdown=0))
        tree.stubborn.add(f"pool/{number}")
    tree.forget()
    tree.stop()
    tree.advance(0.0)
    failed = [line for line in lines(tree) if "failed while it was stopped: killed" in line]
    assert sorted(line.split()[1] for line in failed) == [f"pool/{number}" for number in range(5)]


# L07

NASTY = "first line\nsecond\r\nthird\x1b[31m red\x00\u2028end"


def some(kind: type[EventData]) -> EventData:
    """Return data of this kind, filled with text that would break lines where text is allowed."""
    values: dict[str, object] = {
        "reason": abnormal(Cause.EXCEPTION),
        "report": CrashReport(cause=Cause.EXCEPTION, message=NASTY, notes=(NASTY,)),
        "state": AgentState.STOPPED, "cause": RestartCause.FAILURE, "run_mode": "daemon", "data": {NASTY: NASTY},
        "arguments": {NASTY: NASTY}, "changes": (), "shutdown_error": NASTY,
    }  # fmt: skip
    if "Stopping" in kind.__name__ or "Wedged" in kind.__name__:
        values["cause"] = "command"
    text = {"str": NASTY, "int": 3, "float": 1.5, "bool": True, "float | None": None, "str | None": NASTY}
    arguments: dict[str, Any] = {}
    for name, annotation in kind.__annotations__.items():
        words = str(annotation)
        arguments[name] = values.get(name, (NASTY,) * 9 if words.startswith("tuple") else text.get(words))
    return kind(**arguments)


@pytest.mark.otp("L07")
@pytest.mark.parametrize("kind", get_args(EventData), ids=lambda kind: kind.__name__)
def test_every_event_has_one_line_whatever_is_in_it(kind: type[EventData]) -> None:
    event = Event(1, 0.0, 0.0, EventType.AGENT_MESSAGE, "team/x", 3, some(kind))
    line = describe(event)
    assert line.splitlines() == [line]
    assert line.isprintable()
    assert "team/x" in line


@pytest.mark.otp("L07")
def test_long_lists_and_long_values_are_cut() -> None:
    tree = Story(*(agent(f"a{number}") for number in range(500)))
    started = next(line for line in lines(tree) if line.startswith("STARTING orchestrator"))
    assert started == f"STARTING orchestrator  its children: a0, a1, a2, a3, a4 and {500 - MOST_NAMES} more"
    message = AgentMessage("level", {"value": "x" * 100_000, "many": list(range(100_000))})
    assert len(describe(Event(1, 0.0, 0.0, EventType.AGENT_MESSAGE, "x", 1, message))) < 200


@pytest.mark.otp("L07")
def test_the_line_names_context_child_reason_and_what_comes_next(log: Records) -> None:
    write = LifecycleLog()
    report = CrashReport(cause=Cause.EXCEPTION, message="ValueError: no such sensor", uptime_s=4.2, traceback="T\nE\n")
    story: list[tuple[EventType, EventData]] = [
        (EventType.AGENT_CRASHED, AgentCrashed(abnormal(Cause.EXCEPTION), report)),
        (EventType.AGENT_RESTARTING, AgentRestarting(RestartCause.FAILURE, 0.25, 2)),
        (EventType.SUPERVISOR_TERMINATED, SupervisorTerminated(GAVE_UP, "team/x")),
        (EventType.SUPERVISOR_RESTARTING, SupervisorRestarting(RestartCause.FAILURE, 0.0, 1)),
        (EventType.SUPERVISOR_STARTED, SupervisorStarted(("x",))),
    ]
    for number, (kind, data) in enumerate(story, start=1):
        write(Event(number, 0.0, 0.0, kind, "team/x" if number < 3 else "team", 3, data))
    assert [(record["level"].name, record["message"]) for record in log.records] == [
        ("ERROR", "CRASHED  team/x        incarnation 3, up 4.2 s: ValueError: no such sensor\nT\nE"),
        ("WARNING", "RESTART  team/x        in 0.25 s (2nd failure in a row)"),
        ("CRITICAL", "GAVE UP  team          too many restarts in a short time, the last one for team/x"),
        ("WARNING", "RESTART  team          at once"),
        ("INFO", "STARTING team          its children: x"),
    ]
