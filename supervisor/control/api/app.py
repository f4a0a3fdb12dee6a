"""The control API as an ASGI application: for each request who asks, what for, whether they may, and then the answer.

Deny by default: nothing reaches a handler that is not in the table of `endpoints`, sent by somebody who is let in
and permitted its command. The application does not care where a request came from; `permissions` knows who may what.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from starlette.requests import Request
from starlette.responses import Response

from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.permissions import NOBODY, Authority, Who

from . import routing, views
from .bodies import read_body
from .commands import Commands
from .endpoints import Api, Call
from .large_answers import LargeAnswers
from .openapi import document
from .parameters import read_query
from .problems import PROBLEM_TYPE, Problem, problem_of
from .reading_threads import TREES, VALUES
from .reads import Reader
from .streams import Streams
from .usage import Usages

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from orchestree.supervisor.orchestrator import Orchestrator

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NOT_KEPT: Final = {"cache-control": "no-store"}


def control_app(orchestrator: Orchestrator) -> Application:
    """Return the application for one orchestrator that has been prepared to start.

    Whoever serves it says in ``scope["state"]["who"]`` (a `Who`) who asks; without that nobody is let in.
    """
    return _ControlApp(orchestrator)


class _ControlApp:
    def __init__(self, orchestrator: Orchestrator) -> None:
        services = orchestrator.services
        logs = AgentLogs() if services.logs is None else services.logs
        reader = Reader(orchestrator, logs, Usages())
        streams = Streams(orchestrator.events, services.history.query, logs, before=services.last_seq)
        authority = Authority(orchestrator.config.control_permissions)
        self._orchestrator = orchestrator
        commands, trees, values = Commands(orchestrator, reader), LargeAnswers(TREES), LargeAnswers(VALUES)
        self._api = Api(reader, commands, streams, authority, trees, values, document)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._handle(Request(scope, receive))
        except Exception as error:
            response = self._refusal(error)
        if scope["method"] == "HEAD":
            send = _without_body(send)
        try:
            await response(scope, receive, send)
        except Problem as problem:  # of a stream: the server closes a connection whose answer is not complete
            logger.warning("control: {} {!r} was broken off: {}", scope["method"], scope["path"], problem.detail)

    async def _handle(self, request: Request) -> Response:
        who = request.scope.get("state", {}).get("who", NOBODY)
        authority = self._api.authority
        if not isinstance(who, Who) or not authority.lets_in(who):
            raise Problem("not_permitted", "this API is for the user who runs the orchestrator")
        route = routing.find(request.method, _raw_path(request.scope))
        endpoint = route.endpoint
        if not authority.may(who, endpoint.command):
            raise Problem(
                "not_permitted", f"control_permissions of this orchestrator do not allow {endpoint.command!r}"
            )
        parameters = read_query(request.scope["query_string"], endpoint.parameters)
        body = None
        if endpoint.body is not None:
            body = await read_body(endpoint.body, request.headers, request.receive)
        response = await endpoint.handle(Call(self._api, who, route.path, parameters, body, request))
        response.headers.update(NOT_KEPT)
        return response

    def _refusal(self, error: Exception) -> Response:
        problem = problem_of(error, has_ended=not self._orchestrator.is_running)
        if problem.code == "internal":
            # Without loguru's own view of it, which shows what users hold in variables.
            text = "".join(traceback.format_exception(error))
            logger.error("the control API could not answer a request\n{}", text)
        headers = NOT_KEPT | dict(problem.headers)
        return Response(views.to_bytes(problem.details()), problem.status, headers, PROBLEM_TYPE)


def _raw_path(scope: Scope) -> bytes:
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is None:
        raise Problem("internal", "the server does not say which address was sent")
    return raw_path.partition(b"?")[0]


def _without_body(send: Send) -> Send:
    async def send_without_body(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_without_body


async def _live(receive: Receive, send: Send) -> None:
    """Say that the application needs nothing to begin and nothing to end."""
    for phase in ("startup", "shutdown"):
        message: dict[str, Any] = dict(await receive())
        assert message["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})
