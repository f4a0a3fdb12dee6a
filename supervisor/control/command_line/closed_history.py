"""Reads the events of a history file, as the API would show them, without any orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import Event, EventType
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

from .exit_codes import Failed


def read_events(file: Path, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events that fit the parameters of the API's ``/events``, oldest first.

    Raises:
        Failed: the file cannot be read, or is no history file, or a value makes no sense.
    """
    try:
        wanted = EventQuery(
            path=query["path"] or "",
            types=frozenset(map(EventType, query["type"].split(","))) if query["type"] else None,
            since=query["since"],
            after=query["after"],
            before=query["before"],
            run=query["run"],
            limit=query["limit"],
        )
    except SpecError as error:
        raise Failed(str(error)) from None
    return [{**to_json(event), "text": describe(event)} for event in _answer(file, wanted)]


def read_run(file: Path, run: str | None) -> list[Event]:
    """Return all events of a run, oldest first; None stands for the latest run.

    Raises:
        Failed: the file cannot be read, or is no history file, or holds no such run.
    """
    newest = _answer(file, EventQuery(limit=1, run=run))
    if not newest:
        raise Failed(
            f"{file} holds no events" + (f" of run {run!r}: `orchestree history` shows the runs" if run else "")
        )
    return _answer(file, EventQuery(run=newest[0].run, limit=None))


def _answer(file: Path, query: EventQuery) -> list[Event]:
    if file.is_dir():
        raise Failed(f"{file} is a folder, not a history file")
    try:
        return HistoryReader(file).query(query)
    except (OSError, SpecError) as error:
        raise Failed(_for_a_reader(file, error)) from None


def _for_a_reader(file: Path, error: OSError | SpecError) -> str:
    """Return what is wrong, without the advice for whoever wants to write a history there."""
    is_no_database = getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_NOTADB"
    if is_no_database or "another application" in str(error):
        return f"{file} is not a history file"
    return str(error)
