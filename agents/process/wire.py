"""What the orchestrator, its fork server and the agents' processes say to each other, and how it travels.

Every socket here is a private ``SOCK_SEQPACKET`` pair: packets arrive whole or not at all, so a half message never
blocks its reader, and processes that share one end cannot mix up each other's messages.
"""

from __future__ import annotations

import array
import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from orchestree.agents.ends import CrashReport, ExitReason
from orchestree.agents.executor import RunId

from .sources import Source

PART: Final = 32 * 1024
"""Bytes of a message that go into one packet, so that a full socket buffer holds several."""
REQUEST: Final = 128 * 1024
"""Bytes that a request or an answer of the fork server may have; these always are one packet."""
DESCRIPTORS: Final = 250
"""How many descriptors one request may carry; the kernel's own limit is 253."""

STOP: Final = b"s"
RECYCLE: Final = b"r"
GO: Final = b"g"
"""What the orchestrator sends on the control channel of an agent: to stop, to end between rounds, to begin."""

_HEADER: Final = struct.Struct("=iQ??")  # process and thread of the sender; whether this part is the first, the last


# From the orchestrator to the fork server, and its answers.


@dataclass(frozen=True, slots=True)
class Load:
    """Get this source into memory, and say whether it has these names."""

    source: Source
    names: tuple[str, ...]


Temperature = Literal["warm", "cold", "late"]
"""Whether agents find a source in memory. It is cold if it leaves threads or sockets behind: each agent loads it in a
fresh interpreter. It is late if agents were running when it was asked for, which a failure to load must not touch:
each agent loads it after the fork.
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answer to a `Load`.

    Attributes:
        problem: why it cannot be loaded, in one line; empty if it can, or if that was not tried.
        missing: the names that it does not have, as far as anybody has looked.
    """

    source: Source
    temperature: Temperature
    problem: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a process. Comes with descriptors: control, data, stdout, stderr, memory file, then those of its params.

    Attributes:
        run: names the process in all answers.
        mark: of all that the process starts, see `descendants`.
        sources: what the pickled launch refers to.
        stands_by: it is to wait, with all made but nothing of the user's called, until it is sent `GO`.
    """

    run: RunId
    mark: str
    sources: tuple[Source, ...]
    stands_by: bool = False


@dataclass(frozen=True, slots=True)
class SignalGroup:
    """Send a signal to the process group."""

    run: RunId
    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Forked:
    """The process is there. Comes with its pidfd."""

    run: RunId
    pid: int


@dataclass(frozen=True, slots=True)
class NotForked:
    """The process could not be made."""

    run: RunId
    problem: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The process has ended and was reaped, and so was all that it left behind.

    Attributes:
        status: that of ``wait4``.
        max_memory: bytes of the process at its peak.
        cpu_s: seconds of processor time of the process, and of what it has waited for.
        survivors: pids of what it left behind and cannot be ended.
    """

    run: RunId
    status: int
    max_memory: int
    cpu_s: float = 0.0
    survivors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Paused:
    """A signal has stopped the process for now (`paused`), or it goes on."""

    run: RunId
    paused: bool


# From an agent's process: on the control channel …


@dataclass(frozen=True, slots=True)
class Ready:
    """``setup()`` has returned."""


@dataclass(frozen=True, slots=True)
class End:
    """How the run ended. `result` is pickled; empty for None."""

    reason: ExitReason
    report: CrashReport | None
    result: bytes


# … and on the data channel.


@dataclass(frozen=True, slots=True)
class Message:
    """``emit(name, **data)``. `data` is pickled."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of loguru's, as plain values; `exception` is the text of the traceback or empty."""

    fields: dict[str, Any]
    exception: str


@dataclass(frozen=True, slots=True)
class Lost:
    """So many records and messages found the channel full for too long."""

    count: int


def send(sock: socket.socket, message: object, flags: int = 0) -> None:
    """Send a message of any size. Raises what ``socket.send`` raises."""
    content = memoryview(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
    sender = (os.getpid(), threading.get_ident())
    for start in range(0, len(content), PART):
        last = start + PART >= len(content)
        sock.send(_HEADER.pack(*sender, start == 0, last) + content[start : start + PART], flags)


class Inlet:
    """The reading end of a channel. Never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over `sock`."""
        sock.setblocking(False)
        self.sock = sock
        self.at_end = False
        self._parts: dict[tuple[int, int], bytearray] = {}

    def receive(self, most: int) -> Iterable[object]:
        """Yield the whole messages that are there, out of at most `most` packets."""
        for _ in range(most):
            try:
                packet = self.sock.recv(_HEADER.size + PART)
            except BlockingIOError:
                return
            except OSError:  # the other end is gone and left something unread
                packet = b""
            if not packet:
                self.at_end = True
                return
            pid, thread, first, last = _HEADER.unpack_from(packet)
            if first:  # what there was before was given up half-way, as the channel was full
                self._parts[pid, thread] = bytearray()
            parts = self._parts.get((pid, thread), bytearray())
            parts += memoryview(packet)[_HEADER.size :]
            if last:
                yield pickle.loads(self._parts.pop((pid, thread)))


def send_request(sock: socket.socket, message: object, descriptors: Iterable[int] = ()) -> None:
    """Send one packet with descriptors. Raises what ``socket.sendmsg`` raises."""
    socket.send_fds(sock, [pickle.dumps(message, pickle.HIGHEST_PROTOCOL)], list(descriptors))


def receive_request(sock: socket.socket, flags: int = 0) -> tuple[object, list[int]] | None:
    """Return one packet and the descriptors that came with it, none inheritable; None at the end.

    There are no descriptors when this process has not room for all of them.

    `socket.recv_fds` would leave the descriptors inheritable.
    """
    room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    try:
        packet, extras, told, _ = sock.recvmsg(REQUEST, room, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # the end, of somebody who has left something unread
        return None
    descriptors = array.array("i")
    for level, kind, content in extras:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if told & socket.MSG_CTRUNC:  # there was no room for all of them, so those that came are of no use
        for each in descriptors:
            os.close(each)
        del descriptors[:]
    return (pickle.loads(packet), list(descriptors)) if packet else None
