"""One reader of the events for all clients that stream them; lives in the event loop of the API.

The supervision thread pays for one reader, however many clients there are, and for none when nobody listens. A
client is no more than the number of the last event that it knows: nothing is kept for it, so one that is stuck
costs nothing and holds up nobody.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.event_manager import KEPT_EVENTS, EventManager
from orchestree.supervisor.event_readers import EventFilter
from orchestree.supervisor.events import Event, EventType
from orchestree.supervisor.history import a_gap

COALESCE_S: Final = 0.05
"""Seconds at least between two looks at the events, so that a storm costs few wake-ups; the first is seen at once."""
WRITE_BYTES: Final = 64 * 1024
"""Bytes after which a write takes no further event."""
ENCODED_BYTES: Final = 16 * 1024 * 1024
"""Bytes of encoded events that are kept for the next client; older ones are encoded again for who still wants them."""
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
        end: done when there will be no more: the tree has ended, or the feed was closed.
    """

    def __init__(self, events: EventManager, encode: Encode, before: int, limit: int) -> None:
        """Begin with what the event manager still keeps, so that clients with a past share that, too."""
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._encode = encode
        self._limit = limit
        self._kept = events.recent()[-limit:]  # ascending numbers
        known = self._kept[-1].seq if self._kept else max(events.latest, before)
        self._after = self._kept[0].seq - 1 if self._kept else known  # all above this number is kept
        self._encoded = OrderedDict[int, bytes]()  # by number, in the order in which they were encoded
        self._encoded_bytes = 0
        self._writes: dict[tuple[int, EventFilter], Write] = {}
        self._news = asyncio.Event()
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
        """Wait for the next events, or for the end."""
        await self._news.wait()

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
            data = self._encoded[event.seq] = self._encode(event)
            self._encoded_bytes += len(data)
            while self._encoded_bytes > ENCODED_BYTES:
                self._encoded_bytes -= len(self._encoded.popitem(last=False)[1])
        return data

    async def _read(self) -> None:
        try:
            while events := await self._stream.next_batch():
                self._add(events)
                self._news.set()
                self._news.clear()  # those who wait are woken, those who come now wait for the next ones
                await asyncio.sleep(COALESCE_S)
        finally:
            self.end.set_result(None)
            self._news.set()

    def _add(self, events: list[Event]) -> None:
        self._kept += events
        self._writes.clear()
        if lost := self._kept[: -self._limit]:
            del self._kept[: -self._limit]
            self._after = lost[-1].seq
            for event in lost:
                self._encoded_bytes -= len(self._encoded.pop(event.seq, b""))
