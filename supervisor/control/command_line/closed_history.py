"""Reads the events of a history file, as the API would show them, without any orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.event_types import EventType
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

from .exit_codes import Failed


def read_events(file: Path, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events that fit the parameters of the API's ``/events``, oldest first.

    Raises:
        Failed: the file cannot be read.
        click.UsageError: there is no such type of event.
    """
    wanted = EventQuery(
        path=query["path"] or "",
        types=_types(query["type"]),
        since=query["since"],
        after=query["after"],
        before=query["before"],
        run=query["run"],
        limit=query["limit"],
    )
    try:
        events = HistoryReader(file).query(wanted)
    except (OSError, SpecError) as error:
        raise Failed(str(error)) from None
    return [{**to_json(event), "text": describe(event)} for event in events]


def _types(names: str) -> frozenset[EventType] | None:
    found = [name.strip() for name in names.split(",") if name.strip()]
    known = [str(type) for type in EventType]
    for name in found:
        if name not in known:
            raise click.UsageError(f"there is no type of event {name!r}{did_you_mean(name, known)}")
    return frozenset(map(EventType, found)) or None
