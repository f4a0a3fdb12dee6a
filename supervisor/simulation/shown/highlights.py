"""What was notable in a simulation: first crashes, parks, supervisors that gave up, the end. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from orchestree.supervisor.event_text import describe
from orchestree.supervisor.event_types import EventType
from orchestree.supervisor.events import AgentCrashed, Event
from orchestree.supervisor.phrases import duration
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.states import AgentState

MOST_LINES: Final = 16
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


def highlights(simulation: Simulation) -> list[str]:
    """Return a line for each notable thing, its first time for each path, oldest first.

    The middle is left out if they are many.
    """
    moments = sorted(_notable(simulation), key=lambda moment: moment.at)
    left_out = len(moments) - MOST_LINES
    if left_out > 0:
        moments = moments[: MOST_LINES // 2] + moments[-MOST_LINES // 2 :]
    events = [event for moment in moments if (event := _find(simulation.events, moment)) is not None]
    times = [duration(event.monotonic) for event in events]
    width = max(map(len, times), default=0)
    lines = [f"{time.rjust(width)}  {_told(event)}" for time, event in zip(times, events, strict=True)]
    if left_out > 0:
        lines.insert(MOST_LINES // 2, f"{'...':>{width}}  {left_out} more")
    return lines


def _told(event: Event) -> str:
    if isinstance(event.data, AgentCrashed):
        report = event.data.report
        phase = f" (in {report.phase})" if report.phase != "execute" else ""
        return f"CRASHED  {event.path:<12}  for the first time: {report.message}{phase}"
    return describe(event)


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
