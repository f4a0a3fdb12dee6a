"""Why a child was up or down at a moment, in plain lines, read off a replay. Pure but for the time zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    SupervisorReady,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.phrases import MOST_NAMES, listed
from orchestree.supervisor.states import AgentState

from .reasons import Reasons
from .wording import when

if TYPE_CHECKING:
    from .replay_result import Replay


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
        end = replay.events[-1].time
        self._asked = end if at is None else at
        # What was replayed says nothing of what came after it has parted from the log.
        self._at = self._asked if replay.divergence is None else min(self._asked, end)
        self._events = [event for event in replay.events if event.time <= self._at]
        own = [event for event in self._events if event.path == path and not isinstance(event.data, Command)]
        self._last = own[-1] if own else None

    def lines(self) -> list[str]:
        if not self._events:
            return [f"the log begins at {self._when(self._replay.events[0].time)}"]
        found = [self.headline()]
        if self._last is not None:
            found += [*self._blockers(self._last), *self._reasons()]
        divergence = self._replay.divergence
        if divergence is not None and self._asked >= divergence.event.time:
            found.append(f"what came later is not told: {divergence}")
        elif divergence is None and self._at > (end := self._replay.events[-1].time):
            found[0] = f"the log ends at {self._when(end)}: {found[0]}"
        return found

    def headline(self) -> str:
        """Return what it was doing."""
        name = self._path or "/"
        if self._last is None:
            return f"{name} was not in the tree yet at {self._when(self._at)}"
        return f"{name} at {self._when(self._at)}: {self._state(self._last)}"

    def _reasons(self) -> list[str]:
        decisions = [decision for decision in self._replay.decisions if decision.time <= self._at]
        found = Reasons(self._path, self._events, decisions, virtual=self._virtual).lines()
        return found or ["nothing had to be decided about it: it had not ended by itself"]

    def _blockers(self, last: Event) -> list[str]:
        """Return what those are doing that it waits for."""
        if not isinstance(last.data, AgentWaiting):
            return []
        parent = self._path.rpartition("/")[0]
        paths = [f"{parent}/{name}" if parent else name for name in last.data.waiting_for[:MOST_NAMES]]
        return [_Story(self._replay, path, self._at).headline() for path in paths if path in self._replay.paths]

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
