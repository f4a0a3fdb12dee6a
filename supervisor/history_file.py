"""What a history file is: its tables, how it is recognised, and what is said of one that cannot be used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from orchestree.strategies.errors import SpecError

APPLICATION_ID: Final = 0x4F726368
"""``Orch``: tells our files from other SQLite files."""
VERSION: Final = 1
"""Of the tables below; a file with a higher one was written by a later Orchestree."""

BLOCK: Final = 16_384
"""Numbers of one block. The marks of a block lie together: so storing a batch changes few pages, however many agents
there are, and a question looks from block to block, 600 of them in 10 million events."""
ERA: Final = 8 * BLOCK
"""Numbers of one era: in each of them a topic is noted once, so that those without events can be forgotten."""

SCHEMA: Final = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};

-- One run of an orchestrator. Its events are those numbered after `after`, up to the `after` of the next run.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    after INTEGER NOT NULL
);

-- A topic is a type of events of one path and all below it; `era` is the newest in which there was one.
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    type TEXT NOT NULL,
    era INTEGER NOT NULL,
    UNIQUE (path, type)
);

-- AUTOINCREMENT: numbers go on where they were even when all events are forgotten.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL,
    time REAL NOT NULL,
    monotonic REAL NOT NULL,
    incarnation INTEGER NOT NULL,
    data TEXT NOT NULL
);

-- A mark may stay behind its event, until there is none left in its block.
-- An event is found under its own topic and under those of the supervisors above it: so the newest hundred of
-- an agent, of a supervisor with thousands of agents and of a rare type are each a few short ranges of `marks`.
CREATE TABLE covers (topic INTEGER, above INTEGER, PRIMARY KEY (topic, above)) WITHOUT ROWID;
CREATE TABLE marks (block INTEGER, topic INTEGER, seq INTEGER, PRIMARY KEY (block, topic, seq)) WITHOUT ROWID;
CREATE TRIGGER event_stored AFTER INSERT ON events BEGIN
    INSERT INTO marks SELECT new.seq / {BLOCK}, above, new.seq FROM covers WHERE topic = new.topic;
END;
CREATE TRIGGER topic_forgotten AFTER DELETE ON topics BEGIN
    DELETE FROM covers WHERE topic = old.id;
END;

-- The times of each block of {BLOCK} numbers: wall clocks step, so times need not ascend as numbers do.
CREATE TABLE spans (block INTEGER PRIMARY KEY, earliest REAL NOT NULL, latest REAL NOT NULL);
"""

_DENIED: Final = ("READONLY", "CANTOPEN", "PERM", "AUTH")
_PERMISSIONS: Final = "check the permissions of the file and of its folder"


class NotOurs(SpecError):
    """The file is a database of another application."""


def connect(path: Path, how: Literal["mode=rw", "mode=ro", "immutable=1"], *, timeout: float) -> sqlite3.Connection:
    """Return a connection for one thread at a time, without transactions of its own.

    Args:
        path: of the file.
        how: ``immutable`` reads a file that nobody writes, without files beside it; ``ro`` reads any.
        timeout: seconds to wait for another connection that writes.
    """
    address = f"file:{quote(str(path))}?{how}"
    return sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file has our tables; False: it is empty.

    Raises:
        NotOurs: the file belongs to another application.
        SpecError: it belongs to a later version of Orchestree.
        sqlite3.Error: it is damaged, or no database at all.
    """
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as found:
        tables = found.fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID and version == VERSION:
        return True
    if application == APPLICATION_ID:
        raise SpecError(f"history file {path} has version {version}, this Orchestree knows {VERSION}: use a later one")
    if tables or application:
        raise NotOurs(f"{path} is a database of another application: give history a file of its own")
    return False


def unreadable(path: Path, error: sqlite3.Error) -> OSError:
    """Return what to raise for an error of SQLite to whoever only reads: which file, and what is wrong."""
    cure = f"; {_PERMISSIONS}" if kind_of(error) in _DENIED else ""
    return OSError(f"history file {path}: {error}{cure}")


def unusable(path: Path, error: Exception) -> OSError:
    """Return what to raise for an error of SQLite to whoever writes: which file, what is wrong, what to do."""
    match kind_of(error):
        case "CORRUPT" | "NOTADB":
            cure = "move it away, and a new one is made"
        case "FULL":
            cure = "make room on its disk, or keep less (history_rows, history_age)"
        case kind if kind in _DENIED:
            cure = _PERMISSIONS
        case "BUSY" | "LOCKED":
            cure = "end the other program that writes into it"
        case _:
            cure = "check the disk"
    return OSError(f"history file {path}: {error}; {cure}")


def kind_of(error: BaseException | None) -> str:
    """Return SQLite's name of an error, such as ``CORRUPT``; empty if it is none of SQLite."""
    return str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_").partition("_")[0]
