"""What a long start or stop says about itself, and that a tree which just runs costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest
from loguru import logger

from orchestree.agents import Agent
from orchestree.supervisor import Orchestrator, RunMode
from orchestree.supervisor.control.command_line import waiting_logged
from orchestree.supervisor.control.command_line.waiting_logged import WaitingLog
from orchestree.supervisor.control.command_line.waiting_words import Waited, waiting_text
from orchestree.supervisor.event_readers import EventIterator
from orchestree.supervisor.events import Event

DEADLINE_S = 30.0

Lines = SimpleQueue[str]


class Gated(Agent):
    """Comes up, and goes down, when it is let."""

    def setup(self) -> None:
        gate = self.params["up"]
        assert isinstance(gate, threading.Event)
        gate.wait(DEADLINE_S)

    def execute(self) -> None:
        self.sleep(DEADLINE_S)
        gate = self.params["down"]
        assert isinstance(gate, threading.Event)
        gate.wait(DEADLINE_S)


class Gates:
    def __init__(self) -> None:
        self.up, self.down = threading.Event(), threading.Event()

    def params(self) -> dict[str, object]:
        return {"up": self.up, "down": self.down}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The lines that it logs, which it does without waiting for seconds first."""
    monkeypatch.setattr(waiting_logged, "FIRST_LINE_S", 0.05)
    monkeypatch.setattr(waiting_logged, "NEXT_LINE_S", 0.01)
    found = Lines()
    sink = logger.add(
        lambda message: found.put(message.record["message"]),
        level="INFO",
        filter=lambda record: record["name"] == waiting_logged.__name__,
    )
    yield found
    logger.remove(sink)


def tree() -> Orchestrator:
    return Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, control=False))


def starting(made: Orchestrator) -> threading.Thread:
    thread = threading.Thread(target=made.start)
    thread.start()
    return thread


def wait_for(lines: Lines, text: str) -> None:
    """Wait for this line, or one that names more seconds; a slow machine has others before it."""
    pattern = re.escape(text).replace(r"0\.1s", "[^)]+")
    while not re.fullmatch(pattern, lines.get(timeout=DEADLINE_S)):
        pass


def test_the_words_name_each_agent_and_what_it_does() -> None:
    text = waiting_text(
        [
            Waited("db", "starting", 4.2),
            Waited("api", "waiting", 9.0, ("db", "cache")),
            Waited("cache", "backoff", 3.0),
            Waited("worker", "queued", 9.0),
            Waited("log", "stopping", 12.6),
            Waited("web", "ready", 99.0),
            Waited("old", "starting"),
            Waited("/"),
        ]
    )
    assert text == (
        "waiting for db (starting, 4.2s), log (stopping, 13s), old (starting), api (waits for db, cache), "
        "cache (starts again in 3.0s), worker (waits for a free worker), web (still runs), /"
    )


def test_the_words_stay_short_however_many_are_waited_for() -> None:
    text = waiting_text(Waited(f"a{number}", "starting", 1.0) for number in range(500))
    assert text.endswith("a9 (starting, 1.0s) and 490 more")


def test_the_words_need_no_library() -> None:
    wanted = (
        "import sys; from orchestree.supervisor.control.command_line.waiting_words import Waited; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", wanted], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert not {"pydantic", "loguru", "multiprocess", "asyncio"} & set(done.stdout.split())


def test_a_long_start_names_those_that_are_waited_for_and_what_changes(lines: Lines) -> None:
    made, db, api = tree(), Gates(), Gates()
    made.register_agent(Gated, "db", params=db.params())
    made.register_agent(Gated, "api", params=api.params(), depends_on=["db"])
    with WaitingLog(made):
        thread = starting(made)
        wait_for(lines, "waiting for db (starting, 0.1s), api (waits for db)")
        db.up.set()
        wait_for(lines, "waiting for api (starting, 0.1s)")
        for gate in (api.up, api.down, db.down):
            gate.set()
        thread.join(DEADLINE_S)
        made.stop()


def test_a_long_stop_names_those_that_are_not_down_yet(lines: Lines) -> None:
    made, last, first, second = tree(), Gates(), Gates(), Gates()
    made.register_agent(Gated, "last", params=last.params())
    group = made.add_supervisor("group")
    made.register_agent(Gated, "first", params=first.params(), shutdown="infinity")
    group.register_agent(Gated, "second", params=second.params(), shutdown="infinity", executor="thread")
    for gates in (last, first, second):
        gates.up.set()
    last.down.set()
    with WaitingLog(made):
        made.start()
        stop = threading.Thread(target=made.stop)
        stop.start()
        wait_for(lines, "waiting for first (stopping, 0.1s), group/second (still runs), last (still runs)")
        first.down.set()
        wait_for(lines, "waiting for group/second (stopping, 0.1s), last (still runs)")
        second.down.set()
        stop.join(DEADLINE_S)


def test_the_same_line_comes_again_when_nothing_is_new(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_logged, "SAME_LINE_S", 0.05)
    made, db = tree(), Gates()
    made.register_agent(Gated, "db", params=db.params())
    with WaitingLog(made):
        thread = starting(made)
        for _ in range(3):
            wait_for(lines, "waiting for db (starting, 0.1s)")
        db.up.set()
        db.down.set()
        thread.join(DEADLINE_S)
        made.stop()


def test_a_stop_during_a_long_start_is_told_as_a_stop(lines: Lines) -> None:
    made, db = tree(), Gates()
    made.register_agent(Gated, "db", params=db.params(), shutdown="infinity")
    with WaitingLog(made):
        thread = starting(made)
        wait_for(lines, "waiting for db (starting, 0.1s)")
        stop = threading.Thread(target=made.stop)
        stop.start()
        wait_for(lines, "waiting for db (stopping, 0.1s)")
        db.up.set()
        db.down.set()
        stop.join(DEADLINE_S)
        thread.join(DEADLINE_S)


def test_a_start_that_prepares_for_long_says_so(lines: Lines) -> None:
    made = tree()
    with WaitingLog(made):
        wait_for(lines, "waiting for the tree (being prepared, 0.1s)")


def test_a_quick_start_and_stop_say_nothing(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_logged, "FIRST_LINE_S", DEADLINE_S)
    made = tree()
    with WaitingLog(made):
        made.start()
        made.stop()
    assert lines.empty()


def test_while_the_tree_just_runs_the_thread_sleeps_until_the_stop(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = SimpleQueue[float | None]()
    wait = EventIterator.next_within

    def noted(self: EventIterator, seconds: float | None) -> Event | None:
        if threading.current_thread().name == "orchestree-waiting":
            waits.put(seconds)
        return wait(self, seconds)

    monkeypatch.setattr(EventIterator, "next_within", noted)
    made, gates = tree(), Gates()
    made.register_agent(Gated, "one", params=gates.params())
    gates.up.set()
    gates.down.set()
    with WaitingLog(made):
        made.start()
        while waits.get(timeout=DEADLINE_S) is not None:
            pass
        made.restart_agent("one")
        with pytest.raises(Empty):
            waits.get(block=False)
        made.stop()


def test_the_thread_ends_when_the_tree_never_started(lines: Lines) -> None:
    made = tree()
    with WaitingLog(made) as shown:
        pass
    shown._thread.join(DEADLINE_S)
    assert not shown._thread.is_alive()
