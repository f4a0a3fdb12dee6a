"""Reads history files, also while they are written and after their orchestrator has ended or was killed."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, Final

from .event_json import data_from_json
from .events import Event, EventGap, EventType
from .history import EventQuery
from .history_file import BLOCK, connect, is_ours, unreadable

PATIENCE_S: Final = 5.0
"""A reader only ever waits for the recovery of a file whose writer was killed."""

MAX_SEQ: Final = 2**63 - 1

BLOCKS_AT_ONCE: Final = 64

_ROWS: Final = """
SELECT seq, topics.path, topics.type, time, monotonic, incarnation, data
FROM events JOIN topics ON topics.id = topic
"""

_PRESENT: Final = """
SELECT blocks.value, topics.value FROM json_each(?) AS blocks CROSS JOIN json_each(?) AS topics
WHERE EXISTS (SELECT 1 FROM marks WHERE block = blocks.value AND topic = topics.value)
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of an orchestrator that wrote into the file; its events are those numbered above `after`."""

    id: str
    after: int


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Which numbers come into question: above `since`, up to `until`."""

    since: int
    until: int


class HistoryReader:
    """Answers from a history file. Any thread; each question has a connection of its own."""

    def __init__(self, path: str | Path) -> None:
        """Read the file at `path`; it is opened by each question."""
        self._path = Path(path)

    def query(self, query: EventQuery) -> list[Event]:
        """Return the stored events that fit, oldest first.

        One that cannot be read, because a later version wrote it or the file is damaged, is an ``EVENT_GAP``.

        Raises:
            SpecError: the file is no history file, or one of a later version.
            OSError: it is missing, or cannot be read.
        """
        if not self._path.is_file():
            raise FileNotFoundError(f"there is no history file {self._path}")
        try:
            if not self._is_open():
                with closing(connect(self._path, "immutable=1", timeout=PATIENCE_S)) as connection:
                    answer = self._answer(connection, query)
                if not self._is_open():  # otherwise somebody began to write meanwhile
                    return answer
            with closing(connect(self._path, "mode=ro", timeout=PATIENCE_S)) as connection:
                return self._answer(connection, query)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error

    def _is_open(self) -> bool:
        """Return whether somebody writes, or was killed while writing."""
        return os.path.exists(f"{os.path.realpath(self._path)}-wal")

    def _answer(self, connection: sqlite3.Connection, query: EventQuery) -> list[Event]:
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")  # one damaged row must not hide all
        connection.execute("BEGIN")  # all that follows sees the same moment
        return _Question(connection, query).answer() if is_ours(connection, self._path) else []


