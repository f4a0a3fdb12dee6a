"""Turns decisions into numbered, stamped events and publishes them in the order in which they were decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from orchestree.agents.ends import CrashReport
from orchestree.agents.executor import RunEnded, RunId

from .clock import Clock
from .crash_book import CrashBook
from .events import TYPE_OF, AgentCrashed, Event, EventData, EventGap, EventType
from .inputs import Emit


class Announcer:
    """Supervision thread only. What is taken is published by the next `flush`, so that restarts come first."""

    def __init__(
        self,
        publish: Callable[[Event], None],
        complete: Callable[[str, object, CrashReport], None],
        clock: Clock,
        run: str = "",
        last_seq: int = 0,
    ) -> None:
        """Publish through `publish`; tell `complete` path and report of a crash, before and after its completion.

        Events are of the run with the id `run`; their numbers begin after `last_seq`.
        """
        self._publish = publish
        self._complete = complete
        self._clock = clock
        self._waiting: deque[tuple[Emit, float]] = deque()
        self._details: dict[RunId, Callable[[], str]] = {}
        self._crashes = CrashBook()
        self._run = run
        self._seq = last_seq

    def expect(self, ended: RunEnded) -> None:
        """Remember how the traceback of an end is made, until the next flush."""
        if ended.details is not None:
            self._details[ended.run] = ended.details

    def take(self, emit: Emit, now: float) -> None:
        """Take an event that was decided at `now`."""
        self._waiting.append((emit, now))

    def flush(self) -> None:
        """Publish everything taken so far."""
        while self._waiting:
            emit, now = self._waiting.popleft()
            data = emit.data
            if isinstance(data, AgentCrashed):
                data = self._completed(emit, data)
            self._say(TYPE_OF[type(data)], emit.path, emit.incarnation, data, now)
        self._details.clear()

    def say(self, data: EventData, path: str = "") -> None:
        """Publish at once, after all that was taken, what is no decision of the core."""
        self.flush()
        self._say(TYPE_OF[type(data)], path, 0, data, self._clock.monotonic())

    def show_gap(self, missing: int) -> None:
        """Show one gap in the place, and with the numbers, of `missing` messages that were dropped."""
        self.flush()
        first = self._seq + 1
        self._seq += missing - 1
        self._say(EventType.EVENT_GAP, "", 0, EventGap(first, self._seq + 1), self._clock.monotonic())

    def _say(self, kind: EventType, path: str, incarnation: int, data: EventData, now: float) -> None:
        self._seq += 1
        self._publish(Event(self._seq, self._clock.wall(), now, kind, path, incarnation, data, self._run))

    def _completed(self, emit: Emit, data: AgentCrashed) -> AgentCrashed:
        report = data.report
        details = self._details.pop(RunId(emit.path, emit.incarnation), None)
        if details is not None:
            with suppress(Exception):  # formatting runs code of the user's: an exception's __str__
                report = replace(report, traceback=details())
        report = self._crashes.enter(emit.path, report, self._clock.wall())
        _, original, *_ = emit.arguments  # as the core keeps it, without what only people need
        self._complete(emit.path, original, report)
        return replace(data, report=report)
