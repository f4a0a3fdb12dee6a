"""The events that a replay goes by: one whole run from its start on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.events import AgentMessage, Command, Event, EventGap, EventType
from orchestree.supervisor.history import first_of

NOT_DECIDED: Final = frozenset(
    {EventType.HANDLER_FAILED, EventType.SERVICE_FAILED, EventType.LEAK_FOUND, EventType.EVENT_GAP}
)
"""Types of events that are told beside what the core decides."""


def checked(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the events, which are those of one run from its start on.

    Raises:
        SpecError: they are not; it names the number of the event, and says what to do.
    """
    try:
        found = tuple(events)
    except TypeError:
        raise SpecError(
            f"events={events!r}: must be events, such as orchestrator.history(limit=None), or a history file's path"
        ) from None
    for event in found:
        if not isinstance(event, Event):
            raise SpecError(f"events: {event!r:.80}: must be an Event")
    if not found:
        raise SpecError("events: there are none: a replay needs those of one run, from orchestrator_started on")
    if found[0].type is not EventType.ORCHESTRATOR_STARTED:
        raise SpecError(
            f"event {found[0].seq}: is {found[0].type}, not orchestrator_started: give all events of the run from its "
            f"start on (older ones may have been forgotten: keep more, history_rows, history_age)"
        )
    for before, event in pairwise(found):
        _check_follows(before, event)
    for place, event in enumerate(found):
        if isinstance(event.data, EventGap) and not _is_flood(found, place, event.data):
            raise SpecError(
                f"event {event.seq}: events {event.data.first} to {event.data.last} are missing, and with them what "
                f"was decided: replay up to there, or the history file, which may have them"
            )
    return found


def missing_messages(events: Iterable[Event]) -> int:
    """Return how many messages of agents were dropped in floods."""
    gaps = (event.data for event in events if isinstance(event.data, EventGap))
    return sum(gap.last - gap.first + 1 for gap in gaps)


def is_asked(event: Event) -> bool:
    """Return whether somebody asked for something through the control API; the core says less of its commands."""
    data = event.data
    return isinstance(data, Command) and data.name != "register" and data != Command(data.name)


def _check_follows(before: Event, event: Event) -> None:
    if event.run != before.run or event.type is EventType.ORCHESTRATOR_STARTED:
        raise SpecError(f"event {event.seq}: another run begins: give the events of one run, such as query(run=...)")
    if first_of(event) <= before.seq:
        raise SpecError(f"event {event.seq}: comes after event {before.seq}: give each event once, in their order")
    if first_of(event) != before.seq + 1:
        raise SpecError(
            f"event {event.seq}: events {before.seq + 1} to {first_of(event) - 1} are missing: give all events of the "
            f"run, of all paths and types"
        )


def _is_flood(events: tuple[Event, ...], place: int, gap: EventGap) -> bool:
    """Return whether only messages are missing: such a gap is told right after a message, at a time of its own.

    One that a reader makes up for what it has lost has the time of what follows.
    """
    event, before = events[place], events[place - 1]
    follower = events[place + 1] if place + 1 < len(events) else None
    is_made_up = follower is not None and (follower.time, follower.monotonic) == (event.time, event.monotonic)
    return gap.last == event.seq and isinstance(before.data, AgentMessage) and not is_made_up
