"""Serves the page of metrics to scrapers over TCP: a thread that accepts, and one for each connection, up to a limit.

Nothing here touches the tree, waits for it, or is waited for by it. Who asks too slowly or takes too slowly is dropped.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from .listening import listen
from .page import Page
from .scraping import BUSY, Scrape, ScrapeLimits

ACCEPT_AGAIN_S: Final = 1.0
"""Seconds until the next try when there is no descriptor, or no memory, for a connection."""

GRACE_S: Final = 1.0
"""Seconds that answers on their way get at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server grants.

    Attributes:
        connections: at once; whoever comes then is refused.
        of_each: what each of them gets.
    """

    connections: int = 32
    of_each: ScrapeLimits = field(default_factory=ScrapeLimits)


class MetricsServer:
    """Answers ``GET /metrics`` at one port.

    `open`, `start`, `close` and `join` in this order, from any thread, each once; `close` also at any other time.

    Args:
        page: makes a page for the value of the header ``Accept``; called in threads of the server, several at once.
        host: address or name to listen at.
        port: 0 for any free one.
        token: that must be shown (``Authorization: Bearer <token>``); None: nothing must be.
        on_trouble: told in one line that `page` has raised, once until it works again. Any thread; must not raise.
        limits: for tests.

    Attributes:
        port: after `open` the one that is listened at.
    """

    def __init__(
        self,
        page: Callable[[str], Page],
        *,
        host: str,
        port: int,
        token: str | None = None,
        on_trouble: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        """Take nothing yet."""
        self.port = port
        self._host, self._limits = host, limits or Limits()
        self._scrape = Scrape(page, token, on_trouble, self._limits.of_each)
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()  # for the connections, and for who is first: `close`, or the next of them
        self._connections: dict[socket.socket, threading.Thread] = {}

    def open(self) -> None:
        """Listen; who connects waits until the server has been started.

        Raises:
            OSError: that is not possible; the message says why and what to do.
        """
        self._listener = listen(self._host, self.port)
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        """Begin to serve."""
        with self._lock:
            if self._listener is not None and not self._closing.is_set():
                self._accepting = threading.Thread(
                    target=self._accept, args=(self._listener,), name="orchestree-metrics", daemon=True
                )
                self._accepting.start()

    def close(self) -> None:
        """Begin to end: nobody new is let in, who waits is sent away, answers on their way go on. Does not wait."""
        with self._lock:
            self._closing.set()
            if self._listener is not None:
                with suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
                if self._accepting is None:
                    self._listener.close()
            for connection in self._connections:
                _shut(connection, socket.SHUT_RD)

    def join(self, timeout: float) -> bool:
        """Wait after `close` for the end; return whether it came within `timeout` seconds. Answers have `GRACE_S`."""
        now = time.monotonic()
        done = self._join(now + min(GRACE_S, timeout))
        if not done:
            with self._lock:
                for connection in self._connections:
                    _shut(connection, socket.SHUT_RDWR)
            done = self._join(now + timeout)
        return done

    def _join(self, deadline: float) -> bool:
        with self._lock:
            threads = [thread for thread in (self._accepting, *self._connections.values()) if thread is not None]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._closing.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:  # there is no descriptor for it, it has gone already, or the server is closing
                    self._closing.wait(ACCEPT_AGAIN_S)
                else:
                    self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        with self._lock:
            if self._closing.is_set():
                connection.close()
            elif len(self._connections) >= self._limits.connections or not self._serve(connection):
                with connection, suppress(OSError):
                    connection.setblocking(False)
                    connection.send(BUSY)
                    connection.shutdown(socket.SHUT_WR)

    def _serve(self, connection: socket.socket) -> bool:
        """Give `connection` a thread; return whether there is one for it."""
        thread = threading.Thread(
            target=self._answer, args=(connection,), name="orchestree-metrics-connection", daemon=True
        )
        self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:
            del self._connections[connection]
            return False
        return True

    def _answer(self, connection: socket.socket) -> None:
        try:
            self._scrape.serve(connection)
        finally:
            with self._lock:
                del self._connections[connection]
                connection.close()


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # the other end has gone
        connection.shutdown(how)
