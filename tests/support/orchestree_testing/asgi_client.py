"""Asks an ASGI application in this process, over an event loop in a thread of its own, as its server would."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from orchestree.supervisor import Orchestrator
from orchestree.supervisor.control.api.app import control_app
from orchestree.supervisor.permissions import Who

from .trees import PATIENCE

ME = Who(uid=os.getuid(), pid=os.getpid())


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["type"] == f"urn:orchestree:problem:{problem['code']}"
        assert problem["status"] == self.status
        return str(problem["code"])


@dataclass
class Asked:
    """A request on its way; `leave` closes its connection."""

    answer: Future[Answer]
    leave: asyncio.Event = field(default_factory=asyncio.Event)


class AsgiClient:
    """Asks the control API of one orchestrator. A context manager."""

    def __init__(self, tree: Orchestrator, who: Who | None = ME) -> None:
        self.who = who
        self._app = control_app(tree)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asgi-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def get(self, target: str) -> Answer:
        return self.ask("GET", target)

    def post(self, target: str, body: object = None) -> Answer:
        return self.ask("POST", target, body)

    def patch(self, target: str, body: object) -> Answer:
        return self.ask("PATCH", target, body)

    def ask(self, method: str, target: str, body: object = None, **how: Any) -> Answer:
        return self.send(method, target, body, **how).answer.result(PATIENCE)

    def send(self, method: str, target: str, body: object = None, **how: Any) -> Asked:
        """Send a request as a client does: JSON with POST and PATCH."""
        text = b"" if method in {"GET", "HEAD"} else json.dumps({} if body is None else body).encode()
        headers = {"content-type": "application/json", "content-length": f"{len(text)}"} if text else {}
        return self.send_raw(method, target.encode(), [text], headers, **how)

    def send_raw(
        self, method: str, target: bytes, parts: Iterable[bytes], headers: Mapping[str, str], who: Who | None = None
    ) -> Asked:
        """Send these bytes as the body, in these parts; the body ends when they do."""
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            "state": {"who": who or self.who} if who or self.who else {},
        }
        asked = Asked(Future())
        asked.answer = asyncio.run_coroutine_threadsafe(self._run(scope, list(parts), asked.leave), self._loop)
        return asked

    def leave(self, asked: Asked) -> None:
        """Close the connection of a request whose answer has not come."""
        self._loop.call_soon_threadsafe(asked.leave.set)

    async def _run(self, scope: dict[str, Any], parts: list[bytes], leave: asyncio.Event) -> Answer:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *rest = sent
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in rest))
