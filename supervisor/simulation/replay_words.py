"""Why a child was up or down at a moment, in plain lines, read off a replay. Pure but for the time zone."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from orchestree.strategies.errors import NotFound, did_you_mean
from orchestree.supervisor.events import (
    AgentParked,
    AgentQueued,
    AgentReady,
    AgentRegistered,
    AgentRestarting,
    AgentStarting,
    AgentStopping,
    AgentTerminated,
    AgentUnregistered,
    AgentWaiting,
    AgentWedged,
    Command,
    Event,
    OrchestratorStopping,
    RestartCause,
    StopCause,
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.phrases import MOST_NAMES, listed
from orchestree.supervisor.states import AgentState

from .replay_decisions import Decision
from .replay_phrases import made_from, when

if TYPE_CHECKING:
    from .replay_result import Replay

_OF_ITS_OWN: Final = (StopCause.START_TIMEOUT, StopCause.WATCHDOG, StopCause.MEMORY, StopCause.GROUP)
"""Why a run is stopped about which something is decided, or was."""

_DECIDED: Final = ("max_restarts", "escalated")
"""Why a whole tree ends by a decision about one of its children."""

_PLANNED: Final = MappingProxyType(
    {RestartCause.MEMORY: "it used too much memory", RestartCause.MAX_AGE: "it had reached its max_age"}
)


def explained(replay: Replay, path: str, at: float | None) -> list[str]:
    """Return the lines of `Replay.why`."""
    if path not in replay.paths:
        raise NotFound(f"{path!r}: no such agent or supervisor in the log{did_you_mean(path, replay.paths)}")
    return _Story(replay, path, at).lines()


def is_virtual(replay: Replay) -> bool:
    """Return whether the log is that of a simulation, whose clock begins with 0."""
    return replay.events[0].time == replay.events[0].monotonic


class _Story:
    """Of one path, up to one moment."""

    def __init__(self, replay: Replay, path: str, at: float | None) -> None:
        self._replay = replay
        self._path = path
        self._virtual = is_virtual(replay)
        self._at = replay.events[-1].time if at is None else at
        self._events = [event for event in replay.events if event.time <= self._at]
        self._own = [event for event in self._events if event.path == path and not isinstance(event.data, Command)]
        self._decisions = [decision for decision in replay.decisions if decision.time <= self._at]

    def lines(self) -> list[str]:
        name = self._path or "/"
        last = self._own[-1] if self._own else None
        if last is None:
            found = [f"{name} was not in the tree yet at {self._when(self._at)}"]
        else:
            state = self._state(last)
            found = [f"{name} at {self._when(self._at)}: {state}", *self._reasons(last)]
        divergence = self._replay.divergence
        if divergence is not None and self._at >= divergence.event.time:
            found.append(f"what came later is not told: {divergence}")
        return found

    def _when(self, time: float) -> str:
        return when(time, virtual=self._virtual)

    def _state(self, last: Event) -> str:
        """Return what it was doing since its last event."""
        since = f"since {self._when(last.time)}"
        match last.data:
            case AgentReady() | SupervisorReady():
                return f"ready {since}"
            case AgentStarting() | SupervisorStarted():
                return f"starting {since}"
            case AgentRestarting(delay=delay) | SupervisorRestarting(delay=delay) if delay:
                return f"in backoff until {self._when(last.time + delay)}, {since}"
            case AgentRestarting() | SupervisorRestarting():
                return f"about to start {since}"
            case AgentWaiting(names):
                return f"waiting for {listed(names)} {since}"
            case AgentQueued(most):
                return f"waiting for a worker slot (max_workers {most}) {since}"
            case AgentStopping():
                return f"stopping {since}"
            case AgentParked():
                return f"parked {since}"
            case AgentWedged():
                return f"wedged {since}: it did not stop in time and cannot be killed"
            case AgentTerminated(state=state):
                return f"{'done' if state is AgentState.COMPLETED else state} {since}"
            case SupervisorTerminated():
                return f"ended {since}"
            case AgentUnregistered():
                return f"not in the tree {since}: it was unregistered"
            case AgentRegistered():
                return "registered, and not started yet"
            case OrchestratorStopping():
                return f"stopping {since}"
            case _:
                return f"{last.type.replace('_', ' ')} {since}"

    def _reasons(self, last: Event) -> list[str]:
        """Return why it is so: who stopped it, or what was decided about its last end."""
        found = self._latest()
        number = found.number if found is not None else 0
        stop = self._stop_after(number)
        if isinstance(last.data, AgentRestarting) and last.data.cause in _PLANNED:
            return [f"its restart was planned: {_PLANNED[last.data.cause]}"]
        if stop is not None:
            return self._stopped(stop)
        waits = self._blockers(last)
        if found is None:
            return [*waits, "nothing had to be decided about it: it had not ended by itself"]
        return [*waits, *self._with_whom(found), *self._made(found)]

    def _latest(self) -> Decision | None:
        """Return the latest decision that started it anew or kept it down: its own, a sibling's or a supervisor's."""
        return self._last(
            lambda one: (
                one.path == self._path
                or self._path in one.group
                or (one.outcome == "restarted" and self._path.startswith(f"{one.path}/"))
            )
        )

    def _with_whom(self, decision: Decision) -> list[str]:
        if decision.path == self._path:
            return []
        if self._path in decision.group:
            return [f"it was stopped to restart with {decision.path}, by the strategy {decision.inputs.strategy}"]
        return [f"it started anew with its supervisor {decision.path}"]

    def _blockers(self, last: Event) -> list[str]:
        """Return what those are doing that it waits for."""
        if not isinstance(last.data, AgentWaiting):
            return []
        parent = self._path.rpartition("/")[0]
        paths = [f"{parent}/{name}" if parent else name for name in last.data.waiting_for[:MOST_NAMES]]
        return [
            line
            for path in paths
            if path in self._replay.paths
            for line in _Story(self._replay, path, self._at).lines()[:1]
        ]

    def _stop_after(self, number: int) -> Event | None:
        """Return how it was asked to stop, or ended without having run, since event `number`; None if it was not."""
        for event in reversed(self._own):
            if event.seq <= number:
                return None
            match event.data:
                case AgentStopping(cause) if cause in _OF_ITS_OWN:
                    return None
                case AgentReady() | SupervisorReady() | AgentStarting() | SupervisorStarted():
                    return None
                case AgentStopping() | OrchestratorStopping():
                    return event
                case AgentTerminated() | SupervisorTerminated() if not self._was_stopping(event):
                    return event
                case _:
                    pass
        return None

    def _was_stopping(self, ended: Event) -> bool:
        return any(
            event.incarnation == ended.incarnation and isinstance(event.data, AgentStopping) for event in self._own
        )

    def _stopped(self, stop: Event) -> list[str]:
        """Return who stopped it: an operator, a sibling's failure, or what ended its supervisor."""
        found: dict[int, list[str]] = {}
        asked = self._command(stop.seq)
        if asked is not None:
            found[asked.seq] = [f"it was asked for at {self._when(asked.time)}, event {asked.seq}: {_worded(asked)}"]
        gave_up = self._last(lambda one: one.outcome == "escalated" and self._is_below(one.inputs.supervisor))
        if gave_up is not None and gave_up.number < stop.seq:
            found[gave_up.number] = [f"its supervisor {gave_up.inputs.supervisor or '/'} ended", *self._made(gave_up)]
        for event in self._events:
            if isinstance(event.data, OrchestratorStopping) and event.data.cause not in _DECIDED:
                whole = f"the whole tree stops since {self._when(event.time)}, event {event.seq}: {event.data.cause}"
                found[event.seq] = [whole, *(found.get(event.seq - 1, []))]
        return found[max(found)] if found else ["it was stopped with its supervisor"]

    def _command(self, number: int) -> Event | None:
        """Return the latest command before event `number` about it or a supervisor of it."""
        for event in reversed(self._events):
            about = event.path == self._path or self._is_below(event.path)
            if event.seq < number and about and isinstance(event.data, Command) and event.data.name != "set":
                return event
        return None

    def _is_below(self, supervisor: str) -> bool:
        return not supervisor or self._path == supervisor or self._path.startswith(f"{supervisor}/")

    def _last(self, holds: object) -> Decision | None:
        assert callable(holds)
        return next((one for one in reversed(self._decisions) if holds(one)), None)

    def _made(self, decision: Decision) -> list[str]:
        return made_from(decision, virtual=self._virtual)


def _worded(event: Event) -> str:
    data = event.data
    assert isinstance(data, Command)
    where = f" {event.path or '/'}"
    if data.token is not None:
        return f"{data.name}{where}, by token {data.token}"
    return f"{data.name}{where}, by " + (
        "the program itself" if data.uid is None else f"uid {data.uid} (pid {data.pid})"
    )
