"""One reader of the events for all clients that stream them; lives in the event loop of the API.

The supervision thread pays for one reader, however many clients there are, and for none when nobody listens. A
client is no more than the number of the last event that it knows: nothing is kept for it, so one that is stuck
costs nothing and holds up nobody.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.event_manager import KEPT_EVENTS, EventManager
from orchestree.supervisor.event_readers import EventFilter
from orchestree.supervisor.events import Event, EventType
from orchestree.supervisor.history import a_gap

COALESCE_S: Final = 0.05
"""Seconds at least between two looks at the events, so that a storm costs few wake-ups; the first is seen at once."""
WOKEN_AT_ONCE: Final = 10
"""Clients that are sent something in one go, half a millisecond in which a restart may wait for the interpreter."""
BREATH_S: Final = 0.001
"""Seconds between one such go and the next."""
WRITE_BYTES: Final = 64 * 1024
"""Bytes after which a write takes no further event."""
ENCODED_BYTES: Final = 16 * 1024 * 1024
"""Bytes of encoded events that are kept for the next client; then all are forgotten, and encoded again if wanted."""
WRITES_KEPT: Final = 64
"""How many writes are kept for clients that come to the same place with the same filter."""

Encode = Callable[[Event], bytes]


@dataclass(frozen=True, slots=True)
class Write:
    """What one client is sent at once.

    Attributes:
        data: encoded events one after another; empty if there is nothing for it.
        seq: the client then knows all up to this number.
    """

    data: bytes
    seq: int


class EventHub:
    """Has the events read while at least one client listens. Task of the loop only, like all of this file."""

    def __init__(self, events: EventManager, encode: Encode, *, before: int = 0, limit: int = KEPT_EVENTS) -> None:
        """Read nothing yet.

        Args:
            events: of the orchestrator.
            encode: makes the bytes of one event. Called once for all clients.
            before: number of the latest event of the runs before this one.
            limit: how many events a client may fall behind.
        """
        self._events = events
        self._encode = encode
        self._before = before
        self._limit = limit
        self._listeners = 0
        self._feed: EventFeed | None = None

    @contextmanager
    def listening(self) -> Iterator[EventFeed]:
        """Take part in the feed of all clients; the first one opens it, the last one closes it."""
        if self._feed is None:
            self._feed = EventFeed(self._events, self._encode, self._before, self._limit)
        feed = self._feed
        self._listeners += 1
        try:
            yield feed
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._feed = None
                feed.close()


class EventFeed:
    """The newest events, encoded when the first client wants them.

    Attributes:
        ended: there will be no more: the tree has ended, or the feed was closed.
    """

    def __init__(self, events: EventManager, encode: Encode, before: int, limit: int) -> None:
        """Begin with what the event manager still keeps, so that clients with a past share that, too."""
        self.ended = False
        self._encode = encode
        self._limit = limit
        self._kept = events.recent()[-limit:]  # ascending numbers
        known = self._kept[-1].seq if self._kept else max(events.latest, before)
        self._after = self._kept[0].seq - 1 if self._kept else known  # all above this number is kept
        self._encoded: dict[int, bytes] = {}  # by number
        self._encoded_bytes = 0
        self._writes: dict[tuple[int, EventFilter], Write] = {}
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._stream = events.stream(since=known)
        self._task = asyncio.create_task(self._read(), name="orchestree-event-feed")

    def close(self) -> None:
        """Give the reader back to the event manager."""
        self._stream.close()
        self._task.cancel()

    def reaches_back_to(self, seq: int) -> bool:
        """Return whether every event above `seq` is here."""
        return seq >= self._after

    def after(self, seq: int, wanted: EventFilter) -> Write:
        """Return the next write for a client that knows all up to `seq`, losses as ``EVENT_GAP`` whatever it wants.

        No data: there is nothing for it until `news`.
        """
        place = (seq, wanted)
        if place not in self._writes:
            if len(self._writes) >= WRITES_KEPT:
                self._writes.clear()
            self._writes[place] = self._write(seq, wanted)
        return self._writes[place]

    async def news(self) -> None:
        """Wait for the next events, or for the end. Before the end only."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            del self._waiting[waiter]

    def _write(self, seq: int, wanted: EventFilter) -> Write:
        parts: list[bytes] = []
        size = 0
        first = bisect_right(self._kept, seq, key=lambda event: event.seq)
        if seq < self._after and first < len(self._kept):
            parts.append(self._encode(a_gap(seq + 1, self._after, self._kept[first])))
        for place in range(first, len(self._kept)):
            event = self._kept[place]
            seq = event.seq
            if event.type is EventType.EVENT_GAP or wanted.matches(event):
                parts.append(self._bytes_of(event))
                size += len(parts[-1])
                if size >= WRITE_BYTES:
                    break
        return Write(b"".join(parts), seq)

    def _bytes_of(self, event: Event) -> bytes:
        data = self._encoded.get(event.seq)
        if data is None:
            data = self._encode(event)
            if self._encoded_bytes + len(data) > ENCODED_BYTES:
                self._encoded.clear()
                self._encoded_bytes = 0
            self._encoded[event.seq] = data
            self._encoded_bytes += len(data)
        return data

    async def _read(self) -> None:
        try:
            while events := await self._stream.next_batch():
                self._add(events)
                waiting = list(self._waiting)
                for first in range(0, len(waiting), WOKEN_AT_ONCE):
                    _wake(waiting[first : first + WOKEN_AT_ONCE])
                    await asyncio.sleep(BREATH_S)
                await asyncio.sleep(COALESCE_S)
        finally:
            self.ended = True
            _wake(self._waiting)

    def _add(self, events: list[Event]) -> None:
        self._kept += events
        self._writes.clear()
        if lost := self._kept[: -self._limit]:
            del self._kept[: -self._limit]
            self._after = lost[-1].seq


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
