"""Shows the events of a history file as the API would, without any orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import EventType
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.past_runs import events_in

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
        found = events_in(file, wanted)
    except SpecError as error:
        raise Failed(str(error)) from None
    return [{**to_json(event), "text": describe(event)} for event in found]
