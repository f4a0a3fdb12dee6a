"""The OpenAPI document is true: schemathesis makes requests of it, and the answers are as it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from orchestree_testing.asgi_client import ME, AsgiClient
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, wait_for
from schemathesis.config import SchemathesisConfig
from tenacity import wait_fixed

from orchestree.strategies import Backoff
from orchestree.supervisor import EventType, Orchestrator
from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.control.api.app import control_app
from orchestree.supervisor.control.api.endpoints import ENDPOINTS
from orchestree.supervisor.control.api.openapi import document
from orchestree.supervisor.control.reference import api_reference

EXAMPLES: Final = 25
"""Per operation and way to make them: valid and not."""

ONLY_AT_THE_END: Final = frozenset({"/shutdown", "/events/stream"})
"""One ends what the others ask, the other ends only then."""

PATHS: Final = ("a", "in", "in/b", "broken", "logs", "/")
HERE: Final = ["2xx", "404", "409"]
CONFIG: Final[dict[str, Any]] = {
    "seed": 5,
    "generation": {"mode": "all"},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": HERE},
        "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "413", "415"]},
    },
    "operations": [
        # What is valid for an agent may not be for a supervisor, and the other way round.
        {
            "include-operation-id": "set",
            "checks": {"positive_data_acceptance": {"expected-statuses": [*HERE, "400"]}},
        },
        {
            "include-operation-id": "shutdown",
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["503"]},
                "not_a_server_error": {"expected-statuses": ["4xx", "503"]},
            },
        },
    ],
}


class Served:
    """The application of the tree of the test that runs, as its server would call it; counts what it answers."""

    def __init__(self) -> None:
        self.app: Any = None
        self.answers: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answers[f"{scope['method']} {message['status']}"] += 1
            await send(message)

        await self.app({**scope, "state": {"who": ME}}, receive, counted)


SERVED: Final = Served()


def a_tree_to_ask() -> Orchestrator:
    tree = a_tree(metrics_port=0)
    tree.services.logs = AgentLogs()
    for name in ("a", "logs"):
        add(tree, name)
    add(tree, "broken", crash, backoff=Backoff(wait=wait_fixed(3600), jitter=0.0))
    add(tree.add_supervisor("in", depends_on=["a"]), "b")
    return tree


def the_schema(*routes: str) -> Any:
    whole = json.loads(document())
    whole["paths"] = {route: whole["paths"][route] for route in routes}
    schema = schemathesis.openapi.from_dict(whole, config=SchemathesisConfig.from_dict(CONFIG))
    schema.app = SERVED

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        """Ask for what is there two times in three."""
        path = (path_parameters or {}).get("path")
        if isinstance(path, str) and len(path) % 3:
            path_parameters["path"] = PATHS[sum(map(ord, path)) % len(PATHS)]
        return path_parameters

    @schema.hook
    def map_query(context: Any, query: Any) -> Any:
        """Follow no log, which has no end, and wait for nothing."""
        for name, given, harmless in (("follow", ("1", "true"), "0"), ("wait", (), 0)):
            if query and name in query and (query[name] in given or isinstance(query[name], float | int)):
                query[name] = harmless
        return query

    return schema


@pytest.fixture(scope="module")
def running() -> Iterator[None]:
    SERVED.answers.clear()
    with a_tree_to_ask() as tree:
        wait_for(tree, EventType.AGENT_RESTARTING, "broken")
        SERVED.app = control_app(tree)
        yield
        print(f"\nschemathesis: {sum(SERVED.answers.values())} requests: {dict(sorted(SERVED.answers.items()))}")
        assert tree.is_running
        assert not any(answer.endswith(" 500") for answer in SERVED.answers)


@pytest.fixture(scope="module")
def ended() -> None:
    tree = a_tree_to_ask()
    tree.start()
    tree.stop(PATIENCE)
    SERVED.app = control_app(tree)


FEW: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.slow
@the_schema(*sorted({row.route for row in ENDPOINTS} - ONLY_AT_THE_END)).parametrize()  # type: ignore[untyped-decorator]
@FEW
def test_what_the_document_promises_is_so(case: Any, running: None) -> None:
    case.call_and_validate()


@pytest.mark.slow
@the_schema(*sorted(ONLY_AT_THE_END)).parametrize()  # type: ignore[untyped-decorator]
@FEW
def test_what_the_document_promises_is_so_of_a_tree_that_has_ended(case: Any, ended: None) -> None:
    case.call_and_validate()


def test_the_document_has_all_that_is_answered() -> None:
    with a_tree_to_ask() as tree, AsgiClient(tree) as client:
        found = client.get("/v1/openapi.json").json
    assert found == json.loads(document())
    assert found["openapi"].startswith("3.1")
    rows = {(method.upper(), route) for route, methods in found["paths"].items() for method in methods}
    assert rows == {(row.method, row.route) for row in ENDPOINTS}
    names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_the_readme_table_has_a_line_for_each_endpoint() -> None:
    table = api_reference()
    assert table.count("\n") == len(ENDPOINTS) + 2
    assert "| `POST /v1/agents/{path}/stop` | `stop` |" in table
    assert all(line.count("|") == 5 for line in table.splitlines())
