"""What a person reads: the log of the tree, and the sinks of `orchestree run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import get_args

import pytest
from event_samples import ESCALATED, GAVE_UP, TRACEBACK, a_crash, an_event
from loguru import logger

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, abnormal
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
from orchestree.supervisor.lifecycle_log import LifecycleLog
from orchestree.supervisor.logging_setup import setup_logging
from orchestree.supervisor.states import AgentState, RunMode

# The level of each event; the line is that of `event_text`.
LEVELS: list[tuple[EventData, str]] = [
    (OrchestratorStarted("app", RunMode.DAEMON, 3, 1), "INFO"),
    (OrchestratorStopping("command"), "INFO"),
    (OrchestratorStopped(0, "command"), "INFO"),
    (OrchestratorStopped(1, "command", ("a", "b/c")), "ERROR"),
    (SupervisorStarted(()), "INFO"),
    (SupervisorReady(0.126), "INFO"),
    (SupervisorRestarting(RestartCause.FAILURE, 0.5, 3), "WARNING"),
    (SupervisorTerminated(GAVE_UP, "a"), "CRITICAL"),
    (SupervisorTerminated(ESCALATED), "CRITICAL"),
    (SupervisorTerminated(SHUTDOWN), "INFO"),
    (AgentRegistered("app:Sensor", "thread", "transient", ("a",)), "DEBUG"),
    (AgentWaiting(("a", "b")), "INFO"),
    (AgentQueued(8), "INFO"),
    (AgentStarting("process"), "INFO"),
    (AgentReady(0.0), "INFO"),
    (AgentRestarting(RestartCause.FAILURE, 0.0, 1), "WARNING"),
    (AgentStopping(StopCause.SUPERVISOR), "INFO"),
    (AgentTerminated(NORMAL, AgentState.COMPLETED), "INFO"),
    (AgentTerminated(SHUTDOWN, AgentState.STOPPED), "INFO"),
    (AgentTerminated(abnormal(Cause.EXIT), AgentState.FAILED), "ERROR"),
    (AgentParked("5 failures in a row", 5), "CRITICAL"),
    (AgentWedged(StopCause.COMMAND), "CRITICAL"),
    (AgentHung(12.0, "", 10.0), "ERROR"),
    (AgentUnregistered(), "DEBUG"),
    (AgentMessage("level", {"value": 3}), "DEBUG"),
    (AllAgentsTerminated(()), "INFO"),
    (PolicyChanged((PolicyChange("shutdown", "5.0", "1.0"),)), "INFO"),
    (Command("stop_agent", {"timeout": 5}), "INFO"),
    (HandlerFailed("app.notify", "KeyError: 'x'"), "ERROR"),
    (ServiceFailed("metrics", "port in use"), "WARNING"),
    (LeakFound((12, 17)), "WARNING"),
    (EventGap(5, 9), "WARNING"),
]


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


# The log


def test_every_kind_of_event_is_written_with_its_line_at_its_level(sink: Sink) -> None:
    log = LifecycleLog()
    for data, level in LEVELS:
        log(an_event(data))
        assert sink.records[-1][:2] == (level, describe(an_event(data)))
    assert {type(data) for data, _ in LEVELS} | {AgentCrashed} == set(get_args(EventData))


def test_a_line_is_bound_to_the_path_and_the_incarnation_of_its_event(sink: Sink) -> None:
    LifecycleLog()(an_event(AgentReady(0.0)))
    assert sink.records[0][2] == {"path": "sensor-b", "incarnation": 3, "event_type": "agent_ready"}


def test_a_crash_is_written_in_full_the_first_time_and_counted_in_one_line_then(sink: Sink) -> None:
    log = LifecycleLog()
    first = datetime(2026, 3, 1, 9, 12, tzinfo=UTC).astimezone().timestamp()
    log(a_crash())
    log(a_crash(occurrence=2, first_seen=first, time=first + 60))
    log(a_crash(occurrence=14, first_seen=first, time=first + 3 * 86_400))
    clock = datetime.fromtimestamp(first)
    assert sink.texts == [
        f"{describe(a_crash())}\n{TRACEBACK.rstrip()}",
        f"{describe(a_crash())} (same crash, 2nd time since {clock:%H:%M})",
        f"{describe(a_crash())} (same crash, 14th time since {clock:%Y-%m-%d %H:%M})",
    ]


def test_a_crash_of_which_only_the_message_is_known_is_one_line(sink: Sink) -> None:
    LifecycleLog()(a_crash("killed by SIGKILL", traceback=""))
    assert sink.texts == [describe(a_crash("killed by SIGKILL", traceback=""))]


def test_all_that_is_known_of_a_crash_is_written_below_its_line(sink: Sink) -> None:
    LifecycleLog()(
        a_crash(
            "killed by SIGSEGV",
            traceback="",
            progress="reading frame 7",
            silent_s=0.25,
            stacks="Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):",
            output=("frame 6", "frame 7"),
            max_memory=33_030_144,
            pid=77,
        )
    )
    assert sink.texts[0].splitlines()[1:] == [
        "it was doing: reading frame 7; last progress 0.25 s before its end",
        "peak memory 31.5 MiB, pid 77",
        "Fatal Python error: Segmentation fault",
        "",
        "Current thread 0x1 (most recent call first):",
        "its last 2 lines of output:",
        "  | frame 6",
        "  | frame 7",
    ]


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
