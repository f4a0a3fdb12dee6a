"""HTTP/1.1 over sockets that are already connected: uvicorn's protocol with limits. Runs in the control thread's loop.

uvicorn is imported here and nowhere else. Its own server is left out: it looks around ten times a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import traceback
from contextlib import suppress
from enum import Enum, auto
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final, assert_never

import h11
import uvicorn
from loguru import logger
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from orchestree.supervisor.permissions import Who

from .limits import Limits

ACCEPT_AGAIN_S: Final = 1.0
OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED})
_BUSY: Final = (
    b'{"type": "urn:orchestree:problem:busy", "title": "Service Unavailable", "status": 503, '
    b'"detail": "there are too many connections, try again later", "code": "busy"}'
)
TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
)
# What uvicorn has to say about bad requests is for nobody's log.
_SILENT: Final = logging.Logger("orchestree.control", level=logging.CRITICAL + 1)


class Phase(Enum):
    """What a connection is doing."""

    HEAD = auto()  # the head of a request is awaited
    BODY = auto()  # more of its body is awaited
    REST = auto()  # so it is, although the answer has been given
    ANSWER = auto()  # its answer is awaited
    TAKING = auto()  # what was sent is to be taken
    IDLE = auto()  # the next request is awaited


class Service:
    """Serves one application on any number of connections. All in one loop.

    Args:
        app: finds who asks in ``scope["state"]["who"]``, a `Who`.
        limits: for each connection.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        """Serve nobody yet."""
        self.limits = limits
        self.config = _config(app, limits)
        self.state = ServerState()
        self.nobody_left = asyncio.Event()
        self.nobody_left.set()

    async def accept(self, listener: socket.socket) -> None:
        """Take connections from `listener`, which must not block, until cancelled.

        Raises:
            OSError: the listener has come to its end.
        """
        while True:
            await _somebody_waits(listener)
            try:
                connection, _ = listener.accept()
            except BlockingIOError:  # gone again
                continue
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    raise
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            connection.setblocking(False)
            if (who := peer_of(connection)) is None:
                connection.close()
            elif len(self.state.connections) >= self.limits.connections:
                with suppress(OSError), connection:
                    connection.send(TOO_MANY)
            else:
                await self._serve(connection, who)
            await asyncio.sleep(0)  # others have their turn, however many wait

    async def _serve(self, connection: socket.socket, who: Who) -> None:
        with suppress(OSError):  # it is gone already
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self, who), connection)

    async def end(self) -> None:
        """Let running requests finish for a while, then drop all connections."""
        for connection in self.connections():
            with suppress(h11.LocalProtocolError):  # it is at its end already
                connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.grace_s):
                await self.nobody_left.wait()
        for connection in self.connections():
            connection.transport.abort()
        await self.nobody_left.wait()

    def connections(self) -> list[Connection]:
        """Return those that are open."""
        return [connection for connection in self.state.connections if isinstance(connection, Connection)]


class Connection(H11Protocol):
    """One connection, dropped if it keeps others waiting."""

    def __init__(self, service: Service, who: Who) -> None:
        """Prepare for the requests of `who`."""
        super().__init__(service.config, service.state, {"who": who})
        self.logger, self.access_log = _SILENT, False
        self._service, self._answer, self.app = service, self.app, self._answer_while_open
        self._phase = Phase.ANSWER
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._service.nobody_left.clear()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever handles a request, and the service."""
        super().connection_lost(exc)
        self._stop_timer()
        self._unset_keepalive_if_required()  # else uvicorn keeps what was reset until then
        if not self.connections:
            self._service.nobody_left.set()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and start to handle what is complete."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # nonsense after an answer has begun: there is no way to say so
            self.transport.abort()
        self._watch(has_news=True)

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Make the handler wait, since what was sent is not taken."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Let the handler send more."""
        super().resume_writing()
        self._watch()

    async def _answer_while_open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer; say so if it fails."""

        async def send_while_open(message: Message) -> None:
            if self.transport.is_closing():  # have that noticed, else a stream would send into the void
                await asyncio.sleep(0)
            await send(message)

        try:
            await self._answer(scope, receive, send_while_open)
        except ClientDisconnect:
            pass
        except Exception as error:  # without loguru's own view of it, which shows what users hold in variables
            text = "".join(traceback.format_exception(error))
            logger.error("control: {} {!r} has failed\n{}", scope["method"], scope["path"], text)
            raise

    def _watch(self, *, has_news: bool = False) -> None:
        """Note what the connection is doing now, and until when."""
        phase = self._phase_now()
        if phase is not self._phase or (has_news and phase is Phase.BODY):
            self._phase = phase
            self._start_timer()

    def _phase_now(self) -> Phase:
        if self.transport.is_closing() or self.flow.write_paused:
            return Phase.TAKING
        if self.conn.their_state is h11.IDLE:
            is_new = self.cycle is None or self.conn.trailing_data[0]
            return Phase.HEAD if is_new else Phase.IDLE
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.REST if self.cycle.response_complete else Phase.BODY
        return Phase.ANSWER

    def _start_timer(self) -> None:
        self._stop_timer()
        seconds = seconds_for(self._phase, self._service.limits)
        if seconds is not None:
            self._unsent = self._count_unsent()
            self._timer = self.loop.call_later(seconds, self._drop_unless_excused)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_unless_excused(self) -> None:
        is_taking = self._count_unsent() < self._unsent
        is_held_up = self._phase is Phase.BODY and self.flow.read_paused  # by the handler
        if is_taking or is_held_up:
            self._start_timer()
        else:
            self.transport.abort()

    def _count_unsent(self) -> int:
        """Return the bytes that the other end has not taken; those in the kernel by what they occupy there."""
        in_kernel = bytearray(4)
        with suppress(OSError):
            ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + int(struct.unpack("i", in_kernel)[0])


async def _somebody_waits(listener: socket.socket) -> None:
    """Return when there is a connection to take.

    `loop.sock_accept` would take it, and leave it open with nobody to close it if it is cancelled at that very moment.
    """
    loop = asyncio.get_running_loop()
    waits = asyncio.Event()
    loop.add_reader(listener, waits.set)
    try:
        await waits.wait()
    finally:
        loop.remove_reader(listener)


def seconds_for(phase: Phase, limits: Limits) -> float | None:
    """Return how long a phase may last; None for as long as it likes."""
    match phase:
        case Phase.HEAD:
            return limits.head_s
        case Phase.BODY | Phase.REST:
            return limits.body_s
        case Phase.TAKING:
            return limits.taking_s
        case Phase.IDLE:
            return limits.idle_s
        case Phase.ANSWER:
            return None
        case _:
            assert_never(phase)


def peer_of(connection: socket.socket) -> Who | None:
    """Return the process at the other end of a UNIX socket, None unless it is of this user or of root."""
    layout = struct.Struct("iII")
    try:
        pid, uid, _ = layout.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size))
    except OSError:
        return None
    return Who(uid=uid, pid=pid or None) if uid in (0, os.geteuid()) else None


def _config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    config = uvicorn.Config(
        lambda: app,
        factory=True,  # else it would be called, to see what it is
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        workers=1,
        proxy_headers=False,
        # No handlers are set up or taken away: the program may have a uvicorn of its own.
        log_config=None,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=86_400,  # `Connection` sees to that
    )
    config.load()
    return config
