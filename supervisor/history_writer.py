"""The thread that carries events into the store. It is a reader of events like any other: supervision never waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .event_manager import EventManager
from .event_readers import ThreadBell
from .events import Event
from .history import OpenedHistory, joined

GATHER_S: Final = 0.02
"""Seconds that an event waits at most for others of its batch, unless the batch before is being written still.

So a kill costs what was published while one batch was gathered or written, and while the next one was written: less
than 50 ms where a write takes less than 25 ms. Where events come faster than that, what waits in the queue is lost too.
"""
BATCH: Final = 1_000
"""Events at most that are stored in one transaction."""
PRUNE_AFTER: Final = 1_000
"""Stored events after which a few are forgotten."""
PRUNE_EVERY_S: Final = 60.0
"""Seconds after which is looked for what is too old, at the latest, where there is an age."""


class HistoryWriter:
    """Stores the events of one orchestrator until it ends, or until the store fails: once, and loudly.

    What comes faster than it can be stored waits, 10,000 events at most, and is lost if the program is killed; beyond
    that it is a gap in the store, as for any slow reader. Any thread may call anything.
    """

    def __init__(
        self,
        opened: OpenedHistory,
        events: EventManager,
        *,
        rows: int | None = None,
        age: float | None = None,
        on_trouble: Callable[[str], None],
    ) -> None:
        """Take part in `events` from now on; `start` makes the thread.

        Args:
            opened: where to store them; closed at the end.
            events: to be stored, from the first above `opened.last_seq`.
            rows: how many events are kept, about; None for all.
            age: seconds for which they are kept; None for ever.
            on_trouble: called once, in the writer's thread, when the store has failed and nothing more is stored.
        """
        self._store = opened.store
        self._close_store = opened.close
        self._events = events
        self._rows = rows
        self._age = age
        self._on_trouble = on_trouble
        self._bell = ThreadBell()
        self._lock = threading.Lock()  # over what changes together, of the next two and the reader's buffer
        self._stored = opened.last_seq
        self._on_the_way: list[Event] = []
        self._unpruned = 0
        self._prune_every = None if age is None else min(PRUNE_EVERY_S, max(0.25, age / 4))
        self._prune_at = None if rows is None and age is None else time.monotonic()
        self._reader = events.reader(self._bell.ring, opened.last_seq)
        self._thread = threading.Thread(target=self._main, name="orchestree-history", daemon=True)

    @property
    def lag_s(self) -> float:
        """Seconds for which the oldest event that is not stored has been waiting; 0 if there is none."""
        with self._lock:
            return max(0.0, time.monotonic() - self._on_the_way[0].monotonic) if self._on_the_way else 0.0

    def start(self) -> None:
        """Begin to store. Once."""
        self._thread.start()

    def recent(self) -> list[Event]:
        """Return the newest events, oldest first: those in memory, and those before that are being stored."""
        with self._lock:
            return joined(self._stored, self._on_the_way, self._events.recent())

    def close(self) -> None:
        """Store what was published and close the store. Does not wait; the end of `events` does the same."""
        self._reader.close()
        if self._thread.ident is None:
            with suppress(OSError):
                self._close_store()

    def join(self, timeout: float) -> bool:
        """Wait after `close` until the store is closed; False after `timeout` seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            while not self._reader.ended:
                self._round()
            self._close_store()
        except Exception as error:  # no OSError: a fault of ours, which must not stay unseen either
            self._give_up(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")

    def _round(self) -> None:
        """Sleep until there is something to do, and do it."""
        if self._take():
            if len(self._on_the_way) < BATCH:
                # Between two events the reader does not ring: only its end cuts this short.
                published = min(self._on_the_way[0].monotonic, time.monotonic())
                self._bell.wait_until(published + GATHER_S)
                self._take()
            self._write()
        elif not self._reader.ended and not self._bell.wait_until(self._prune_at):
            self._prune()

    def _take(self) -> bool:
        with self._lock:
            self._on_the_way += self._reader.take()
            return bool(self._on_the_way)

    def _write(self) -> None:
        while batch := self._on_the_way[:BATCH]:
            self._store.append(batch)
            with self._lock:
                self._stored = batch[-1].seq
                del self._on_the_way[: len(batch)]
            self._unpruned += len(batch)
            if self._unpruned >= PRUNE_AFTER:
                self._unpruned = 0
                self._prune()

    def _prune(self) -> None:
        """Forget a little; go on with that as soon as there is nothing to store."""
        if self._rows is None and self._age is None:
            return
        now = time.monotonic()
        if self._store.prune(self._rows, None if self._age is None else time.time() - self._age):
            self._prune_at = now
        else:
            self._prune_at = None if self._prune_every is None else now + self._prune_every

    def _give_up(self, why: str) -> None:
        self._reader.close()
        with self._lock:
            self._on_the_way.clear()
        with suppress(Exception):
            self._close_store()
        with suppress(Exception):
            self._on_trouble(f"{why}; nothing more is stored in this run")
