"""Bad input of all kinds to the control API: each is refused with its code and a reason, and nothing comes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from orchestree_testing.asgi_client import AsgiClient
from orchestree_testing.trees import PATIENCE, a_tree, add

from orchestree.supervisor import (
    AlreadyStarted,
    EventType,
    NotFound,
    NotRunning,
    Orchestrator,
    Restarting,
    Running,
    SpecError,
)
from orchestree.supervisor.control.api import bodies, commands
from orchestree.supervisor.control.api.app import control_app
from orchestree.supervisor.control.api.endpoints import Call
from orchestree.supervisor.control.api.problems import problem_of
from orchestree.supervisor.control.api.reads import Reader

JSON = {"content-type": "application/json"}


@pytest.fixture
def tree() -> Iterator[Orchestrator]:
    tree = a_tree()
    add(tree, "a")
    with tree:
        yield tree
        assert tree.is_running, "no bad input ends the tree"


@pytest.fixture
def client(tree: Orchestrator) -> Iterator[AsgiClient]:
    with AsgiClient(tree) as client:
        yield client


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/v1/agents?pth=a", "unknown parameter 'pth' (did you mean 'path'?)"),
        ("/v1/agents?path=a&path=a", "path: stands twice"),
        ("/v1/tree?x=1", "unknown parameter 'x'"),
        ("/v1/tree?x", "unknown parameter 'x'"),
        ("/v1/tree?=", "unknown parameter ''"),
        ("/v1/events?since=-1", "since='-1': must be a whole number from 0 to 9223372036854775807"),
        ("/v1/events?since=1.0", "must be a whole number"),
        ("/v1/events?since=+1", "must be a whole number"),
        ("/v1/events?since=1_0", "must be a whole number"),
        ("/v1/events?since=%D9%A3", "must be a whole number"),
        ("/v1/events?since=9223372036854775808", "must be a whole number"),
        ("/v1/events?since=" + "9" * 5000, "must be a whole number"),
        ("/v1/events?since=", "must be a whole number"),
        ("/v1/events?limit=0", "limit='0': must be a whole number from 1 to 10000"),
        ("/v1/events?limit=10001", "must be a whole number from 1 to 10000"),
        ("/v1/events?after=nan", "must be a number"),
        ("/v1/events?after=1e999", "must be a number"),
        ("/v1/events?after=0x1", "must be a number"),
        ("/v1/events?type=agent_crash", "'agent_crash' is no type of event (did you mean 'agent_crashed'?)"),
        ("/v1/events?type=agent_crashed,", "'' is no type of event"),
        ("/v1/events?run=" + "x" * 101, "at most 100 characters"),
        ("/v1/events?path=" + "x" * 10_001, "at most 10000 characters"),
        ("/v1/events?path=%ff", "not percent-encoded UTF-8"),
        ("/v1/events?%ff=1", "not percent-encoded UTF-8"),
        ("/v1/events?path=\xff", "not percent-encoded UTF-8"),
        ("/v1/agents/%ff", "not percent-encoded UTF-8"),
        ("/v1/agents/%ED%B2%80", "not percent-encoded UTF-8"),
        ("/v1/agents/\xff", "not percent-encoded UTF-8"),
        ("/v1/agents/a/logs?lines=-1", "from 0 to 10000"),
        ("/v1/agents/a/logs?follow=yes", "must be one of 1, true, 0, false"),
        ("/v1/events?" + "&".join(["type=command"] * 101), "more than 100 parameters"),
    ],
)
def test_a_wrong_address_is_refused_with_the_reason(client: AsgiClient, address: str, said: str) -> None:
    answer = client.get(address)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert said in answer.json["detail"]


@pytest.mark.parametrize("wait", ["-1", "3601", "inf", "nan", "", "1;2", "1e9", "१"])
def test_a_wrong_wait_reaches_no_agent(client: AsgiClient, tree: Orchestrator, wait: str) -> None:
    assert client.post(f"/v1/agents/a/stop?wait={wait}").code == "bad_request"
    assert tree.history(type=EventType.COMMAND) == []


@pytest.mark.parametrize(
    "address",
    [
        *("/v1/agents/b", "/v1/agents/a/b", "/v1/agents/a%2F", "/v1/agents/%00", "/v1/agents/a%0a", "/v1/agents/A"),
        *("/v1/agents/" + "x" * 50_000, "/v1/agents/" + "x/" * 10_000 + "x", "/v1/agents/%2F%2Fa"),
        "/v1/agents?path=nobody",
    ],
)
def test_an_unknown_path_is_not_found(client: AsgiClient, address: str) -> None:
    answer = client.get(address)
    assert (answer.status, answer.code) == (404, "not_found")
    assert len(answer.text) < 1_000 + len(address)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not valid JSON"),
        (b"nul", "not valid JSON"),
        (b'{"shutdown": 1} x', "not valid JSON"),
        (b'{"shutdown": 1,}', "not valid JSON"),
        (b'{"shutdown": NaN}', "NaN is no number of JSON"),
        (b'{"shutdown": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"shutdown": 1e999}', "1e999 is too large"),
        (b'{"shutdown": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"shutdown": ' + b"9" * 400 + b"}", "body:"),
        (b'{"shutdown": 1, "shutdown": 2}', "key 'shutdown' stands twice"),
        (b'{"backoff": {"max": 1, "max": 2}}', "key 'max' stands twice"),
        (b"[" * 500_000, "too deep"),
        (b'{"a":' * 100_000, "too deep"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b'"shutdown"', "must be an object"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        ('{"shutdown": 1}'.encode("utf-16"), "not valid JSON"),
        (b'{"shutdwn": 1}', "unknown field 'shutdwn' (did you mean 'shutdown'?)"),
        (b'{"\\ud800": 1}', "must be a valid string"),
        (b'{"shutdown": -1}', "shutdown"),
        (b'{"shutdown": "5"}', "shutdown"),
        (b'{"shutdown": true}', "shutdown"),
        (b'{"shutdown": 1e10}', "shutdown"),
        (b'{"restart": "allways"}', "restart='allways'"),
        (b'{"restart": null}', "restart=None"),
        (b'{"start_timeout": 0}', "start_timeout=0"),
        (b'{"max_memory": 1.5}', "max_memory=1.5"),
        (b'{"max_memory": 9223372036854775808}', "max_memory"),
        (b'{"significant": 1}', "significant=1"),
        (b'{"backoff": 5}', "backoff"),
        (b'{"backoff": "none"}', "backoff"),
        (b'{"backoff": {"initail": 1}}', "unknown field 'initail' (did you mean 'initial'?)"),
        (b'{"backoff": {"factor": 0.5}}', "factor=0.5"),
        (b'{"backoff": {"jitter": 2}}', "jitter=2"),
        (b'{"backoff": {"attempts": 0}}', "attempts=0"),
        (b'{"backoff": {"initial": null}}', "initial=None"),
        (b'{"max_restarts": 1}', "cannot be changed"),
        (b'{"__class__": 1}', "unknown field"),
        (b'{"model_config": {}}', "unknown field"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(
    client: AsgiClient, tree: Orchestrator, body: bytes, said: str
) -> None:
    policy = tree.get_childspec("a")
    answer = client.send_raw("PATCH", b"/v1/agents/a", [body], JSON).answer.result(PATIENCE)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert said in answer.json["detail"]
    assert len(answer.json["detail"]) < 1_000
    assert tree.get_childspec("a") == policy


@pytest.mark.parametrize("field", ["timeout", "path", "wait"])
def test_commands_without_fields_take_none(client: AsgiClient, field: str) -> None:
    answer = client.post("/v1/agents/a/stop", {field: 1})
    assert answer.code == "bad_request"
    assert f"unknown field '{field}'" in answer.json["detail"]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "json"],
)
def test_only_json_is_taken(client: AsgiClient, tree: Orchestrator, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    for method, address in (("POST", b"/v1/agents/a/stop"), ("POST", b"/v1/shutdown"), ("PATCH", b"/v1/agents/a")):
        answer = client.send_raw(method, address, [b"{}"], headers).answer.result(PATIENCE)
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert tree.history(type=EventType.COMMAND) == []


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("parts", [[b""], [b"{}"], [b"{", b"", b"}"], [b" \n"]])
def test_a_body_may_come_in_parts_or_be_empty(client: AsgiClient, content_type: str, parts: list[bytes]) -> None:
    headers = {"content-type": content_type}
    assert client.send_raw("POST", b"/v1/agents/a/start", parts, headers).answer.result(PATIENCE).status == 200


@pytest.mark.parametrize("declared", [None, "1000001", "9" * 30, "-1", "x"])
def test_a_body_over_a_megabyte_is_not_read(client: AsgiClient, tree: Orchestrator, declared: str | None) -> None:
    headers = JSON | ({} if declared is None else {"content-length": declared})
    parts = [b" " * 100_000] * 10 + [b" " * 1, b"{}"]
    answer = client.send_raw("POST", b"/v1/shutdown", parts, headers).answer.result(PATIENCE)
    assert (answer.status, answer.code) == (413, "too_large")
    assert answer.headers["connection"] == "close"
    exactly = [b" " * 999_998, b"{}"]
    assert client.send_raw("POST", b"/v1/agents/a/start", exactly, JSON).answer.result(PATIENCE).status == 200


def test_a_client_that_leaves_within_its_body_starts_nothing(client: AsgiClient, tree: Orchestrator) -> None:
    asked = client.send_raw("POST", b"/v1/shutdown", [], JSON)
    client.leave(asked)
    assert asked.answer.result(PATIENCE).code == "bad_request"
    assert tree.history(type=EventType.COMMAND) == []


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    client: AsgiClient, tree: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.05)
    answer = client.send_raw("POST", b"/v1/shutdown", [], JSON).answer.result(PATIENCE)
    assert (answer.code, answer.headers["connection"]) == ("bad_request", "close")
    assert tree.history(type=EventType.COMMAND) == []


def test_a_wrong_method_is_told_which_ones_there_are(client: AsgiClient) -> None:
    for address, known in (("/v1/agents", "GET, HEAD"), ("/v1/agents/a", "GET, HEAD, PATCH"), ("/v1/shutdown", "POST")):
        answer = client.ask("DELETE", address)
        assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", known)
    assert client.get("/v1/agents/a/stop").code == "method_not_allowed"


def test_a_mistake_of_our_own_is_an_internal_problem_without_details(
    client: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Reader) -> Any:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(Reader, "tree", broken)
    answer = client.get("/v1/tree")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"hunter2" not in answer.text


def test_supervision_that_does_not_answer_is_a_timeout(
    client: AsgiClient, tree: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ANSWER_S", 0.05)
    go_on = threading.Event()
    tree.driver.call(lambda: (go_on.wait(PATIENCE), None)[1])
    try:
        answer = client.post("/v1/agents/a/stop")
    finally:
        go_on.set()
    assert (answer.status, answer.code) == (504, "timeout")


@pytest.mark.parametrize(
    ("error", "has_ended", "code"),
    [
        (SpecError("x"), False, "bad_request"),
        (AlreadyStarted("x"), False, "bad_request"),
        (NotFound("x"), False, "not_found"),
        (NotFound("x"), True, "not_found"),
        (Running("x"), False, "running"),
        (Restarting("x"), False, "restarting"),
        (NotRunning("its supervisor is stopped"), False, "conflict"),
        (NotRunning("x"), True, "ended"),
        (TimeoutError("x"), False, "timeout"),
        (KeyError("x"), False, "internal"),
    ],
)
def test_each_error_has_one_code(error: Exception, has_ended: bool, code: str) -> None:
    assert problem_of(error, has_ended=has_ended).code == code


def test_other_protocols_are_turned_away(tree: Orchestrator) -> None:
    app, sent = control_app(tree), []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(told)

        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket"}, receive, send)

    asyncio.run(run())
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"
    ]  # fmt: skip


def test_a_request_without_its_address_is_no_crash(client: AsgiClient) -> None:
    assert Call.__slots__, "the call is a plain value"
    assert client.get("").code == "no_route"
    assert client.get("/v1/agents?").status == 200
