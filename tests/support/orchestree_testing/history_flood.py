"""A process that publishes events into a history file, and says so on stdout, until it is killed.

``python -m orchestree_testing.history_flood FILE RUN PAUSE_S``: after every ten events and the pause a line with the
number of the last, the monotonic time at which the ten had been published, and for how many seconds this process has
been kept waiting at most so far: by its pauses, which lasted longer than asked, and by the disk.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import AgentMessage, Event, EventType
from orchestree.supervisor.history import EventQuery, OpenedHistory
from orchestree.supervisor.history_sqlite import SqliteHistory
from orchestree.supervisor.history_writer import HistoryWriter


class Timed:
    """A store that knows how long its slowest `append` has taken, also while that goes on."""

    def __init__(self, store: SqliteHistory) -> None:
        self._store = store
        self._began: float | None = None
        self._slowest = 0.0

    @property
    def slowest_s(self) -> float:
        began = self._began
        return max(self._slowest, 0.0 if began is None else time.monotonic() - began)

    def append(self, events: Sequence[Event]) -> None:
        self._began = time.monotonic()
        self._store.append(events)
        self._slowest = self.slowest_s
        self._began = None

    def query(self, query: EventQuery) -> list[Event]:
        return self._store.query(query)

    def prune(self, rows: int | None, before: float | None) -> bool:
        return self._store.prune(rows, before)


def main() -> None:
    """Publish for ever."""
    path, run, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
    events = EventManager(lambda _, error: None)
    file = SqliteHistory.open(path, name="flood", run=run)
    store = Timed(file)
    HistoryWriter(OpenedHistory(store, file.last_seq, file.close), events, on_trouble=print).start()
    seq, overslept = file.last_seq, 0.0
    while True:
        for _ in range(10):
            seq += 1
            now = time.monotonic()
            data = AgentMessage("flood", {"number": seq})
            events.publish(Event(seq, time.time(), now, EventType.AGENT_MESSAGE, f"s/a{seq % 5}", 1, data, run))
        time.sleep(pause)
        overslept = max(overslept, time.monotonic() - now - pause)
        sys.stdout.write(f"{seq} {now!r} {overslept + store.slowest_s!r}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
