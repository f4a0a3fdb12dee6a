"""Mutated requests for the application itself, without a server in between."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from orchestree.supervisor import Orchestrator
from orchestree.supervisor.control.api.app import control_app
from orchestree.supervisor.permissions import Who

from .inputs import Dealer, Input

if TYPE_CHECKING:
    from orchestree.supervisor.control.api.app import Application

AT_ONCE: Final = 20
MOST_PROBLEMS: Final = 20


class Exchange:
    """One request to an ASGI application and its answer."""

    def __init__(self, given: Input, who: Who | None) -> None:
        self.given, self.who = given, who
        self.messages: list[dict[str, Any]] = []
        self._has_sent = False

    @property
    def scope(self) -> dict[str, Any]:
        raw_path, _, query = self.given.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.given.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self.given.headers],
            "client": None,
            "server": None,
            "state": {} if self.who is None else {"who": self.who},
        }

    async def receive(self) -> dict[str, Any]:
        """Give the body, then say that the client has gone, which ends a stream."""
        if self._has_sent:
            return {"type": "http.disconnect"}
        self._has_sent = True
        return {"type": "http.request", "body": self.given.body, "more_body": False}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    def problem(self) -> str | None:
        """Return what is wrong with the answer."""
        kinds = [message["type"] for message in self.messages]
        if kinds[:1] != ["http.response.start"] or kinds.count("http.response.start") != 1:
            return f"no answer, but {kinds}"
        status, headers = self.messages[0]["status"], dict(self.messages[0]["headers"])
        expected = self.given.expected if self.who is not None else frozenset({403})
        if status not in expected:
            return f"status {status}"
        body = b"".join(message.get("body", b"") for message in self.messages[1:])
        if status >= 400 and self.given.method != b"HEAD":
            if headers[b"content-type"] != b"application/problem+json":
                return f"status {status} without a problem"
            if json.loads(body)["status"] != status:
                return f"a problem of another status: {body!r}"
        return None


async def attack(tree: Orchestrator, count: int, seed: str) -> tuple[Counter[str], list[str]]:
    """Put `count` mutated requests to the application; return answers by kind and status, and the problems."""
    app, deal = control_app(tree), Dealer(seed)
    answers: Counter[str] = Counter()
    problems: list[str] = []
    left = count

    async def client() -> None:
        nonlocal left
        while left > 0 and len(problems) < MOST_PROBLEMS:
            left -= 1
            who = Who(uid=os.geteuid(), pid=os.getpid()) if deal.draw.random() < 0.95 else None
            given = deal.mutated()
            exchange = Exchange(given, who)
            problem = await _put(app, exchange) or exchange.problem()
            status = exchange.messages[0].get("status") if exchange.messages else None
            answers[f"{given.kind if who else 'nobody'}||{status}"] += 1
            if problem is not None:
                problems.append(f"{problem}: {given!r}"[:1000])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client())
    return answers, problems


async def _put(app: Application, exchange: Exchange) -> str | None:
    try:
        await app(exchange.scope, exchange.receive, exchange.send)
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return None
