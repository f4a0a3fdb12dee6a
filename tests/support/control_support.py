"""A control server with an application of the test, and clients that speak to it byte by byte."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from orchestree.supervisor.control.limits import Limits
from orchestree.supervisor.control.places import connect
from orchestree.supervisor.control.server import ControlServer

PATIENCE_S: Final = 10.0
HELLO: Final = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


async def answer(send: Send, text: str, status: int = 200) -> None:
    body = text.encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def says_who(scope: Message, receive: Receive, send: Send) -> None:
    """Answer every request with uid and pid of whoever asks."""
    who = scope["state"]["who"]
    await answer(send, f"{who.uid} {who.pid}")


async def reads_body(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the length of the body, as soon as all of it has come; never if the client goes."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await answer(send, str(length))


@contextmanager
def serving(app: App = says_who, name: str = "x", **settings: Any) -> Iterator[ControlServer]:
    """Serve for the block; what the server complains about is in `server.troubles`."""
    limits = Limits(**{key: settings.pop(key) for key in list(settings) if key in Limits.__dataclass_fields__})
    troubles: list[str] = []
    server = ControlServer(lambda: app, name=name, limits=limits, on_trouble=troubles.append, **settings)
    server.open()
    server.start()
    try:
        yield server
    finally:
        server.close()
        assert server.join(PATIENCE_S)
    assert troubles == []


def dial(server: ControlServer) -> socket.socket:
    return connect(server.socket, PATIENCE_S)


def ask(client: socket.socket, request: bytes = HELLO) -> str:
    """Send a request; return the body of the answer, which must say how long it is."""
    client.sendall(request)
    return read_answer(client)


def read_answer(client: socket.socket) -> str:
    head, body = read_until(client, b"\r\n\r\n").split(b"\r\n\r\n", 1)
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0]):
        body += client.recv(65536)
    return body.decode()


def read_until(client: socket.socket, mark: bytes) -> bytes:
    got = b""
    while mark not in got:
        piece = client.recv(65536)
        assert piece, f"closed after {got!r}"
        got += piece
    return got


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    got = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece


def is_closed(client: socket.socket, timeout: float = PATIENCE_S) -> bool:
    """Return whether the other end closes, without taking anything from it."""
    poll = select.poll()
    poll.register(client, 0)  # a hang-up comes unasked
    return bool(poll.poll(timeout * 1000))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def control_thread() -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == "orchestree-control")


def wake_ups() -> int:
    """Return how often the thread of the server has slept and been woken so far."""
    status = Path(f"/proc/self/task/{control_thread().native_id}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
