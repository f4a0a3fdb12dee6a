"""What was notable in a simulation: first crashes, parks, supervisors that gave up, the end. Pure."""

from __future__ import annotations

import textwrap
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from orchestree.supervisor.event_text import describe
from orchestree.supervisor.event_types import EventType
from orchestree.supervisor.events import AgentCrashed, Event
from orchestree.supervisor.phrases import duration
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.states import AgentState

MOST_LINES: Final = 16
_LEAST_ROOM: Final = len("orchestrator")
_VERB: Final = len("  CRASHED  ")
_GAP: Final = "  "
_LEAST_DETAILS: Final = 30
"""With fewer characters to the right of the path the details go on below it."""
_TOLD: Final = (
    (AgentState.WEDGED, EventType.AGENT_WEDGED),
    (AgentState.FAILED, EventType.AGENT_TERMINATED),
    (AgentState.PARKED, EventType.AGENT_PARKED),
)


class _Moment(NamedTuple):
    """Something of this type happened to somebody at `at`."""

    at: float
    path: str
    type: EventType


def highlights(simulation: Simulation, width: int, names: Mapping[str, str]) -> list[str]:
    """Return what was notable, its first time for each path, oldest first, in lines of `width` characters.

    The middle is left out if they are many.
    """
    moments = sorted(_notable(simulation), key=lambda moment: moment.at)
    left_out = len(moments) - MOST_LINES
    if left_out > 0:
        moments = moments[: MOST_LINES // 2] + moments[-MOST_LINES // 2 :]
    found = [event for moment in moments if (event := _find(simulation.events, moment)) is not None]
    events = [replace(event, path=names[event.path] if event.path else "") for event in found]
    times = [duration(event.monotonic) for event in events]
    margin = max(map(len, times), default=0)
    room = max([_LEAST_ROOM, *(len(event.path) for event in events)])
    below = margin + _VERB + room + len(_GAP)
    indent = " " * (below if width - below >= _LEAST_DETAILS else margin + _VERB)
    told = [
        _wrapped(f"{time:>{margin}}  {_told(event, room)}", below, indent, width)
        for time, event in zip(times, events, strict=True)
    ]
    if left_out > 0:
        told.insert(MOST_LINES // 2, [f"{'...':>{margin}}  {left_out} more"])
    return [line for lines in told for line in lines]


def _told(event: Event, room: int) -> str:
    if isinstance(event.data, AgentCrashed):
        report = event.data.report
        phase = f" (in {report.phase})" if report.phase != "execute" else ""
        return f"CRASHED  {event.path:<{room}}  for the first time: {report.message}{phase}"
    return describe(event, room=room)


def _wrapped(line: str, details_at: int, indent: str, width: int) -> list[str]:
    """Return the line as several if it is too long, the further ones indented."""
    return textwrap.wrap(
        line[details_at:] or " ",
        width,
        initial_indent=line[:details_at],
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [line.rstrip()]


def _notable(simulation: Simulation) -> Iterator[_Moment]:
    for path, crashes in simulation.crashes.items():
        yield _Moment(crashes[0], path, EventType.AGENT_CRASHED)
    for path, changes in simulation.states.items():
        for state, type_ in _TOLD:
            at = next((change.at for change in changes if change.state is state), None)
            if at is not None:
                yield _Moment(at, path, type_)
    first = {one.path: one.at for one in reversed(simulation.gave_up)}
    yield from (_Moment(at, path, EventType.SUPERVISOR_TERMINATED) for path, at in first.items())
    if simulation.stopped_by == "ended":
        yield _Moment(simulation.ended_at, "", EventType.ORCHESTRATOR_STOPPED)


def _find(events: Sequence[Event], moment: _Moment) -> Event | None:
    for place in range(bisect_left(events, moment.at, key=lambda event: event.monotonic), len(events)):
        event = events[place]
        if event.monotonic > moment.at:
            break
        if event.path == moment.path and event.type is moment.type:
            return event
    return None
