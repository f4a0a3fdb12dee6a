"""Commands through the control API, to real trees: what they do, what they answer, and that none holds up another."""

from __future__ import annotations

import threading
from typing import Any, Final

import pytest
from orchestree_testing.asgi_client import ME, AsgiClient
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, crash, wait_for
from tenacity import wait_fixed

from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState, EventType, Orchestrator
from orchestree.supervisor.events import Command

pytestmark = pytest.mark.portable

E = EventType
NEVER_BACK: Final = Backoff(wait=wait_fixed(3600), jitter=0.0)


def commands_of(tree: Orchestrator) -> list[tuple[str, Command]]:
    """Return path and data of the commands that somebody outside gave."""
    found = [(event.path, event.data) for event in tree.history(type=E.COMMAND, limit=None)]
    return [(path, data) for path, data in found if isinstance(data, Command) and data.uid is not None]


def holding(released: threading.Event) -> dict[str, Any]:
    """Return hooks of an agent whose stop takes until `released`."""

    def execute(agent: Any) -> None:
        agent.sleep(3600)
        released.wait(PATIENCE)

    return {"execute": execute, "shutdown": PATIENCE}


@pytest.mark.parametrize("kind", [None, AsyncDoes])
def test_an_agent_is_stopped_started_and_restarted(kind: Any) -> None:
    tree = a_tree()
    add(tree, "a", **({"kind": kind} if kind else {}))
    with tree, AsgiClient(tree) as client:

        def told(command: str) -> tuple[int, bool, bool, str]:
            answer = client.post(f"/v1/agents/a/{command}?wait=20")
            assert answer.json["command"] == command
            assert answer.json["pending"] == []
            return answer.status, answer.json["changed"], answer.json["done"], answer.json["state"]

        assert told("start") == (200, False, True, "ready")
        assert told("stop") == (200, True, True, "stopped")
        assert told("stop") == (200, False, True, "stopped")
        assert told("start") == (200, True, True, "ready")
        assert told("restart") == (200, True, True, "ready")
        assert tree.status("a").incarnation == 3


def test_who_did_it_is_an_event_before_the_act() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        client.post("/v1/agents/a/stop?wait=20")
        client.patch("/v1/agents/a", {"shutdown": 2})
        client.post("/v1/agents/nobody/stop")
        client.post("/v1/shutdown?wait=20", {"timeout": 20})
    assert commands_of(tree) == [
        ("a", Command("stop", {"wait": 20.0}, ME.uid, ME.pid)),
        ("a", Command("set", {"shutdown": 2.0}, ME.uid, ME.pid)),
        ("", Command("shutdown", {"wait": 20.0, "timeout": 20.0}, ME.uid, ME.pid)),
    ]
    asked, stopped = wait_for(tree, E.COMMAND, "a"), wait_for(tree, E.AGENT_STOPPING, "a")
    assert asked.seq < stopped.seq


def test_the_path_of_a_supervisor_acts_on_all_below_it() -> None:
    released = threading.Event()
    tree = a_tree()
    inner = tree.add_supervisor("in")
    add(inner, "quick")
    add(inner, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        try:
            answer = client.post("/v1/agents/in/stop")
            assert answer.status == 202
            assert answer.json["changed"] is True
            assert answer.json["done"] is False
            assert answer.json["pending"] == ["in", "in/slow"]
        finally:
            released.set()
        answer = client.post("/v1/agents/in/stop?wait=20")
        assert (answer.status, answer.json["changed"], answer.json["done"]) == (200, False, True)
        assert {tree.status(path).state for path in ("in", "in/quick", "in/slow")} == {AgentState.STOPPED}
        assert client.post("/v1/agents/in%2Fquick/start").code == "conflict"
        released.set()
        answer = client.post("/v1/agents/in/start?wait=20")
        assert (answer.json["changed"], answer.json["state"]) == (True, "ready")
        assert tree.status("in/slow").incarnation == 2


def test_start_of_a_supervisor_that_runs_starts_what_was_stopped_or_parked_below_it() -> None:
    is_mended = threading.Event()
    tree = a_tree()
    outer = tree.add_supervisor("out")
    add(outer, "stays")
    add(outer, "done", lambda agent: None)
    inner = outer.add_supervisor("in")
    add(inner, "x")
    add(inner, "y")
    park = Backoff(stop=lambda state: True)
    add(inner, "broken", lambda agent: agent.sleep(3600) if is_mended.is_set() else crash(agent), backoff=park)
    whole = outer.add_supervisor("whole")
    add(whole, "z")
    add(tree, "apart")
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_PARKED, "out/in/broken")
        wait_for(tree, E.AGENT_TERMINATED, "out/done")
        is_mended.set()
        for path in ("out/in/x", "out/whole", "apart"):
            client.post(f"/v1/agents/{path}/stop?wait=20")
        answer = client.post("/v1/agents/out/start?wait=20")
        assert answer.json == {
            "path": "out", "command": "start", "changed": True, "done": True, "state": "ready", "pending": []
        }  # fmt: skip
        states = {agent["path"]: agent["state"] for agent in client.get("/v1/agents?supervisors=1").json}
        assert {path for path, state in states.items() if state != "ready"} == {"out/done", "apart"}
        assert (states["out/done"], states["apart"]) == ("completed", "stopped")
        runs = {path: tree.status(path).incarnation for path in states if path.startswith("out/")}
        assert {path for path, run in runs.items() if run == 2} == {
            "out/in/x",
            "out/in/broken",
            "out/whole",
            "out/whole/z",
        }
        assert (runs["out/stays"], runs["out/in/y"]) == (1, 1)
        assert client.post("/v1/agents/out/start?wait=20").json["changed"] is False
        assert [path for path, command in commands_of(tree) if command.name == "start"] == ["out", "out"]


