"""The orchestrator's side of its fork server: one process, one socket, watched by the supervision loop."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from orchestree.agents.loading import refuse_if_copy
from orchestree.strategies.errors import SpecError

from .boot import command
from .server import State
from .sources import Source
from .wire import Loaded, receive_request, send_request

END_S: Final = 5.0
"""Seconds that `ForkServer.close` grants the server to kill its children and end."""


class ForkServer:
    """A running fork server. Only the supervision thread touches it, and only `close` and `serve_until` wait."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cold: Iterable[Source],
        on_message: Callable[[object, list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        """Start the server; it takes requests at once and answers when it has come up.

        Args:
            loop: the one that runs in the supervision thread.
            cold: sources that it must not load.
            on_message: gets each answer, and the descriptors that came with it.
            on_end: called once when the server has ended by itself, after its last answer; until `reap` is called
                nobody else can have its pid.

        Raises:
            OSError: no more processes or descriptors.
        """
        refuse_if_copy("starting a fork server")
        self._loop, self._on_message, self._on_end = loop, on_message, on_end
        self._waiting: deque[tuple[object, list[int]]] = deque()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as on_failure:
            on_failure.enter_context(self._sock)
            self._process = _spawn(State(theirs.fileno(), os.getpid(), cold=frozenset(cold)))
            on_failure.pop_all()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._sock.setblocking(False)
        loop.add_reader(self._sock, self._receive)
        loop.add_reader(self._pidfd, self._notice_end)

    @property
    def pid(self) -> int:
        """The server's pid."""
        return self._process.pid

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a request, or keep it, and duplicates of its descriptors, until the socket has room.

        Raises:
            OSError: no more descriptors.
        """
        if self._waiting or not self._sent(message, descriptors):
            self._waiting.append((message, [os.dup(each) for each in descriptors]))
            self._loop.add_writer(self._sock, self._send_waiting)

    def serve_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Handle answers, and nothing else, until `done`; return False if the time is up or the server has ended."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while not done():
            left = deadline - time.monotonic()
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._waiting else 0))
            events = dict(poll.poll(left * 1000)) if left > 0 else {}
            if not events:
                return False
            self._send_waiting()
            self._receive()
            if self._pidfd in events:
                self._notice_end()
                return done()
        return True

    def kill(self) -> None:
        """Kill the server, and with it all its children. `on_end` will be called."""
        with suppress(ProcessLookupError):  # it has ended, and somebody has reaped it
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """End the server and its children, and return when they are gone. `on_end` will not be called."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        if not ended.poll(END_S * 1000):
            self.kill()
        self.reap()
        self._dispose()

    def reap(self) -> None:
        """Take note of the end of the server. Any thread."""
        self._process.wait()

    def _sent(self, message: object, descriptors: Sequence[int]) -> bool:
        try:
            send_request(self._sock, message, descriptors)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has ended; its pidfd says so soon
        return True

    def _send_waiting(self) -> None:
        while self._waiting:
            message, descriptors = self._waiting[0]
            if not self._sent(message, descriptors):
                return
            self._waiting.popleft()
            close_all(descriptors)
        self._loop.remove_writer(self._sock)

    def _receive(self) -> None:
        while True:
            try:
                received = receive_request(self._sock)
            except BlockingIOError:
                return
            if received is None:  # a server that lives on without its socket is of no use
                self._loop.remove_reader(self._sock)
                self.kill()
                return
            self._on_message(*received)

    def _notice_end(self) -> None:
        self._receive()
        self._dispose()
        self._on_end()

    def _dispose(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._loop.remove_reader(self._pidfd)
        self._sock.close()
        os.close(self._pidfd)
        for _, descriptors in self._waiting:
            close_all(descriptors)


def close_all(descriptors: Iterable[int]) -> None:
    """Close each descriptor."""
    for each in descriptors:
        os.close(each)


def _spawn(state: State) -> subprocess.Popen[bytes]:
    arguments, descriptor = command("server", state)
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            pass_fds=(state.sock, descriptor),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def check_loaded(path: str, answer: Loaded, names: tuple[str, ...]) -> None:
    """Return if the source of the agent at `path` is as it must be.

    Raises:
        SpecError: it could not be loaded, or one of `names` is not in it.
    """
    if answer.problem:
        raise SpecError(f"{path}: {answer.problem}")
    for name in names:
        if name in answer.missing:
            raise SpecError(
                f"{path}: {answer.source} has no {name!r} when it is loaded in the process of an agent; "
                'is it defined under `if __name__ == "__main__":`, or after the call that starts the tree?'
            )
