"""The thread that writes history: what it stores, when, and what it does when the file fails."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from history_support import PATIENCE, Written, append, message, numbered, written

from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import Event, EventGap, EventType
from orchestree.supervisor.history import EventQuery, History, OpenedHistory, first_of
from orchestree.supervisor.history_queries import HistoryReader
from orchestree.supervisor.history_sqlite import FORGOTTEN_AT_ONCE, SqliteHistory
from orchestree.supervisor.history_writer import HistoryWriter

pytestmark = pytest.mark.portable

ALL = EventQuery(limit=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t.name for t in set(threading.enumerate()) - before} == set()


def publish(written: Written, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        written.events.publish(numbered(seq, time=time.time()))


def numbers(events: Sequence[Event]) -> list[int | tuple[int, int]]:
    return [(e.data.first, e.data.last) if isinstance(e.data, EventGap) else e.seq for e in events]


def wait_until_stored(one: Written, seq: int) -> None:
    """Wait until the event `seq` is in the file."""
    deadline = time.monotonic() + PATIENCE
    while not one.store.query(EventQuery(since=seq - 1, limit=1)):
        assert time.monotonic() < deadline
        os.sched_yield()


def ended(path: Path) -> list[bool]:
    """Return of each run whether it says that it has ended."""
    with closing(sqlite3.connect(path)) as connection:
        return [time is not None for (time,) in connection.execute("SELECT ended FROM runs ORDER BY number")]


def assert_sleeps(one: Written) -> None:
    """Check that the thread comes to rest and does not wake up by itself."""
    own = f"/proc/self/task/{one.writer._thread.native_id}"

    def switches() -> int:
        status = Path(f"{own}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def state() -> str:
        return Path(f"{own}/stat").read_text().rpartition(")")[2].split()[0]

    deadline = time.monotonic() + PATIENCE
    while state() != "S":
        assert time.monotonic() < deadline
        os.sched_yield()
    before = switches()
    threading.Event().wait(0.2)
    assert switches() - before <= 2


class Paused:
    """Makes a store wait in `append`."""

    def __init__(self, store: SqliteHistory) -> None:
        self.go_on = threading.Event()
        self.reached = threading.Event()
        self._append = store.append
        store.append = self  # type: ignore[method-assign]

    def __call__(self, events: Sequence[Event]) -> None:
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        self._append(events)


def test_everything_is_stored_at_the_end_and_the_run_has_an_end(path: Path) -> None:
    one = written(path)
    one.writer.start()
    publish(one, 1, 2_500)
    one.end()
    assert numbers(HistoryReader(path).query(ALL)) == list(range(1, 2_501))
    assert ended(path) == [True]
    assert not Path(f"{path}-wal").exists()
    assert one.troubles.empty()


def test_what_is_published_before_the_start_is_stored_too(path: Path) -> None:
    one = written(path)
    publish(one, 1, 3)
    one.writer.start()
    one.end()
    assert numbers(HistoryReader(path).query(ALL)) == [1, 2, 3]


def test_an_event_is_stored_while_the_tree_runs(path: Path) -> None:
    one = written(path)
    one.writer.start()
    publish(one, 1, 1)
    wait_until_stored(one, 1)
    one.end()


def test_closing_does_not_wait_and_ends_the_writer_alone(path: Path) -> None:
    one = written(path)
    one.writer.start()
    publish(one, 1, 3)
    one.writer.close()
    assert one.writer.join(PATIENCE)
    publish(one, 4, 5)
    assert numbers(HistoryReader(path).query(ALL)) == [1, 2, 3]


def test_one_that_was_never_started_gives_the_file_back(path: Path) -> None:
    one = written(path)
    one.writer.close()
    assert one.writer.join(0.0)
    written(path, run="r2").writer.close()


def test_a_second_run_goes_on_and_both_are_one_history(path: Path) -> None:
    first = written(path)
    first.writer.start()
    publish(first, 1, 5)
    first.end()
    second = written(path, run="r2")
    assert numbers(second.history.query(EventQuery(limit=2))) == [4, 5]
    second.writer.start()
    publish(second, 6, 8)
    assert numbers(second.history.query(ALL)) == list(range(1, 9))
    second.end()
    assert numbers(second.history.query(ALL)) == list(range(1, 9))


def test_what_is_being_stored_is_found_although_the_ring_has_lost_it(path: Path) -> None:
    one = written(path, capacity=5)
    paused = Paused(one.store)
    publish(one, 1, 5)
    one.writer.start()
    assert paused.reached.wait(PATIENCE)
    publish(one, 6, 8)
    assert numbers(one.history.query(ALL)) == list(range(1, 9))
    assert one.writer.lag_s > 0.0
    paused.go_on.set()
    one.end()
    assert one.writer.lag_s == 0.0


def test_a_flood_becomes_a_counted_gap_in_the_file_while_the_ring_stays_whole(path: Path) -> None:
    one = written(path, capacity=100)
    paused = Paused(one.store)
    publish(one, 1, 100)
    one.writer.start()
    assert paused.reached.wait(PATIENCE)
    publish(one, 101, 1_000)
    assert numbers(one.history.query(ALL)) == [*range(1, 101), (101, 900), *range(901, 1_001)]
    paused.go_on.set()
    wait_until_stored(one, 1_000)
    publish(one, 1_001, 1_050)
    expected = [*range(1, 101), (101, 900), *range(901, 1_051)]
    assert numbers(one.history.query(ALL)) == expected
    one.end()
    assert numbers(HistoryReader(path).query(ALL)) == expected
    gap = HistoryReader(path).query(EventQuery(types=frozenset({EventType.EVENT_GAP})))
    assert [event.run for event in gap] == ["r1"]


@pytest.mark.slow
def test_no_event_is_missed_or_found_twice_while_a_flood_is_written(path: Path) -> None:
    one = written(path, capacity=200)
    one.writer.start()
    done = threading.Event()

    def flood() -> None:
        publish(one, 1, 20_000)
        done.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    while not done.is_set():
        known = 0
        for event in one.history.query(ALL):
            first = event.data.first if isinstance(event.data, EventGap) else event.seq
            assert first == known + 1
            known = event.seq
    flooding.join()
    one.end()


@pytest.mark.slow
def test_events_beyond_the_rows_are_forgotten_while_it_runs(path: Path) -> None:
    one = written(path, rows=100)
    one.writer.start()
    publish(one, 1, 5_000)
    one.end()
    kept = numbers(HistoryReader(path).query(ALL))
    assert kept[-1] == 5_000
    assert 100 <= len(kept) <= 1_100


@pytest.mark.slow
def test_old_events_are_forgotten_by_a_timer(path: Path) -> None:
    one = written(path, age=0.1)
    one.writer.start()
    publish(one, 1, 5)
    deadline = time.monotonic() + PATIENCE
    while one.store.last_seq < 5 or one.store.query(ALL):
        assert time.monotonic() < deadline
        os.sched_yield()
    one.end()


@pytest.mark.slow
def test_what_is_beyond_the_rows_is_forgotten_at_the_start_although_nothing_happens(path: Path) -> None:
    many = 2 * FORGOTTEN_AT_ONCE + 300
    append(path, *[numbered(seq) for seq in range(1, many + 1)], run="r0")
    one = written(path, rows=100)
    one.writer.start()
    deadline = time.monotonic() + PATIENCE
    while len(one.store.query(ALL)) > 100:
        assert time.monotonic() < deadline
        os.sched_yield()
    assert_sleeps(one)
    one.end()
    assert numbers(HistoryReader(path).query(ALL)) == list(range(many - 99, many + 1))


# Another kind of store


class ListStore:
    """The three methods and no more."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pruned: list[int | None] = []

    def append(self, events: Sequence[Event]) -> None:
        self.events += events

    def query(self, query: EventQuery) -> list[Event]:
        return query.among(self.events)

    def prune(self, rows: int | None, before: float | None) -> bool:
        self.pruned.append(rows)
        return False


