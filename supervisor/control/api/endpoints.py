"""The one table of everything that the API answers to. Routing, permissions, checks and documents are made of it.

A request that is not in the table reaches no handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from orchestree.supervisor.agent_logs import LogLine
from orchestree.supervisor.event_readers import EventFilter
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.permissions import Authority, Who

from . import views
from .bodies import Body, NoFields, PolicyBody, ShutdownBody
from .commands import Commands
from .event_pages import events_as_json
from .large_answers import JSON, Content, LargeAnswers
from .parameters import Parameter, event_types, flag, number, text, whole
from .reading_threads import TREES
from .reads import Reader
from .streams import Streams

MOST_SECONDS: Final = 3600
LAST_NUMBER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Api:
    """What handlers work with; the same for all requests.

    Attributes:
        trees: makes answers about the tree.
        values: makes answers with values of users in them, which may hang; so that those hold up no others.
        document: returns the OpenAPI document, which is made of this table.
    """

    reader: Reader
    commands: Commands
    streams: Streams
    authority: Authority
    trees: LargeAnswers
    values: LargeAnswers
    document: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked.

    Attributes:
        path: of the agent or supervisor in the address; empty also if there is none in it.
        parameters: values of all declared ones, by name.
        body: None where the endpoint takes none.
    """

    api: Api
    who: Who
    path: str
    parameters: Mapping[str, Any]
    body: Any
    request: Request

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table.

    Attributes:
        method: of HTTP; HEAD is as GET.
        route: below ``/v1``; ``{path}`` is the path of an agent or supervisor.
        command: what one must be permitted; None: only to be let in.
        handle: answers.
        answers: type of the answer's JSON, by status; None: only `streams`.
        texts: media types of an answer that is no JSON; the asker's ``Accept`` chooses.
        streams: whether the answer is, or with ``follow=1`` may be, a stream of server-sent events.
        refusals: codes of problems beyond those that every endpoint has.
    """

    method: str
    route: str
    command: str | None
    about: str
    handle: Handler
    answers: Mapping[int, Any]
    texts: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: type[Body] | None = None
    streams: bool = False
    refusals: tuple[str, ...] = ()

    @property
    def has_path(self) -> bool:
        """Whether its address holds the path of an agent or supervisor."""
        return "{path}" in self.route


def _glance(look: Callable[[Call], object]) -> Handler:
    """Return a handler that needs no thread: what it tells is at hand."""

    async def handle(call: Call) -> Response:
        return _answer(look(call))

    return handle


def _read_tree(look: Callable[[Call], object]) -> Handler:
    """Return a handler that looks and writes its answer in a thread: with a large tree that takes a while."""

    async def handle(call: Call) -> Response:
        return await call.api.trees.answer(lambda: Content(views.to_bytes(look(call))))

    return handle


def _read_values(make: Callable[[Call], bytes]) -> Handler:
    """Return a handler that looks at values of users, and writes its answer, in a thread."""

    async def handle(call: Call) -> Response:
        return await call.api.values.answer(lambda: Content(make(call)))

    return handle


async def _metrics(call: Call) -> Response:
    # Collectors of a user may hang as the values of one do.
    accept = ", ".join(call.request.headers.getlist("accept"))
    return await call.api.values.answer(lambda: call.api.reader.metrics(accept))


def _answer(value: object, *, done: bool = True) -> Response:
    return Response(views.to_bytes(value), 200 if done else 202, media_type=JSON)


def _operate(command: str) -> Handler:
    async def handle(call: Call) -> Response:
        wait = call.parameters["wait"]
        operation = await call.api.commands.operate(call.who, command, call.path, wait, call.gone)
        return _answer(operation, done=operation.done or not operation.changed)

    return handle


async def _set(call: Call) -> Response:
    body: PolicyBody = call.body
    given = body.model_dump(exclude_unset=True)
    return _answer(await call.api.commands.set_policy(call.who, call.path, body.changes(), given))


async def _shutdown(call: Call) -> Response:
    body: ShutdownBody = call.body
    stopped = await call.api.commands.shutdown(call.who, body.timeout, call.parameters["wait"], call.gone)
    return _answer(stopped, done=stopped.done)


def _query(call: Call) -> EventQuery:
    given = call.parameters
    return EventQuery(
        path=given["path"].strip("/"),
        types=given["type"],
        since=given["since"],
        after=given["after"],
        before=given["before"],
        run=given["run"],
        limit=given["limit"],
        until=given["until"],
    )


def _agents(call: Call) -> list[views.Agent]:
    given = call.parameters
    return call.api.reader.agents(given["path"].strip("/"), supervisors=given["supervisors"])


async def _stream(call: Call) -> Response:
    given = call.parameters
    wanted = EventFilter.of(given["type"], given["path"].strip("/"))
    return call.api.streams.events(call.request, wanted, given["since"])


_figures: Final = _glance(lambda call: call.api.reader.stats())
_figures_below: Final = _read_tree(lambda call: call.api.reader.agents(call.parameters["path"].strip("/")))


async def _stats(call: Call) -> Response:
    return await (_figures if call.parameters["path"] is None else _figures_below)(call)


_lines: Final = _read_tree(lambda call: call.api.reader.logs(call.path, call.parameters["lines"]))


async def _logs(call: Call) -> Response:
    if not call.parameters["follow"]:
        return await _lines(call)
    await TREES.call(lambda: call.api.reader.orchestrator.status(call.path))
    return call.api.streams.lines(call.request, call.path, call.parameters["lines"])


async def _openapi(call: Call) -> Response:
    return await call.api.trees.answer(lambda: Content(call.api.document()))


_WAIT: Final = number(
    "wait", "Seconds to wait for the end of it; left out or 0: answer as soon as it is accepted.", most=MOST_SECONDS
)
_SINCE: Final = whole("since", "Only events with a number above it; then the first ones.", least=0, most=LAST_NUMBER)
_TYPE: Final = event_types("type", "Only these types of events; repeated, or with commas in between.")
_PATH: Final = text("path", "Only this agent or supervisor and all below it; empty: the whole tree.", default="")
_EVENTS: Final = (
    _SINCE,
    _PATH,
    _TYPE,
    whole(
        "limit",
        "At most so many: the newest, or with since the first; fewer if they had over a MiB.",
        least=1,
        most=10_000,
        default=100,
    ),
    text("run", "Only events of the run of the orchestrator with this id.", longest=100),
    number("after", "Only events of this time (seconds since 1970) or later.", most=1e11),
    number("before", "Only events before this time (seconds since 1970).", most=1e11),
    whole("until", "Only events with a number up to it.", least=0, most=LAST_NUMBER),
)
_SUPERVISORS: Final = flag("supervisors", "Whether supervisors are listed, too.")
_BELOW: Final = text("path", "Those of each agent there and below, as an array.")
_LOGS: Final = (
    whole("lines", "So many of the last lines.", least=0, most=10_000, default=100),
    flag("follow", "Whether to go on with new lines as they come, as a stream of server-sent events."),
)
_UNKNOWN: Final = ("not_found",)
_SLOW: Final = ("busy", "timeout")
_COMMAND: Final = ("conflict", "ended", "timeout")


def _operation(command: str, about: str) -> Endpoint:
    return Endpoint(
        method="POST",
        route=f"/agents/{{path}}/{command}",
        command=command,
        about=about,
        handle=_operate(command),
        answers={200: views.Operation, 202: views.Operation},
        parameters=(_WAIT,),
        body=NoFields,
        refusals=(*_UNKNOWN, *_COMMAND),
    )


# fmt: off
ENDPOINTS: Final = (
    Endpoint(
        method="GET", route="/health", command=None, about="How the orchestrator is, and what I may do.",
        handle=_glance(lambda call: call.api.reader.health(call.who, call.api.authority)), answers={200: views.Health},
    ),
    Endpoint(
        method="GET", route="/agents", command="ps", about="All agents, in start order, depth first.",
        handle=_read_tree(_agents), answers={200: list[views.Agent]}, parameters=(_PATH, _SUPERVISORS),
        refusals=(*_UNKNOWN, *_SLOW),
    ),
    Endpoint(
        method="GET", route="/agents/{path}", command="inspect", about="All that is known of an agent or supervisor.",
        handle=_read_values(lambda call: views.to_bytes(call.api.reader.details(call.path))),
        answers={200: views.Details}, refusals=(*_UNKNOWN, *_SLOW),
    ),
    Endpoint(
        method="PATCH", route="/agents/{path}", command="set",
        about="Change the policy of an agent or supervisor, which goes on as it is.",
        handle=_set, answers={200: views.Changes}, body=PolicyBody, refusals=(*_UNKNOWN, *_COMMAND),
    ),
    _operation("start", "Start an agent, or all below a supervisor, that does not run."),
    _operation("stop", "Stop an agent, or all below a supervisor, and keep it down."),
    _operation("restart", "Stop it and start it at once, out of any state."),
    Endpoint(
        method="GET", route="/agents/{path}/logs", command="logs",
        about="The last lines of an agent, or of all below a supervisor.",
        handle=_logs, answers={200: list[LogLine]}, parameters=_LOGS, streams=True,
        refusals=(*_UNKNOWN, *_SLOW),
    ),
    Endpoint(
        method="GET", route="/tree", command="tree", about="The whole tree.",
        handle=_read_tree(lambda call: call.api.reader.tree()), answers={200: views.TreeNode}, refusals=_SLOW,
    ),
    Endpoint(
        method="GET", route="/graph", command="graph", about="Who depends on whom.",
        handle=_read_tree(lambda call: call.api.reader.graph()), answers={200: views.Graph}, refusals=_SLOW,
    ),
    Endpoint(
        method="GET", route="/stats", command="stats", about="Figures of the whole tree and of its process.",
        handle=_stats, answers={200: views.Stats | list[views.Agent]}, parameters=(_BELOW,),
        refusals=(*_UNKNOWN, *_SLOW),
    ),
    Endpoint(
        method="GET", route="/metrics", command="stats", about="What Prometheus scrapes, if metrics are on.",
        handle=_metrics, answers={200: str}, texts=("text/plain", "application/openmetrics-text"),
        refusals=("no_route", *_SLOW),
    ),
    Endpoint(
        method="GET", route="/events", command="events", about="What happened, oldest first, also in earlier runs.",
        handle=_read_values(lambda call: events_as_json(call.api.reader.history, _query(call))),
        answers={200: list[views.EventRecord]}, parameters=_EVENTS, refusals=_SLOW,
    ),
    Endpoint(
        method="GET", route="/events/stream", command="events",
        about="What happens, as it happens; Last-Event-ID (`<run>:<number>`) goes on after it, also over runs.",
        handle=_stream, answers={200: None}, parameters=(_SINCE, _PATH, _TYPE), streams=True,
    ),
    Endpoint(
        method="POST", route="/shutdown", command="shutdown", about="Stop the whole tree.",
        handle=_shutdown, answers={200: views.Shutdown, 202: views.Shutdown}, parameters=(_WAIT,), body=ShutdownBody,
        refusals=_COMMAND,
    ),
    Endpoint(
        method="GET", route="/openapi.json", command=None, about="This, for programs.",
        handle=_openapi, answers={200: dict[str, Any]}, refusals=_SLOW,
    ),
)
# fmt: on

SUFFIXES: Final = frozenset(row.route.rpartition("/")[2] for row in ENDPOINTS if "{path}/" in row.route)
"""Last segments of an address that are no part of the path before them."""

BY_ROUTE: Final[Mapping[str, Mapping[str, Endpoint]]] = MappingProxyType(
    {route: {row.method: row for row in ENDPOINTS if row.route == route} for route in {row.route for row in ENDPOINTS}}
)
"""The rows by route and method."""
