"""What every reader of events is made of: a filter, a bounded buffer that notices its losses, and a bell.

The supervision thread only ever calls `EventReader.offer`. It takes no lock and waits for nobody: a deque's
``append`` and ``popleft`` are single steps, and a full buffer drops its oldest event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Self

from orchestree.strategies.errors import SpecError, did_you_mean

from .events import Event, EventType
from .history import a_gap

EventTypes = EventType | str | Iterable[EventType | str]
"""One event type, its name in either case, or several of them."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants.

    Attributes:
        types: None is every type.
        path: itself and everything below it; ``""`` is the whole tree.
    """

    types: frozenset[EventType] | None = None
    path: str = ""

    @classmethod
    def of(cls, type: EventTypes | None, path: str | None) -> Self:
        """Return the filter for what a user wrote.

        Raises:
            SpecError: a type that does not exist.
        """
        if type is None:
            return cls(None, path or "")
        names = (type,) if isinstance(type, str) else type
        return cls(frozenset(map(_event_type, names)), path or "")

    def __str__(self) -> str:
        """Return words for an error message."""
        types = " or ".join(sorted(self.types or ()))
        return f"{types} event".strip() + (f" of {self.path!r}" if self.path else "")

    def matches(self, event: Event) -> bool:
        """Return whether the reader wants `event`."""
        if self.types is not None and event.type not in self.types:
            return False
        path = self.path
        return not path or event.path == path or event.path.startswith(f"{path}/")


def _event_type(name: str) -> EventType:
    word = str(name).lower()
    try:
        return EventType(word)
    except ValueError:
        raise SpecError(f"{name!r} is not an event type{did_you_mean(word, map(str, EventType))}") from None


class EventReader:
    """A bounded buffer between the supervision thread and one reader.

    `offer` is the supervision thread's side; `begin_after` and `take` are the reader's, one thread at a time;
    `close` is for everybody.
    """

    def __init__(
        self,
        wanted: EventFilter,
        limit: int,
        wake: Callable[[], None],
        leave: Callable[[EventReader], object],
    ) -> None:
        """Make an empty buffer.

        Args:
            wanted: which events to keep.
            limit: how many of them wait at most; then the oldest is dropped and becomes part of a gap.
            wake: makes a waiting reader call `take` again. Any thread; must neither block nor raise.
            leave: takes this reader off the publisher's list.
        """
        self.ended = False  # closed, and read to the end
        self._wanted = wanted
        self._wake = wake
        self._leave = leave
        self._closed = False
        self._idle = False  # the reader found nothing and wants to be woken
        self._offered = 0  # number of the newest event that ever was in the buffer
        self._seen = 0  # number up to which the reader knows everything that it wants
        self._backlog: list[Event] = []
        self._limit = limit
        self._buffer: deque[tuple[int, Event]] = deque()

    @property
    def closed(self) -> bool:
        """Whether nothing more comes in; there may be something left to read."""
        return self._closed

    def offer(self, event: Event) -> bool:
        """Buffer `event` if it is wanted; return whether an older one was dropped for it.

        Supervision thread only; never blocks, never raises.
        """
        if not self._wanted.matches(event):
            return False
        has_dropped = len(self._buffer) >= self._limit and self._drop_oldest()
        # Each event carries the number of the one before it: so the reader sees what a full buffer dropped.
        self._buffer.append((self._offered, event))
        self._offered = event.seq
        if self._idle:
            self._idle = False
            self._wake()
        return has_dropped

    def begin_after(self, since: int, recent: Iterable[Event]) -> None:
        """Start with those of the `recent` events, oldest first, whose number is above `since`.

        Those that are no longer among them are a gap. The reader is on the publisher's list already, so that
        nothing is lost between the two; what comes both ways is read once.
        """
        self._seen = since
        missed = [event for event in recent if event.seq > since]
        if not missed:
            return
        if missed[0].seq > since + 1:
            self._backlog.append(a_gap(since + 1, missed[0].seq - 1, missed[0]))
        self._backlog.extend(filter(self._wanted.matches, missed))
        self._seen = missed[-1].seq

    def take(self) -> list[Event]:
        """Return what has come since the last call, in order, losses as ``EVENT_GAP`` in their place.

        Nothing to return: the next event will wake the reader, unless `ended` says that there will be none.
        """
        # Both come before the look into the buffer: what is offered meanwhile wakes us, what came before
        # `close` is read.
        self._idle = True
        closed = self._closed
        events, self._backlog = self._backlog, []
        for before, event in self._buffered():
            if event.seq <= self._seen:
                continue
            if before > self._seen:
                events.append(a_gap(self._seen + 1, before, event))
            self._seen = event.seq
            events.append(event)
        if events:
            self._idle = False
        else:
            self.ended = closed
        return events

    def _drop_oldest(self) -> bool:
        try:
            self._buffer.popleft()
        except IndexError:  # the reader has just taken them all
            return False
        return True

    def _buffered(self) -> Iterator[tuple[int, Event]]:
        """Take out what is there now, but for what a full buffer drops meanwhile."""
        with suppress(IndexError):
            for _ in range(len(self._buffer)):
                yield self._buffer.popleft()

    def close(self) -> None:
        """Let nothing more in; what waits can still be read. Any thread, any number of times."""
        self._leave(self)
        self._closed = True
        self._wake()


class ThreadBell:
    """Wakes a thread."""

    def __init__(self) -> None:
        """Make a bell that has not been rung."""
        self._rings = SimpleQueue[None]()  # its `put` neither blocks nor minds being called by a finalizer

    def ring(self) -> None:
        """Wake who waits, or whoever waits next. Any thread."""
        self._rings.put(None)

    def wait_until(self, deadline: float | None) -> bool:
        """Block until it rings; False when the monotonic clock reaches `deadline` first."""
        try:
            self._rings.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Empty:
            return False
        return True


class LoopBell:
    """Wakes a task, through the event loop in which it first waits."""

    def __init__(self) -> None:
        """Make a bell that has not been rung. No loop needs to run yet."""
        self._rung = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Belong to the running loop, and forget earlier rings. Task of the reader only."""
        self._loop = asyncio.get_running_loop()
        self._rung.clear()

    def ring(self) -> None:
        """Wake who waits. Any thread."""
        if self._loop is not None:
            # The loop may have been closed over a waiting task: then nobody is left to be woken.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._rung.wait()