def test_a_store_of_three_methods_is_enough() -> None:
    store, events = ListStore(), EventManager(lambda _, error: None, capacity=5)
    closed: list[bool] = []
    troubles: list[str] = []
    opened = OpenedHistory(store, close=lambda: closed.append(True))
    writer = HistoryWriter(opened, events, rows=3, on_trouble=troubles.append)
    history = History(writer, store)
    events.publish(numbered(1))
    writer.start()
    for seq in range(2, 5):
        events.publish(numbered(seq))
    assert numbers(history.query(ALL)) == [1, 2, 3, 4]
    events.close()
    assert writer.join(PATIENCE)
    assert numbers(store.events) == [1, 2, 3, 4]
    assert store.pruned[:1] == [3]
    assert (closed, troubles) == ([True], [])


def test_a_store_that_knows_earlier_runs_goes_on_where_it_ended() -> None:
    store, events = ListStore(), EventManager(lambda _, error: None)
    store.append([numbered(1, run="r0"), numbered(2, run="r0")])
    writer = HistoryWriter(OpenedHistory(store, last_seq=2), events, on_trouble=print)
    writer.start()
    events.publish(numbered(3))
    assert numbers(History(writer, store).query(ALL)) == [1, 2, 3]
    events.close()
    assert writer.join(PATIENCE)
    assert numbers(store.events) == [1, 2, 3]


