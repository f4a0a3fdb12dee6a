"""Who may do what: every method at every address for every set of permissions, and nothing that is not listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import pytest
from orchestree_testing.asgi_client import ME, AsgiClient
from orchestree_testing.trees import a_tree, add
from starlette.responses import Response

from orchestree.supervisor import Orchestrator, SpecError
from orchestree.supervisor.control.api import routing
from orchestree.supervisor.control.api.endpoints import BY_ROUTE, ENDPOINTS, Call
from orchestree.supervisor.permissions import COMMANDS, NOBODY, Authority, Who, permitted

READING: Final = frozenset({"ps", "tree", "inspect", "logs", "events", "stats", "graph"})
OPERATING: Final = READING | {"start", "stop", "restart"}
EVERYTHING: Final = OPERATING | {"set", "shutdown"}

# Written out, not made of the product's table: what is in neither is refused, and what is only in that one is a hole.
ALLOWED: Final[Mapping[tuple[str, str], str]] = {
    ("GET", "/v1/health"): "",
    ("GET", "/v1/agents"): "ps",
    ("GET", "/v1/agents/a"): "inspect",
    ("GET", "/v1/agents/in/b"): "inspect",
    ("GET", "/v1/agents/in%2Flogs"): "inspect",
    ("GET", "/v1/agents/%2F"): "inspect",
    ("GET", "/v1/agents/logs"): "inspect",
    ("GET", "/v1/agents/a/logs"): "logs",
    ("GET", "/v1/tree"): "tree",
    ("GET", "/v1/graph"): "graph",
    ("GET", "/v1/stats"): "stats",
    ("GET", "/v1/metrics"): "stats",
    ("GET", "/v1/events"): "events",
    ("GET", "/v1/events/stream"): "events",
    ("GET", "/v1/openapi.json"): "",
    ("POST", "/v1/agents/a/start"): "start",
    ("POST", "/v1/agents/a/stop"): "stop",
    ("POST", "/v1/agents/a/restart"): "restart",
    ("POST", "/v1/shutdown"): "shutdown",
    ("PATCH", "/v1/agents/a"): "set",
    ("PATCH", "/v1/agents/in/b"): "set",
    ("PATCH", "/v1/agents/in%2Flogs"): "set",
    ("PATCH", "/v1/agents/%2F"): "set",
    ("PATCH", "/v1/agents/logs"): "set",
}
NOWHERE: Final = (
    *("/", "/v1", "/v1/", "/v2/health", "/health", "//v1/health", "/v1//health", "/V1/health", "/v1/health/"),
    *(
        "/v1/agents/",
        "/v1/agents//a",
        "/v1/agents/a/",
        "/v1/agents/a//stop",
        "/v1/agents/../../shutdown/",
        "/v1/nothing",
    ),
    *(
        "/v1/%68ealth",
        "/v1/agents%2Fa",
        "/v1/events/",
        "/v1/shutdown/now",
        "/v1%2Fhealth",
        "/v1/events%2Fstream",
        "/v1/agents/a/stop/",
    ),
)
METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "FROB", "")
ADDRESSES: Final = tuple(dict.fromkeys(address for _, address in ALLOWED))
SETS: Final[Mapping[str, frozenset[str]]] = {
    "full": EVERYTHING,
    "operate": OPERATING,
    "read_only": READING,
    "nothing": frozenset(),
    **{f"only {command}": frozenset({command}) for command in sorted(EVERYTHING)},
}


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached a handler; the handlers themselves are left out."""
    reached: list[str] = []

    async def note(call: Call) -> Response:
        reached.append(f"{call.request.method} {call.request.scope['raw_path'].decode()}")
        return Response("{}")

    rows = {
        route: {method: replace(row, handle=note) for method, row in methods.items()}
        for route, methods in BY_ROUTE.items()
    }
    monkeypatch.setattr(routing, "BY_ROUTE", MappingProxyType(rows))
    return reached


def tree_with(permissions: str) -> Orchestrator:
    names = {"full", "operate", "read_only"}
    tree = a_tree(control_permissions=permissions if permissions in names else SETS[permissions])
    add(tree, "a")
    return tree


def what_is_needed(method: str, address: str) -> str | None:
    """Return the command, empty if none is needed; None: nobody may."""
    return ALLOWED.get(("GET" if method == "HEAD" else method, address))


