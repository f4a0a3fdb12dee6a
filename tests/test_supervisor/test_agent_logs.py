"""The latest lines of agents: what is kept of whom, how much of it, and that it costs the agents nothing."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from loguru import logger
from orchestree_testing.talking_agents import AsyncSpeaker, Speaker
from orchestree_testing.trees import FAST, PATIENCE, a_tree, add, threads_left, wait_for

from orchestree.agents import Agent
from orchestree.agents.ends import Cause, CrashReport, ExitKind, ExitReason
from orchestree.agents.executor import RunId
from orchestree.supervisor import Event, EventType, Orchestrator
from orchestree.supervisor.agent_logs import LINES, LONGEST, AgentLogs, LogLine
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentMessage,
    AgentStopping,
    OrchestratorStopped,
    StopCause,
)

E = EventType


def keep(logs: AgentLogs, path: str, *texts: str) -> None:
    for text in texts:
        logs.keep(RunId(path, 1), "log", "INFO", text, 1.0)


def speak(text: str, agent: Agent) -> None:
    agent.logger.info("of {}", text)


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def with_logs(tree: Orchestrator, logs: AgentLogs | None = None) -> AgentLogs:
    """Have the lines of a tree kept, as a tree with the control API does."""
    tree.services.logs = logs = logs or AgentLogs()
    tree.events.subscribe(logs.keep_event)
    return logs


@pytest.fixture
def info_sink() -> Iterator[None]:
    logger.remove()
    number = logger.add(lambda message: None, level="INFO")
    yield
    logger.remove(number)


def test_the_last_lines_of_an_agent_are_kept_oldest_first() -> None:
    logs = AgentLogs(lines=3)
    keep(logs, "a", *"12345")
    keep(logs, "b", "other")
    assert texts(logs.lines("a", 100)) == ["3", "4", "5"]
    assert texts(logs.lines("a", 2)) == ["4", "5"]
    assert logs.lines("a", 0) == []
    assert logs.lines("nobody", 5) == []
    assert AgentLogs()._most_lines == LINES == 500


def test_a_supervisor_has_the_lines_of_all_below_it_in_the_order_in_which_they_came() -> None:
    logs = AgentLogs()
    for path in ("in/a", "in/b", "inner/c", "in", "in/deep/d", "in/a"):
        keep(logs, path, path)
    assert texts(logs.lines("in", 10)) == ["in/a", "in/b", "in", "in/deep/d", "in/a"]
    assert texts(logs.lines("in/a", 10)) == ["in/a", "in/a"]
    assert texts(logs.lines("", 2)) == ["in/deep/d", "in/a"]


def test_a_long_line_is_cut_off() -> None:
    logs = AgentLogs()
    keep(logs, "a", "x" * LONGEST, "y" * (LONGEST + 1))
    assert texts(logs.lines("a", 5)) == ["x" * LONGEST, "y" * (LONGEST - 1) + "…"]


def test_all_lines_together_are_bounded_and_the_oldest_go_first() -> None:
    logs = AgentLogs(most_bytes=1_000_000)
    for number in range(10_000):
        keep(logs, f"agent-{number}", f"{number} " + "x" * 100)
    kept = logs.lines("", 10_000)
    assert 1_000 < len(kept) < 10_000
    assert [line.path for line in kept] == [f"agent-{number}" for number in range(10_000 - len(kept), 10_000)]
    assert len(logs._of_path) == len(kept)  # nothing is left of agents without lines
    assert logs._bytes <= 1_000_000


def test_a_text_of_wide_characters_counts_for_what_it_takes() -> None:
    logs = AgentLogs(most_bytes=100_000)
    keep(logs, "a", *["😀" * LONGEST] * 20)
    assert len(logs.lines("a", 100)) == 5


def test_a_follower_gets_each_further_line_until_it_lets_go() -> None:
    logs, got, all_of_them = AgentLogs(), list[LogLine](), list[LogLine]()
    keep(logs, "in/a", "before")
    unfollow = logs.follow("in", got.append)
    logs.follow("", all_of_them.append)
    keep(logs, "in/a", "1")
    keep(logs, "other", "2")
    keep(logs, "in", "3")
    unfollow()
    unfollow()
    keep(logs, "in/a", "4")
    assert texts(got) == ["1", "3"]
    assert got == logs.lines("in", 3)[:2]
    assert got[0] is logs.lines("in/a", 2)[0]  # the same object, so that readers can tell what they have
    assert texts(all_of_them) == ["1", "2", "3", "4"]


def test_a_follower_that_raises_is_let_go_and_hurts_nobody() -> None:
    logs, got = AgentLogs(), list[LogLine]()
    calls: list[LogLine] = []

    def bad(line: LogLine) -> None:
        calls.append(line)
        raise RuntimeError

    logs.follow("", bad)
    logs.follow("", got.append)
    keep(logs, "a", "1", "2")
    assert texts(calls) == ["1"]
    assert texts(got) == ["1", "2"]


def test_a_line_that_is_logged_while_a_line_is_being_taken_is_taken_too() -> None:
    logs = AgentLogs(lines=2)
    logs.follow("", lambda line: keep(logs, "a", "again") if line.text == "first" else None)
    keep(logs, "a", "first", "second")
    assert texts(logs.lines("a", 5)) == ["again", "second"]


def test_many_threads_may_log_at_once() -> None:
    logs, got = AgentLogs(lines=50, most_bytes=200_000), list[LogLine]()
    logs.follow("", got.append)
    threads = [
        threading.Thread(target=keep, args=(logs, f"a{number % 3}", *map(str, range(500)))) for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(got) == 3000
    assert len(logs.lines("", 1000)) == 150
    assert {path: len(numbers) for path, numbers in logs._of_path.items()} == {"a0": 50, "a1": 50, "a2": 50}
    assert [line.text for line in got if line.path == "a0"][-1] == "499"


def test_a_forked_copy_takes_nothing_whoever_held_its_lock() -> None:
    logs = AgentLogs()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with logs._lock:
            held.set()
            go_on.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        keep(logs, "a", "from a copy")
        os._exit(0)
    pidfd = os.pidfd_open(child)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(pidfd)
        go_on.set()
        holder.join(PATIENCE)
    assert status == 0


def test_events_are_lines_but_for_what_agents_and_operators_say() -> None:
    logs = AgentLogs()
    logs.keep_event(Event(1, 5.0, 1.0, E.AGENT_STOPPING, "a", 2, AgentStopping(StopCause.COMMAND)))
    logs.keep_event(Event(2, 5.0, 1.0, E.AGENT_MESSAGE, "a", 2, AgentMessage("m", {})))
    (line,) = logs.lines("", 5)
    assert line == LogLine(5.0, "INFO", "a", 2, "event", "STOPPING a             as asked")


def stopping(number: int, path: str = "a") -> Event:
    return Event(number, 5.0, 1.0, E.AGENT_STOPPING, path, number, AgentStopping(StopCause.COMMAND))


def test_the_text_of_an_event_is_made_when_somebody_reads_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[Event]()

    def text_of(event: Event) -> str:
        made.append(event)
        return "text"

    monkeypatch.setattr("orchestree.supervisor.agent_logs.text_of", text_of)
    logs, events = AgentLogs(lines=3), [stopping(number) for number in range(1, 6)]
    for event in events:
        logs.keep_event(event)
    assert not made
    assert logs.lines("b", 9) == []
    (last,) = logs.lines("", 1)
    assert made == events[4:]
    assert [line.incarnation for line in logs.lines("a", 9)] == [3, 4, 5]
    assert made == [events[4], events[2], events[3]]
    assert logs.lines("a", 9)[-1] is last
    assert len(made) == 3


def test_whoever_follows_gets_the_very_line_of_an_event_that_is_read_later() -> None:
    logs, got = AgentLogs(), list[LogLine]()
    logs.follow("a", got.append)
    logs.keep_event(stopping(1))
    logs.keep_event(stopping(2, "b"))
    assert len(got) == 1
    assert logs.lines("a", 1)[0] is got[0]


def test_what_is_kept_is_counted_before_and_after_an_event_was_read() -> None:
    logs = AgentLogs()
    report = CrashReport(cause=Cause.EXCEPTION, message="m", traceback="x" * 50_000)
    data = AgentCrashed(ExitReason(ExitKind.ABNORMAL, Cause.EXCEPTION), report)
    logs.keep_event(Event(1, 5.0, 1.0, E.AGENT_CRASHED, "a", 1, data))
    logs.keep_event(stopping(2))
    assert logs._bytes > 50_000
    logs.lines("", 9)
    assert logs._bytes == sum(kept.size for kept in logs._kept.values()) < 10_000
    small = AgentLogs(most_bytes=20_000)
    for number in range(100):
        small.keep_event(stopping(number, f"a{number}"))
    assert 5 < len(small.lines("", 100)) < 20
    assert len(small._of_path) == len(small._kept)


def test_followers_are_told_that_the_tree_has_ended() -> None:
    logs, got, ends = AgentLogs(), list[str](), list[str]()
    logs.follow("a", lambda line: got.append(line.text), lambda: ends.append("early"))
    logs.follow("", lambda line: got.append(line.source), bombs)
    logs.follow("", lambda line: None, lambda: ends.append("both"))
    logs.keep_event(Event(1, 5.0, 1.0, E.ORCHESTRATOR_STOPPED, "", 0, OrchestratorStopped(0, "command")))
    keep(logs, "a", "late")
    assert (got, ends) == (["event"], ["early", "both"])
    logs.follow("a", lambda line: None, lambda: ends.append("late"))
    assert ends == ["early", "both", "late"]
    assert texts(logs.lines("a", 5)) == ["late"]
    assert not logs._followers


def bombs() -> None:
    raise RuntimeError


@pytest.mark.usefixtures("info_sink")
@pytest.mark.parametrize("kind", [Speaker, AsyncSpeaker])
def test_what_an_agent_logs_is_kept_to_its_last_words(kind: Any) -> None:
    tree = a_tree()
    logs = with_logs(tree)
    handlers = dict(logger._core.handlers)  # type: ignore[attr-defined]
    tree.add_supervisor("in").register_agent(kind, "a")
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "in/a")
        assert logger._core.handlers == handlers  # type: ignore[attr-defined]
    assert not threads_left()
    found = {line.text: line for line in logs.lines("in/a", 100)}
    logged = found["logged by in/a"]
    assert (logged.level, logged.path, logged.incarnation, logged.source) == ("WARNING", "in/a", 1, "log")
    assert found["last words"].source == "log"
    event = next(line for line in found.values() if line.text.startswith("READY"))
    assert (event.source, event.level, event.incarnation) == ("event", "INFO", 1)
    assert event.time - 60 < logged.time < event.time + 60
    assert any(line.path == "in" for line in logs.lines("in", 100))


@pytest.mark.slow
@pytest.mark.usefixtures("info_sink")
def test_what_a_process_logs_and_prints_is_kept_to_its_last_words() -> None:
    tree = a_tree()
    logs = with_logs(tree)
    tree.register_agent(Speaker, "a", executor="process")
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "a")
    assert not threads_left()
    said = [(line.source, line.level, line.text) for line in logs.lines("a", 100) if line.source != "event"]
    assert sorted(said) == [
        ("log", "INFO", "last words"),
        ("log", "WARNING", "logged by a"),
        ("stderr", "", "and the end of its line"),
        ("stderr", "", "printed on stderr"),
        ("stdout", "", "printed on stdout"),
    ]
    assert {line.incarnation for line in logs.lines("a", 100)} == {0, 1}


@pytest.mark.usefixtures("info_sink")
def test_a_crash_and_the_restart_are_lines_and_each_incarnation_speaks_for_itself() -> None:
    tree = a_tree()
    logs = with_logs(tree)

    def work(agent: Agent) -> None:
        agent.logger.info("run {}", agent.incarnation)
        agent.logger.debug("that no sink takes")
        if agent.incarnation == 1:
            raise ValueError("no such sensor")
        agent.emit("up")
        agent.sleep(3600)

    add(tree, "a", work, **FAST)
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "a")
    assert not threads_left()
    lines = logs.lines("a", 100)
    assert [(line.text, line.incarnation) for line in lines if line.source == "log"] == [("run 1", 1), ("run 2", 2)]
    (crash,) = [line for line in lines if line.text.startswith("CRASHED")]
    assert (crash.level, crash.incarnation) == ("ERROR", 1)
    assert "ValueError: no such sensor" in crash.text
    assert any(line.text.startswith("RESTART") for line in lines)


@pytest.mark.usefixtures("info_sink")
def test_an_exception_that_is_logged_comes_with_its_traceback() -> None:
    tree = a_tree()
    logs = with_logs(tree)

    def work(agent: Agent) -> None:
        try:
            raise LookupError("nothing there")
        except LookupError:
            agent.logger.exception("failed")

    add(tree, "a", work)
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "a")
    (line,) = [line for line in logs.lines("a", 100) if line.source == "log"]
    assert line.text.startswith("failed\nTraceback")
    assert line.text.endswith("LookupError: nothing there")


@pytest.mark.usefixtures("info_sink")
def test_two_trees_with_agents_of_one_path_do_not_mix() -> None:
    trees = [a_tree(name=name) for name in ("one", "two")]
    kept = [with_logs(tree) for tree in trees]
    for tree in trees:
        add(tree, "a", partial(speak, tree.config.name))
    with trees[0], trees[1]:
        for tree in trees:
            wait_for(tree, E.AGENT_TERMINATED, "a")
    assert [texts([line for line in logs.lines("a", 10) if line.source == "log"]) for logs in kept] == [
        ["of one"],
        ["of two"],
    ]


def test_without_anybody_who_asks_a_logger_has_no_patch() -> None:
    tree, found = a_tree(), list[Any]()
    add(tree, "a", lambda agent: found.extend(agent.logger._options[7]))
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "a")
    assert found == []


@pytest.mark.usefixtures("info_sink")
def test_a_follower_that_never_reads_holds_up_no_agent() -> None:
    tree = a_tree()
    logs = with_logs(tree, AgentLogs(lines=10))
    waiting: list[LogLine] = []
    logs.follow("", waiting.append)

    def work(agent: Agent) -> None:
        for number in range(5_000):
            agent.logger.info("{}", number)

    add(tree, "a", work)
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "a")
    logged = [line.text for line in waiting if line.source == "log"]
    assert logged == [str(number) for number in range(5_000)]