class _Question:
    """One question to one connection."""

    def __init__(self, connection: sqlite3.Connection, query: EventQuery) -> None:
        self._connection = connection
        self._query = query
        self._runs = [_Run(*row) for row in connection.execute("SELECT id, after FROM runs ORDER BY number")]
        self._order = "DESC" if query.newest_first else "ASC"

    def answer(self) -> list[Event]:
        numbers = self._numbers()
        if numbers.until <= numbers.since:
            return []
        found = [self._event(row) for row in islice(self._rows(numbers), self._query.limit)]
        if self._query.newest_first:
            found.reverse()
        return found

    def _rows(self, numbers: _Numbers) -> Iterator[Any]:
        """Yield the rows that fit, in the order of the query."""
        after, before = self._query.after, self._query.before
        times = (-math.inf if after is None else after, math.inf if before is None else before)
        if not self._query.path and self._query.types is None:
            yield from self._connection.execute(
                f"{_ROWS} WHERE seq > ? AND seq <= ? AND time >= ? AND time < ? ORDER BY seq {self._order}",
                (numbers.since, numbers.until, *times),
            )
            return
        for seq in self._marked(numbers):
            yield from self._connection.execute(f"{_ROWS} WHERE seq = ? AND time >= ? AND time < ?", (seq, *times))

    def _marked(self, numbers: _Numbers) -> Iterator[int]:
        """Yield the numbers of the events of the path and the types, in the order of the query."""
        blocks: Sequence[int] = range(numbers.since // BLOCK, numbers.until // BLOCK + 1)
        if self._query.newest_first:
            blocks = blocks[::-1]
        topics = self._topics()
        marks = (
            f"SELECT seq FROM marks WHERE block = ? AND topic = ? AND seq > ? AND seq <= ? ORDER BY seq {self._order}"
        )
        for start in range(0, len(blocks), BLOCKS_AT_ONCE):
            few = blocks[start : start + BLOCKS_AT_ONCE]
            present = self._present(few, topics)
            for block in few:
                ranges = [
                    self._connection.execute(marks, (block, topic, numbers.since, numbers.until))
                    for topic in present.get(block, ())
                ]
                for (seq,) in merge(*ranges, reverse=self._query.newest_first):
                    yield seq

    def _topics(self) -> list[int]:
        types = self._query.types
        found = self._connection.execute("SELECT id, type FROM topics WHERE path = ?", (self._query.path,))
        return [id for id, type in found if types is None or type in types]

    def _present(self, blocks: Sequence[int], topics: list[int]) -> dict[int, list[int]]:
        """Return which of the topics have events in which of the blocks."""
        found: dict[int, list[int]] = {}
        for block, topic in self._connection.execute(_PRESENT, (json.dumps(list(blocks)), json.dumps(topics))):
            found.setdefault(block, []).append(topic)
        return found

    def _event(self, row: Any) -> Event:
        seq, path, type_name, time, monotonic, incarnation, data = row
        number = bisect_left(self._runs, seq, key=lambda run: run.after)  # the first one that begins later
        run = self._runs[number - 1].id if number else ""
        try:
            type = EventType(type_name)
            read = data_from_json(type, json.loads(data))
            return Event(seq, float(time), float(monotonic), type, path, int(incarnation), read, run)
        except Exception:  # a later version wrote it, or it is damaged in whatever way
            time, monotonic = (value if isinstance(value, float) else 0.0 for value in (time, monotonic))
            return Event(seq, time, monotonic, EventType.EVENT_GAP, "", 0, EventGap(seq, seq), run)

    def _numbers(self) -> _Numbers:
        query = self._query
        since = max(query.since or 0, self._one("SELECT coalesce(min(seq), 0) FROM events") - 1)
        until = self._one("SELECT coalesce(max(seq), 0) FROM events")
        if query.until is not None:
            until = min(until, query.until)
        if query.run is not None:
            of_run = self._numbers_of_run(query.run)
            since, until = max(since, of_run.since), min(until, of_run.until)
        if query.after is not None:
            since = max(since, self._before_time(query.after))
        if query.before is not None:
            until = min(until, self._until_time(query.before))
        return _Numbers(since, until)

    def _numbers_of_run(self, id: str) -> _Numbers:
        for run, following in zip(self._runs, [*self._runs[1:], None], strict=True):
            if run.id == id:
                return _Numbers(run.after, following.after if following is not None else MAX_SEQ)
        return _Numbers(0, 0)

    def _before_time(self, after: float) -> int:
        """Return a number, no event up to which is of the time `after` or later."""
        block = self._one("SELECT min(block) FROM spans WHERE latest >= ?", after)
        return (self._tail() if block is None else block * BLOCK) - 1

    def _until_time(self, before: float) -> int:
        """Return a number, no event above which is of a time before `before`."""
        seq = self._one("SELECT max(seq) FROM events WHERE seq >= ? AND time < ?", self._tail(), before)
        if seq is not None:
            return int(seq)
        block = self._one("SELECT max(block) FROM spans WHERE earliest < ?", before)
        return 0 if block is None else (block + 1) * BLOCK - 1

    def _tail(self) -> int:
        """Return the number at which the blocks begin of which the times are not noted yet."""
        block = self._one("SELECT max(block) FROM spans")
        return 0 if block is None else (block + 1) * BLOCK

    def _one(self, statement: str, *values: float) -> Any:
        return self._connection.execute(statement, values).fetchone()[0]
