"""The history file: what is stored, found, refused and forgotten."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from event_samples import EVERY_DATA
from history_support import append, message, numbered, stored

from orchestree.strategies.errors import SpecError
from orchestree.supervisor import history_sqlite
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.events import (
    AgentMessage,
    AgentParked,
    AgentReady,
    Event,
    EventData,
    EventGap,
    EventType,
    ServiceFailed,
)
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_file import BLOCK, ERA
from orchestree.supervisor.history_queries import HistoryReader
from orchestree.supervisor.history_sqlite import SqliteHistory

pytestmark = pytest.mark.portable

ALL = EventQuery(limit=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def rows(path: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def tables(path: Path, table: str) -> int:
    [(count,)] = rows(path, f"SELECT count(*) FROM {table}")
    return int(count)


def change(path: Path, statement: str, *values: object) -> None:
    """Write into the file past us."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize("data", EVERY_DATA, ids=lambda data: type(data).__name__)
def test_an_event_of_each_type_comes_back_equal(path: Path, data: EventData) -> None:
    event = numbered(7, data, "a/b", 1.7e9)
    append(path, event)
    assert HistoryReader(path).query(ALL) == [event]


def test_numbers_go_on_and_each_run_has_its_own_events(path: Path) -> None:
    append(path, numbered(1), numbered(2), run="one")
    with stored(path, "two") as store:
        assert store.last_seq == 2
        store.append([numbered(3)])
    assert [(e.seq, e.run) for e in HistoryReader(path).query(ALL)] == [(1, "one"), (2, "one"), (3, "two")]
    assert rows(path, "SELECT id, name, pid, after FROM runs ORDER BY number") == [
        ("one", "test", os.getpid(), 0),
        ("two", "test", os.getpid(), 2),
    ]
    (began, ended), (later, _) = rows(path, "SELECT began, ended FROM runs ORDER BY number")
    assert began <= ended <= later


def test_a_run_that_goes_on_has_no_end(path: Path) -> None:
    with stored(path):
        assert rows(path, "SELECT ended FROM runs") == [(None,)]


def test_the_file_is_for_its_owner_only_and_closing_leaves_nothing_beside_it(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(1)])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {f"history.db{end}": 0o600 for end in ("", "-lock", "-wal", "-shm")}
    assert {file.name for file in path.parent.iterdir()} == {"history.db"}


def test_reading_a_closed_file_leaves_nothing_behind(path: Path) -> None:
    append(path, numbered(1))
    HistoryReader(path).query(ALL)
    assert {file.name for file in path.parent.iterdir()} == {"history.db"}


def test_a_writer_is_read_while_it_writes_by_any_thread(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(1)])
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.extend(seqs(store.query(ALL))))
        reader.start()
        reader.join()
        assert found == [1]


# What cannot be stored as it is


def test_an_event_that_cannot_be_written_is_replaced_and_the_others_are_stored(path: Path) -> None:
    class Broken:
        """No data of an event at all."""

    bad = Event(2, 0.0, 0.0, EventType.AGENT_PARKED, "a", 1, Broken(), "r1")  # type: ignore[arg-type]
    endless = numbered(3, time=float("nan"))
    append(path, numbered(1), bad, endless, numbered(4))
    found = HistoryReader(path).query(ALL)
    assert seqs(found) == [1, 2, 3, 4]
    assert found[1].data == ServiceFailed("history", "agent_parked could not be stored: KeyError")
    assert found[1].path == "a"
    assert isinstance(found[2].data, ServiceFailed)


HOSTILE = {
    "nan": float("nan"),
    "surrogate": "\udc80",
    "nul": "\x00",
    "sql": "'; DROP TABLE events; --",
    "huge int": 10**5000,
    "bytes": b"\xff" * 10**6,
    "object": object(),
    "endless text": "x" * 10**7,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_user_data_breaks_no_batch(path: Path, value: object) -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    append(path, numbered(1), message(2, value=value, deep=deep), numbered(3))
    found = HistoryReader(path).query(ALL)
    assert seqs(found) == [1, 2, 3]
    assert isinstance(found[1].data, AgentMessage)


def test_a_number_that_is_stored_already_keeps_its_first_event(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(1), numbered(2)])
        store.append([numbered(2, AgentParked("again", 1)), numbered(3)])
        assert [e.type for e in store.query(ALL)] == [EventType.AGENT_READY] * 3


# Questions


def test_pages_by_number_cover_everything_once(path: Path) -> None:
    append(path, *[numbered(seq, path=f"s/{seq % 3}") for seq in range(1, 101)])
    reader = HistoryReader(path)
    for wanted in ("", "s", "s/1"):
        pages: list[int] = []
        while page := reader.query(EventQuery(wanted, since=pages[-1] if pages else 0, limit=7)):
            pages += seqs(page)
        assert pages == seqs(reader.query(EventQuery(wanted, limit=None)))


