"""What the agents of one tree said lately: their log records, what their processes printed, and what became of them.

A bounded copy for whoever asks later. It adds no sink to the program's logging, and no line waits for it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from sys import getsizeof
from typing import Final, Literal

from orchestree.agents.executor import LineSource, RunId

from .events import AgentCrashed, Event, EventType
from .lifecycle_log import level_of, text_of

LINES: Final = 500
"""So many lines of one agent are kept, the last ones."""
LONGEST: Final = 4_096
"""Characters of a line; a log record or a traceback of several lines counts as one."""
MOST_BYTES: Final = 32 * 2**20
"""Of memory for the lines of all agents together; beyond that the oldest of all go."""

_BYTES_BESIDE_TEXT: Final = 500
"""That a line takes besides its text."""
_BYTES_OF_EVENT: Final = 1_500
"""That an event takes besides the texts of a crash, roughly."""
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
    """Somebody who takes the lines of one agent, or of all below a supervisor, until the tree ends."""

    path: str
    take: Callable[[LogLine], None]
    end: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Kept:
    """Something that is kept: a line, or an event that nobody has read yet.

    Attributes:
        number: those that came later have higher ones.
        size: bytes that it counts for.
    """

    number: int
    what: LogLine | Event
    size: int

    @property
    def path(self) -> str:
        return self.what.path


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
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # by number, oldest first
        self._of_path: dict[str, deque[_Kept]] = {}
        self._bytes = 0
        self._followers: tuple[Follower, ...] = ()
        self._ended = False
        self._pid = os.getpid()

    def keep(self, run: RunId, source: LineSource, level: str, text: str, time: float) -> None:
        """Take a line of an agent; see `orchestree.agents.executor.KeepLine`."""
        if os.getpid() == self._pid:  # else it is a copy, whose lock some thread may have held that is not there
            self._add(LogLine(time, level, run.path, run.incarnation, source, _bounded(text)))

    def keep_event(self, event: Event) -> None:
        """Take what became of an agent or a supervisor: a callback for `EventManager.subscribe`.

        Its text is made when somebody reads or follows it, so that a storm of events costs next to nothing.
        """
        if event.type not in _NOT_KEPT:
            self._add(event)
        if event.type is EventType.ORCHESTRATOR_STOPPED:
            with self._lock:
                self._end()

    def lines(self, path: str, limit: int) -> list[LogLine]:
        """Return the last `limit` lines at `path` and below, oldest first; ``""`` is the whole tree.

        They are in the order in which they came here; what a process said may come after what was said later.
        """
        if limit <= 0:
            return []
        with self._lock:
            if path:
                found = [
                    kept
                    for other, of_path in self._of_path.items()
                    if _is_within(path, other)
                    for kept in islice(reversed(of_path), limit)
                ]
            else:
                found = list(islice(reversed(self._kept.values()), limit))
        found.sort(key=lambda kept: kept.number)
        return [self._line(kept) for kept in found[-limit:]]

    def follow(
        self, path: str, take: Callable[[LogLine], None], end: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Have `take` called with each further line at `path` and below, in the order in which they come.

        Args:
            path: of an agent or a supervisor.
            take: is called in whichever thread logs, and must not block. If it raises it is not called again.
            end: is called once, likewise, when the tree has ended and `take` is not called again; at once if it has.

        Returns:
            What ends that; any thread, any number of times. A call that has begun elsewhere may still be going on.
        """
        follower = Follower(path, take, end)
        with self._lock:
            self._followers += (follower,)
            if self._ended:
                self._end()
        return lambda: self._forget(follower)

    def _forget(self, follower: Follower) -> None:
        with self._lock:
            self._followers = tuple(other for other in self._followers if other is not follower)

    def _end(self) -> None:
        followers, self._followers, self._ended = self._followers, (), True
        for follower in followers:
            with suppress(Exception):
                follower.end()

    def _add(self, what: LogLine | Event) -> None:
        size = _size(what)
        with self._lock:
            self._number = number = self._number + 1
            kept = self._kept[number] = _Kept(number, what, size)
            self._bytes += size
            of_path = self._of_path.setdefault(what.path, deque())
            of_path.append(kept)
            if len(of_path) > self._most_lines:
                self._discard(of_path.popleft())
            while self._bytes > self._most_bytes and self._kept:
                self._drop_oldest()
            for follower in self._followers:
                if _is_within(follower.path, what.path):
                    self._hand(follower, self._line(kept))

    def _line(self, kept: _Kept) -> LogLine:
        """Return the line that it is, for everybody the same object."""
        what = kept.what
        if isinstance(what, LogLine):
            return what
        line = _line_of(what)
        with self._lock:
            if isinstance(kept.what, LogLine):  # another thread was quicker
                return kept.what
            kept.what, old, kept.size = line, kept.size, _size(line)
            if kept.number in self._kept:
                self._bytes += kept.size - old
        return line

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._kept.values()))
        of_path = self._of_path.get(oldest.path)
        if of_path and of_path[0] is oldest:
            of_path.popleft()
        if not of_path:
            self._of_path.pop(oldest.path, None)
        self._discard(oldest)

    def _discard(self, kept: _Kept) -> None:
        if self._kept.pop(kept.number, None):
            self._bytes -= kept.size

    def _hand(self, follower: Follower, line: LogLine) -> None:
        try:
            follower.take(line)
        except Exception:  # it is a follower no longer, and whoever logs must not suffer for it
            self._forget(follower)


def _is_within(path: str, other: str) -> bool:
    return not path or other == path or other.startswith(f"{path}/")


def _line_of(event: Event) -> LogLine:
    return LogLine(event.time, level_of(event), event.path, event.incarnation, "event", _bounded(text_of(event)))


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _size(what: LogLine | Event) -> int:
    if isinstance(what, LogLine):
        return getsizeof(what.text) + _BYTES_BESIDE_TEXT
    match what.data:
        case AgentCrashed(report=report):
            texts = (report.message, report.traceback, report.progress, report.stacks, *report.notes, *report.output)
            return sum(map(getsizeof, texts)) + _BYTES_OF_EVENT
        case _:
            return _BYTES_OF_EVENT
