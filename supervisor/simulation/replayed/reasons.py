"""Who or what brought a child down, and up again: the one thing that belongs to the cause its own events tell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from types import MappingProxyType
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
from .wording import made_from, when, worded

_STARTS: Final = (AgentWaiting, AgentQueued, AgentStarting, SupervisorStarted)
_RESTARTS: Final = (AgentRestarting, SupervisorRestarting)
_STOPS: Final = (AgentStopping, AgentWedged)
_ENDS: Final = (AgentTerminated, SupervisorTerminated)
_DOWN: Final = (*_RESTARTS, *_STOPS, *_ENDS, AgentCrashed, AgentParked, OrchestratorStopping)
_SETTLED: Final = (*_STARTS, *_RESTARTS, AgentParked, AgentRegistered)
"""What was before one of these was before whatever brought it down after it."""

_DECIDED: Final = ("max_restarts", "escalated")
"""Why a whole tree ends by a decision about one of its children."""

_PLANNED: Final = MappingProxyType(
    {
        RestartCause.MEMORY: "its restart was planned: it used too much memory",
        RestartCause.MAX_AGE: "its restart was planned: it had reached its max_age",
        RestartCause.BLOCKED: "another one blocks its event loop: it goes on without that run",
    }
)
_GIVEN_UP: Final = MappingProxyType(
    {
        StopCause.START_TIMEOUT: "its start takes longer than its start_timeout",
        StopCause.WATCHDOG: "it makes no progress for longer than its watchdog",
        StopCause.MEMORY: "it uses more memory than its max_memory",
        StopCause.BLOCKED: "another one blocks its event loop",
    }
)


_GOES_ON: Final = ("restarted", "parked")
"""Outcomes after which somebody may still stop it."""


class Reasons:
    """Of one path, in what was up to one moment."""

    def __init__(self, path: str, events: Sequence[Event], decisions: Sequence[EndDecided], *, virtual: bool) -> None:
        """Look at these events and decisions, of all paths; `virtual`: the log is that of a simulation."""
        self._path = path
        self._events = events
        self._own = [event for event in events if event.path == path and not isinstance(event.data, Command)]
        self._decisions = decisions
        self._virtual = virtual

    def lines(self) -> list[str]:
        """Return why it is as it is since its last event; nothing if it never went down."""
        down = next((event for event in reversed(self._own) if isinstance(event.data, _DOWN)), None)
        if down is None:
            is_waiting = not any(isinstance(event.data, _STARTS) for event in self._own)
            return self._whole_tree(0, self._events[-1].seq) if is_waiting else []
        up = next((event for event in self._own if event.seq > down.seq and isinstance(event.data, _STARTS)), None)
        return (self._brought_up(down, up) if up is not None else []) or self._brought_down(down)

    def _brought_up(self, down: Event, up: Event) -> list[str]:
        """Return what had it start again if that was not decided when it went down; else nothing."""
        found: dict[int, list[str]] = {}
        for event in self._commands(("start", "restart"), down.seq, up.seq, self._is_below):
            found[event.seq] = [self._asked(event)]
        if isinstance(down.data, _RESTARTS):
            return found[max(found)] if found else []
        for event in self._commands(("restart",), self._settled_before(down), up.seq, self._is_below):
            found[event.seq] = [self._asked(event)]
        for one in self._between(self._settled_before(down), up.seq):
            is_later = one.number > down.seq and one.outcome == "restarted"
            if is_later and one.path != self._path and self._is_below(one.path):
                found[one.number] = [f"it started anew with its supervisor {one.path}", *self._made(one)]
            elif (member := self._member_above(one)) is not None:
                found[one.number] = self._with_group(one, member)
            elif is_later and one.path != self._path and self._may_take_along(one):
                found[one.number] = [f"it starts again with {one.path}, by {self._strategy(one)}", *self._made(one)]
        return found[max(found)] if found else []

    def _brought_down(self, down: Event) -> list[str]:
        """Return what belongs to the cause that `down`, its own event, tells."""
        own = self._latest(lambda one: one.path == self._path and one.number <= down.seq)
        match down.data:
            case AgentRestarting(cause=cause) | SupervisorRestarting(cause=cause) if cause in _PLANNED:
                return [_PLANNED[cause]]
            case AgentRestarting(cause=RestartCause.GROUP) | SupervisorRestarting(cause=RestartCause.GROUP):
                return self._stopped(StopCause.GROUP, down)
            case AgentRestarting(cause=RestartCause.COMMAND) | SupervisorRestarting(cause=RestartCause.COMMAND):
                return self._stopped(StopCause.RESTART, down)
            case AgentTerminated() | SupervisorTerminated():
                is_own = own is not None and own.incarnation == down.incarnation and own.outcome not in _GOES_ON
                return self._made(own) if own is not None and is_own else self._stopped(*self._stop_of(down))
            case AgentStopping(cause) | AgentWedged(cause):
                return [_GIVEN_UP[cause]] if cause in _GIVEN_UP else self._stopped(cause, down)
            case OrchestratorStopping(cause=cause) if cause not in _DECIDED:
                return self._stopped(None, down)
            case OrchestratorStopping():
                return self._stopped(StopCause.SUPERVISOR, down)
            case _:
                return self._made(own) if own is not None else []

    def _stop_of(self, ended: Event) -> tuple[StopCause | None, Event]:
        """Return for what it was asked to stop before it ended, and when; None: nothing of it ran, or nothing says."""
        settled = self._settled_before(ended)
        for event in reversed(self._own):
            if settled < event.seq < ended.seq and isinstance(event.data, _STOPS):
                return event.data.cause, event
        return None, ended

    def _stopped(self, cause: StopCause | None, stop: Event) -> list[str]:
        """Return who stopped it, of all that happened since it was last settled: the first that fits the cause."""
        since, number = self._settled_before(stop), stop.seq
        by_itself, from_above = (
            cause in (None, StopCause.COMMAND, StopCause.RESTART),
            cause in (None, StopCause.SUPERVISOR),
        )
        found: dict[int, list[str]] = {}
        if from_above:
            found |= self._from_above(since, stop)
        for event in self._commands(
            ("stop", "restart", "unregister"),
            since,
            number,
            lambda path: by_itself if path == self._path else from_above and self._is_below(path),
        ):
            found.setdefault(event.seq, [self._asked(event)])
        if cause in (None, StopCause.GROUP):
            goes_on = isinstance(stop.data, _RESTARTS)
            for one in self._between(since, number):
                if self._path in one.group:
                    found[one.number] = self._with_group(one, self._path, comes_back=goes_on or cause is not None)
        if not found and by_itself:  # what was asked through the control API may be done after something else
            earlier = list(
                self._commands(("stop", "restart", "unregister"), 0, number, lambda path: path == self._path)
            )
            found |= {event.seq: [self._asked(event)] for event in earlier[-1:]}
        return found[min(found)] if found else ["it was stopped with its supervisor"]

    def _from_above(self, since: int, stop: Event) -> dict[int, list[str]]:
        """Return what may have stopped a supervisor of it, by the numbers of the events."""
        found: dict[int, list[str]] = {}
        offender = self._significant(stop.seq)
        for one in self._between(since, stop.seq):
            if one.outcome == "escalated" and self._is_below(one.inputs.supervisor):
                found[one.number] = [f"its supervisor {one.inputs.supervisor or '/'} ended", *self._made(one)]
            elif (member := self._member_above(one)) is not None:
                found[one.number] = self._with_group(one, member)
            elif one.path == offender and one.outcome in ("finished", "parked"):
                above = one.inputs.supervisor or "/"
                found[one.number] = [f"its supervisor {above} ended with its significant child {one.path}"]
                found[one.number] += self._made(one)
        for event in self._events:
            is_whole = isinstance(event.data, OrchestratorStopping) and event.data.cause not in _DECIDED
            if is_whole and since < event.seq <= stop.seq:
                found[event.seq] = self._whole_tree(event.seq - 1, event.seq)
        return found

    def _significant(self, number: int) -> str | None:
        """Return the significant child with which the next supervisor above ended that did after event `number`."""
        for event in self._events:
            if event.seq < number or not self._is_below(event.path):
                continue
            if isinstance(event.data, SupervisorTerminated) and event.data.offender is not None:
                return event.data.offender
        return None

    def _whole_tree(self, since: int, number: int) -> list[str]:
        """Return that the whole tree stops, if it began to after event `since` and not after `number`."""
        for before, event in zip([None, *self._events], self._events, strict=False):
            if since < event.seq <= number and isinstance(event.data, OrchestratorStopping):
                when_ = self._when(event.time)
                whole = f"the whole tree stops since {when_}, event {event.seq}: {event.data.cause}"
                is_asked = before is not None and isinstance(before.data, Command) and before.data.name == "shutdown"
                return [whole, self._asked(before)] if before is not None and is_asked else [whole]
        return []

    def _settled_before(self, event: Event) -> int:
        """Return the number of its latest event before `event` from which on something must have happened; or 0."""
        numbers = [one.seq for one in self._own if one.seq < event.seq and isinstance(one.data, _SETTLED)]
        return numbers[-1] if numbers else 0

    def _commands(
        self, names: Collection[str], since: int, number: int, is_about: Callable[[str], bool]
    ) -> Iterator[Event]:
        for event in self._events:
            is_one = isinstance(event.data, Command) and event.data.name in names
            if is_one and since < event.seq <= number and is_about(event.path):
                yield event

    def _between(self, since: int, number: int) -> Iterator[EndDecided]:
        return (one for one in self._decisions if since < one.number <= number)

    def _latest(self, holds: Callable[[EndDecided], bool]) -> EndDecided | None:
        return next((one for one in reversed(self._decisions) if holds(one)), None)

    def _is_below(self, supervisor: str) -> bool:
        return not supervisor or self._path == supervisor or self._path.startswith(f"{supervisor}/")

    def _member_above(self, one: EndDecided) -> str | None:
        """Return the supervisor of it that a strategy took along with this decision."""
        return next((path for path in one.group if path != self._path and self._is_below(path)), None)

    def _with_group(self, one: EndDecided, member: str, *, comes_back: bool = True) -> list[str]:
        whose = "it" if member == self._path else f"its supervisor {member}"
        purpose = "to restart with" if comes_back else "with"
        return [f"{whose} was stopped {purpose} {one.path}, by {self._strategy(one)}", *self._made(one)]

    def _may_take_along(self, one: EndDecided) -> bool:
        """Return whether the strategy of this sibling may start what is done already."""
        return one.inputs.strategy != "one_for_one" and _parent(one.path) == _parent(self._path)

    def _strategy(self, one: EndDecided) -> str:
        return f"the strategy {one.inputs.strategy}"

    def _asked(self, event: Event) -> str:
        return f"it was asked for at {self._when(event.time)}, event {event.seq}: {worded(event)}"

    def _made(self, decision: EndDecided) -> list[str]:
        return made_from(decision, virtual=self._virtual)

    def _when(self, time: float) -> str:
        return when(time, virtual=self._virtual)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
