"""Who or what brought a child down, and up again: the one thing that belongs to the cause its own events tell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentQueued,
    AgentRegistered,
    AgentRestarting,
    AgentStarting,
    AgentStopping,
    AgentTerminated,
    AgentWaiting,
    AgentWedged,
    Command,
    Event,
    OrchestratorStopping,
    RestartCause,
    StopCause,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)

from .decisions import EndDecided
from .lives import Life
from .wording import GIVEN_UP, PLANNED, when, worded

_STARTS: Final = (AgentWaiting, AgentQueued, AgentStarting, SupervisorStarted)
_RESTARTS: Final = (AgentRestarting, SupervisorRestarting)
_STOPS: Final = (AgentStopping, AgentWedged)
_ENDS: Final = (AgentTerminated, SupervisorTerminated)
_DOWN: Final = (*_RESTARTS, *_STOPS, *_ENDS, AgentCrashed, AgentParked, OrchestratorStopping)
_SETTLED: Final = (*_STARTS, *_RESTARTS, AgentParked, AgentRegistered)
"""What was before one of these was before whatever brought it down after it."""

_DECIDED: Final = ("max_restarts", "escalated")
"""Why a whole tree ends by a decision about one of its children."""
_GOES_ON: Final = ("restarted", "parked")
"""Outcomes after which somebody may still stop it."""
_STOPPING_COMMANDS: Final = ("stop", "restart", "unregister")


@dataclass(frozen=True, slots=True)
class Reason:
    """What made a child as it is.

    Attributes:
        lines: that, in words; empty if the decision says all of it.
        decision: about an end of it, or of another child, from which that followed; None if it followed from none.
    """

    lines: tuple[str, ...] = ()
    decision: EndDecided | None = None


_NOTHING: Final = Reason(("nothing had to be decided about it: it had not ended by itself",))


class Reasons:
    """Of one path, in what was up to one moment."""

    def __init__(
        self, path: str, life: Life, events: Sequence[Event], decisions: Sequence[EndDecided], *, virtual: bool
    ) -> None:
        """Look at these events and decisions, of all paths; `virtual`: the log is that of a simulation."""
        self._path = path
        self._life = life
        self._events = events
        own = (event for event in events if event.path == path and event.seq > life.begin)
        self._own = [event for event in own if not isinstance(event.data, Command)]
        self._decisions = decisions
        self._virtual = virtual

    def latest(self) -> Reason:
        """Return why it is as it is since its last event."""
        if self._life.unregistered is not None:
            return self._asked(self._life.unregistered)
        down = next((event for event in reversed(self._own) if isinstance(event.data, _DOWN)), None)
        if down is None:
            was_started = any(isinstance(event.data, _STARTS) for event in self._own)
            return _NOTHING if was_started else next(map(self._tree_stopped, self._tree_stops()), _NOTHING)
        up = next((event for event in self._own if event.seq > down.seq and isinstance(event.data, _STARTS)), None)
        return (self._brought_up(down, up) if up is not None else None) or self._brought_down(down)

    def _brought_up(self, down: Event, up: Event) -> Reason | None:
        """Return what had it start again if that was not decided when it went down."""
        found: dict[int, Reason] = {}
        for event in self._commands(("start", "restart"), down.seq, up.seq, self._is_below):
            found[event.seq] = self._asked(event)
        if isinstance(down.data, _RESTARTS):
            return found[max(found)] if found else None
        settled = self._settled_before(down)
        for event in self._commands(("restart",), settled, up.seq, self._is_below):
            found[event.seq] = self._asked(event)
        for one in self._between(settled, up.seq):
            is_later = one.number > down.seq and one.outcome == "restarted" and one.path != self._path
            if is_later and self._is_below(one.path):
                found[one.number] = Reason((f"it started anew with its supervisor {one.path}",), one)
            elif (member := self._member_above(one)) is not None:
                found[one.number] = self._with_group(one, member)
            elif is_later and self._may_take_along(one):
                by = f"by the strategy {one.inputs.strategy}"
                found[one.number] = Reason((f"it starts again with {one.path}, {by}",), one)
        return found[max(found)] if found else None

    def _brought_down(self, down: Event) -> Reason:
        """Return what belongs to the cause that `down`, its own event, tells."""
        own = next((one for one in reversed(self._between(self._life.begin, down.seq)) if one.path == self._path), None)
        match down.data:
            case AgentRestarting(cause=cause) | SupervisorRestarting(cause=cause) if cause in PLANNED:
                return Reason((PLANNED[cause],))
            case AgentRestarting(cause=RestartCause.GROUP) | SupervisorRestarting(cause=RestartCause.GROUP):
                return self._stopped(StopCause.GROUP, down)
            case AgentRestarting(cause=RestartCause.COMMAND) | SupervisorRestarting(cause=RestartCause.COMMAND):
                return self._stopped(StopCause.RESTART, down)
            case AgentTerminated() | SupervisorTerminated():
                is_own = own is not None and own.incarnation == down.incarnation and own.outcome not in _GOES_ON
                return Reason(decision=own) if is_own else self._stopped(*self._stop_of(down))
            case AgentStopping(cause) | AgentWedged(cause):
                return Reason((GIVEN_UP[cause],)) if cause in GIVEN_UP else self._stopped(cause, down)
            case OrchestratorStopping(cause=cause):
                return self._stopped(StopCause.SUPERVISOR if cause in _DECIDED else None, down)
            case _:
                return Reason(decision=own) if own is not None else _NOTHING

    def _stop_of(self, ended: Event) -> tuple[StopCause | None, Event]:
        """Return for what it was asked to stop before it ended, and when; None: nothing of it ran, or nothing says."""
        settled = self._settled_before(ended)
        for event in reversed(self._own):
            if settled < event.seq < ended.seq and isinstance(event.data, _STOPS):
                return event.data.cause, event
        return None, ended

    def _stopped(self, cause: StopCause | None, stop: Event) -> Reason:
        """Return who stopped it, of all that happened since it was last settled: the first that fits the cause."""
        since, number = self._settled_before(stop), stop.seq
        may_be_asked = cause in (None, StopCause.COMMAND, StopCause.RESTART)
        found: dict[int, Reason] = {}
        if cause in (None, StopCause.SUPERVISOR):
            found |= self._from_above(since, stop)
        if cause in (None, StopCause.GROUP):
            comes_back = isinstance(stop.data, _RESTARTS) or cause is not None
            for one in self._between(since, number):
                if self._path in one.group:
                    found[one.number] = self._with_group(one, self._path, comes_back=comes_back)
        if may_be_asked:
            for event in self._commands(_STOPPING_COMMANDS, since, number, self._is_self):
                found[event.seq] = self._asked(event)
        if may_be_asked and not found:  # what was asked through the control API may be done after something else
            for event in self._commands(_STOPPING_COMMANDS, self._life.begin, number, self._is_self):
                found = {event.seq: self._asked(event)}
        return found[min(found)] if found else Reason(("it was stopped with its supervisor",))

    def _from_above(self, since: int, stop: Event) -> dict[int, Reason]:
        """Return what may have stopped a supervisor of it, by the numbers of the events."""
        found: dict[int, Reason] = {}
        offender = self._significant(stop.seq)
        for one in self._between(since, stop.seq):
            above = one.inputs.supervisor
            above_ended = "it gave up" if above == self._path else f"its supervisor {above or '/'} ended"
            if one.outcome == "escalated" and self._is_below(one.inputs.supervisor):
                found[one.number] = Reason((above_ended,), one)
            elif (member := self._member_above(one)) is not None:
                found[one.number] = self._with_group(one, member)
            elif one.path == offender and one.outcome in ("finished", "parked"):
                found[one.number] = Reason((f"{above_ended} with its significant child {one.path}",), one)
        for event in self._tree_stops():
            assert isinstance(event.data, OrchestratorStopping)
            if since < event.seq <= stop.seq and event.data.cause not in _DECIDED:
                found[event.seq] = self._tree_stopped(event)
        for event in self._commands(_STOPPING_COMMANDS, since, stop.seq, self._is_below):
            if event.path != self._path:
                found[event.seq] = self._asked(event)
        return found

    def _significant(self, number: int) -> str | None:
        """Return the significant child with which the next supervisor above ended that did after event `number`."""
        for event in self._events:
            if event.seq < number or not self._is_below(event.path):
                continue
            if isinstance(event.data, SupervisorTerminated) and event.data.offender is not None:
                return event.data.offender
        return None

    def _tree_stops(self) -> Iterator[Event]:
        """Return the events from which on the whole tree stops."""
        return (event for event in self._events if isinstance(event.data, OrchestratorStopping))

    def _tree_stopped(self, event: Event) -> Reason:
        assert isinstance(event.data, OrchestratorStopping)
        whole = f"the whole tree stops since {self._when(event.time)}, event {event.seq}: {event.data.cause}"
        asked = [self._asked(one) for one in self._commands(("shutdown",), 0, event.seq, self._is_below)]
        return Reason((whole, *asked[-1].lines) if asked and event.data.cause == "command" else (whole,))

    def _settled_before(self, event: Event) -> int:
        """Return the number of its latest event before `event` from which on something must have happened; or 0."""
        numbers = [one.seq for one in self._own if one.seq < event.seq and isinstance(one.data, _SETTLED)]
        return numbers[-1] if numbers else 0

    def _commands(
        self, names: Sequence[str], since: int, number: int, is_about: Callable[[str], bool]
    ) -> Iterator[Event]:
        """Return the commands after event `since`, and not after `number`."""
        for event in self._events:
            is_one = isinstance(event.data, Command) and event.data.name in names
            if is_one and since < event.seq <= number and is_about(event.path):
                yield event

    def _between(self, since: int, number: int) -> list[EndDecided]:
        return [one for one in self._decisions if since < one.number <= number]

    def _is_self(self, path: str) -> bool:
        return path == self._path

    def _is_below(self, path: str) -> bool:
        return not path or self._path == path or self._path.startswith(f"{path}/")

    def _member_above(self, one: EndDecided) -> str | None:
        """Return the supervisor of it that a strategy took along with this decision."""
        return next((path for path in one.group if path != self._path and self._is_below(path)), None)

    def _with_group(self, one: EndDecided, member: str, *, comes_back: bool = True) -> Reason:
        whose = "it" if member == self._path else f"its supervisor {member}"
        purpose = "to restart with" if comes_back else "with"
        return Reason((f"{whose} was stopped {purpose} {one.path}, by the strategy {one.inputs.strategy}",), one)

    def _may_take_along(self, one: EndDecided) -> bool:
        """Return whether the strategy of this sibling may start what is done already."""
        return one.inputs.strategy != "one_for_one" and one.inputs.supervisor == self._path.rpartition("/")[0]

    def _asked(self, event: Event) -> Reason:
        return Reason((f"it was asked for at {self._when(event.time)}, event {event.seq}: {worded(event)}",))

    def _when(self, time: float) -> str:
        return when(time, virtual=self._virtual)
