"""What the agents of one tree said lately: their log records, what their processes printed, and what became of them.

A bounded copy for whoever asks later. It adds no sink to the program's logging, and no line waits for it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from sys import getsizeof
from typing import Final, Literal

from orchestree.agents.executor import LineSource, RunId

from .events import Event, EventType
from .lifecycle_log import level_of, text_of

LINES: Final = 500
"""So many lines of one agent are kept, the last ones."""
LONGEST: Final = 4_096
"""Characters of a line; a log record or a traceback of several lines counts as one."""
MOST_BYTES: Final = 32 * 2**20
"""Of memory for the lines of all agents together; beyond that the oldest of all go."""

_BYTES_BESIDE_TEXT: Final = 400
"""That a line takes besides its text."""
_NOT_KEPT: Final = frozenset({EventType.AGENT_MESSAGE, EventType.EVENT_GAP, EventType.COMMAND})


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        time: wall seconds.
        level: name of a loguru level; empty for what was printed.
        path: of the agent; of a supervisor for what became of it.
        incarnation: of the agent; 0 for what concerns none.
        source: ``log``: a record of ``self.logger``, of a process of any logger; ``stdout``, ``stderr``: what its
            process printed; ``event``: what became of it.
        text: without the secrets of the agent; may have several lines.
    """

    time: float
    level: str
    path: str
    incarnation: int
    source: Literal["log", "stdout", "stderr", "event"]
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Follower:
    """Somebody who takes the lines of one agent, or of all below a supervisor."""

    path: str
    take: Callable[[LogLine], None]


class AgentLogs:
    """The latest lines of one tree. Any thread; nothing here blocks.

    Only records that some sink of the application takes are seen. Those of an agent that has left the tree go with
    the oldest of all. In a process that was forked it takes nothing.
    """

    def __init__(self, *, lines: int = LINES, most_bytes: int = MOST_BYTES) -> None:
        """Keep at most so many lines of an agent, and so many bytes of all."""
        self._most_lines = lines
        self._most_bytes = most_bytes
        # One that its own thread may take again: a finalizer or a signal handler that runs in here may log, too.
        self._lock = threading.RLock()
        self._number = 0
        self._lines: OrderedDict[int, LogLine] = OrderedDict()  # by number, oldest first
        self._numbers: dict[str, deque[int]] = {}  # of the lines of each path
        self._bytes = 0
        self._followers: tuple[Follower, ...] = ()
        self._pid = os.getpid()

    def keep(self, run: RunId, source: LineSource, level: str, text: str, time: float) -> None:
        """Take a line of an agent; see `orchestree.agents.executor.KeepLine`."""
        if os.getpid() == self._pid:  # else it is a copy, whose lock some thread may have held that is not there
            self._add(LogLine(time, level, run.path, run.incarnation, source, _bounded(text)))

    def keep_event(self, event: Event) -> None:
        """Take what became of an agent or a supervisor: a callback for `EventManager.subscribe`."""
        if event.type not in _NOT_KEPT:
            text = _bounded(text_of(event))
            self._add(LogLine(event.time, level_of(event), event.path, event.incarnation, "event", text))

    def lines(self, path: str, limit: int) -> list[LogLine]:
        """Return the last `limit` lines at `path` and below, oldest first; ``""`` is the whole tree.

        They are in the order in which they came here; what a process said may come after what was said later.
        """
        if limit <= 0:
            return []
        with self._lock:
            kept = list(self._lines.values())
        return [line for line in kept if _is_within(path, line.path)][-limit:]

    def follow(self, path: str, take: Callable[[LogLine], None]) -> Callable[[], None]:
        """Have `take` called with each further line at `path` and below, in the order in which they come.

        Args:
            path: of an agent or a supervisor.
            take: is called in whichever thread logs, and must not block. If it raises it is not called again.

        Returns:
            What ends that; any thread, any number of times. A call that has begun elsewhere may still be going on.
        """
        follower = Follower(path, take)
        with self._lock:
            self._followers += (follower,)
        return lambda: self._forget(follower)

    def _forget(self, follower: Follower) -> None:
        with self._lock:
            self._followers = tuple(other for other in self._followers if other is not follower)

    def _add(self, line: LogLine) -> None:
        with self._lock:
            self._number = number = self._number + 1
            self._lines[number] = line
            self._bytes += _size(line)
            numbers = self._numbers.setdefault(line.path, deque())
            numbers.append(number)
            if len(numbers) > self._most_lines:
                self._discard(numbers.popleft())
            while self._bytes > self._most_bytes and self._lines:
                self._drop_oldest()
            for follower in self._followers:
                if _is_within(follower.path, line.path):
                    self._hand(follower, line)

    def _drop_oldest(self) -> None:
        number, line = next(iter(self._lines.items()))
        numbers = self._numbers.get(line.path)
        if numbers and numbers[0] == number:
            numbers.popleft()
        if not numbers:
            self._numbers.pop(line.path, None)
        self._discard(number)

    def _discard(self, number: int) -> None:
        if line := self._lines.pop(number, None):
            self._bytes -= _size(line)

    def _hand(self, follower: Follower, line: LogLine) -> None:
        try:
            follower.take(line)
        except Exception:  # it is a follower no longer, and whoever logs must not suffer for it
            self._forget(follower)


def _is_within(path: str, other: str) -> bool:
    return not path or other == path or other.startswith(f"{path}/")


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _size(line: LogLine) -> int:
    return getsizeof(line.text) + _BYTES_BESIDE_TEXT
