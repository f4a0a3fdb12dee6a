"""A process that publishes events into a history file as fast as asked, and says so on stdout, until it is killed.

``python -m orchestree_testing.history_flood FILE RUN PAUSE_S``: each line is the number of an event that was published,
and the monotonic time of that.
"""

from __future__ import annotations

import sys
import time

from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import AgentMessage, Event, EventType
from orchestree.supervisor.history_sqlite import SqliteHistory
from orchestree.supervisor.history_writer import HistoryWriter


def main() -> None:
    """Publish for ever."""
    path, run, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
    events = EventManager(lambda _, error: None)
    store = SqliteHistory.open(path, name="flood", run=run)
    writer = HistoryWriter(store, events, on_trouble=print)
    writer.start()
    seq = store.last_seq
    while True:
        for _ in range(10):
            seq += 1
            now = time.monotonic()
            data = AgentMessage("flood", {"number": seq})
            events.publish(Event(seq, time.time(), now, EventType.AGENT_MESSAGE, f"s/a{seq % 5}", 1, data, run))
        sys.stdout.write(f"{seq} {now!r}\n")
        sys.stdout.flush()
        time.sleep(pause)


if __name__ == "__main__":
    main()
