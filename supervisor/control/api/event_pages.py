"""The answer to a question about events, made page by page so that neither it nor its making needs much memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from orchestree.supervisor.events import Event
from orchestree.supervisor.history import EventQuery, History

from . import views
from .reads import event_record

MOST_BYTES: Final = 1024 * 1024
"""Of one answer."""

PAGE: Final = 250
"""Events that are read at once."""


def events_as_json(history: History, query: EventQuery) -> bytes:
    """Return the events that fit as an array, oldest first; at least one, if there is one.

    There are fewer than ``query.limit`` if those would have more than `MOST_BYTES`: the newest ones, or with
    ``query.since`` the first ones. Whoever wants the others asks on, before the first or since the last of these.
    """
    found: list[bytes] = []
    size = 0
    for event in _wanted(history, query):
        text = views.to_bytes(event_record(event))
        size += len(text) + 1
        if found and size > MOST_BYTES:
            break
        found.append(text)
    if query.newest_first:
        found.reverse()
    return b"[%b]" % b",".join(found)


def _wanted(history: History, query: EventQuery) -> Iterator[Event]:
    """Yield what fits, in the order in which it counts: the newest first, or with ``since`` the first after it."""
    assert query.limit is not None
    left = query.limit
    while left:
        page = history.query(replace(query, limit=min(PAGE, left)))
        yield from reversed(page) if query.newest_first else page
        left -= len(page)
        if len(page) < PAGE:
            return
        query = replace(query, until=page[0].seq - 1) if query.newest_first else replace(query, since=page[-1].seq)