@pytest.mark.parametrize("permissions", SETS)
def test_each_request_needs_its_command_and_what_is_not_listed_reaches_no_handler(
    permissions: str, handled: list[str]
) -> None:
    wrong = []
    with tree_with(permissions) as tree, AsgiClient(tree) as client:
        for method in METHODS:
            for address in (*ADDRESSES, *NOWHERE):
                handled.clear()
                answer = client.ask(method, address)
                needed = what_is_needed(method, address)
                if needed is not None and (not needed or needed in SETS[permissions]):
                    wanted = {200}
                elif needed is not None:
                    wanted = {403}
                else:
                    wanted = {404, 405}
                # One that is listed for another method is answered by that: 405, never a handler.
                if answer.status not in wanted or bool(handled) != (wanted == {200}):
                    wrong.append((method, address, answer.status, list(handled)))
    assert wrong == []


@pytest.mark.parametrize(
    "who",
    [None, NOBODY, Who(pid=1), Who(token="web"), Who(uid=0, token="web")],
    ids=["no word of who it is", "nobody", "no user", "an unknown token", "a token of root"],
)
def test_who_is_not_known_may_not_even_ask_what_there_is(who: Who | None, handled: list[str]) -> None:
    with tree_with("full") as tree, AsgiClient(tree, who) as client:
        answers = {client.ask(method, address).status for method in METHODS for address in (*ADDRESSES, *NOWHERE)}
    assert answers == {403}
    assert handled == []


def test_the_table_of_this_test_and_the_table_of_the_product_list_the_same() -> None:
    product = {(row.method, row.command or "") for row in ENDPOINTS}
    assert product == {(method, command) for (method, _), command in ALLOWED.items()}
    assert COMMANDS == EVERYTHING
    assert {name: permitted(name) for name in ("full", "operate", "read_only")} == {
        name: SETS[name] for name in ("full", "operate", "read_only")
    }


def test_nothing_that_changes_something_is_done_by_get() -> None:
    assert {row.method for row in ENDPOINTS if row.command in EVERYTHING - READING} == {"POST", "PATCH"}
    assert all(row.method == "GET" for row in ENDPOINTS if row.command is None or row.command in READING)
    assert all(row.body is not None for row in ENDPOINTS if row.method != "GET")


def test_health_says_what_the_caller_may_do() -> None:
    with tree_with("operate") as tree, AsgiClient(tree) as client:
        health = client.get("/v1/health").json
    assert health["commands"] == sorted(OPERATING)
    assert health["who"] == {"uid": ME.uid, "pid": ME.pid, "token": None}


def test_what_is_told_of_supervisors_and_of_each_agent_needs_no_other_permission() -> None:
    with tree_with("only ps") as tree, AsgiClient(tree) as client:
        assert [node["path"] for node in client.get("/v1/agents?supervisors=1").json] == ["", "a"]
        assert [node["path"] for node in client.get("/v1/agents").json] == ["a"]
    with tree_with("only stats") as tree, AsgiClient(tree) as client:
        assert [agent["path"] for agent in client.get("/v1/stats?path=%2F").json] == ["a"]
        assert [agent["path"] for agent in client.get("/v1/stats?path=a").json] == ["a"]
        assert client.get("/v1/stats?path=b").code == "not_found"
        assert client.get("/v1/stats").json["agents"] == {"ready": 1}


def test_unknown_names_of_permissions_are_errors_with_a_hint() -> None:
    with pytest.raises(SpecError, match="did you mean 'operate'"):
        permitted("operat")
    with pytest.raises(SpecError, match=r"no command 'stopp' \(did you mean 'stop'\?\)"):
        permitted({"stopp", "ps"})
    with pytest.raises(SpecError, match="no command 'ls'"):
        permitted({"ls"})
    assert permitted(["ps", "ps"]) == {"ps"}


def test_an_authority_decides_by_who_asks() -> None:
    authority = Authority({"ps"})
    assert authority.may(ME, "ps")
    assert authority.may(ME, None)
    assert not authority.may(ME, "tree")
    assert not authority.may(ME, "no such command")
    assert not authority.may(NOBODY, None)
    assert authority.commands_of(NOBODY) == frozenset()
