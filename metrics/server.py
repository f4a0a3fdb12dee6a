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
from functools import partial
from typing import Final

from .listening import listen, try_to_listen
from .page import Page
from .scraping import BUSY, Scrape, ScrapeLimits

ACCEPT_AGAIN_S: Final = 1.0
"""Seconds until the next try when there is no descriptor, or no memory, for a connection."""

LISTEN_AGAIN_S: Final = 5.0
"""Seconds until the next try when the port cannot be had."""

GRACE_S: Final = 1.0
"""Seconds that answers on their way get at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server grants.

    Attributes:
        connections: at once; whoever comes then takes the place of the one that has waited longest for a request,
            and is refused only if all are being answered.
        of_each: what each of them gets.
    """

    connections: int = 32
    of_each: ScrapeLimits = field(default_factory=ScrapeLimits)


@dataclass(slots=True)
class _Visit:
    """A connection that is being served.

    Attributes:
        waits_since: for its next request, in monotonic seconds; None while one is being answered.
        is_over: whether it was sent away.
    """

    thread: threading.Thread
    waits_since: float | None
    is_over: bool = False


class MetricsServer:
    """Answers ``GET /metrics`` at one port.

    `open`, `start`, `close` and `join` in this order, from any thread, each once; `close` also at any other time.

    Args:
        page: makes a page for the value of the header ``Accept``; called in threads of the server, several at once.
        host: address or name to listen at.
        port: 0 for any free one.
        token: that must be shown (``Authorization: Bearer <token>``); None: nothing must be.
        on_trouble: told in one line that `page` has raised, once until it works again. Any thread; must not raise.
        on_listening: called when a port that could not be had by `open` is listened at after all. Any thread; must
            not raise.
        limits: for tests.

    Attributes:
        port: the one that is listened at; None as long as there is none.
    """

    def __init__(
        self,
        page: Callable[[str], Page],
        *,
        host: str,
        port: int,
        token: str | None = None,
        on_trouble: Callable[[str], None],
        on_listening: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
    ) -> None:
        """Take nothing yet."""
        self.port: int | None = None
        self._host, self._wanted_port, self._limits = host, port, limits or Limits()
        self._on_listening = on_listening
        self._scrape = Scrape(page, token, on_trouble, self._limits.of_each)
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()  # for the connections, and for who is first: `close`, or the next of them
        self._visits: dict[socket.socket, _Visit] = {}

    def open(self) -> None:
        """Listen; who connects waits until the server has been started.

        Raises:
            OSError: that is not possible; the message says why and what to do. Once started, the server tries it
                again and again.
        """
        self._take(listen(self._host, self._wanted_port))

    def start(self) -> None:
        """Begin to serve."""
        with self._lock:
            if not self._closing.is_set():
                self._accepting = threading.Thread(target=self._run, name="orchestree-metrics", daemon=True)
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
            for connection in self._visits:
                _shut(connection, socket.SHUT_RD)

    def join(self, timeout: float) -> bool:
        """Wait after `close` for the end; return whether it came within `timeout` seconds. Answers have `GRACE_S`."""
        now = time.monotonic()
        done = self._join(now + min(GRACE_S, timeout))
        if not done:
            with self._lock:
                for connection in self._visits:
                    _shut(connection, socket.SHUT_RDWR)
            done = self._join(now + timeout)
        return done

    def _join(self, deadline: float) -> bool:
        with self._lock:
            threads = [visit.thread for visit in self._visits.values()]
            threads += [self._accepting] if self._accepting is not None else []
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _take(self, listener: socket.socket) -> None:
        self._listener, self.port = listener, listener.getsockname()[1]

    def _run(self) -> None:
        if self._listener is None:
            self._listen_at_last()
        if self._listener is not None:
            self._accept(self._listener)

    def _listen_at_last(self) -> None:
        """Try until it is possible, or the server ends."""
        while not self._closing.wait(LISTEN_AGAIN_S):
            try:
                listener = try_to_listen(self._host, self._wanted_port)
            except (OSError, UnicodeError):
                continue
            with self._lock:
                if self._closing.is_set():
                    listener.close()
                    return
                self._take(listener)
            self._on_listening()
            return

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
            elif not self._has_room() or not self._serve(connection):
                with connection, suppress(OSError):
                    connection.setblocking(False)
                    connection.send(BUSY)
                    connection.shutdown(socket.SHUT_WR)

    def _has_room(self) -> bool:
        """Return whether there is room for one more; if need be, who has waited longest for a request makes it."""
        here = [one for one in self._visits.items() if not one[1].is_over]
        if len(here) < self._limits.connections:
            return True
        waiting = [(visit.waits_since, connection) for connection, visit in here if visit.waits_since is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda one: one[0])
        self._visits[longest].is_over = True
        _shut(longest, socket.SHUT_RDWR)
        return True

    def _serve(self, connection: socket.socket) -> bool:
        """Give `connection` a thread; return whether there is one for it."""
        thread = threading.Thread(
            target=self._answer, args=(connection,), name="orchestree-metrics-connection", daemon=True
        )
        self._visits[connection] = _Visit(thread, time.monotonic())
        try:
            thread.start()
        except RuntimeError:
            del self._visits[connection]
            return False
        return True

    def _answer(self, connection: socket.socket) -> None:
        try:
            self._scrape.serve(connection, partial(self._note_turn, connection))
        finally:
            with self._lock:
                del self._visits[connection]
                connection.close()

    def _note_turn(self, connection: socket.socket, waits: bool) -> None:
        """Note that a connection waits for its next request, or has sent it.

        Raises:
            ConnectionAbortedError: it was sent away meanwhile.
        """
        with self._lock:
            visit = self._visits[connection]
            if visit.is_over:
                raise ConnectionAbortedError
            if not waits:
                visit.waits_since = None
            elif visit.waits_since is None:  # else since it was let in
                visit.waits_since = time.monotonic()


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # the other end has gone
        connection.shutdown(how)
