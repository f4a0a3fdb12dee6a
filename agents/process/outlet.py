"""An agent's end of its data channel: loguru's only sink in that process, and where `emit` puts messages.

A record is in the kernel when the call that made it returns, so it survives the process. No lock and no thread is
involved: a process that is killed while it logs can block nobody.
"""

from __future__ import annotations

import errno
import pickle
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from loguru import logger

from orchestree.agents.metric_data import MetricBatch

from .logs import pack
from .payload import dump_back
from .wire import LogRecord, Lost, Message, send

if TYPE_CHECKING:
    import loguru

PATIENCE_S: Final = 2
"""How long a full channel may hold up the agent, once; from then on what does not fit is dropped and counted."""


FULL: Final = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)


class Outlet:
    """Sends, or counts what could not be sent."""

    def __init__(self) -> None:
        """Be closed, until `open` is called in the agent's process."""
        self._sock: socket.socket | None = None
        self._lost = 0

    def open(self, sock: socket.socket) -> None:
        """Send to `sock` from now on."""
        sock.settimeout(None)  # a module may have called setdefaulttimeout
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE_S, 0))
        self._sock = sock

    def emit(self, name: str, data: Mapping[str, object]) -> None:
        """Send a message. Values that cannot be pickled arrive as their ``repr``."""
        try:
            content = dump_back(dict(data))
        except Exception:
            content = pickle.dumps({key: repr(value) for key, value in data.items()})
        self._send(Message(name, content))

    def log(self, text: loguru.Message) -> None:
        """Send a record of loguru's."""
        self._send(pack(text))

    def push(self, batch: MetricBatch) -> bool:
        """Send what has changed in metrics. False: the channel is full for too long, and nothing of it was sent."""
        if self._sock is None:
            return True
        try:
            send(self._sock, batch)
        except OSError as error:
            return error.errno not in FULL  # else nobody is there to read it
        return True

    def _send(self, message: Message | LogRecord) -> None:
        if self._sock is None:
            return
        flags = socket.MSG_DONTWAIT if self._lost else 0
        try:
            if self._lost:
                send(self._sock, Lost(self._lost), flags)
                self._lost = 0
            send(self._sock, message, flags)
        except OSError:  # full for too long, or nobody is there to read it
            self._lost += 1


outlet: Final = Outlet()


def install() -> None:
    """Make `outlet` the only sink of loguru, and have each line printed when it is whole, also into a pipe.

    Takes milliseconds: the fork server does it, once for all agents.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a module may have closed it
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logger.remove()
    logger.add(outlet.log, level=0, format=_exception_only, backtrace=False, diagnose=False, colorize=False)


def _exception_only(record: loguru.Record) -> str:
    return "{exception}"
