"""What the tests of the event history share."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import TYPE_OF, AgentMessage, AgentReady, Event, EventData
from orchestree.supervisor.history import History, OpenedHistory
from orchestree.supervisor.history_sqlite import SqliteHistory
from orchestree.supervisor.history_writer import HistoryWriter

PATIENCE: Final = 20.0
"""Seconds after which a test that waits has failed."""


def numbered(seq: int, data: EventData | None = None, path: str = "a", time: float = 0.0, run: str = "r1") -> Event:
    data = data if data is not None else AgentReady(0.5)
    return Event(seq, time, 0.0, TYPE_OF[type(data)], path, 1, data, run)


def message(seq: int, path: str = "a", **data: object) -> Event:
    return numbered(seq, AgentMessage("m", data), path)


@contextmanager
def stored(path: Path, run: str = "r1", name: str = "test") -> Iterator[SqliteHistory]:
    store = SqliteHistory.open(path, name=name, run=run)
    try:
        yield store
    finally:
        with suppress(OSError):
            store.close()


def append(path: Path, *events: Event, run: str = "r1") -> None:
    with stored(path, run) as store:
        store.append(events)


@dataclass
class Written:
    """An event manager with a writer behind it."""

    store: SqliteHistory
    events: EventManager
    writer: HistoryWriter
    troubles: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    @property
    def history(self) -> History:
        return History(self.writer, self.store)

    def end(self) -> None:
        self.events.close()
        assert self.writer.join(PATIENCE)


def written(
    path: Path, *, capacity: int = 10_000, rows: int | None = None, age: float | None = None, run: str = "r1"
) -> Written:
    """Return one that is not started yet; `end` it."""
    events = EventManager(lambda _, error: None, capacity=capacity)
    store = SqliteHistory.open(path, name="test", run=run)
    troubles = queue.SimpleQueue[str]()
    opened = OpenedHistory(store, store.last_seq, store.close)
    writer = HistoryWriter(opened, events, rows=rows, age=age, on_trouble=troubles.put)
    return Written(store, events, writer, troubles)


def now() -> float:
    return time.time()
