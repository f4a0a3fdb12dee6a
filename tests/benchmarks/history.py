"""The event history: events a second through publish, reader and writer, and questions to a file of 10 million rows.

Targets: 50,000 events/s on an otherwise idle process, 15,000 beside a thread that computes in pure Python; the newest
100 events of an agent in under 10 ms. The floor is SQLite alone: prepared text, the same statement, the same commits.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import AgentMessage, AgentReady, AgentRestarting, Event, EventType, RestartCause
from orchestree.supervisor.history import EventQuery, History, OpenedHistory, first_of
from orchestree.supervisor.history_file import BLOCK
from orchestree.supervisor.history_queries import HistoryReader
from orchestree.supervisor.history_sqlite import SqliteHistory
from orchestree.supervisor.history_writer import BATCH, HistoryWriter

from .common import milli, show

EVENTS = 200_000
SUPERVISORS, AGENTS = 10, 1_000
PACED_S = 4.0
ASKED = 31
ROWS_AT_ONCE = 500_000
RARE = EventType.AGENT_PARKED
KINDS = (EventType.AGENT_MESSAGE, EventType.AGENT_READY, EventType.AGENT_RESTARTING, EventType.AGENT_STARTING)


def path_of(number: int) -> str:
    """Return the path of the agent of event `number`; agents do not come in turn."""
    agent = number * 7919 % AGENTS
    return f"group-{agent % SUPERVISORS}/agent-{agent}"


def events(first: int) -> Iterator[Event]:
    """Yield events without end, of all agents and three types."""
    number = first
    while True:
        path, kind = path_of(number), number % 3
        now = time.monotonic()
        match kind:
            case 0:
                message = AgentMessage("measured", {"value": number * 0.5, "unit": "mm"})
                yield Event(number, time.time(), now, EventType.AGENT_MESSAGE, path, 1, message, "run")
            case 1:
                yield Event(number, time.time(), now, EventType.AGENT_READY, path, 1, AgentReady(0.25), "run")
            case _:
                restarting = AgentRestarting(RestartCause.FAILURE, 0.25, 2)
                yield Event(number, time.time(), now, EventType.AGENT_RESTARTING, path, 1, restarting, "run")
        number += 1


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Let a thread compute in pure Python meanwhile."""
    done = threading.Event()

    def compute() -> None:
        total = 0
        while not done.is_set():
            total += sum(range(100))

    thread = threading.Thread(target=compute)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if wanted:
            thread.join()


def floor(folder: Path, beside: bool) -> float:
    """Return the rows a second of bare inserts of prepared text, without index, decoding or encoding."""
    batches: list[str] = []
    source = events(1)
    while len(batches) * BATCH < EVENTS:
        rows = [[e.seq, e.path, e.type, e.time, 1.5, 1, {"value": 0.5}] for e in islice(source, BATCH)]
        batches.append(json.dumps(rows))
    with closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as connection, busy(beside):
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; DROP TABLE IF EXISTS events;")
        connection.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, path, type, time, monotonic, incarnation, data)"
        )
        columns = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(7))
        began = time.perf_counter()
        for batch in batches:
            connection.execute(f"INSERT INTO events SELECT {columns} FROM json_each(?)", (batch,))
        return EVENTS / (time.perf_counter() - began)


def writing(store: SqliteHistory, manager: EventManager, rows: int | None) -> HistoryWriter:
    """Return what stores the events of `manager`, not started yet."""
    return HistoryWriter(OpenedHistory(store, store.last_seq, store.close), manager, rows=rows, on_trouble=print)


def most(folder: Path, beside: bool) -> float:
    """Return the events a second that are stored when they come as fast as they can be taken."""
    manager = EventManager(lambda _, error: None)
    store = SqliteHistory.open(folder / f"most-{beside}.db", name="benchmark", run="run")
    writer = writing(store, manager, 1_000_000)
    writer.start()
    with busy(beside):
        began = time.perf_counter()
        for event in islice(events(1), EVENTS):
            manager.publish(event)
            if event.seq % 1_000 == 0:
                while event.seq - store.last_seq > 7_000:
                    time.sleep(0.001)
        manager.close()
        if not writer.join(120.0) or store.last_seq != EVENTS:
            sys.exit("not everything was stored")
        return EVENTS / (time.perf_counter() - began)


def paced(folder: Path, rate: int, beside: bool, rows: int | None = 1_000_000) -> str:
    """Publish `rate` events a second; return how many were lost, and how long the oldest had to wait."""
    manager = EventManager(lambda _, error: None)
    file = folder / f"paced-{beside}-{rows}.db"
    store = SqliteHistory.open(file, name="benchmark", run="run")
    writer = writing(store, manager, rows)
    writer.start()
    source, lags, number = events(1), [], 0
    with busy(beside):
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < PACED_S:
            for event in islice(source, int(passed * rate) - number):
                manager.publish(event)
                number = event.seq
            lags.append(writer.lag_s)
            time.sleep(0.002)
        manager.close()
        if not writer.join(120.0):
            sys.exit("the writer did not end")
    gaps = HistoryReader(file).query(EventQuery(types=frozenset({EventType.EVENT_GAP}), limit=None))
    lost = sum(gap.seq - first_of(gap) + 1 for gap in gaps)
    return (
        f"{number / PACED_S:,.0f}/s, {lost:,} lost; the oldest waited {milli(lags)}, longest {max(lags) * 1e3:.0f} ms"
    )


