"""Reads history files for whoever only looks at them: nothing is repaired, and no orchestrator is needed."""

from __future__ import annotations

from pathlib import Path

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.simulation.replayed.log import checked

from .events import Event
from .history import EventQuery
from .history_file import NotOurs, kind_of
from .history_queries import HistoryReader


def events_in(file: Path, query: EventQuery) -> list[Event]:
    """Return the events in a history file that fit, oldest first.

    Raises:
        SpecError: the file is missing, cannot be read, or is no history file; one line that names it.
    """
    if file.is_dir():
        raise SpecError(f"{file} is a folder, not a history file")
    try:
        return HistoryReader(file).query(query)
    except (OSError, SpecError) as error:
        is_none = isinstance(error, NotOurs) or kind_of(error.__cause__) == "NOTADB"
        raise SpecError(f"{file} is not a history file" if is_none else str(error)) from None


def whole_run(file: Path, run: str | None) -> tuple[Event, ...]:
    """Return all events of a run, from its start on, oldest first; None stands for the latest run.

    Raises:
        SpecError: as `events_in`; or there is no such run, or the file has not kept all of it.
    """
    newest = events_in(file, EventQuery(limit=1, run=run))
    if not newest:
        which = f" of run {run!r}: `orchestree history --file {file}` shows the runs" if run is not None else ""
        raise SpecError(f"{file} holds no events{which}")
    events = events_in(file, EventQuery(run=newest[0].run, limit=None))
    try:
        return checked(events)
    except SpecError as error:
        raise SpecError(f"{file}: {error}") from None


def run_at(file: Path, moment: float) -> str | None:
    """Return the id of the latest run that had begun by this wall time; None if nothing from before it is kept.

    Raises:
        SpecError: as `events_in`.
    """
    earlier = events_in(file, EventQuery(before=moment, limit=1))
    return earlier[0].run if earlier else None