@pytest.mark.slow
def test_a_stepping_clock_hides_nothing(path: Path) -> None:
    # Three blocks of numbers; the clock goes back in the middle one.
    events = [numbered(seq, time=float(seq if not BLOCK < seq < BLOCK + 9 else 5)) for seq in range(1, 2 * BLOCK + 50)]
    append(path, *events)
    reader = HistoryReader(path)
    for query in (
        EventQuery(after=3, before=6, limit=None),
        EventQuery(before=6, limit=3),
        EventQuery(after=5, since=0, limit=2),
        EventQuery("a", after=2.0 * BLOCK, limit=None),
        EventQuery("a", after=1e9),
        EventQuery(before=0.0),
    ):
        assert reader.query(query) == query.among(events), query


# What is forgotten


def forget_all(store: SqliteHistory, rows: int | None, before: float | None) -> int:
    steps = 1
    while store.prune(rows, before):
        steps += 1
    return steps


def test_the_newest_rows_stay(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(seq, path=f"s/{seq % 2}") for seq in range(1, 101)])
        forget_all(store, 10, None)
        assert seqs(store.query(ALL)) == list(range(91, 101))
        assert seqs(store.query(EventQuery("s/1"))) == [91, 93, 95, 97, 99]


@pytest.mark.slow
def test_what_is_too_old_goes_whatever_the_clock_did(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(seq, time=100.0 if seq % 2 else 5.0) for seq in range(1, 2 * BLOCK)])
        forget_all(store, None, 50.0)
        assert {event.time for event in store.query(ALL)} == {100.0}
        assert len(store.query(EventQuery(after=0.0, limit=None))) == BLOCK
        forget_all(store, None, 500.0)
        assert store.query(ALL) == []
    assert tables(path, "spans") == 0


@pytest.mark.slow
def test_much_is_forgotten_in_small_steps(path: Path) -> None:
    with stored(path) as store:
        many = 3 * history_sqlite.FORGOTTEN_AT_ONCE
        store.append([numbered(seq) for seq in range(1, many + 1)])
        assert forget_all(store, 1, None) >= 3
        assert seqs(store.query(ALL)) == [many]


def test_numbers_go_on_when_everything_is_forgotten(path: Path) -> None:
    with stored(path) as store:
        store.append([numbered(seq, time=1.0) for seq in range(1, 11)])
        forget_all(store, None, 50.0)
    with stored(path, "r2") as store:
        assert store.last_seq == 10


def test_topics_and_runs_without_events_are_forgotten_and_may_come_back(path: Path) -> None:
    append(path, numbered(1), run="old")
    with stored(path) as store:
        store.append([numbered(seq, path=f"worker-{seq}") for seq in range(2, 1_000)])
        store.append([numbered(ERA, EventGap(1_000, ERA), "")])
        store.append([numbered(ERA + seq, path=f"later-{seq}") for seq in range(1, 21)])
        forget_all(store, 10, None)
        assert len(store.query(EventQuery(types=frozenset({EventType.AGENT_READY})))) == 10
        assert rows(path, "SELECT id FROM runs") == [("r1",)]
        assert tables(path, "topics") == 22
        assert tables(path, "covers") == 41
        store.append([numbered(2 * ERA, path="worker-2")])
        assert seqs(store.query(EventQuery("worker-2"))) == [2 * ERA]


@pytest.mark.slow
@pytest.mark.parametrize("by_age", [False, True])
def test_the_marks_of_a_block_go_with_its_last_event(path: Path, by_age: bool) -> None:
    # By age an old one stays below, whose time lies ahead: the clock was wrong once.
    last = 2 * BLOCK + 50
    with stored(path) as store:
        store.append([numbered(seq, time=1e9 if by_age and seq == 1 else float(seq)) for seq in range(1, last + 1)])
        forget_all(store, None if by_age else 10, last - 9.0 if by_age else None)
        assert seqs(store.query(ALL)) == [*([1] if by_age else []), *range(last - 9, last + 1)]
        assert seqs(store.query(EventQuery("a", limit=None))) == seqs(store.query(ALL))
    left = {block for (block,) in rows(path, "SELECT DISTINCT block FROM marks")}
    assert left == ({0, 2} if by_age else {2})


# What cannot be read


BAD_ROWS = {
    "a later type": ("UPDATE topics SET type = 'agent_paused' WHERE type = 'agent_parked'", ()),
    "no JSON": ("UPDATE events SET data = '{\"why' WHERE seq = 2", ()),
    "no text": ("UPDATE events SET data = CAST(X'ff7b7d' AS TEXT) WHERE seq = 2", ()),
    "no object": ("UPDATE events SET data = '17' WHERE seq = 2", ()),
    "another value": ('UPDATE events SET data = \'{"why": 1, "attempt": "many"}\' WHERE seq = 2', ()),
    "no time": ("UPDATE events SET monotonic = 'noon' WHERE seq = 2", ()),
    "no number": ("UPDATE events SET incarnation = X'00' WHERE seq = 2", ()),
    "endless": ("UPDATE events SET data = ? WHERE seq = 2", ("[" * 100_000,)),
}