def fill(file: Path, rows: int) -> None:
    """Make a file of `rows` events by SQL alone, a rare one among each million."""
    store = SqliteHistory.open(file, name="benchmark", run="run")
    store.append(
        [Event(0, 0.0, 0.0, kind, path_of(n), 1, AgentReady(0.0)) for n in range(AGENTS) for kind in (*KINDS, RARE)]
    )
    store.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        trigger = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'event_stored'").fetchone()[0]
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; DELETE FROM events;")
        connection.execute("DROP TRIGGER event_stored")
        ids = dict(connection.execute("SELECT path || ' ' || type, id FROM topics"))
        common = [[ids[f"{path_of(number)} {kind}"] for number in range(AGENTS)] for kind in KINDS]
        rare = [ids[f"{path_of(number)} {RARE}"] for number in range(AGENTS)]
        connection.execute("CREATE TEMP TABLE topic_of (slot INTEGER PRIMARY KEY, topic)")
        slots = [topics[number] for number in range(AGENTS) for topics in common]
        connection.executemany("INSERT INTO topic_of VALUES (?, ?)", enumerate(slots))
        for first in range(1, rows + 1, ROWS_AT_ONCE):
            last = min(rows, first + ROWS_AT_ONCE - 1)
            connection.execute(
                "WITH RECURSIVE n (seq) AS (SELECT ? UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)"
                " INSERT INTO events SELECT seq, CASE WHEN seq % 1000000 = 17 THEN ? ELSE topic END,"
                " 1.7e9 + seq / 100.0, seq / 100.0, 1, '{\"startup_s\":0.25}'"
                " FROM n JOIN topic_of ON slot = seq * 7907 / 7 % ?",
                (first, last, rare[first % AGENTS], len(slots)),
            )
        connection.execute(
            f"INSERT INTO marks SELECT seq / {BLOCK}, above, seq FROM events JOIN covers USING (topic) ORDER BY 1, 2, 3"
        )
        connection.execute(f"INSERT INTO spans SELECT seq / {BLOCK}, min(time), max(time) FROM events GROUP BY 1")
        connection.execute(trigger)


def asked(file: Path, rows: int) -> list[str]:
    """Ask the usual questions, each several times, while a writer has the file open."""
    store = SqliteHistory.open(file, name="benchmark", run="later")
    history = History(EventManager(lambda _, error: None), store)
    agent, middle = path_of(1), 1.7e9 + rows / 200
    questions = {
        "an agent": EventQuery(agent),
        "a supervisor of 100 agents": EventQuery(agent.partition("/")[0]),
        "the whole tree": EventQuery(),
        "a rare type": EventQuery(types=frozenset({RARE})),
        "a rare type of a supervisor": EventQuery(agent.partition("/")[0], frozenset({RARE})),
        "a type of an agent": EventQuery(agent, frozenset({EventType.AGENT_READY})),
        "an agent, before a time": EventQuery(agent, before=middle),
        "an agent, first after a time": EventQuery(agent, since=0, after=middle),
        "an agent, first after a number": EventQuery(agent, since=rows // 2),
        "an agent of a run": EventQuery(agent, run="run"),
    }
    rows_out = [f"{rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB; the newest 100 events of"]
    for words, question in questions.items():
        times = []
        for _ in range(ASKED):
            began = time.perf_counter()
            found = len(history.query(question))
            times.append(time.perf_counter() - began)
        rows_out.append(f"  {words}: {milli(times)}, the first time {times[0] * 1e3:.2f} ms; {found} found")
    store.close()
    return rows_out


if __name__ == "__main__":
    total = int(float(sys.argv[1]))
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        result = []
        for beside, words in ((False, "alone"), (True, "beside a busy thread")):
            least, ours = floor(place, beside), most(place, beside)
            result.append(f"{words}: {ours:,.0f} events/s stored, floor {least:,.0f} ({least / ours:.1f}x)")
        result.append(f"paced alone: {paced(place, 50_000, False)}")
        result.append(f"paced alone, keeping 20,000 rows: {paced(place, 50_000, False, rows=20_000)}")
        result.append(f"paced beside a busy thread: {paced(place, 15_000, True)}")
        began = time.perf_counter()
        fill(place / "large.db", total)
        result.append(f"filled in {time.perf_counter() - began:.0f} s")
        result += asked(place / "large.db", total)
    show(*result)
