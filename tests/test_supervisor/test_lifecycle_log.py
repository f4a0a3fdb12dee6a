"""What a person reads: the words of events, the log of the tree, and the sinks of `orchestree run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import get_args

import pytest
from loguru import logger

from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.supervisor import lifecycle_log
from orchestree.supervisor.event_text import describe, duration
from orchestree.supervisor.events import (
    AgentCrashed,
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
    OrchestratorStarted,
    OrchestratorStopped,
    OrchestratorStopping,
    RestartCause,
    ServiceFailed,
    StopCause,
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.lifecycle_log import LifecycleLog
from orchestree.supervisor.logging_setup import setup_logging
from orchestree.supervisor.states import AgentState, RunMode

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such sensor\n'


def an_event(data: EventData, path: str = "sensor-b") -> Event:
    name = "".join(f"_{c}" if c.isupper() else c for c in type(data).__name__)
    return Event(1, 0.0, 0.0, EventType(name.lower().removeprefix("_")), path, 3, data)


def a_crash(message: str = "ValueError: no such sensor", path: str = "sensor-b", **fields: object) -> Event:
    report = {"cause": Cause.EXCEPTION, "uptime_s": 4.2, "traceback": TRACEBACK, **fields}
    return an_event(AgentCrashed(abnormal(Cause.EXCEPTION), CrashReport(message=message, **report)), path)  # type: ignore[arg-type]


GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)
ESCALATED = ExitReason(ExitKind.SHUTDOWN, Cause.ESCALATED)

# Each line as it is written, and its level.
LINES: list[tuple[EventData, str, str]] = [
    (OrchestratorStarted("app", RunMode.DAEMON, 3, 1), "INFO",
     "STARTED  sensor-b      app: 3 agents, 1 supervisor; runs until it is stopped"),
    (OrchestratorStarted("app", RunMode.STOP_ON_EMPTY, 1, 0), "INFO",
     "STARTED  sensor-b      app: 1 agent; ends when nothing is left to run"),
    (OrchestratorStopping("command"), "INFO", "STOPPING sensor-b      as asked"),
    (OrchestratorStopping("else"), "INFO", "STOPPING sensor-b      else"),
    (OrchestratorStopped(0, "command"), "INFO", "STOPPED  sensor-b      exit code 0"),
    (OrchestratorStopped(1, "command", ("a", "b/c")), "ERROR", "STOPPED  sensor-b      exit code 1; not well: a, b/c"),
    (SupervisorStarted(tuple("abcdefg")), "INFO", "STARTING sensor-b      its children: a, b, c, d, e and 2 more"),
    (SupervisorStarted(()), "INFO", "STARTING sensor-b      no children"),
    (SupervisorReady(0.126), "INFO", "READY    sensor-b      after 0.13 s"),
    (SupervisorRestarting(RestartCause.FAILURE, 0.5, 3), "WARNING",
     "RESTART  sensor-b      in 0.5 s (3rd failure in a row)"),
    (SupervisorTerminated(GAVE_UP, "a"), "CRITICAL",
     "GAVE UP  sensor-b      too many restarts in a short time, the last one for a"),
    (SupervisorTerminated(ESCALATED), "CRITICAL", "GAVE UP  sensor-b      because a child failed for good"),
    (SupervisorTerminated(SHUTDOWN), "INFO", "STOPPED  sensor-b"),
    (AgentRegistered("app:Sensor", "thread", "transient", ("a",)), "DEBUG",
     "ADDED    sensor-b      app:Sensor (thread, transient), after a"),
    (AgentWaiting(("a", "b")), "INFO", "WAITING  sensor-b      for a, b"),
    (AgentQueued(8), "INFO", "QUEUED   sensor-b      8 agents may run at once"),
    (AgentStarting("process"), "INFO", "STARTING sensor-b      incarnation 3 (process)"),
    (AgentStarting("thread", chosen=True), "INFO",
     "STARTING sensor-b      incarnation 3 (thread), chosen by choose_next"),
    (AgentReady(0.0), "INFO", "READY    sensor-b      after 0 s"),
    (AgentRestarting(RestartCause.FAILURE, 0.0, 1), "WARNING", "RESTART  sensor-b      at once"),
    (AgentRestarting(RestartCause.FAILURE, 0.25, 2), "WARNING",
     "RESTART  sensor-b      in 0.25 s (2nd failure in a row)"),
    (AgentRestarting(RestartCause.FAILURE, 30.0, 12), "WARNING",
     "RESTART  sensor-b      in 30 s (12th failure in a row)"),
    (AgentRestarting(RestartCause.GROUP, 1.0, 0, "OSError: x"), "WARNING",
     "RESTART  sensor-b      in 1 s, with its group; failed while it was stopped: OSError: x"),
    (AgentRestarting(RestartCause.COMMAND, 0.0, 0), "WARNING", "RESTART  sensor-b      at once, as asked"),
    (AgentStopping(StopCause.SUPERVISOR), "INFO", "STOPPING sensor-b      its supervisor stops"),
    (AgentTerminated(NORMAL, AgentState.COMPLETED), "INFO", "DONE     sensor-b      its work is finished"),
    (AgentTerminated(IGNORED, AgentState.COMPLETED), "INFO", "DONE     sensor-b      not needed"),
    (AgentTerminated(SHUTDOWN, AgentState.STOPPED), "INFO", "STOPPED  sensor-b"),
    (AgentTerminated(SHUTDOWN, AgentState.STOPPED, "OSError: x"), "INFO",
     "STOPPED  sensor-b      failed while it was stopped: OSError: x"),
    (AgentTerminated(abnormal(Cause.EXIT), AgentState.FAILED), "ERROR", "FAILED   sensor-b      is not restarted"),
    (AgentParked("5 failures in a row", 5), "CRITICAL",
     "PARKED   sensor-b      5 failures in a row; stays down until it is started by hand"),
    (AgentWedged(StopCause.COMMAND), "CRITICAL",
     "WEDGED   sensor-b      did not stop in time and cannot be killed (as asked)"),
    (AgentUnregistered(), "DEBUG", "REMOVED  sensor-b"),
    (AgentMessage("level", {"value": 3, "unit": "m"}), "DEBUG", "MESSAGE  sensor-b      level value=3 unit='m'"),
    (AllAgentsTerminated(()), "INFO", "DONE     sensor-b      no agent runs or comes back"),
    (AllAgentsTerminated(("a",)), "INFO",
     "DONE     sensor-b      no agent runs or comes back; still waiting: a"),
    (Command("stop_agent", {"timeout": 5}), "INFO", "COMMAND  sensor-b      stop_agent timeout=5"),
    (HandlerFailed("app.notify", "KeyError: 'x'"), "ERROR",
     "FAILED   sensor-b      event handler app.notify: KeyError: 'x'"),
    (ServiceFailed("metrics", "port in use"), "WARNING",
     "FAILED   sensor-b      metrics is not available: port in use"),
    (EventGap(5, 9), "WARNING", "LOST     sensor-b      events 5 to 9 (too many at once)"),
]  # fmt: skip


class Sink:
    """Keeps what loguru hands out."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, message: object) -> None:
        record = message.record  # type: ignore[attr-defined]
        self.records.append((record["level"].name, record["message"], dict(record["extra"])))

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.records]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    number = logger.add(sink, level=0)
    yield sink
    logger.remove(number)


