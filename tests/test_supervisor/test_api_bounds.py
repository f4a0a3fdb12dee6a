"""What one client can cost the others, the tree and the program: little time, little memory, and no way to hold on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from orchestree_testing.asgi_client import AsgiClient
from orchestree_testing.scripts import run_program
from orchestree_testing.trees import PATIENCE, a_tree, add, threads_left, wait_for
from starlette.responses import Response

from orchestree.supervisor import EventType, Orchestrator
from orchestree.supervisor.control.api import event_pages, large_answers, reading_threads
from orchestree.supervisor.control.api.bodies import PolicyBody
from orchestree.supervisor.control.api.large_answers import PIECE, Content, LargeAnswers
from orchestree.supervisor.control.api.problems import LONGEST, Problem
from orchestree.supervisor.control.api.reading_threads import ReadingThreads
from orchestree.supervisor.control.api.reads import Reader
from orchestree.supervisor.control.command_line import event_commands

JSON = {"content-type": "application/json"}


class Hangs:
    """A value that cannot be looked at before `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __repr__(self) -> str:
        self.go_on.wait()
        return "it goes on"


@pytest.fixture
def hanging() -> Iterator[Hangs]:
    value = Hangs()
    yield value
    value.go_on.set()
    assert threads_left() == []


def with_a_value(value: object) -> Orchestrator:
    tree = a_tree()
    add(tree, "a")
    add(tree, "hangs", lambda agent: value)
    return tree


@pytest.mark.slow
def test_a_value_that_hangs_costs_its_clients_a_deadline_and_holds_up_nobody_else(
    hanging: Hangs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_threads, "READ_S", 0.3)
    with with_a_value(hanging) as tree, AsgiClient(tree) as client:
        wait_for(tree, EventType.AGENT_TERMINATED, "hangs")
        hung = [client.send("GET", "/v1/agents/hangs") for _ in range(30)]
        assert client.get("/v1/health").json["status"] == "ok"
        assert client.post("/v1/agents/a/stop?wait=20").json["done"] is True
        answers = [asked.answer.result(PATIENCE) for asked in hung]
        assert {answer.code for answer in answers} <= {"timeout", "busy"}
        assert "timeout" in {answer.code for answer in answers}
        assert len([one for one in threading.enumerate() if one.name == "orchestree-control-read"]) == 8
        for read in ("agents", "tree", "graph", "stats", "agents/a/logs", "openapi.json"):
            assert client.get(f"/v1/{read}").status == 200
        hanging.go_on.set()
        assert threads_left([one for one in threading.enumerate() if "read" not in one.name]) == []
        assert client.get("/v1/agents/hangs").json["result"] == "it goes on"


def test_a_read_that_nobody_waits_for_any_more_is_not_begun() -> None:
    threads, go_on, begun = ReadingThreads(most=1), threading.Event(), list[int]()

    async def run() -> None:
        first = asyncio.create_task(threads.call(go_on.wait))
        second = asyncio.create_task(threads.call(lambda: begun.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert not threads._waiting
        go_on.set()
        assert await first
        await threads.call(lambda: begun.append(3))

    asyncio.run(run())
    assert begun == [3]
    assert threads_left() == []


def test_what_a_value_raises_ends_its_read_and_nothing_else() -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def run() -> None:
        with pytest.raises(RuntimeError, match="SystemExit"):
            await ReadingThreads().call(leave)
        with pytest.raises(TimeoutError, match="its own"):
            await ReadingThreads().call(lambda: (_ for _ in ()).throw(TimeoutError("its own")))

    asyncio.run(run())


def test_a_program_that_can_start_no_thread_any_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with with_a_value(1) as tree, AsgiClient(tree) as client:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        answers = [client.get("/v1/agents/a"), client.get("/v1/health"), client.post("/v1/agents/a/stop?wait=20")]
        monkeypatch.undo()
    assert [answer.status for answer in answers] == [503, 200, 200]
    assert answers[0].code == "ended"


PROGRAM = """
import atexit, sys, threading
from loguru import logger
from orchestree import *
from orchestree.supervisor.control.command_line.client import Client, Refused, Unreachable

logger.configure(handlers=[{"sink": sys.stderr, "level": "WARNING"}])

class Hangs:
    def __repr__(self):
        threading.Event().wait()

class Ends(Agent):
    def execute(self):
        return Hangs()

class Idle(Agent):
    def execute(self):
        self.sleep(3600)

farm = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, name="exits"))
farm.register_agent(Ends, "ends")
farm.register_agent(Idle, "idle")
farm.start()
farm.wait_until("ends", "completed", 20)
"""


@pytest.mark.slow
def test_a_value_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        PROGRAM
        + """
for _ in range(3):
    try:
        Client(farm.services.socket, 0.2).get("/agents/ends")
    except Unreachable:
        print("no answer")
farm.stop()
"""
    )
    assert run_program("hangs.py", cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path)).split("\n")[:3] == ["no answer"] * 3


@pytest.mark.slow
def test_the_api_answers_while_the_program_ends(tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text(
        PROGRAM
        + """
def end():
    client = Client(farm.services.socket)
    print(client.get("/health")["status"])
    print(client.ask("POST", "/agents/idle/stop", {"wait": 10}).answer()["state"])
    try:
        client.get("/agents/idle")
        print("shown")
    except Refused as refused:  # newer Pythons start no thread any more
        print("shown" if refused.code == "ended" else refused)
    farm.stop()

atexit.register(end)
"""
    )
    said = run_program("exits.py", cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert said.split() == ["ok", "stopped", "shown"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (json.dumps({f"max_restart{number}": 1 for number in range(40_000)}), "more than 50 keys"),
        (json.dumps({"backoff": {f"max{number}": 1 for number in range(51)}}), "more than 50 keys"),
        (json.dumps({"s" * 900_000: 1}), "a key of more than 100 characters"),
        (json.dumps({"shutdown": [0] * 300_000}), "shutdown: must not be an array"),
        (json.dumps({"backoff": {"max": [1]}}), "max: must not be an array"),
        (json.dumps({"restart": "x" * 900_000}), "restart: must have at most 1000 characters"),
    ],
    ids=lambda text: text[:30],
)
def test_a_body_that_is_too_much_is_refused_before_it_is_looked_at(
    body: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(self: PolicyBody, **given: object) -> None:
        pytest.fail("it was looked at")

    monkeypatch.setattr(PolicyBody, "__init__", look)
    with with_a_value(1) as tree, AsgiClient(tree) as client:
        answer = client.send_raw("PATCH", b"/v1/agents/a", [body.encode()], JSON).answer.result(PATIENCE)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert said in answer.json["detail"]
    assert len(answer.text) < 500


def test_a_detail_is_cut() -> None:
    with with_a_value(1) as tree, AsgiClient(tree) as client:
        body = {f"{number}" * 40: "y" * 900 for number in range(10, 60)}
        answer = client.patch("/v1/agents/a", body)
        assert len(answer.json["detail"]) == LONGEST
        assert answer.json["detail"].endswith("...")
        assert len(client.get("/v1/agents?" + "x" * 50_000).json["detail"]) < 200
        assert len(client.get("/v1/events?type=" + "x" * 50_000).json["detail"]) < 1_000


def test_no_log_shows_what_is_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Reader) -> Any:
        secret = "".join(["hunter", "2"])
        return len(secret) / 0

    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", diagnose=True, backtrace=True)
    monkeypatch.setattr(Reader, "tree", broken)
    try:
        with with_a_value(1) as tree, AsgiClient(tree) as client:
            assert client.get("/v1/tree").code == "internal"
    finally:
        logger.remove(sink)
    (text,) = lines
    assert "ZeroDivisionError" in text
    assert "hunter2" not in text


def with_large_events(count: int) -> Orchestrator:
    def talk(agent: Any) -> None:
        for number in range(count):
            agent.emit("said", data="x" * 9_000, number=number)

    tree = a_tree()
    add(tree, "talks", talk)
    return tree


@pytest.mark.slow
def test_an_answer_with_large_events_ends_early_and_the_command_line_asks_on() -> None:
    with with_large_events(400) as tree, AsgiClient(tree) as client:
        wait_for(tree, EventType.AGENT_TERMINATED, "talks")
        latest = tree.events.latest

        def numbers(query: str) -> list[int]:
            answer = client.get(f"/v1/events?{query}")
            assert len(answer.text) < event_pages.MOST_BYTES + 10_000
            return [event["seq"] for event in answer.json]

        newest = numbers("limit=10000")
        assert newest == list(range(latest - len(newest) + 1, latest + 1))
        assert 50 < len(newest) < 200
        first = numbers("limit=10000&since=0")
        assert first == list(range(1, len(first) + 1))
        assert numbers(f"limit=3&until={newest[0] - 1}") == [newest[0] - 3, newest[0] - 2, newest[0] - 1]
        assert len(numbers("limit=20")) == 20

        class OverAsgi:
            def get(self, route: str, query: dict[str, Any]) -> Any:
                given = "&".join(f"{name}={value}" for name, value in query.items() if value is not None)
                return client.get(f"/v1{route}?{given}").json

        def read(**query: Any) -> list[int]:
            return [event["seq"] for event in event_commands._read(OverAsgi(), query)]  # type: ignore[arg-type]

        assert read(limit=300, since=None) == list(range(latest - 299, latest + 1))
        assert read(limit=300, since=5) == list(range(6, 306))
        assert read(limit=10_000, since=None) == list(range(1, latest + 1))
        assert read(limit=10_000, since=0) == list(range(1, latest + 1))


def test_one_event_that_is_larger_than_an_answer_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "MOST_BYTES", 10)
    with with_large_events(3) as tree, AsgiClient(tree) as client:
        wait_for(tree, EventType.AGENT_TERMINATED, "talks")
        assert [event["seq"] for event in client.get("/v1/events?since=2").json] == [3]
        assert [event["seq"] for event in client.get("/v1/events").json] == [tree.events.latest]


def test_pages_of_events_join_without_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "PAGE", 3)
    with with_large_events(20) as tree, AsgiClient(tree) as client:
        wait_for(tree, EventType.AGENT_TERMINATED, "talks")
        latest = tree.events.latest
        for limit in (1, 3, 4, 6, 17, 100):
            newest = [event["seq"] for event in client.get(f"/v1/events?limit={limit}").json]
            assert newest == list(range(max(1, latest - limit + 1), latest + 1))
            first = [event["seq"] for event in client.get(f"/v1/events?since=2&limit={limit}").json]
            assert first == list(range(3, min(latest, limit + 2) + 1))


class Client:
    """Takes what it is sent when the test lets it."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = asyncio.Event()
        self.pieces: list[bytes] = []
        if takes:
            self.takes.set()

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.pieces.append(message.get("body", b""))

    async def receive(self, response: Response) -> None:
        async def nothing() -> Any:
            raise AssertionError

        await response({"type": "http"}, nothing, self.send)


def test_only_a_few_large_answers_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_answers, "ROOM_S", 0.05)

    async def run() -> None:
        answers, made = LargeAnswers(ReadingThreads()), Content(b"x" * (3 * PIECE + 1))
        clients = [Client(takes=False) for _ in range(large_answers.AT_ONCE)]
        tasks = [asyncio.create_task(one.receive(await answers.answer(lambda: made))) for one in clients]
        with pytest.raises(Problem) as refused:
            await answers.answer(lambda: made)
        assert refused.value.code == "busy"
        clients[0].takes.set()
        await tasks[0]
        assert [len(piece) for piece in clients[0].pieces] == [0, PIECE, PIECE, PIECE, 1]
        monkeypatch.setattr(large_answers, "ROOM_S", PATIENCE)
        for made_small in (Content(b"[]"), Content(b"x" * PIECE)):
            for _ in range(2 * large_answers.AT_ONCE):  # these keep no place, taken or not
                await answers.answer(lambda made=made_small: made)  # type: ignore[misc]
        for client in clients:
            client.takes.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_client_that_does_not_take_its_answer_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_answers, "TAKEN_S", 0.01)

    async def run() -> None:
        answers = LargeAnswers(ReadingThreads())
        for _ in range(2 * large_answers.AT_ONCE):
            await Client(takes=False).receive(await answers.answer(lambda: Content(b"x" * (PIECE + 1))))

    asyncio.run(run())


def test_an_answer_that_fails_keeps_no_place() -> None:
    def fail() -> Content:
        raise ValueError("no such sensor")

    async def run() -> None:
        answers = LargeAnswers(ReadingThreads())
        for _ in range(2 * large_answers.AT_ONCE):
            with pytest.raises(ValueError, match="no such sensor"):
                await answers.answer(fail)

    asyncio.run(run())
