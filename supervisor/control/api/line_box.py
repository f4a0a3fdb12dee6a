"""Log lines on their way from whichever thread logs to one client that follows them. Bounded, and tells its losses."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from orchestree.supervisor.agent_logs import LogLine
from orchestree.supervisor.event_readers import LoopBell

from .event_hub import COALESCE_S

WAITING_LINES: Final = 1_000
"""How many lines wait for one client; then the oldest is dropped."""


class LineBox:
    """Lines for one task. Whoever logs never waits for it: `put` and `end` are for `AgentLogs.follow`."""

    def __init__(self, limit: int = WAITING_LINES) -> None:
        """Hold nothing yet, and at most `limit` lines."""
        self._limit = limit
        self._bell = LoopBell()
        # One that its own thread may take again: a finalizer that runs in there may log, too.
        self._lock = threading.RLock()
        self._lines = deque[LogLine]()
        self._lost = 0
        self._ended = False
        self._idle = False  # the task found nothing and wants to be woken

    def put(self, line: LogLine) -> None:
        """Take in a line. Any thread; waits for nobody."""
        with self._lock:
            if len(self._lines) >= self._limit:
                self._lines.popleft()
                self._lost += 1
            self._lines.append(line)
            self._wake()

    def end(self) -> None:
        """Say that no more lines come. Any thread."""
        with self._lock:
            self._ended = True
            self._wake()

    def take(self) -> list[LogLine] | None:
        """Return what has come, oldest first, what was lost before it as a line of its own; None after the end.

        Nothing to return: the next line, or the end, rings for `news`. Task only.
        """
        self._bell.attach()
        with self._lock:
            lines, self._lines = list(self._lines), deque()
            lost, self._lost = self._lost, 0
            self._idle = not lines
            if not lines and self._ended:
                return None
        return [_lost_lines(lost, lines[0]), *lines] if lost else lines

    async def news(self) -> None:
        """Wait for the next line, or the end, after `take` returned nothing; and for lines right behind it."""
        await self._bell.wait()
        await asyncio.sleep(COALESCE_S)

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._bell.ring()


def without(past: Sequence[LogLine], waiting: Sequence[LogLine]) -> list[LogLine]:
    """Return those of the `waiting` lines that came after the `past` ones, both oldest first.

    Lines have no numbers; the same line is the same object. What waits before the last one that is in both is
    older than `past` reaches back.
    """
    known = set(map(id, past))
    newest = max((place for place, line in enumerate(waiting) if id(line) in known), default=-1)
    return list(waiting[newest + 1 :])


def _lost_lines(count: int, follower: LogLine) -> LogLine:
    text = f"LOST     {count} line{'s' * (count != 1)} (too many at once)"
    return LogLine(follower.time, "WARNING", "", 0, "event", text)
