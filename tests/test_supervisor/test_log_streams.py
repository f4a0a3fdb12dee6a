"""``GET /agents/{path}/logs?follow=1`` over a real socket: the last lines, and then those to come."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest
from orchestree_testing.streaming import Client, Served, served
from orchestree_testing.trees import PATIENCE

from orchestree.agents.executor import RunId
from orchestree.supervisor.agent_logs import AgentLogs, LogLine
from orchestree.supervisor.control.api.line_box import LineBox, without
from orchestree.supervisor.control.api.streams import Streams
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import Event, EventType, OrchestratorStopped
from orchestree.supervisor.history import History


def say(logs: AgentLogs, first: int, last: int, path: str = "a") -> None:
    for number in range(first, last + 1):
        logs.keep(RunId(path, 1), "log", "INFO", f"line {number}", float(number))


def a_line(number: int) -> LogLine:
    return LogLine(float(number), "INFO", "a", 1, "log", f"line {number}")


def texts(client: Client, count: int) -> list[str]:
    return [json.loads(client.next().data)["text"] for _ in range(count)]


def lines(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


@pytest.fixture
def logs() -> AgentLogs:
    return AgentLogs()


@pytest.fixture
def events() -> EventManager:
    return EventManager(lambda handler, error: None)


@pytest.fixture
def server(tmp_path: Path, logs: AgentLogs, events: EventManager) -> Iterator[Served]:
    with served(tmp_path, Streams(events, History(events).query, logs, silence_s=3 * PATIENCE)) as server:
        yield server


def test_the_last_lines_come_first_and_then_the_new_ones(server: Served, logs: AgentLogs) -> None:
    say(logs, 1, 10)
    say(logs, 100, 110, path="b")
    with server.lines("path=a&lines=3") as client:
        assert json.loads(client.next().data) == {
            "time": 8.0,
            "level": "INFO",
            "path": "a",
            "incarnation": 1,
            "source": "log",
            "text": "line 8",
        }
        assert texts(client, 2) == lines(9, 10)
        say(logs, 11, 12)
        assert texts(client, 2) == lines(11, 12)


def test_a_line_cannot_break_out_of_its_message(server: Served, logs: AgentLogs) -> None:
    with server.lines("lines=5") as client:
        said = "x\r\n\ndata: {}\n\n\u2028\ud800"
        logs.keep(RunId("a", 1), "stdout", "", said, 1.0)
        assert texts(client, 1) == [said]


def test_no_line_is_missing_or_comes_twice_between_the_past_and_the_present(server: Served, logs: AgentLogs) -> None:
    clients, at_once = 20, 40
    last = clients * at_once  # few enough that none is ever lost

    def work() -> None:
        while (first := orders.get()) is not None:
            say(logs, first, first + at_once - 1)

    orders = SimpleQueue[int | None]()
    worker = threading.Thread(target=work)
    worker.start()
    with ExitStack() as stack:
        found = list[Client]()
        for first in range(1, last, at_once):
            orders.put(first)
            found.append(stack.enter_context(server.lines("lines=20")))
        orders.put(None)
        worker.join(PATIENCE)
        for client in found:
            numbers = list[int]()
            while not numbers or numbers[-1] < last:
                numbers += [int(text.removeprefix("line ")) for text in texts(client, 1)]
            assert numbers == list(range(numbers[0], last + 1))


def test_following_ends_with_the_tree_once_its_last_lines_are_sent(server: Served, logs: AgentLogs) -> None:
    with server.lines("lines=5") as client:
        say(logs, 1, 2)
        assert texts(client, 2) == lines(1, 2)
        say(logs, 3, 4)
        logs.keep_event(Event(9, 9.0, 9.0, EventType.ORCHESTRATOR_STOPPED, "", 1, OrchestratorStopped(0, "command")))
        *before, last = [json.loads(message.data)["text"] for message in client]
        assert before == lines(3, 4)
        assert last.startswith("STOPPED")
    say(logs, 5, 6)
    with server.lines("lines=1") as late:
        assert [json.loads(message.data)["text"] for message in late] == ["line 6"]


def test_who_follows_lines_reads_no_events(server: Served, events: EventManager) -> None:
    with server.lines() as client:
        assert client.status == 200
        assert not events._readers


def test_who_has_gone_follows_no_more(server: Served, logs: AgentLogs) -> None:
    clients = [server.lines("path=a") for _ in range(5)]
    say(logs, 1, 1)
    assert [texts(client, 1) for client in clients] == [["line 1"]] * 5
    assert len(logs._followers) == 5
    for client in clients:
        client.leave()
    server.traffic.wait_until_ended(5)
    assert not logs._followers


def test_silence_is_kept_alive_by_comments(tmp_path: Path, logs: AgentLogs, events: EventManager) -> None:
    streams = Streams(events, History(events).query, logs, silence_s=0.01)
    with served(tmp_path, streams) as server, server.lines() as client:
        assert [client.file.readline() for _ in range(4)] == [b":\n", b"\n", b":\n", b"\n"]


def test_what_a_client_was_too_slow_for_is_a_line_of_its_own() -> None:
    async def main() -> None:
        box = LineBox(limit=3)
        for number in range(1, 6):
            box.put(a_line(number))
        lost, *kept = box.take() or []
        assert kept == [a_line(3), a_line(4), a_line(5)]
        assert (lost.text, lost.level, lost.source) == ("LOST     2 lines (too many at once)", "WARNING", "event")
        box.put(a_line(6))
        assert box.take() == [a_line(6)]
        assert box.take() == []
        box.put(a_line(7))
        box.end()
        assert box.take() == [a_line(7)]
        assert box.take() is None

    asyncio.run(main())


def test_only_a_task_that_waits_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = list[int]()
    box = LineBox()
    monkeypatch.setattr(box._bell, "attach", lambda: None)
    monkeypatch.setattr(box._bell, "ring", lambda: rings.append(1))
    box.put(a_line(1))
    assert box.take()
    box.put(a_line(2))
    assert not rings
    assert box.take()
    assert not box.take()
    box.put(a_line(3))
    box.put(a_line(4))
    assert rings == [1]


def test_lines_that_are_older_than_the_past_reaches_back_are_left_out() -> None:
    old, both, new = a_line(1), a_line(1), a_line(2)
    assert without([both], [old, both, new]) == [new]
    assert without([], [old, new]) == [old, new]
    assert without([both], [new]) == [new]
    assert without([both], []) == []
