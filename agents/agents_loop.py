"""An event loop that coroutine agents live on: whether it turns, and what keeps it from doing so.

Nothing here looks by itself, and nothing here decides: an executor asks.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

from .current import current_host, current_run
from .executor import Blocked, Host, RunId
from .inbox import Inbox

STANDS_S: Final = 0.05
"""A loop that has not turned for so many seconds stands still. Shorter than what a run that was told to end gets
before it counts as wedged, so that it is known by then."""


@dataclass(eq=False, slots=True)
class AgentsLoop:
    """One loop. Attributes are written in the supervision thread unless said otherwise.

    Attributes:
        inbox: the way into it.
        number: no other loop of the executor has it; None for one that somebody else runs.
        thread: which runs it; None for one that somebody else runs.
        thread_id: of the thread that runs it, noted in the loop when it begins its first run; None before.
        live: its runs.
        doomed: runs that were told to end. Those that had not taken their first step never do.
        asked: runs that were looked at, and have no answer yet.
        blocked: what was found to block it; the loop clears that when it turns.
        is_told: its runs were told that it is blocked, and not yet that it turns. The loop clears that.
        is_left: no run starts on it any more; it ends with the last one.
    """

    inbox: Inbox
    number: int | None = None
    thread: threading.Thread | None = None
    thread_id: int | None = None
    live: set[RunId] = field(default_factory=set)
    doomed: set[RunId] = field(default_factory=set)
    asked: set[RunId] = field(default_factory=set)
    check: asyncio.TimerHandle | None = None
    blocked: Blocked | None = None
    is_told: bool = False
    is_left: bool = False
    _task: asyncio.Task[object] | None = None

    @property
    def stands(self) -> bool:
        """Whether it has been given something to do `STANDS_S` ago and has not begun with it."""
        return self.inbox.unread_s >= STANDS_S

    def see(self, host: Host, now: float) -> Blocked:
        """Return what blocks it at `now` (monotonic seconds), if it stands still: the same as before, or another."""
        task = asyncio.current_task(self.inbox.loop)
        since = now if self.blocked is None or task is not self._task else self.blocked.since
        self._task = task
        by = _run_of(task, host) if task is not None else None
        return Blocked(by=by, loop=self.number, since=since, stack=stack_of(self.thread_id))

    def turns(self) -> None:
        """Note, in the loop, that it turns again."""
        self.blocked = self._task = None


def stack_of(thread_id: int | None) -> str:
    """Return what a thread is doing, as ``faulthandler`` writes it: no file is read. Empty if there is none."""
    frame = sys._current_frames().get(thread_id) if thread_id is not None else None
    if frame is None:
        return ""
    lines = [f"Current thread 0x{thread_id:016x} (most recent call first):"]
    while frame is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_qualname}')
        frame = frame.f_back
    return "\n".join(lines)


def _run_of(task: asyncio.Task[object], host: Host) -> RunId | None:
    """Return the run of `host` that a task belongs to: it is the run's own, or one that it has made."""
    # A task shows its context only from Python 3.12 on; the collector knows it always.
    for context in gc.get_referents(task):
        if isinstance(context, Context) and context.get(current_host) is host:
            return context.get(current_run)
    return None
