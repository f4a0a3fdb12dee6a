"""Reading what all agents send and print: messages go to the host, log records and output to a `LogWriter`.

That is one daemon thread's work, ``orchestree-data``. Nothing here ever waits for a log sink of the application.
"""

from __future__ import annotations

import os
import pickle
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from orchestree.agents.executor import Host, KeepLine, Launch, RunId, RunMessage
from orchestree.agents.lifecycle import describe
from orchestree.agents.log_lines import RecordPatch
from orchestree.agents.metric_data import MetricBatch

from .logs import CLOSE_S, LogWriter, relog, warn
from .output import Printed
from .wire import Inlet, LogRecord, Lost, Message

TURN: Final = 64
"""Packets that one channel is read for before the next gets its turn."""
LAST_TURN: Final = 1024
"""Packets that are read after the end of a run: more than fit into a socket, unless somebody goes on writing."""


@dataclass(eq=False, slots=True)
class Channel:
    """The data channel and the output of one run. Both threads may read, one at a time, so nothing overtakes anything.

    Attributes:
        patch: what is done to the log records of the run.
        logs: what was read and is yet to be logged or printed; only the relay's thread takes something out.
    """

    run: RunId
    patch: RecordPatch
    inlet: Inlet
    printed: Printed
    lock: threading.Lock = field(default_factory=threading.Lock)
    logs: deque[Callable[[], None]] = field(default_factory=deque)


class Relay:
    """Everything but the thread's own part is for the supervision thread, and never waits for a sink."""

    def __init__(self, host: Host) -> None:
        """Start the thread."""
        self._host = host
        self._writer = LogWriter()
        self._tasks: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._open = True
        self._thread = threading.Thread(target=self._serve, name="orchestree-data", daemon=True)
        self._thread.start()

    def add(self, launch: Launch, sock: socket.socket, out: int, err: int) -> Channel:
        """Read all three from now on, and own them."""
        run, keep_line, mask = launch.run, self._host.keep_line, launch.masker()
        keep = partial(_keep_printed, keep_line, run) if keep_line is not None else None
        printed = Printed(out, err, mask, keep)
        channel = Channel(run, RecordPatch(run, mask, keep_line), Inlet(sock), printed)
        self.do(lambda: self._watch(channel))
        return channel

    def finish(self, channel: Channel) -> tuple[str, ...]:
        """Hand in what the ended run has sent: messages now, the rest by and by. Forget the channel.

        Returns:
            The last lines that it has printed, oldest first.
        """
        self._read(channel, LAST_TURN)
        with channel.lock:
            channel.logs.extend(channel.printed.read_rest())
            lines = channel.printed.last_lines()
        self.do(lambda: self._forget(channel))
        return lines

    def warn(self, channel: Channel, text: str) -> None:
        """Log something about a run."""
        self.do(lambda: self._writer.put(partial(warn, channel.patch, text)))

    def do(self, task: Callable[[], None]) -> None:
        """Have `task`, which must not raise, done in the thread, after what was handed in before."""
        self._tasks.append(task)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the thread when all has been logged, or when a sink takes too long."""
        self.do(self._stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            os.close(self._wake)

    def _read(self, channel: Channel, most: int) -> None:
        with channel.lock:
            for message in channel.inlet.receive(most):
                match message:
                    case Message(name, data):
                        self._report(channel, name, data)
                    case MetricBatch():
                        if self._host.keep_metrics is not None:
                            self._host.keep_metrics.apply(channel.run, message)
                    case LogRecord():
                        channel.logs.append(partial(relog, channel.patch, message))
                    case Lost(count):
                        text = f"{count} log records or messages were lost"
                        channel.logs.append(partial(warn, channel.patch, text))

    def _report(self, channel: Channel, name: str, data: bytes) -> None:
        try:
            self._host.report(RunMessage(channel.run, name, pickle.loads(data)))
        except Exception as error:  # a class that this process does not have
            text = f"its message {name!r} cannot be read here: {describe(error)}"
            channel.logs.append(partial(warn, channel.patch, text))

    # In the thread:

    def _serve(self) -> None:
        while self._open:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(self._wake)
                else:
                    key.data()
            while self._tasks:
                self._tasks.popleft()()
        self._selector.close()
        self._writer.close()

    def _watch(self, channel: Channel) -> None:
        self._selector.register(channel.inlet.sock, selectors.EVENT_READ, partial(self._pass_on, channel))
        for pipe in channel.printed.pipes:
            self._selector.register(pipe, selectors.EVENT_READ, partial(self._print, channel, pipe))

    def _pass_on(self, channel: Channel) -> None:
        self._read(channel, TURN)
        if channel.inlet.at_end:
            self._selector.unregister(channel.inlet.sock)
        self._write(channel)

    def _print(self, channel: Channel, pipe: int) -> None:
        with channel.lock:
            action = channel.printed.read(pipe)
            if action is not None:
                channel.logs.append(action)
        if action is None:
            self._selector.unregister(pipe)
        self._write(channel)

    def _forget(self, channel: Channel) -> None:
        for descriptor in (channel.inlet.sock.fileno(), *channel.printed.pipes):
            with suppress(KeyError):
                self._selector.unregister(descriptor)
        channel.inlet.sock.close()
        channel.printed.close()
        self._write(channel)

    def _write(self, channel: Channel) -> None:
        while channel.logs:
            self._writer.put(channel.logs.popleft())

    def _stop(self) -> None:
        self._open = False


def _keep_printed(keep_line: KeepLine, run: RunId, descriptor: int, text: str) -> None:
    keep_line(run, "stdout" if descriptor == 1 else "stderr", "", text, time.time())
