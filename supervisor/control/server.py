"""The control server: one thread with a loop of its own that serves an application on a UNIX socket.

Cheap to import: what speaks HTTP is loaded in that thread. Nothing that goes wrong there reaches the tree.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .limits import Limits
from .sockets import ControlSocket, open_socket

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from .serving import Service


class ControlServer:
    """Serves an application to processes of the same user and of root.

    `open`, `start`, `close` and `join` in this order, from any thread, each once; `close` also at any other time.

    Args:
        make_app: called in the thread of the server; the application finds a `Who` in ``scope["state"]["who"]``.
        name: wanted for the socket.
        path: of the socket, see `open_socket`.
        on_trouble: told in one line, in the thread of the server, why it cannot be reached any more.
        on_notice: told in one line, in that thread, that it can be reached again, and where.
        limits: for connections.

    Attributes:
        name: under which it is reached, after `open`; it changes if somebody removes the socket and another
            orchestrator takes the name.
        socket: path of the socket, after `open`.
        notice: what a user should know after `open`: why the name is not the one that was wanted; None if it is.
    """

    name: str
    socket: Path
    notice: str | None

    def __init__(
        self,
        make_app: Callable[[], ASGIApp],
        *,
        name: str,
        path: str | None = None,
        on_trouble: Callable[[str], None],
        on_notice: Callable[[str], None] = lambda text: None,
        limits: Limits | None = None,
    ) -> None:
        """Take nothing yet."""
        self._make_app, self._limits = make_app, limits or Limits()
        self._on_trouble, self._on_notice = on_trouble, on_notice
        self._wanted_name, self._wanted_path = name, path
        self._place: ControlSocket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # for the three below
        self._is_closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def open(self) -> None:
        """Take the name and listen; who connects waits until the server has been started.

        Raises:
            OSError: that is not possible; the message says what to do.
        """
        self.notice = self._take_place()

    def start(self) -> None:
        """Begin to serve."""
        with self._lock:
            if self._place is not None and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="orchestree-control", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Begin to end: nobody new is let in, running requests have a second, then all is dropped. Does not wait."""
        with self._lock:
            self._is_closing = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            elif self._thread is None:
                self._leave_place()

    def join(self, timeout: float | None = None) -> bool:
        """Return whether it has ended, at the latest after `timeout` seconds (None: whenever that is)."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        try:
            from .serving import Service  # takes a while; who has connected waits

            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                with self._lock:
                    if self._is_closing:
                        return
                    self._loop = runner.get_loop()
                try:
                    runner.run(self._serve(Service))
                finally:
                    with self._lock:
                        self._loop = None
        except BaseException as error:
            self._tell(self._on_trouble, f"the control server has ended: {_one_line(error)}")
        finally:
            self._leave_place()

    async def _serve(self, service_class: type[Service]) -> None:
        service = service_class(self._make_app(), self._limits)
        stopping = asyncio.create_task(self._stop.wait())
        while not stopping.done():
            if self._place is not None:
                await self._serve_at(self._place, service, stopping)
            else:
                await asyncio.wait({stopping}, timeout=self._limits.check_s)
            if not stopping.done():
                self._move()
        self._leave_place()
        await service.end()

    async def _serve_at(self, place: ControlSocket, service: Service, stopping: asyncio.Task[bool]) -> None:
        """Accept connections until the server is closed or somebody has removed the socket."""
        accepting = asyncio.create_task(service.accept(place.listener))
        try:
            while not stopping.done() and place.is_intact():
                await asyncio.wait({stopping, accepting}, timeout=self._limits.check_s, return_when="FIRST_COMPLETED")
                if accepting.done():
                    accepting.result()
        finally:
            accepting.cancel()
            await asyncio.wait({accepting})

    def _move(self) -> None:
        """Listen anew, since the socket has been removed. Connections stay; if it fails, it is tried again."""
        was_known = self._place is not None
        self._leave_place()
        try:
            self._take_place()
        except OSError as error:
            if was_known:
                self._tell(self._on_trouble, f"the control socket was removed: {_one_line(error)}")
        else:
            self._tell(self._on_notice, f"the control socket was removed, it is {self.socket} now")

    def _take_place(self) -> str | None:
        """Listen; return what is to be said about it."""
        self._place = open_socket(self._wanted_name, self._wanted_path)
        self.name, self.socket = self._place.name, self._place.path
        if self.name == self._wanted_name:
            return None
        return f"another orchestrator is called {self._wanted_name!r}: this one is reached as {self.name!r}"

    def _leave_place(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None

    def _tell(self, whom: Callable[[str], None], what: str) -> None:
        with suppress(Exception):
            whom(what)


def _one_line(error: BaseException) -> str:
    last = traceback.format_exception_only(error)[-1]
    return " ".join(str(error).split()) if isinstance(error, OSError) and str(error) else " ".join(last.split())
