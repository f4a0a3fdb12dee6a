"""The event history as an SQLite file: one writer, any number of readers, safe from kills and power cuts."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Self

from orchestree.strategies.errors import SpecError

from .event_json import data_to_json
from .events import Event, EventType, ServiceFailed
from .file_lock import Lock, Taken, identity_of
from .history import EventQuery, OpenedHistory
from .history_file import BLOCK, ERA, SCHEMA, connect, is_ours, unusable
from .history_queries import HistoryReader

OPEN_PATIENCE_S: Final = 2.0
WRITE_PATIENCE_S: Final = 10.0
"""Seconds to wait for another program that writes into the file."""
ENCODED_AT_ONCE: Final = 200
"""Events that one call of the JSON encoder writes: it keeps the interpreter to itself meanwhile."""
FORGOTTEN_AT_ONCE: Final = 2_000
"""Numbers of one step of `prune`; it takes a fraction of what it takes to store so many."""
_INSERT: Final = """
INSERT OR IGNORE INTO events (seq, topic, time, monotonic, incarnation, data)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(?)
"""
"""One statement for a whole batch: SQLite gives up the GIL once, not for each row."""


_NOTE_TOPICS: Final = """
INSERT INTO topics (path, type, era)
SELECT DISTINCT json_extract(value, '$[2]'), json_extract(value, '$[1]'), ? FROM json_each(?) WHERE true
ON CONFLICT (path, type) DO UPDATE SET era = excluded.era
"""
_NOTE_COVERS: Final = """
INSERT OR IGNORE INTO covers SELECT own.id, above.id FROM json_each(?)
JOIN topics AS own ON own.path = json_extract(value, '$[0]') AND own.type = json_extract(value, '$[1]')
JOIN topics AS above ON above.path = json_extract(value, '$[2]') AND above.type = own.type
"""
_IDS: Final = """
SELECT json_group_array(json_array(topics.path, topics.type, topics.id)) FROM json_each(?) AS pair
JOIN topics ON topics.path = json_extract(pair.value, '$[0]') AND topics.type = json_extract(pair.value, '$[1]')
WHERE json_extract(pair.value, '$[2]') = topics.path
"""


def open_history(path: str | Path, *, name: str, run: str) -> OpenedHistory:
    """Return the history file at `path`, ready for a run. Arguments and errors are those of `SqliteHistory.open`."""
    store = SqliteHistory.open(path, name=name, run=run)
    return OpenedHistory(store, store.last_seq, store.close)


class SqliteHistory:
    """A history file that this process writes. Closed by `close`; the file can be read by anybody at any time.

    Attributes:
        path: of the file, without symbolic links.
        run: id of this run.
        last_seq: number of the newest event that was stored, whether it is kept still or not.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Lock, run: str) -> None:
        """Use `open`."""
        self.path = path
        self.run = run
        self._connection = connection
        self._lock = lock
        self._reader = HistoryReader(path)
        self._opened = {file: identity_of(file) for file in (path, Path(f"{path}-wal"))}
        self._failed = False
        self._topics: dict[tuple[str, str], int] = {}
        self._era = -1  # in which they were noted
        self.last_seq = int(self._one("SELECT max(seq) FROM sqlite_sequence") or 0)
        self._oldest = self._first_kept()
        self._unspanned = self._tail()

    @classmethod
    def open(cls, path: str | Path, *, name: str, run: str) -> Self:
        """Open the file, or make it with mode 0600, and begin a run in it.

        Args:
            path: of the file; ``<file>-lock``, ``<file>-wal`` and ``<file>-shm`` stand beside it while it is open.
            name: of the orchestrator.
            run: id of the run, not used before.

        Raises:
            SpecError: there is no such folder, it is no history file, or another orchestrator writes it.
            OSError: it is damaged or cannot be written.
        """
        file = Path(os.path.realpath(path))
        if not file.parent.is_dir():
            raise SpecError(f"history file {path}: there is no folder {file.parent}; make it first")
        if file.is_dir():
            raise SpecError(f"history file {path} is a folder; name a file in it")
        try:
            lock = Lock(Path(f"{file}-lock"))  # closing another descriptor of the file itself drops SQLite's locks
        except Taken:
            raise SpecError(
                f"history file {file} is written by another orchestrator; give each orchestrator a file of its own"
            ) from None
        except OSError as error:
            raise OSError(f"history file {path} cannot be written: {error}") from error
        try:
            _create(file)
            connection = connect(file, "mode=rw", timeout=OPEN_PATIENCE_S)
            try:
                _prepare(connection, file, name, run)
                return cls(file, connection, lock, run)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            lock.release()
            if isinstance(error, sqlite3.Error):
                raise unusable(file, error) from error
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Store events in one transaction; an event that cannot be written is replaced by one that says so.

        See `HistoryStore`. A file that was removed since the last call is noticed here.
        """
        if not events:
            return
        try:
            if unknown := self._unknown(events):
                self._connection.execute("BEGIN")
                self._note(unknown)
            self._connection.execute(_INSERT, (self._encoded(events),))
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            self.last_seq = max(self.last_seq, events[-1].seq)
            self._note_spans(self.last_seq // BLOCK)
        except sqlite3.Error as error:
            self._failed = True
            self._topics.clear()
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise unusable(self.path, error) from error
        if not self._lock.is_in_place() or any(map(self._is_gone, self._opened)):
            self._failed = True
            raise self._removed()

    def query(self, query: EventQuery) -> list[Event]:
        """Return what is stored, oldest first, by a connection of its own. See `HistoryStore`."""
        if self._is_gone(self.path):
            raise self._removed()
        return self._reader.query(query)

    def prune(self, rows: int | None, before: float | None) -> bool:
        """Forget a few events, and the topics of which there are none any more. See `HistoryStore`.

        Numbers that are missing count as rows, so there may be fewer.
        """
        tidied = self._oldest // BLOCK
        try:
            more = rows is not None and self._forget_up_to(self.last_seq - rows)
            more = (before is not None and self._forget_before(before)) or more
            self._oldest = self._first_kept()
            if self._oldest // BLOCK > tidied:
                self._tidy()
        except sqlite3.Error as error:
            self._failed = True
            raise unusable(self.path, error) from error
        return more

    def close(self) -> None:
        """Mark the run as ended, unless storing has failed before, and close the file.

        Idempotent; not while another thread appends; nothing happens in a forked process.

        Raises:
            OSError: the mark was not written; the file is closed nevertheless.
        """
        if not self._lock.is_held:
            return
        try:
            if not self._failed:
                self._connection.execute("UPDATE runs SET ended = ? WHERE id = ?", (time.time(), self.run))
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error
        finally:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._lock.release()

    def _is_gone(self, file: Path) -> bool:
        return identity_of(file) != self._opened[file]

    def _removed(self) -> OSError:
        return OSError(f"history file {self.path}, or what belongs to it beside it, was removed or replaced")

    # Encoding

    def _encoded(self, events: Sequence[Event]) -> str:
        starts = range(0, len(events), ENCODED_AT_ONCE)
        pieces = (self._piece(events[start : start + ENCODED_AT_ONCE]) for start in starts)
        return f"[{','.join(pieces)}]"

    def _piece(self, events: Sequence[Event]) -> str:
        try:
            return _dumps([self._row(event) for event in events])[1:-1]
        except Exception:  # some value of a user's; the others must not suffer
            return ",".join(map(self._single, events))

    def _single(self, event: Event) -> str:
        try:
            return _dumps(self._row(event))
        except Exception as error:
            why = f"{event.type} could not be stored: {type(error).__name__}"
            substitute = data_to_json(ServiceFailed("history", why))
            self._note({(event.path, EventType.SERVICE_FAILED)})
            topic = self._topics[event.path, EventType.SERVICE_FAILED]
            times = [time if math.isfinite(time) else 0.0 for time in (event.time, event.monotonic)]
            return _dumps([event.seq, topic, *times, event.incarnation, substitute])

    def _row(self, event: Event) -> list[Any]:
        topic = self._topics[event.path, event.type]
        return [event.seq, topic, event.time, event.monotonic, event.incarnation, data_to_json(event.data)]

    # Topics

    def _unknown(self, events: Sequence[Event]) -> set[tuple[str, EventType]]:
        """Return the topics of `events` that have not been noted in their era."""
        era = events[-1].seq // ERA
        if era != self._era:
            self._era = era
            self._topics.clear()
        return {(event.path, event.type) for event in events} - self._topics.keys()

    def _note(self, topics: Iterable[tuple[str, EventType]]) -> None:
        """Note topics, and those above them, as seen in this era. A few statements, however many there are."""
        pairs = _dumps([[path, type, above] for path, type in topics for above in _upwards(path)])
        self._connection.execute(_NOTE_TOPICS, (self._era, pairs))
        self._connection.execute(_NOTE_COVERS, (pairs,))
        self._topics.update({(path, type): id for path, type, id in json.loads(self._one(_IDS, pairs))})

    # Retention

    def _forget_up_to(self, seq: int) -> bool:
        now = min(seq, self._oldest - 1 + FORGOTTEN_AT_ONCE)
        if now >= self._oldest:
            self._connection.execute("DELETE FROM events WHERE seq <= ?", (now,))
        return now < seq

    def _forget_before(self, moment: float) -> bool:
        """Forget events of before `moment` in the first block that has some, or else in the tail."""
        block = self._one("SELECT min(block) FROM spans WHERE earliest < ?", moment)
        first, last = (self._unspanned * BLOCK, 2**62) if block is None else (block * BLOCK, (block + 1) * BLOCK - 1)
        done = self._connection.execute(
            "DELETE FROM events WHERE seq IN"
            " (SELECT seq FROM events WHERE seq >= ? AND seq <= ? AND time < ? ORDER BY seq LIMIT ?)",
            (first, last, moment, FORGOTTEN_AT_ONCE),
        )
        if block is not None and done.rowcount < FORGOTTEN_AT_ONCE:
            self._connection.execute("DELETE FROM spans WHERE block = ?", (block,))
            self._span(first, last)
            self._connection.execute(
                "DELETE FROM marks WHERE block = ? AND block NOT IN (SELECT block FROM spans)", (block,)
            )
        return block is not None or done.rowcount == FORGOTTEN_AT_ONCE

    def _tidy(self) -> None:
        """Forget what belongs to forgotten events only."""
        block = self._oldest // BLOCK
        self._connection.execute("DELETE FROM marks WHERE block < ?", (block,))
        self._connection.execute("DELETE FROM spans WHERE block < ?", (block,))
        self._connection.execute("DELETE FROM topics WHERE era < ?", (self._oldest // ERA,))
        self._connection.execute(
            "DELETE FROM runs WHERE number < (SELECT max(number) FROM runs WHERE after < ?)", (self._oldest,)
        )

    def _first_kept(self) -> int:
        oldest = self._one("SELECT min(seq) FROM events")
        return self.last_seq + 1 if oldest is None else int(oldest)

    def _note_spans(self, block: int) -> None:
        """Note the times of all blocks before `block` that are not noted yet."""
        if block > self._unspanned:
            self._span(self._unspanned * BLOCK, block * BLOCK - 1)
            self._unspanned = block

    def _span(self, first: int, last: int) -> None:
        self._connection.execute(
            f"INSERT OR REPLACE INTO spans SELECT seq / {BLOCK}, min(time), max(time)"
            f" FROM events WHERE seq BETWEEN ? AND ? GROUP BY seq / {BLOCK}",
            (first, last),
        )

    def _tail(self) -> int:
        block = self._one("SELECT max(block) FROM spans")
        return 0 if block is None else int(block) + 1

    def _one(self, statement: str, *values: object) -> Any:
        with closing(self._connection.execute(statement, values)) as found:
            row = found.fetchone()
        return None if row is None else row[0]


def _upwards(path: str) -> list[str]:
    """Return `path` and those of the supervisors above it, the root's at last."""
    names = path.split("/") if path else []
    return ["/".join(names[:length]) for length in range(len(names), -1, -1)]


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _create(file: Path) -> None:
    with suppress(FileExistsError):  # what exists is not opened: closing it would drop the locks of SQLite
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare(connection: sqlite3.Connection, file: Path, name: str, run: str) -> None:
    ours = is_ours(connection, file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL would not wait for the disk at each commit
    connection.execute("PRAGMA cache_size = -32768")  # KiB; an index has one page in use for each agent and type
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages, 16 MB: each checkpoint writes hot pages once more
    if not ours:
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    connection.execute(
        "INSERT INTO runs (id, name, pid, began, after) SELECT ?, ?, ?, ?, coalesce(max(seq), 0) FROM sqlite_sequence",
        (run, name, os.getpid(), time.time()),
    )
    connection.execute(f"PRAGMA busy_timeout = {int(WRITE_PATIENCE_S * 1000)}")
