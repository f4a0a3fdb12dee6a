"""Hands events out: to callbacks, to iterators, to whoever waits for one. Decides nothing, delays nothing.

The supervision thread publishes; every reader has a bounded buffer of its own and runs in its own time. The
newest events are kept, so that a reader can begin with the past (``since=``).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from .event_readers import (
    EventFilter,
    EventIterator,
    EventReader,
    EventStream,
    EventTypes,
    LoopBell,
    ThreadBell,
)
from .event_subscriptions import (
    EventCallback,
    Report,
    Subscription,
    TaskSubscription,
    ThreadSubscription,
    is_async,
    running_loop,
)
from .events import Event, EventGap

KEPT_EVENTS: Final = 10_000
"""How many events are kept for ``since=``, and how many wait for one reader."""

_Callback = TypeVar("_Callback", bound=Callable[[Event], Any])


class EventManager:
    """The events of one orchestrator.

    Everywhere: `type` is an `EventType`, its name in either case, or several of them (None: all). `path` is
    an agent or supervisor with everything below it (None or ``""``: the whole tree). `since` is a number:
    first come the events above it that are still kept (None: only what is published from now on).

    A reader that falls 10,000 events behind loses the oldest of them and gets an ``EVENT_GAP`` in their
    place, whatever its filter; so does one whose `since` lies before the oldest event kept.

    Any thread may call anything but `publish`.

    Attributes:
        dropped: how many events were lost: those that a reader was too slow for, once for each reader, and the
            messages of agents that were cut in a flood.
    """

    def __init__(self, on_handler_failed: Report, *, capacity: int = KEPT_EVENTS) -> None:
        """Make a manager without events.

        Args:
            on_handler_failed: called with a callback's name and what it raised, in the callback's thread;
                must not raise.
            capacity: events kept, and events that wait for one reader at most.
        """
        self._on_handler_failed = on_handler_failed
        self._capacity = capacity
        self.dropped = 0  # only `publish` changes it, so that it is exact without a lock
        self._offer: Callable[[Event], None] | None = None
        self._recent: deque[Event] = deque(maxlen=capacity)
        # Ordered sets. Adding, removing and copying are single steps, so that `publish` needs no lock.
        self._readers: dict[EventReader, None] = {}
        self._subscriptions: dict[Subscription, None] = {}
        self._begin = threading.Lock()  # each subscription begins once; `publish` never takes it
        self._pending: list[Subscription] = []
        self._started = False
        self._closed = False

    @property
    def latest(self) -> int:
        """Number of the newest event, 0 before the first: as ``since=`` it means "from here on"."""
        return self._recent[-1].seq if self._recent else 0

    def publish(self, event: Event) -> None:
        """Give `event` to every reader that wants it. Supervision thread only; never blocks, never raises."""
        if self._offer is not None:
            self._offer(event)
        if isinstance(event.data, EventGap):  # of a flood; those of slow readers are never published
            self.dropped += event.data.last - event.data.first + 1
        self._recent.append(event)  # first: a reader that joins now finds the event here, or is found below
        for reader in list(self._readers):
            self.dropped += reader.offer(event)

    def watch(self, offer: Callable[[Event], None]) -> None:
        """Have `offer` called with each event before any reader can have it. Before the start; the latest call counts.

        It is called in the supervision thread, so it must neither block nor raise.
        """
        self._offer = offer

    def start(self) -> None:
        """Let the callbacks subscribed so far begin; they get everything since they subscribed.

        Until then no thread is started, so that a module may subscribe while it is imported.

        Raises:
            SpecError: an ``async def`` was subscribed outside of any event loop, and none runs here either.
        """
        with self._begin:
            self._started = True
            while self._pending:
                self._pending[-1].begin()
                self._pending.pop()

    def subscribe(
        self, callback: EventCallback, type: EventTypes | None = None, path: str | None = None
    ) -> Subscription:
        """Call `callback` with each event from now on, one after another, in order.

        It runs in a daemon thread of its own; an ``async def`` runs as a task of the loop that runs here,
        else of the one in which the orchestrator is started. What it raises becomes a ``HANDLER_FAILED``
        event, and the next event is its next call.

        Raises:
            SpecError: an event type that does not exist, or no loop for an ``async def``.
        """
        subscription = self._subscription(callback, EventFilter.of(type, path))
        self._subscriptions[subscription] = None
        with self._begin:
            if not self._started and not (is_async(callback) and running_loop()):
                self._pending.append(subscription)
                return subscription
        try:
            subscription.begin()
        except BaseException:
            subscription.close()
            self._forget(subscription)
            raise
        return subscription

    def on(self, type: EventTypes | None = None, path: str | None = None) -> Callable[[_Callback], _Callback]:
        """Return a decorator that subscribes a function and leaves it as it is."""

        def decorate(callback: _Callback) -> _Callback:
            self.subscribe(callback, type, path)
            return callback

        return decorate

    def wait_for(
        self,
        type: EventTypes | None,
        path: str | None = None,
        *,
        where: Callable[[Event], bool] | None = None,
        since: int | None = None,
        timeout: float,
    ) -> Event:
        """Return the first event that fits and for which `where` is true; blocks.

        Raises:
            TimeoutError: there was none within `timeout` seconds, or the orchestrator has ended without one.
            SpecError: an event type that does not exist.
        """
        wanted = EventFilter.of(type, path)
        deadline = time.monotonic() + timeout
        events = self._iterator(wanted, since)
        try:
            while (event := events.next_within(deadline - time.monotonic())) is not None:
                if wanted.matches(event) and (where is None or where(event)):
                    return event
        finally:
            events.close()
        why = ", and the orchestrator has ended" if self._closed else f" within {timeout:g} s"
        raise TimeoutError(f"no {wanted}{why}")

    def iterate(
        self,
        since: int | None = None,
        timeout: float | None = None,
        *,
        type: EventTypes | None = None,
        path: str | None = None,
    ) -> EventIterator:
        """Return a blocking iterator over events, for one thread.

        It takes part from this call on, not from the first ``next``. It ends when the orchestrator has ended
        and everything was read, or after `timeout` seconds without an event (None: never).
        """
        return self._iterator(EventFilter.of(type, path), since, timeout)

    def stream(
        self, since: int | None = None, *, type: EventTypes | None = None, path: str | None = None
    ) -> EventStream:
        """Return an asynchronous iterator over events, for one task.

        It takes part from this call on, and ends when the orchestrator has ended and everything was read.
        """
        bell = LoopBell()
        return EventStream(self._open(EventFilter.of(type, path), since, bell.ring), bell)

    def recent(self) -> list[Event]:
        """Return all events that are still kept, oldest first, without holes."""
        return list(self._recent.copy())

    def reader(self, wake: Callable[[], None], since: int) -> EventReader:
        """Return a reader of all events above `since`, for who brings a thread of its own; `wake` as it says there."""
        return self._open(EventFilter(), since, wake)

    def close(self) -> None:
        """End every reader once it has read what was published. Any thread; idempotent; does not wait."""
        self._closed = True
        for reader in list(self._readers):
            reader.close()

    def join(self, timeout: float) -> bool:
        """Wait after `close` until all callbacks in threads are through; False after `timeout` seconds.

        A callback that calls it waits for the others. It does not wait for ``async def`` callbacks, whose
        loop may be that of this very thread.
        """
        deadline = time.monotonic() + timeout
        threads = [one for one in list(self._subscriptions) if isinstance(one, ThreadSubscription)]
        return all(one.join(max(0.0, deadline - time.monotonic())) for one in threads)

    async def join_async(self, timeout: float) -> bool:
        """Wait like `join`, and for the ``async def`` callbacks of the running loop; does not block it."""
        deadline = time.monotonic() + timeout
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        tasks = [one.task for one in list(self._subscriptions) if isinstance(one, TaskSubscription)]
        others = [task for task in tasks if task and task.get_loop() is loop and task is not current]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for task in others:
                    await asyncio.wait([task])
        threads_ended = await asyncio.to_thread(self.join, max(0.0, deadline - time.monotonic()))
        return threads_ended and all(task.done() for task in others)

    def _subscription(self, callback: EventCallback, wanted: EventFilter) -> Subscription:
        if is_async(callback):
            loop_bell = LoopBell()
            reader = self._open(wanted, None, loop_bell.ring)
            return TaskSubscription(callback, reader, loop_bell, self._on_handler_failed, self._forget)
        bell = ThreadBell()
        reader = self._open(wanted, None, bell.ring)
        return ThreadSubscription(callback, reader, bell, self._on_handler_failed, self._forget)

    def _iterator(self, wanted: EventFilter, since: int | None, timeout: float | None = None) -> EventIterator:
        bell = ThreadBell()
        return EventIterator(self._open(wanted, since, bell.ring), bell, timeout)

    def _open(self, wanted: EventFilter, since: int | None, wake: Callable[[], None]) -> EventReader:
        reader = EventReader(wanted, self._capacity, wake, self._leave)
        since = self.latest if since is None else max(0, since)
        self._readers[reader] = None
        reader.begin_after(since, self._recent.copy())
        if self._closed:
            reader.close()
        return reader

    def _leave(self, reader: EventReader) -> None:
        self._readers.pop(reader, None)

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)
