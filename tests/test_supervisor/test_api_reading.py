"""What can be read through the control API, of real trees."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from orchestree_testing.asgi_client import AsgiClient
from orchestree_testing.trees import PATIENCE, Does, a_tree, add, crash, wait_for
from pydantic import BaseModel, SecretStr
from tenacity import wait_fixed

from orchestree.agents import Agent
from orchestree.agents.secrets import MASK
from orchestree.strategies import Backoff
from orchestree.supervisor import EventType, Orchestrator
from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.control.api import usage
from orchestree.supervisor.control.api.usage import Usages

pytestmark = pytest.mark.portable

E = EventType
NEVER_BACK: Final = Backoff(wait=wait_fixed(3600), jitter=0.0)
SECRETS: Final = ("hunter2-swordfish", "tok-1234567890", "nested-cr3dential", "param-s3cret-value", "dsn-p4ssw0rd-x")
AGENT: Final = frozenset(
    {"path", "name", "kind", "state", "executor", "pid", "incarnation", "restarts_total", "streak", "uptime_s"}
    | {"next_restart_s", "depends_on", "waiting_for", "queued", "last_crash", "cpu_percent", "memory_bytes"}
)


def speak(agent: Agent) -> None:
    agent.logger.warning("a line of x")
    agent.emit("said")
    agent.sleep(3600)


def a_nested_tree() -> Orchestrator:
    tree = a_tree(name="reading")
    tree.services.logs = AgentLogs()
    add(tree, "writer")
    add(tree, "broken", crash, backoff=NEVER_BACK)
    inner = tree.add_supervisor("in", depends_on=["writer"])
    add(inner, "x", speak)
    add(inner, "logs", depends_on=["x"])
    return tree


def paths(agents: list[dict[str, Any]]) -> list[str]:
    return [agent["path"] for agent in agents]


def test_agents_are_listed_in_start_order_with_all_their_fields() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_RESTARTING, "broken")
        agents = client.get("/v1/agents").json
        assert paths(agents) == ["writer", "broken", "in/x", "in/logs"]
        assert all(agent.keys() == AGENT for agent in agents)
        writer, broken, _, last = agents
        assert (writer["state"], writer["kind"], writer["executor"], writer["pid"]) == (
            "ready",
            "agent",
            "thread",
            None,
        )
        assert writer["uptime_s"] >= 0
        assert writer["last_crash"] is None
        assert (broken["state"], broken["restarts_total"], broken["streak"]) == ("backoff", 1, 1)
        assert 3500 < broken["next_restart_s"] <= 3600
        assert broken["last_crash"]["message"].startswith("ValueError: no such sensor")
        assert broken["last_crash"]["decision"] == "restart"
        assert "traceback" not in broken["last_crash"]
        assert last["depends_on"] == ["x"]
        assert paths(client.get("/v1/agents?path=in").json) == ["in/x", "in/logs"]
        assert paths(client.get("/v1/agents?path=writer").json) == ["writer"]
        assert paths(client.get("/v1/agents?path=").json) == paths(agents)


def test_one_agent_or_supervisor_is_shown_whole() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_RESTARTING, "broken")
        broken = client.get("/v1/agents/broken").json
        assert "Traceback" in broken["last_crash"]["traceback"]
        assert broken["agent"] == f"{Does.__module__}:Does"
        assert broken["params"] == ["execute"]
        assert broken["policy"]["restart"] == "transient"
        assert broken["policy"]["backoff"].startswith("Backoff(")
        assert (broken["policy"]["shutdown"], broken["children"]) == (5.0, None)
        inner = client.get("/v1/agents/in").json
        assert (inner["kind"], inner["children"], inner["config"]) == ("supervisor", ["in/x", "in/logs"], None)
        assert inner["policy"]["max_restarts"] == 10
        root = client.get("/v1/agents/%2F").json
        assert (root["path"], root["name"], root["children"]) == ("", "", ["writer", "broken", "in"])
        assert root["policy"].keys() == {"strategy", "max_restarts", "max_seconds", "auto_shutdown"}


def test_the_tree_and_the_graph_hold_everything() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        root = client.get("/v1/tree").json
        assert (root["path"], root["kind"]) == ("", "supervisor")
        assert root.keys() == AGENT | {"children"}
        assert paths(root["children"]) == ["writer", "broken", "in"]
        assert paths(root["children"][2]["children"]) == ["in/x", "in/logs"]
        graph = client.get("/v1/graph").json
        assert paths(graph["nodes"]) == ["", "writer", "broken", "in", "in/x", "in/logs"]
        assert graph["edges"] == [{"from": "in", "to": "writer"}, {"from": "in/logs", "to": "in/x"}]


def test_health_and_stats_tell_of_the_whole() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_RESTARTING, "broken")
        wait_for(tree, E.AGENT_MESSAGE, "in/x")  # the last event that comes by itself
        health = client.get("/v1/health").json
        assert (health["status"], health["unhealthy"], health["name"]) == ("ok", [], "reading")
        assert (health["pid"], health["run_mode"], health["run"]) == (os.getpid(), "daemon", tree.services.run)
        assert health["services"]["history"] == "off"
        stats = client.get("/v1/stats").json
        assert stats["agents"] == {"ready": 3, "backoff": 1}
        assert stats["supervisors"] == {"ready": 2}
        assert (stats["restarts_total"], stats["queued"], stats["max_workers"]) == (1, 0, None)
        assert stats["events"] == tree.events.latest
        assert stats["memory_bytes"] > 10**6
        assert stats["threads"] > 2


def test_health_says_where_the_metrics_are_served() -> None:
    with a_tree(metrics_port=0) as tree, AsgiClient(tree) as client:
        assert client.get("/v1/health").json["metrics"] == f"http://127.0.0.1:{tree.services.metrics.port}/metrics"
    with a_tree() as tree, AsgiClient(tree) as client:
        assert client.get("/v1/health").json["metrics"] is None


def test_a_parked_agent_degrades_the_health() -> None:
    tree = a_tree()
    add(tree, "broken", crash, backoff=Backoff(stop=lambda state: True))
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_PARKED, "broken")
        health = client.get("/v1/health").json
    assert (health["status"], health["unhealthy"]) == ("degraded", ["broken"])


def test_events_are_filtered_and_described() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_RESTARTING, "broken")
        wait_for(tree, E.AGENT_MESSAGE, "in/x")  # the last event that comes by itself
        crashed = client.get("/v1/events?type=agent_crashed").json
        assert [event["path"] for event in crashed] == ["broken"]
        assert crashed[0]["text"].startswith("CRASHED")
        assert "Traceback" in crashed[0]["data"]["report"]["traceback"]
        both = {event["type"] for event in client.get("/v1/events?type=AGENT_READY,agent_starting&path=in").json}
        assert both == {"agent_ready", "agent_starting"}
        assert (
            client.get("/v1/events?type=agent_ready&type=agent_starting&path=in").json
            == client.get("/v1/events?type=AGENT_READY,agent_starting&path=in").json
        )
        newest = client.get("/v1/events?limit=2").json
        assert [event["seq"] for event in newest] == [tree.events.latest - 1, tree.events.latest]
        assert [event["seq"] for event in client.get("/v1/events?since=0&limit=2").json] == [1, 2]
        assert client.get(f"/v1/events?after={newest[-1]['time'] + 1}").json == []
        assert client.get("/v1/events?run=another").json == []
        assert client.get(f"/v1/events?run={tree.services.run}&limit=1").json == newest[-1:]


@pytest.mark.usefixtures("warnings")  # only what some sink takes is kept
def test_an_agents_log_is_read_and_its_name_may_be_a_word_of_the_api() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_MESSAGE, "in/x")
        lines = client.get("/v1/agents/in/x/logs").json
        assert "a line of x" in [line["text"] for line in lines if line["source"] == "log"]
        assert client.get("/v1/agents/in%2Fx/logs?lines=0").json == []
        assert {line["path"] for line in client.get("/v1/agents/in/logs").json} == {"in/x"}
        assert client.get("/v1/agents/in%2Flogs").json["path"] == "in/logs"
        assert client.get("/v1/agents/in/logs/logs").status == 200
        assert client.get("/v1/agents/nobody/logs").code == "not_found"
        assert client.get("/v1/agents/nobody/logs?follow=1").code == "not_found"


@pytest.mark.parametrize("name", ["logs", "start", "stop", "restart", "agents", ".", "..", "-", "tree", "a" * 64])
@pytest.mark.parametrize("inside", [False, True])
def test_agents_with_any_name_can_be_reached(name: str, inside: bool) -> None:
    tree = a_tree()
    add(tree.add_supervisor(name) if inside else tree, name)
    path, address = (f"{name}/{name}", f"{name}%2F{name}") if inside else (name, name)
    with tree, AsgiClient(tree) as client:
        assert client.get(f"/v1/agents/{address}").json["path"] == path
        assert client.get(f"/v1/agents/%2F{address}").json["path"] == path
        assert client.get(f"/v1/agents/{address}/logs").status == 200
        assert client.post(f"/v1/agents/{address}/stop?wait=20").json == {
            "path": path, "command": "stop", "changed": True, "done": True, "state": "stopped", "pending": []
        }  # fmt: skip
        assert client.patch(f"/v1/agents/{address}", {"shutdown": 1}).json["path"] == path


def test_a_slash_is_decoded_once() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        assert client.get("/v1/agents/in%252Fx").code == "not_found"
        assert client.get("/v1/agents/in%2fx").json["path"] == "in/x"
        assert client.get("/v1/agents/in/%78").json["path"] == "in/x"


class Inner(BaseModel):
    password: str = SECRETS[2]
    host: str = "example"


class Vault(Agent):
    class Config(Agent.Config):
        key: SecretStr = SecretStr(SECRETS[0])
        api_token: str = SECRETS[1]
        inner: Inner = Inner()
        dsn: str = f"postgres://u:{SECRETS[4]}@db/x"
        retries: int = 3
        note: str = f"log in with {SECRETS[1]}"

    def execute(self) -> object:
        self.logger.warning("using {}", SECRETS[1])
        self.emit("login", password=SECRETS[1], user="me")
        if self.incarnation == 1:
            raise ValueError(f"cannot log in with {SECRETS[0]} and {SECRETS[3]}")
        return {"token": SECRETS[1], "note": f"logged in with {SECRETS[0]}"}


def test_no_answer_has_a_secret() -> None:
    tree = a_tree()
    tree.services.logs = AgentLogs()
    tree.register_agent(Vault, "vault", params={"password": SECRETS[3]}, restart="transient", backoff=None)
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_TERMINATED, "vault")
        details = client.get("/v1/agents/vault")
        assert MASK in details.json["config"]["key"]
        assert details.json["config"]["inner"] == {"password": MASK, "host": "example"}
        assert details.json["config"]["retries"] == 3
        assert details.json["config"]["note"] == f"log in with {MASK}"
        assert details.json["params"] == ["password"]
        assert details.json["result"]["note"] == f"logged in with {MASK}"
        said = [
            client.get(f"/v1{address}").text.decode()
            for address in ("/agents/vault", "/agents", "/tree", "/events?limit=10000", "/agents/vault/logs", "/health")
        ]
    assert [secret for secret in SECRETS if any(secret in text for text in said)] == []


def test_odd_results_are_shown_as_json() -> None:
    odd = {"nan": float("nan"), "bytes": b"\xff", 7: {1, 2}, "surrogate": "\udc80", "self": object()}
    tree = a_tree()
    add(tree, "odd", lambda agent: odd)
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_TERMINATED, "odd")
        answer = client.get("/v1/agents/odd")
        assert answer.status == 200
        json.loads(answer.text, parse_constant=lambda name: pytest.fail(name))


def test_a_temporary_agent_that_has_left_keeps_its_last_outcome() -> None:
    tree = a_tree()
    add(tree, "once", lambda agent: 42, restart="temporary")
    with tree, AsgiClient(tree) as client:
        wait_for(tree, E.AGENT_TERMINATED, "once")
        assert client.get("/v1/agents").json == []
        once = client.get("/v1/agents/once").json
        assert (once["state"], once["result"], once["config"], once["policy"]) == ("completed", 42, None, {})
        assert client.post("/v1/agents/once/start").code == "not_found"


def test_head_is_get_without_a_body() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        for address in ("/v1/agents", "/v1/agents/writer", "/v1/nothing", "/v1/events/stream"):
            head = client.ask("HEAD", address)
            assert head.text == b""
            assert head.status == (404 if address == "/v1/nothing" else 200)


@pytest.mark.slow
def test_an_agent_with_a_process_of_its_own_shows_what_that_uses() -> None:
    tree = a_tree()
    add(tree, "worker", executor="process")
    with tree, AsgiClient(tree) as client:
        worker = client.get("/v1/agents").json[0]
        assert worker["pid"] == tree.status("worker").pid
        assert worker["memory_bytes"] > 10**6
        assert worker["cpu_percent"] >= 0
        tree.stop_agent("worker", PATIENCE)
        assert client.get("/v1/agents").json[0]["cpu_percent"] is None


def test_a_look_at_a_process_is_shared_by_all_who_look_at_about_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    usages = Usages()
    first = usages.of(os.getpid())
    assert usages.of(os.getpid()) is first
    monkeypatch.setattr(usage, "FRESH_S", 0.0)
    assert usages.of(os.getpid()) is not first


def test_a_process_that_has_gone_uses_nothing() -> None:
    usages = Usages()
    assert usages.of(2**22 + 1).memory_bytes is None
    assert usages.of(None).threads is None
    assert (usages.of(os.getpid()).threads or 0) >= 1


def test_the_socket_in_health_is_text() -> None:
    with a_nested_tree() as tree, AsgiClient(tree) as client:
        assert client.get("/v1/health").json["socket"] == str(
            Path(tree.services.socket) if tree.services.socket else ""
        )