# Trouble


def test_a_file_that_is_removed_is_told_once_and_memory_goes_on(path: Path) -> None:
    one = written(path, capacity=50)
    one.writer.start()
    publish(one, 1, 10)
    wait_until_stored(one, 10)
    for end in ("", "-wal", "-shm", "-lock"):
        os.unlink(f"{path}{end}")
    publish(one, 11, 20)
    assert "was removed or replaced" in one.troubles.get(timeout=PATIENCE)
    publish(one, 21, 100)
    found = one.history.query(ALL)
    assert numbers(found)[-50:] == list(range(51, 101))
    assert [first_of(event) for event in found] == [1, *(event.seq + 1 for event in found[:-1])]
    one.end()
    assert one.troubles.empty()
    assert not path.exists()


def test_a_run_whose_storing_failed_has_no_end(path: Path) -> None:
    one = written(path)
    one.store._connection.execute("PRAGMA max_page_count = 1")
    one.writer.start()
    one.events.publish(message(1, text="x" * 9_000))
    one.troubles.get(timeout=PATIENCE)
    one.end()
    assert ended(path) == [False]


def test_a_full_disk_is_told_once_and_memory_goes_on(path: Path) -> None:
    one = written(path, capacity=50)
    one.store._connection.execute("PRAGMA max_page_count = 1")  # as it is now
    one.writer.start()
    for seq in range(1, 11):
        one.events.publish(message(seq, text="x" * 9_000))
    assert "full; make room on its disk" in one.troubles.get(timeout=PATIENCE)
    publish(one, 11, 100)
    assert numbers(one.history.query(ALL)) == [(1, 50), *range(51, 101)]
    one.end()
    assert one.troubles.empty()
    assert one.writer.lag_s == 0.0


def test_a_file_that_breaks_while_it_is_written_is_told_once(path: Path) -> None:
    one = written(path)
    one.writer.start()
    publish(one, 1, 10)
    wait_until_stored(one, 10)
    with closing(sqlite3.connect(path)) as other:
        other.executescript("DROP TRIGGER event_stored; DROP TABLE marks; DROP TABLE events;")
    publish(one, 11, 20)
    assert str(path) in one.troubles.get(timeout=PATIENCE)
    assert numbers(one.history.query(ALL))[-10:] == list(range(11, 21))
    one.end()
    assert one.troubles.empty()


def test_a_file_that_becomes_read_only_is_told_once(path: Path) -> None:
    one = written(path)
    one.store._connection.execute("PRAGMA query_only = 1")
    one.writer.start()
    publish(one, 1, 10)
    assert "check the permissions" in one.troubles.get(timeout=PATIENCE)
    assert numbers(one.history.query(ALL)) == list(range(1, 11))
    one.end()


def test_a_file_that_another_program_locks_for_long_is_told_once(path: Path) -> None:
    one = written(path)
    one.store._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.writer.start()
        publish(one, 1, 10)
        assert "end the other program that writes into it" in one.troubles.get(timeout=PATIENCE)
        one.end()


def test_one_that_gave_up_gives_the_file_back(path: Path) -> None:
    one = written(path)
    one.store._connection.execute("PRAGMA max_page_count = 1")
    one.writer.start()
    one.events.publish(message(1, text="x" * 9_000))
    one.troubles.get(timeout=PATIENCE)
    one.end()
    again = written(path, run="r2")
    again.writer.start()
    publish(again, 1, 3)
    again.end()
    assert numbers(HistoryReader(path).query(ALL)) == [1, 2, 3]


def test_a_callback_that_raises_does_not_keep_the_writer_from_ending(path: Path) -> None:
    one = written(path)

    def fail(text: str) -> None:
        raise RuntimeError(text)

    one.writer._on_trouble = fail
    one.store._connection.close()
    one.writer.start()
    publish(one, 1, 1)
    one.end()


# Nothing to do


@pytest.mark.slow
def test_an_idle_writer_sleeps(path: Path) -> None:
    one = written(path)
    one.writer.start()
    publish(one, 1, 1)
    wait_until_stored(one, 1)

    assert_sleeps(one)
    one.end()