@pytest.mark.parametrize("command", ["start", "stop", "restart"])
def test_the_root_is_not_stopped_like_a_child(command: str) -> None:
    tree = a_tree()
    with tree, AsgiClient(tree) as client:
        answer = client.post(f"/v1/agents/%2F/{command}")
        assert (answer.status, answer.code) == (409, "conflict")
        assert "shutdown" in answer.json["detail"]
        assert tree.is_running
        assert commands_of(tree) == []


def test_start_says_what_keeps_an_agent_from_starting() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "broken", crash, backoff=NEVER_BACK)
    add(tree, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_RESTARTING, "broken")
        refused = client.post("/v1/agents/broken/start")
        assert (refused.status, refused.code) == (409, "restarting")
        assert "restart it" in refused.json["detail"]
        try:
            client.post("/v1/agents/slow/stop")
            refused = client.post("/v1/agents/slow/start")
            assert (refused.status, refused.code) == (409, "running")
            assert "stopping" in refused.json["detail"]
        finally:
            released.set()
        refused = client.post("/v1/agents/brokn/stop")
        assert (refused.status, refused.code) == (404, "not_found")
        assert "did you mean 'broken'" in refused.json["detail"]


def test_a_start_that_has_to_wait_is_done_and_says_so() -> None:
    tree = a_tree()
    add(tree, "first")
    add(tree, "second", depends_on=["first"])
    with tree, AsgiClient(tree) as client:
        client.post("/v1/agents/second/stop?wait=20")
        client.post("/v1/agents/first/stop?wait=20")
        answer = client.post("/v1/agents/second/start?wait=20")
        assert (answer.status, answer.json["changed"], answer.json["state"]) == (200, True, "waiting")
        assert client.post("/v1/agents/second/start?wait=20").json["changed"] is False


def test_a_slow_stop_holds_up_no_other_command() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "slow", **holding(released))
    add(tree, "other")
    with tree, AsgiClient(tree) as client:
        try:
            slow = [client.send("POST", "/v1/agents/slow/stop?wait=60") for _ in range(20)]
            wait_for(tree, E.AGENT_STOPPING, "slow")
            for _ in range(10):
                assert client.post("/v1/agents/other/restart?wait=20").json["done"] is True
                assert client.get("/v1/agents").status == 200
            assert not any(asked.answer.done() for asked in slow)
        finally:
            released.set()
        answers = [asked.answer.result(PATIENCE).json for asked in slow]
    assert all(answer["done"] and answer["state"] == "stopped" for answer in answers)
    assert sum(answer["changed"] for answer in answers) == 1


@pytest.mark.slow
def test_a_wait_that_runs_out_answers_that_it_goes_on() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        try:
            answer = client.post("/v1/agents/slow/stop?wait=0.3")
            assert answer.status == 202
            assert answer.json == {
                "path": "slow", "command": "stop", "changed": True, "done": False, "state": "stopping",
                "pending": ["slow"],
            }  # fmt: skip
        finally:
            released.set()


def test_nobody_waits_for_a_client_that_has_gone() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        try:
            asked = client.send("POST", "/v1/agents/slow/stop?wait=3600")
            wait_for(tree, E.AGENT_STOPPING, "slow")
            client.leave(asked)
            assert asked.answer.result(PATIENCE).status == 202
            client.get("/v1/stats")  # what is left of the request is done with by then
            assert not tree.driver._promised, "supervision goes on looking whether it is over"
        finally:
            released.set()