@pytest.mark.parametrize("damage", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_cannot_be_read_is_a_gap_of_its_number(path: Path, damage: tuple[str, tuple[object, ...]]) -> None:
    append(path, numbered(1), numbered(2, AgentParked("why", 3), time=5.0), numbered(3))
    change(path, damage[0], *damage[1])
    for query in (ALL, EventQuery(since=0), EventQuery("a")):
        found = HistoryReader(path).query(query)
        assert [(e.seq, e.run, e.type) for e in found[::2]] == [(n, "r1", EventType.AGENT_READY) for n in (1, 3)]
        assert (found[1].seq, found[1].path, found[1].data) == (2, "", EventGap(2, 2))
        json.dumps([to_json(event) for event in found], allow_nan=False)


# What is taken away


@pytest.mark.parametrize("taken", ["", "-wal", "-lock"])
def test_a_file_that_is_removed_is_noticed_by_the_next_batch(path: Path, taken: str) -> None:
    with stored(path) as store:
        store.append([numbered(1)])
        os.unlink(f"{path}{taken}")
        with pytest.raises(OSError, match=r"history\.db.*was removed or replaced"):
            store.append([numbered(2)])


def test_another_file_in_its_place_is_not_taken_for_it(path: Path) -> None:
    other = path.parent / "other.db"
    append(other, numbered(1), numbered(2))
    with stored(path) as store:
        store.append([numbered(1)])
        other.replace(path)
        with pytest.raises(OSError, match="was removed or replaced"):
            store.query(ALL)
        with pytest.raises(OSError, match="was removed or replaced"):
            store.append([numbered(2)])
    assert seqs(HistoryReader(path).query(ALL)) == [1, 2]


# What is refused


def test_a_second_writer_is_refused_until_the_first_has_closed(path: Path) -> None:
    link = path.parent / "link.db"
    with stored(path) as store:
        link.symlink_to(path)
        for same in (path, link):
            with pytest.raises(SpecError, match=r"written by another orchestrator; give each .* a file of its own"):
                SqliteHistory.open(same, name="other", run="r2")
        store.append([numbered(1)])
    append(path, numbered(2), run="r2")


FORKING_WRITER = """
import os, sys
from orchestree.supervisor.history_sqlite import SqliteHistory
store = SqliteHistory.open(sys.argv[1], name="parent", run="r1")
if os.fork() == 0:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_forked_child_that_outlives_its_killed_parent_does_not_keep_the_file(path: Path) -> None:
    command = [sys.executable, "-c", FORKING_WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            with pytest.raises(SpecError, match="another orchestrator"):
                SqliteHistory.open(path, name="n", run="r2")
            parent.kill()
            parent.wait()
            append(path, numbered(1), run="r2")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_file_that_is_a_link_is_refused_and_not_followed(path: Path) -> None:
    Path(f"{path}-lock").symlink_to(path.parent / "precious")
    with pytest.raises(OSError, match=r"history\.db cannot be written"):
        SqliteHistory.open(path, name="n", run="r")
    assert not (path.parent / "precious").exists()


def test_a_file_of_another_application_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(SpecError, match="another application"):
        SqliteHistory.open(path, name="n", run="r")
    with pytest.raises(SpecError, match="another application"):
        HistoryReader(path).query(ALL)
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    append(path, numbered(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SpecError, match="version 99"):
        SqliteHistory.open(path, name="n", run="r")
    with pytest.raises(SpecError, match="version 99"):
        HistoryReader(path).query(ALL)


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no folder"):
        SqliteHistory.open(tmp_path / "no" / "h.db", name="n", run="r")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        SqliteHistory.open(tmp_path, name="n", run="r")


def test_a_folder_in_which_nothing_can_be_made_is_an_error() -> None:
    with pytest.raises(OSError, match=r"history file /proc/self/h\.db cannot be written"):
        SqliteHistory.open("/proc/self/h.db", name="n", run="r")


def test_a_missing_file_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no history file .*history\.db"):
        HistoryReader(path).query(ALL)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\x00" * 5000])
def test_a_damaged_file_is_refused_with_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OSError, match="move it away"):
        SqliteHistory.open(path, name="n", run="r")
    with pytest.raises(OSError, match=r"(malformed|not a database)$"):  # a reader has nothing to make anew
        HistoryReader(path).query(ALL)
    path.unlink()
    append(path, numbered(1))  # the lock was given back


def test_an_empty_file_is_taken(path: Path) -> None:
    path.touch()
    assert HistoryReader(path).query(ALL) == []
    append(path, numbered(1))
    assert seqs(HistoryReader(path).query(ALL)) == [1]


def test_a_gap_is_one_event_under_its_last_number(path: Path) -> None:
    append(path, numbered(1), numbered(9, EventGap(2, 9), ""), numbered(10, AgentReady(1.0)))
    assert seqs(HistoryReader(path).query(ALL)) == [1, 9, 10]