Capture = pytest.CaptureFixture[str]


@pytest.fixture
def no_sink() -> Iterator[None]:
    """Leave loguru without any sink, and give it back its default one."""
    logger.remove()
    yield
    logger.remove()
    logger.add(sys.__stderr__ or sys.stdout)


# Words


def test_every_kind_of_event_has_its_line_and_its_level(sink: Sink) -> None:
    log = LifecycleLog()
    for data, level, line in LINES:
        log(an_event(data))
        assert sink.records[-1][:2] == (level, line)
    assert {type(data) for data, _, _ in LINES} | {AgentCrashed} == set(get_args(EventData))


def test_a_line_about_a_crash_says_how_long_it_ran_what_it_died_of_and_what_else_failed() -> None:
    assert describe(a_crash()) == "CRASHED  sensor-b      incarnation 3, up 4.2 s: ValueError: no such sensor"
    event = a_crash(phase="setup", notes=("teardown: OSError: x",))
    assert describe(event).endswith("ValueError: no such sensor (in setup); also: teardown: OSError: x")
    classified = AgentCrashed(abnormal(Cause.OOM), CrashReport(cause=Cause.OOM, message="killed"), classified=True)
    assert describe(an_event(classified)).endswith("killed; classify_exit: abnormal (oom)")


def test_the_root_is_called_the_orchestrator() -> None:
    assert describe(an_event(SupervisorReady(1.0), path="")) == "READY    orchestrator  after 1 s"


def test_a_line_is_one_line_and_no_message_can_steer_the_terminal() -> None:
    text = describe(a_crash("ValueError: one\ntwo \x1b[2J three"))
    assert text.endswith("ValueError: one two  [2J three")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.004, "0 s"),
        (4.25, "4.25 s"),
        (42.4, "42 s"),
        (59.9, "1 min"),
        (200, "3 min 20 s"),
        (18060, "5 h 1 min"),
        (183600, "2 d 3 h"),
    ],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# The log