def test_policy_is_changed_and_the_changes_are_told() -> None:
    tree = a_tree()
    add(tree, "a")
    add(tree.add_supervisor("in"), "b")
    with tree, AsgiClient(tree) as client:
        answer = client.patch("/v1/agents/a", {"shutdown": 3, "restart": "permanent", "start_timeout": 60.0})
        assert answer.json == {
            "path": "a",
            "changes": [
                {"field": "restart", "old": "transient", "new": "permanent"},
                {"field": "shutdown", "old": "5.0", "new": "3.0"},
            ],
        }
        assert tree.get_childspec("a").shutdown == 3.0
        assert client.patch("/v1/agents/a", {"shutdown": 3}).json["changes"] == []
        assert client.patch("/v1/agents/a", {}).json["changes"] == []
        assert client.patch("/v1/agents/in", {"max_restarts": 3}).json["changes"][0]["new"] == "3"
        assert client.patch("/v1/agents/%2F", {"max_seconds": 3}).json["changes"][0]["field"] == "max_seconds"


@pytest.mark.parametrize(
    ("body", "delays"),
    [
        ({}, [0, 0.25, 0.5, 1, 2]),
        ({"max": 0.4}, [0, 0.25, 0.4, 0.4, 0.4]),
        ({"initial": 1}, [1, 2, 4, 8, 16]),
        ({"initial": 1, "factor": 10, "max": 50}, [1, 10, 50, 50, 50]),
        ({"factor": 1}, [0, 0.25, 0.25, 0.25, 0.25]),
        ({"initial": 0}, [0, 0, 0, 0, 0]),
    ],
)
def test_a_backoff_is_made_of_its_fields(body: dict[str, float], delays: list[float]) -> None:
    from orchestree.strategies.backoff import Streak

    tree = a_tree()
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        assert client.patch("/v1/agents/a", {"backoff": {**body, "jitter": 0}}).status == 200
        backoff = tree.get_childspec("a").backoff
    assert isinstance(backoff, Backoff)
    found = [backoff.verdict(Streak(failures, 0.0), None, 0.0, 0.0).delay for failures in range(1, 6)]
    assert found == pytest.approx(delays)


def test_a_backoff_can_give_up_be_none_or_be_that_of_the_orchestrator() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        client.patch("/v1/agents/a", {"backoff": {"attempts": 2, "on_give_up": "escalate"}})
        backoff = tree.get_childspec("a").backoff
        assert isinstance(backoff, Backoff)
        assert (backoff.on_give_up, backoff.stop is None) == ("escalate", False)
        client.patch("/v1/agents/a", {"backoff": None})
        assert tree.get_childspec("a").backoff is None
        assert client.patch("/v1/agents/a", {"backoff": "inherit"}).json["changes"] == [
            {"field": "backoff", "old": "None", "new": "that of the orchestrator"}
        ]
        assert client.get("/v1/agents/a").json["policy"]["backoff"] == "inherit"


def test_policy_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        for body, said in (
            ({"max_memory": 10**9}, "needs executor='process'"),
            ({"max_restarts": 1}, "cannot be changed"),
            ({"shutdown": 1, "significant": True, "restart": "permanent"}, "permanent child"),
        ):
            answer = client.patch("/v1/agents/a", body)
            assert (answer.status, answer.code) == (400, "bad_request")
            assert said in answer.json["detail"]
        assert tree.get_childspec("a").shutdown == 5.0
        assert client.patch("/v1/agents/nobody", {}).code == "not_found"


def test_shutdown_stops_the_tree_and_then_reads_still_answer_but_commands_do_not() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        answer = client.post("/v1/shutdown?wait=20")
        assert answer.status == 200
        assert answer.json == {
            "command": "shutdown", "changed": True, "done": True, "state": "stopped", "pending": []
        }  # fmt: skip
        assert tree.exit_code == 0
        assert [agent["state"] for agent in client.get("/v1/agents").json] == ["stopped"]
        for read in ("health", "tree", "stats", "graph", "events", "agents/a", "agents/a/logs", "openapi.json"):
            assert client.get(f"/v1/{read}").status == 200
        for command in ("agents/a/start", "agents/a/stop", "agents/a/restart", "shutdown"):
            refused = client.post(f"/v1/{command}")
            assert (refused.status, refused.code) == (503, "ended")
        assert client.patch("/v1/agents/a", {"shutdown": 1}).code == "ended"


def test_shutdown_without_a_wait_says_what_has_to_end() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "quick")
    add(tree, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        try:
            answer = client.post("/v1/shutdown")
            assert answer.status == 202
            assert (answer.json["changed"], answer.json["state"]) == (True, "stopping")
            assert "slow" in answer.json["pending"]
            again = client.post("/v1/shutdown")
            assert (again.status, again.json["changed"]) == (202, False)
        finally:
            released.set()


def test_the_end_of_the_tree_ends_the_wait_of_a_command() -> None:
    released = threading.Event()
    tree = a_tree()
    add(tree, "slow", **holding(released))
    with tree, AsgiClient(tree) as client:
        try:
            asked = client.send("POST", "/v1/agents/slow/stop?wait=3600")
            wait_for(tree, E.AGENT_STOPPING, "slow")
            client.post("/v1/shutdown")
        finally:
            released.set()
        assert asked.answer.result(PATIENCE).json["state"] == "stopped"