class EventIterator(Iterator[Event]):
    """Events for one thread, which blocks while there is none.

    Ends when the manager is closed, or after the longest silence allowed. One that is dropped half-way, as by
    ``break``, closes itself.
    """

    def __init__(self, reader: EventReader, bell: ThreadBell, timeout: float | None = None) -> None:
        """`timeout`: the longest silence in seconds; None waits for ever."""
        self._reader = reader
        self._bell = bell
        self._timeout = timeout
        self._batch: deque[Event] = deque()

    def __next__(self) -> Event:
        """Return the next event."""
        event = self.next_within(self._timeout)
        if event is None:
            self.close()
            raise StopIteration
        return event

    def next_within(self, seconds: float | None) -> Event | None:
        """Return the next event; None: there is none within `seconds`, or there will be none any more."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._batch:
            self._batch.extend(self._reader.take())
            if not self._batch and (self._reader.ended or not self._bell.wait_until(deadline)):
                return None
        return self._batch.popleft()

    def close(self) -> None:
        """Let no more events in."""
        self._reader.close()

    def __del__(self) -> None:
        """Close: the supervision thread must not go on filling a buffer that nobody reads."""
        self.close()


class EventStream(AsyncIterator[Event]):
    """Events for one task of an asyncio program; ends when the manager is closed.

    One that is dropped half-way, as by ``break``, closes itself. Only a task that waits is woken, so a flood
    costs its loop one wake-up for many events.
    """

    def __init__(self, reader: EventReader, bell: LoopBell) -> None:
        """`reader` rings `bell`."""
        self._reader = reader
        self._bell = bell
        self._batch: deque[Event] = deque()

    async def __anext__(self) -> Event:
        """Return the next event."""
        if not self._batch:
            self._batch.extend(await self.next_batch())
        if not self._batch:
            raise StopAsyncIteration
        return self._batch.popleft()

    async def next_batch(self) -> list[Event]:
        """Return all that has come, at least one event; nothing once it has ended. Not to be mixed with ``next``."""
        while True:
            self._bell.attach()
            if (events := self._reader.take()) or self._reader.ended:
                return events
            await self._bell.wait()

    def close(self) -> None:
        """Let no more events in."""
        self._reader.close()

    def __del__(self) -> None:
        """Close: the supervision thread must not go on filling a buffer that nobody reads."""
        self.close()
