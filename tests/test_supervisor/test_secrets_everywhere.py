"""The secrets of agents that let them out in every way are nowhere to be seen: events, status, log, agents' lines."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from loguru import logger
from orchestree_testing.talking_agents import NEEDLES, AsyncLeaking, Leaking, LeakingByAnyLogger, secrets
from orchestree_testing.trees import PATIENCE, a_tree, threads_left, wait_for

from orchestree.agents import Agent
from orchestree.agents.executor import Blocked, RunId, RunMessage, RunProgress
from orchestree.agents.secrets import MASK, secrets_of
from orchestree.strategies.errors import SpecError
from orchestree.supervisor import AgentEntry, EventType, Orchestrator, SupervisorEntry
from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import AgentCrashed, AgentHung, AgentMessage, Event
from orchestree.supervisor.lifecycle_log import text_of
from orchestree.supervisor.logging_setup import _write_json
from orchestree.supervisor.masking import RunMasks
from orchestree.supervisor.reconfiguring import changed_entry
from orchestree.supervisor.runs import launch_of
from orchestree.supervisor.spec import ChildEntry

E = EventType

EXECUTORS = [
    pytest.param(Leaking, "thread", id="thread"),
    pytest.param(AsyncLeaking, "async", id="task"),
    pytest.param(Leaking, "process", id="process", marks=pytest.mark.slow),
    pytest.param(AsyncLeaking, "process", id="process-async", marks=pytest.mark.slow),
]


class Captured:
    """All that is to be seen of a tree: its events, and the log of the program.

    The log is written as text, with the values of variables in tracebacks, and as JSON.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.text = io.StringIO()
        self.json = io.StringIO()

    def log(self) -> str:
        return self.text.getvalue() + self.json.getvalue()


@pytest.fixture
def captured() -> Iterator[Captured]:
    captured = Captured()
    numbers = [
        logger.add(captured.text, level=0, format="{message} {extra} {exception}", backtrace=True, diagnose=True),
        logger.add(partial(_write_json, captured.json), level=0, format="{message}"),
    ]
    yield captured
    for number in numbers:
        logger.remove(number)


def an_entry_with_secrets(name: str, executor: str) -> AgentEntry:
    given = secrets()
    config = Leaking.Config(password=given["password"])
    return AgentEntry(Leaking, name, config=config, params=given["params"], executor=executor)


def a_tree_with_logs(captured: Captured) -> tuple[Orchestrator, AgentLogs]:
    tree = a_tree()
    logs = tree.services.logs = AgentLogs()
    tree.events.subscribe(logs.keep_event)
    tree.events.subscribe(captured.events.append)
    return tree, logs


def all_that_can_be_seen(tree: Orchestrator, logs: AgentLogs, captured: Captured) -> str:
    events = captured.events
    seen = [captured.log(), repr(events), repr(tree.tree()), repr(tree.status("leak")), repr(logs.lines("", 10**6))]
    seen += [f"{describe(event)} {text_of(event)}" for event in events]
    return "\n".join(seen)


def expect_no_secret(seen: str) -> None:
    for needle in NEEDLES:
        place = seen.find(needle)
        assert place < 0, seen[max(0, place - 300) : place + 100]


@pytest.mark.parametrize(("agent", "executor"), EXECUTORS)
def test_the_secrets_of_an_agent_that_crashes_are_seen_nowhere(
    agent: Any, executor: Any, captured: Captured, capfd: pytest.CaptureFixture[str]
) -> None:
    tree, logs = a_tree_with_logs(captured)
    tree.register_agent(agent, "leak", executor=executor, restart="temporary", **secrets())
    tree.register_agent(Agent_, "other", params={"text": "harmless"})
    with tree:
        crashed = wait_for(tree, E.AGENT_CRASHED, "leak").data
        wait_for(tree, E.AGENT_TERMINATED, "leak")
        assert isinstance(crashed, AgentCrashed)
    assert not threads_left()
    expect_no_secret(all_that_can_be_seen(tree, logs, captured))
    report = crashed.report
    assert report.message == f"ValueError: no login with {MASK}"
    assert f"OSError: inner {MASK}" in report.traceback
    assert report.notes == (f"teardown: RuntimeError: teardown with {MASK}",)
    assert report.progress == f"busy with {MASK}"
    if executor == "process":
        assert f"printed {MASK} {MASK}" in report.output
        assert "printed hunter2-the-password" in capfd.readouterr().out  # the terminal is the agent's own affair
    (message,) = [event.data for event in captured.events if event.type is E.AGENT_MESSAGE]
    assert isinstance(message, AgentMessage)
    assert message.name == f"emit-{MASK}"
    note = f"Note(text='{MASK}')"
    assert message.data == {"text": f"is {MASK}", "api_key": MASK, "nested": [{"a": MASK}], "note": note}
    log = captured.log()
    assert f"logged {MASK} {MASK}" in log
    assert f"bound {MASK}" in log
    assert f"an exception with {MASK}" in log
    assert f"LookupError: caught {MASK}" in log
    assert "harmless" in log


