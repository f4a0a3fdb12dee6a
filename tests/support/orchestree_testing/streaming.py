"""Streams over a real UNIX socket: a small application with nothing but `Streams`, and clients that read it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.control.api.streams import Streams
from orchestree.supervisor.control.command_line.sse_reading import Message as Sent, messages
from orchestree.supervisor.control.places import connect
from orchestree.supervisor.control.server import ControlServer
from orchestree.supervisor.event_readers import EventFilter

from .trees import PATIENCE


class Traffic:
    """What goes to each client, by the ``who`` of its query. Any thread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._changed = threading.Condition()
        self.bytes_for: dict[str, int] = {}
        self.ended = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = scope["query_string"].decode().rpartition("who=")[2]

        async def counted(message: Message) -> None:
            self.bytes_for[who] = self.bytes_for.get(who, 0) + len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            with self._changed:
                self.ended += 1
                self._changed.notify_all()

    def wait_until_ended(self, count: int) -> None:
        """Wait until `count` requests are over."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended >= count, PATIENCE)


def application(streams: Streams) -> Starlette:
    async def events(request: Request) -> Response:
        query = request.query_params
        wanted = EventFilter.of(query.getlist("type") or None, query.get("path"))
        try:
            return streams.events(request, wanted, int(query["since"]) if "since" in query else None)
        except SpecError as error:
            return PlainTextResponse(str(error), 400)

    async def lines(request: Request) -> Response:
        query = request.query_params
        return streams.lines(request, query.get("path", ""), int(query.get("lines", 100)))

    return Starlette(routes=[Route("/events", events), Route("/lines", lines)])


class Client:
    """One that reads, when it is asked to; blocking."""

    def __init__(self, socket: Path, target: str, *headers: str, method: str = "GET") -> None:
        """Ask, and return when the answer has begun: then it takes part."""
        self._socket = connect(str(socket))
        self._socket.settimeout(PATIENCE)
        # In HTTP/1.0 the body is what comes until the end.
        request = [f"{method} {target} HTTP/1.0", *headers, "", ""]
        self._socket.sendall("\r\n".join(request).encode("latin-1"))
        self.file = self._socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = dict(line.decode().lower().rstrip().split(": ", 1) for line in iter(self.file.readline, b"\r\n"))
        self._messages = messages(self.file)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def leave(self) -> None:
        self.file.close()
        self._socket.close()

    def __iter__(self) -> Iterator[Sent]:
        """Yield messages until the stream ends."""
        return self._messages

    def next(self) -> Sent:
        return next(self._messages)

    def numbers(self, count: int) -> list[int]:
        """Return the numbers of the next `count` events."""
        return [number_of(self.next()) for _ in range(count)]


def number_of(message: Sent) -> int:
    """Return the number of an event out of the id of its message."""
    return int(message.id.rpartition(":")[2])


class Served:
    """A running server.

    Attributes:
        socket: where it is.
        traffic: what it has sent.
    """

    def __init__(self, socket: Path, traffic: Traffic) -> None:
        self.socket = socket
        self.traffic = traffic

    def events(self, query: str = "", *headers: str, **how: Any) -> Client:
        return Client(self.socket, f"/events?{query}", *headers, **how)

    def lines(self, query: str = "") -> Client:
        return Client(self.socket, f"/lines?{query}")


@contextmanager
def served(folder: Path, streams: Streams) -> Iterator[Served]:
    """Serve `streams` at a socket in `folder`."""
    traffic = Traffic(application(streams))
    trouble = list[str]()
    server = ControlServer(lambda: traffic, name="streams", path=str(folder / "s.sock"), on_trouble=trouble.append)
    server.open()
    server.start()
    try:
        yield Served(server.socket, traffic)
    finally:
        server.close()
        assert server.join(PATIENCE)
    assert not trouble
