"""What a simulated log shows of one child that fails again and again, as values. Pure: it reads, it decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from orchestree.agents.ends import Cause
from orchestree.supervisor.events import (
    AgentParked,
    AgentRestarting,
    AgentTerminated,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.simulation.simulator import Said, Simulator
from orchestree.supervisor.states import AgentState

SHOWN_DELAYS: Final = 8
_GAVE_UP: Final = frozenset({Cause.MAX_RESTARTS, Cause.ESCALATED})
_COMES_BACK: Final = frozenset({AgentState.READY, AgentState.BACKOFF})


@dataclass(frozen=True, slots=True)
class Consequence:
    """Something that a failure leads to.

    Attributes:
        failure: number of that failure, from 1.
        after_s: seconds since the first one.
        path: of whom it happens to.
        why: one line, or one word of the core's.
    """

    failure: int
    after_s: float
    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one simulation of a child that fails again and again shows.

    Attributes:
        delays_s: seconds before its next restarts, the first of them, until something else than a restart happens.
        largest_delay_s: of all that were simulated.
        parked: when it is given up on, alone; None if never.
        not_restarted: its restart type does not want it back.
        supervisor_ends: when a supervisor above first ends because of it; None if never.
        tree_ends: when the root does.
        goes_on: it still comes back after so many `failures`.
        failures: how many were simulated.
        lasted_s: seconds from the first of them to the last.
        restarts_per_minute: how many restarts of it, alone or with supervisors above, were decided in the worst 60 s.
        is_sample: a policy draws its own random numbers: another time the seconds are others.
    """

    delays_s: tuple[float, ...]
    largest_delay_s: float
    parked: Consequence | None
    not_restarted: bool
    supervisor_ends: Consequence | None
    tree_ends: Consequence | None
    goes_on: bool
    failures: int
    lasted_s: float
    restarts_per_minute: int
    is_sample: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """A course, and the seconds before all restarts in it, until something else than a restart happened."""

    course: Course
    delays_s: tuple[float, ...]


def probe_of(simulator: Simulator, path: str, *, is_sample: bool) -> Probe:
    """Return what came of the failures of the child at `path`, which is the only thing that fails there."""
    reading = _read(simulator, path)
    changes = simulator.states.get(path, ())
    state = changes[-1].state if changes else AgentState.REGISTERED
    if state is AgentState.PARKED and reading.parked is None:  # a supervisor's; agents have an event for that
        reading.parked = reading.moment(reading.failed_at, path, "")
    course = Course(
        delays_s=tuple(reading.delays[:SHOWN_DELAYS]),
        largest_delay_s=max(reading.delays, default=0.0),
        parked=reading.parked,
        not_restarted=reading.not_restarted or state is AgentState.FAILED,
        supervisor_ends=reading.supervisor_ends,
        tree_ends=reading.tree_ends,
        goes_on=state in _COMES_BACK,
        failures=reading.failures,
        lasted_s=reading.failed_at - reading.first_at,
        restarts_per_minute=_most_within(60.0, reading.restarts),
        is_sample=is_sample,
    )
    return Probe(course, tuple(reading.delays))


def _read(simulator: Simulator, path: str) -> _Reading:
    reading = _Reading(path)
    for said in simulator.log:
        reading.take(said)
    return reading


def moved_to(course: Course, path: str) -> Course:
    """Return `course` with the child at `path` for the one that it was read off, which stands as deep in the tree."""
    return replace(
        course,
        parked=_place(course.parked, path),
        supervisor_ends=_place(course.supervisor_ends, path),
        tree_ends=_place(course.tree_ends, path),
    )


def _place(moment: Consequence | None, path: str) -> Consequence | None:
    if moment is None or not moment.path:
        return moment
    depth = moment.path.count("/") + 1
    return replace(moment, path="/".join(path.split("/")[:depth]))


@dataclass(slots=True)
class _Reading:
    """Takes in one log, event by event."""

    path: str
    failures: int = 0
    first_at: float = 0.0
    failed_at: float = 0.0
    delays: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    parked: Consequence | None = None
    not_restarted: bool = False
    supervisor_ends: Consequence | None = None
    tree_ends: Consequence | None = None

    def take(self, said: Said) -> None:
        now, emit = said
        if emit.kind is AgentRestarting or emit.kind is SupervisorRestarting:
            self.restarts.append(now)
        if emit.path == self.path:
            self._own(now, emit.data)
        elif emit.kind is SupervisorTerminated:
            data = emit.data
            assert isinstance(data, SupervisorTerminated)
            ended = self.moment(now, emit.path, data.reason.cause.value)
            self.supervisor_ends = self.supervisor_ends or ended
            if not emit.path:
                self.tree_ends = ended

    def moment(self, now: float, path: str, why: str) -> Consequence:
        return Consequence(self.failures, now - self.first_at, path, why)

    def _own(self, now: float, data: object) -> None:
        match data:
            case AgentRestarting(delay=delay):
                self._fails(now)
                self._waits(delay)
            case AgentParked(why=why):
                self._fails(now)
                self.parked = self.parked or self.moment(now, self.path, why)
            case AgentTerminated(state=state):
                self._fails(now)
                self.not_restarted = state is not AgentState.STOPPED
            case SupervisorTerminated(reason=reason) if reason.cause in _GAVE_UP:
                self._fails(now)
            case SupervisorRestarting(delay=delay):
                self._waits(delay)

    def _fails(self, now: float) -> None:
        self.failures += 1
        self.failed_at = now
        if self.failures == 1:
            self.first_at = now

    def _waits(self, delay: float) -> None:
        if self.supervisor_ends is None:
            self.delays.append(delay)


def _most_within(seconds: float, moments: Iterable[float]) -> int:
    most, recent = 0, deque[float]()
    for moment in moments:
        recent.append(moment)
        while moment - recent[0] > seconds:
            recent.popleft()
        most = max(most, len(recent))
    return most