def test_a_line_is_bound_to_the_path_and_the_incarnation_of_its_event(sink: Sink) -> None:
    LifecycleLog()(an_event(AgentReady(0.0)))
    assert sink.records[0][2] == {"path": "sensor-b", "incarnation": 3, "event_type": "agent_ready"}


def test_the_traceback_of_a_crash_is_written_once_for_each_agent(sink: Sink) -> None:
    log = LifecycleLog()
    for event in [a_crash(), a_crash(), a_crash(path="sensor-c"), a_crash("KeyError: 1"), a_crash()]:
        log(event)
    assert [text.count("Traceback") for text in sink.texts] == [1, 0, 1, 1, 0]
    assert sink.texts[0] == f"{describe(a_crash())}\n{TRACEBACK.rstrip()}"
    assert sink.texts[1] == f"{describe(a_crash())} (same as before)"


def test_a_crash_without_a_traceback_is_one_line(sink: Sink) -> None:
    log = LifecycleLog()
    log(a_crash("killed by SIGKILL", traceback=""))
    log(a_crash("killed by SIGKILL", traceback=""))
    assert sink.texts == [describe(a_crash("killed by SIGKILL"))] * 2


def test_the_memory_for_crashes_is_bounded_and_keeps_the_latest(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle_log, "REMEMBERED_CRASHES", 2)
    log = LifecycleLog()
    for name in "abaca":
        log(a_crash(path=name))
    assert ["Traceback" in text for text in sink.texts] == [True, True, False, True, False]
    log(a_crash(path="b"))
    assert "Traceback" in sink.texts[-1]


@pytest.mark.parametrize("message", ["{0} {x!r} {{", "<red>x</red> </> <level>", "%s %(x)s \\<red>"])
def test_braces_and_angle_brackets_in_a_message_are_written_as_they_are(
    no_sink: None, capsys: Capture, message: str
) -> None:
    setup_logging()
    LifecycleLog()(a_crash(message, traceback=message))
    logger.bind(path=message, incarnation=1).info(message)
    assert capsys.readouterr().err.count(message) == 4


# The sinks of `orchestree run`


def test_text_lines_have_time_level_and_who_speaks_and_no_colour_off_a_terminal(
    no_sink: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "1")
    setup_logging()
    logger.info("plain")
    logger.bind(path="ingest/a", incarnation=2).warning("from an agent")
    LifecycleLog()(an_event(AgentReady(0.0)))
    logger.debug("not shown")
    lines = [line[24:] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "INFO     plain",
        "WARNING  ingest/a#2  from an agent",
        "INFO     READY    sensor-b      after 0 s",
    ]


def test_text_lines_are_coloured_on_a_terminal_unless_that_is_unwanted(
    no_sink: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    setup_logging()
    logger.bind(path="a", incarnation=1).info("<b>coloured</b> {0}")
    coloured = capsys.readouterr().err
    assert "\x1b[" in coloured
    assert "<b>coloured</b> {0}" in coloured
    logger.remove()
    monkeypatch.setenv("NO_COLOR", "1")
    setup_logging()
    logger.info("plain")
    assert "\x1b[" not in capsys.readouterr().err


def test_json_lines_are_one_object_each(no_sink: None, capsys: Capture) -> None:
    setup_logging(json=True)
    logger.info("plain {0} <red>")
    logger.bind(path="a", incarnation=2, size=3, odd={(1,): 2, "key": object}).error("from an agent\nin two lines")
    try:
        raise ValueError("no such sensor")
    except ValueError:
        logger.exception("caught")
    plain, agent, caught = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert list(plain) == ["time", "level", "message", "path", "incarnation", "exception", "extra"]
    assert (plain["level"], plain["message"], plain["path"], plain["extra"]) == ("INFO", "plain {0} <red>", None, {})
    assert (agent["path"], agent["incarnation"], agent["message"]) == ("a", 2, "from an agent\nin two lines")
    assert agent["extra"] == {"size": 3, "odd": {"key": "<class 'object'>"}}
    assert caught["exception"].splitlines()[-1] == "ValueError: no such sensor"
    assert plain["exception"] is None


def test_the_values_of_variables_do_not_get_into_the_log(no_sink: None, capsys: Capture) -> None:
    setup_logging()
    drawer = {"hunter2": 1}
    try:
        drawer[""]
    except KeyError:
        logger.exception("caught")
    written = capsys.readouterr().err
    assert 'drawer[""]' in written
    assert "hunter2" not in written


def test_only_the_default_sink_is_replaced(no_sink: None, capsys: Capture) -> None:
    mine = Sink()
    logger.add(mine)
    setup_logging()
    setup_logging(json=True)
    logger.info("x")
    assert mine.texts == ["x"]
