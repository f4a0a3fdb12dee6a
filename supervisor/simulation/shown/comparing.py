"""Puts a simulated log and a live one side by side: for each agent the same decisions, or where they differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from orchestree.strategies.errors import SpecError
from orchestree.supervisor import events as said
from orchestree.supervisor.event_types import EventType
from orchestree.supervisor.events import Event, EventData
from orchestree.supervisor.simulation.result import Simulation

from .comparison import Comparison, Difference, Row, Step

_STEPS: Final = frozenset(type for type in EventType if type.startswith(("agent_", "supervisor_"))) - {
    EventType.AGENT_REGISTERED,
    EventType.AGENT_UNREGISTERED,
    EventType.AGENT_MESSAGE,
}
"""What is compared: what becomes of agents and supervisors."""
_FROM_OUTSIDE: Final = ("command", "signal")
"""Causes of a stop that no simulation knows of."""
_EXACT_S: Final = 1e-6
"""What differs by less has only been rounded otherwise."""
_AFTER_A_DELAY: Final = (
    "agent_starting",
    "agent_ready",
    "agent_waiting",
    "agent_queued",
    "supervisor_started",
    "supervisor_ready",
)
"""What comes as much later as the delay before it was longer."""


def compare(simulation: Simulation, events: Iterable[Event], *, ended_at: float | None = None) -> Comparison:
    """Put a simulated log and a live one of the same tree and faults side by side.

    Messages, commands, failures of handlers and services, and all that follows when the live tree was stopped from
    outside, are left out, and so are steps that the other log was too short for.

    Args:
        simulation: of the tree.
        events: of one live run, oldest first, from the start of the tree on.
        ended_at: seconds since that start for which the live tree was watched; None: until the last of `events`.

    Raises:
        SpecError: the start of the tree is not among the events.
    """
    log = list(_until_stopped(events))
    if not log:
        raise SpecError("events: must begin with the ORCHESTRATOR_STARTED of a live run; it is not among them")
    began = log[0].monotonic
    end = math.inf if simulation.stopped_by == "ended" else simulation.ended_at
    live_end = log[-1].monotonic - began if ended_at is None else ended_at
    if log[-1].type is EventType.ORCHESTRATOR_STOPPED:
        live_end = math.inf
    simulated, live = _steps(simulation.events, 0.0), _steps(log, began)
    rows = {
        path: tuple(_paired(simulated.get(path, []), live.get(path, []), end, live_end))
        for path in {**simulated, **live}
    }
    rows = {path: of_path for path, of_path in rows.items() if of_path}
    return Comparison(rows, tuple(_differences([row for of_path in rows.values() for row in of_path])))


def _until_stopped(events: Iterable[Event]) -> Iterator[Event]:
    has_begun = False
    for event in events:
        if isinstance(event.data, said.OrchestratorStopping) and event.data.cause in _FROM_OUTSIDE:
            return
        has_begun = has_begun or event.type is EventType.ORCHESTRATOR_STARTED
        if has_begun:
            yield event


def _steps(events: Iterable[Event], began: float) -> dict[str, list[Step]]:
    """Return the steps of each path."""
    found: dict[str, list[Step]] = {}
    for event in events:
        if event.type in _STEPS:
            data, what = event.data, f"{event.type} {_decided(event.data)}".rstrip()
            delay = data.delay if isinstance(data, said.AgentRestarting | said.SupervisorRestarting) else None
            text = data.report.message if isinstance(data, said.AgentCrashed) else ""
            step = Step(at=event.monotonic - began, what=what, delay=delay, text=text)
            found.setdefault(event.path, []).append(step)
    return found


def _decided(data: EventData) -> str:
    """Return what must be the same in both logs, beside the type of the event."""
    match data:
        case said.AgentRestarting(cause=cause, attempt=attempt) | said.SupervisorRestarting(cause, _, attempt):
            return f"{cause} {attempt}" if attempt else cause
        case said.AgentCrashed(reason=reason) | said.AgentTerminated(reason=reason):
            return reason.cause
        case said.SupervisorTerminated(reason=reason):
            return reason.cause
        case said.AgentStopping(cause=why) | said.AgentWedged(cause=why):
            return why
        case said.AgentWaiting(waiting_for=names):
            return f"for {', '.join(names)}"
        case said.AgentParked(attempt=attempt):
            return f"failure {attempt}"
        case _:
            return ""


def _paired(simulated: Sequence[Step], live: Sequence[Step], end: float, live_end: float) -> Iterator[Row]:
    """Yield the rows of one path; what came when the other log had ended is none."""
    shift = 0.0
    matcher = SequenceMatcher(None, [step.what for step in simulated], [step.what for step in live], autojunk=False)
    for tag, first, last, live_first, live_last in matcher.get_opcodes():
        if tag == "equal":
            for one, other in zip(simulated[first:last], live[live_first:live_last], strict=True):
                if not one.what.startswith(_AFTER_A_DELAY):
                    shift = 0.0
                yield Row(one, other, shift)
                if one.delay is not None and other.delay is not None:
                    shift = other.delay - one.delay
        else:
            yield from (Row(step, None) for step in simulated[first:last] if step.at < live_end)
            yield from (Row(None, step) for step in live[live_first:live_last] if step.at < end)


def _differences(rows: Sequence[Row]) -> Iterator[Difference]:
    both = [(row.simulated, row.live, row.shift) for row in rows if row.simulated and row.live]
    if alone := [step for row in rows if row.later is None and (step := row.simulated or row.live)]:
        yield Difference("steps", len(alone), f"the first at {min(step.at for step in alone):.3f} s")
    if delays := _gaps((live.delay or 0.0) - (simulated.delay or 0.0) for simulated, live, _ in both):
        yield Difference("delays", len(delays), f"by up to {max(delays):.3f} s")
    if times := _gaps(live.at - simulated.at - shift for simulated, live, shift in both):
        yield Difference("times", len(times), f"by up to {max(times):.3f} s")
    if texts := [(simulated.text, live.text) for simulated, live, _ in both if simulated.text != live.text]:
        yield Difference("texts", len(texts), "such as {!r} and {!r}".format(*texts[0]))


def _gaps(seconds: Iterable[float]) -> list[float]:
    return [abs(gap) for gap in seconds if abs(gap) > _EXACT_S]