class Agent_(Agent):
    def execute(self) -> None:
        self.logger.info(self.params["text"])


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "executor"), EXECUTORS)
def test_the_secrets_of_an_agent_that_hangs_are_seen_nowhere(agent: Any, executor: Any, captured: Captured) -> None:
    tree, logs = a_tree_with_logs(captured)
    fields = {**secrets(), "hang": True, "watchdog": 0.2, "restart": "temporary"}
    tree.register_agent(agent, "leak", executor=executor, **fields)
    with tree:
        hung = wait_for(tree, E.AGENT_HUNG, "leak").data
        wait_for(tree, E.AGENT_CRASHED, "leak")
    assert not threads_left()
    assert isinstance(hung, AgentHung)
    assert hung.doing == f"busy with {MASK}"
    expect_no_secret(all_that_can_be_seen(tree, logs, captured))


@pytest.mark.slow
def test_what_a_process_logs_by_another_logger_is_masked_too(captured: Captured) -> None:
    tree, logs = a_tree_with_logs(captured)
    tree.register_agent(LeakingByAnyLogger, "leak", executor="process", **secrets())
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "leak")
    assert not threads_left()
    expect_no_secret(all_that_can_be_seen(tree, logs, captured))
    assert f"by any logger {MASK}" in captured.log()
    assert f"LookupError: {MASK}" in captured.log()


def test_json_lines_hide_what_stands_under_a_secret_key_of_any_logger(captured: Captured) -> None:
    logger.bind(access_token="not-known-as-secret", deep={"password": 5}).info("hello")
    assert "not-known-as-secret" not in captured.json.getvalue()
    assert f'"deep": {{"password": "{MASK}"}}' in captured.json.getvalue()


def test_what_stands_under_a_secret_key_of_a_message_is_hidden_without_any_secret_in_the_config() -> None:
    tree = a_tree()
    tree.register_agent(Emitting, "a")
    with tree:
        event = tree.events.wait_for(E.AGENT_MESSAGE, "a", since=0, timeout=PATIENCE)
    assert isinstance(event.data, AgentMessage)
    assert event.data.data == {"password": MASK, "max_tokens": 5, "login": {"dsn": MASK}}


class Emitting(Agent):
    def execute(self) -> None:
        self.emit("hello", password="any", max_tokens=5, login={"dsn": "postgres://"})


@pytest.mark.parametrize("executor", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_the_supervision_thread_never_looks_for_secrets(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[str]()

    def look(config: Any, params: Any) -> frozenset[str]:
        threads.add(threading.current_thread().name)
        return secrets_of(config, params)

    for module in ("supervisor.masking", "agents.executor"):
        monkeypatch.setattr(f"orchestree.{module}.secrets_of", look)

    class Adding(Orchestrator):
        def before_start(self, entries: tuple[ChildEntry, ...]) -> tuple[ChildEntry, ...]:
            return (*entries, an_entry_with_secrets("added", executor))

    tree = a_tree(Adding)
    fields: dict[str, Any] = {"executor": executor, "backoff": None, **secrets()}
    tree.register_agent(Leaking, "leak", restart="temporary", **fields)
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "leak")
        tree.start_child(an_entry_with_secrets("later", executor))
        wait_for(tree, E.AGENT_CRASHED, "later")
        tree.reconfigure("later", max_age=None, shutdown=1.0)
        tree.restart_agent("later")
        wait_for(tree, E.AGENT_STARTING, "later")
    assert threads
    assert not {name for name in threads if name.startswith("orchestree-supervisor")}


def test_the_masker_of_an_entry_is_made_once_and_kept_when_only_policy_changes() -> None:
    entry = AgentEntry(Emitting, "a", params={"token": "tok-of-a"})
    assert entry.masker() is entry.masker()
    changed = changed_entry(entry, {"shutdown": 3.0}, "a")
    assert isinstance(changed, AgentEntry)
    assert changed.masker() is entry.masker()
    assert changed != entry
    assert replace(entry, params={}).masker()("tok-of-a") == "tok-of-a"


def test_an_entry_shows_nothing_that_stands_under_a_secret_key() -> None:
    entry = replace(an_entry_with_secrets("a", "thread"), params={"pin": 1, "deep": [{"token": 2}]})
    shown = f"{entry!r} {SupervisorEntry('s', children=[entry])!r} {launch_of(entry, RunId('a', 1))!r}"
    expect_no_secret(shown)
    assert f"params={{'pin': 1, 'deep': [{{'token': '{MASK}'}}]}}, executor='thread'" in repr(entry)


def test_a_run_is_forgotten_when_it_has_ended() -> None:
    tree = a_tree()
    tree.register_agent(Emitting, "a")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "a")
        assert not tree.driver._masks._masks
        tree.driver.report(RunMessage(RunId("a", 1), "late", {"token": 1}))


def test_what_the_agent_said_that_blocks_a_loop_is_hidden_in_what_the_others_are_told() -> None:
    masks = RunMasks()
    masks.begin(RunId("blocker", 1), AgentEntry(Emitting, "blocker", params={"token": "tok-of-blocker"}))
    masks.begin(RunId("other", 1), AgentEntry(Emitting, "other"))
    blocked = Blocked(by=RunId("blocker", 1), loop=1, since=0.0, doing="with tok-of-blocker")
    report = masks.hide(RunProgress(RunId("other", 1), 1.0, "fine", blocked))
    assert report == RunProgress(RunId("other", 1), 1.0, "fine", replace(blocked, doing=f"with {MASK}"))


def test_a_wrong_field_of_an_agent_is_told_without_its_value() -> None:
    with pytest.raises(SpecError) as caught:
        a_tree().register_agent(Leaking, "a", password=b"hunter2-the-password")
    assert "hunter2" not in str(caught.value)
    assert f"password={MASK}: must be a valid string" in str(caught.value)
