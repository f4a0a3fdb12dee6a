"""What `LiveChaos` does to a tree that runs, and what came of it. It waits for events and for the next moment alone."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from orchestree.supervisor.event_text import GIVING_UP, describe
from orchestree.supervisor.events import (
    AgentParked,
    AgentTerminated,
    AgentWedged,
    Event,
    EventData,
    EventType,
    OrchestratorStopping,
    SupervisorTerminated,
)
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.simulation.durations import in_words
from orchestree.supervisor.simulation.faults import Crash, Hang
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.simulation.shown.comparing import compare
from orchestree.supervisor.simulation.shown.comparison import Comparison
from orchestree.supervisor.states import UNHEALTHY_STATES

from .victims import Spared, Victim, Victims

EndedBy = Literal["until", "unhealthy", "check", "ended"]
LiveFault: TypeAlias = Crash | Hang
"""What can be done to a process from outside; in a plan it has nothing but `at` to say when."""

TOO_LATE_S: Final = 1.0
"""A fault whose moment was longer ago when its turn comes is skipped: many at once are not what was planned."""
_DECISIONS: Final = tuple(type for type in EventType if type is not EventType.AGENT_MESSAGE)
"""What is read; a flood of messages holds nothing up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done to one run of an agent.

    Attributes:
        at: seconds since the start of the tree.
        signal: name of the signal that its process got.
    """

    at: float
    path: str
    incarnation: int
    pid: int
    signal: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.at:8.3f} s  {self.signal:<8} {self.path}, incarnation {self.incarnation}, pid {self.pid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What was planned and not done. `at`: seconds since the start of the tree; `why`: one line."""

    at: float
    fault: LiveFault
    why: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.at:8.3f} s  skipped  {self.fault.path}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """What came of it. All times but those of the events are seconds since the start of the tree.

    Attributes:
        done: in order; a process that went on again stands there twice, with SIGSTOP and SIGCONT.
        skipped: what was planned and not done, in order; what was planned for later than `ended_at` is in neither.
        events: of the live tree, from its start on.
        ended_at: when it was over.
        ended_by: ``until`` was reached; something is ``unhealthy``; the ``check`` said so; the tree ``ended``.
        why: one line.
        comparison: the simulated log beside the live one.
    """

    done: tuple[Done, ...]
    skipped: tuple[Skipped, ...]
    events: tuple[Event, ...]
    ended_at: float
    ended_by: EndedBy
    why: str
    comparison: Comparison

    def __str__(self) -> str:
        """Return what was done and skipped, in order, and why it was over; the comparison is a text of its own."""
        both: list[Done | Skipped] = [*self.done, *self.skipped]
        lines = sorted(both, key=lambda one: one.at)
        return "\n".join([*map(str, lines), f"{self.ended_at:8.3f} s  over: {self.why}"])


class _Over(NamedTuple):
    at: float
    ended_by: EndedBy
    why: str


class Course:
    """One `LiveChaos.run`."""

    def __init__(
        self, orchestrator: Orchestrator, started: Event, check: Callable[[Orchestrator], bool] | None
    ) -> None:
        """Begin to read; `started` is the event from which times count."""
        self._done: list[Done] = []
        self._skipped: list[Skipped] = []
        self._seen: list[Event] = []
        self._orchestrator = orchestrator
        self._began = started.monotonic
        self._check = check
        self._victims = Victims(orchestrator)
        self._events = orchestrator.events.iterate(since=started.seq - 1, type=_DECISIONS)

    @property
    def _now(self) -> float:
        return self._orchestrator.clock.monotonic() - self._began

    def go(self, plan: Sequence[LiveFault], simulation: Simulation) -> LiveRun:
        """Carry out the plan, until the simulation's end; then nobody stands still, whatever was raised."""
        try:
            with self._victims:
                over = self._carry_out(plan, simulation.until)
                self._release(math.inf)
        finally:
            self._events.close()
        return LiveRun(
            done=tuple(self._done),
            skipped=tuple(self._skipped),
            events=tuple(self._seen),
            ended_at=over.at,
            ended_by=over.ended_by,
            why=over.why,
            comparison=compare(simulation, self._seen, ended_at=over.at),
        )

    def _carry_out(self, plan: Sequence[LiveFault], until: float) -> _Over:
        for fault in plan:
            if (over := self._watch(_moment_of(fault))) is not None:
                return over
            if self._check is not None and not self._check(self._orchestrator):
                return _Over(self._now, "check", "the check says that the tree is not well")
            self._strike(fault)
        return self._watch(until) or _Over(until, "until", f"{in_words(until)} have passed")

    def _watch(self, moment: float) -> _Over | None:
        """Read events until `moment` (seconds since the start), letting go on who is due; return why it is over."""
        while True:
            due = min(moment, self._victims.next_release)
            event = self._events.next_within(max(0.0, due - self._now))
            if event is not None:
                self._seen.append(event)
                if (ended_by := _ended_by(event.data)) is not None:
                    return _Over(event.monotonic - self._began, ended_by, " ".join(describe(event).split()))
                continue
            self._release(self._now)
            if self._now >= moment:
                return None
            if not self._orchestrator.is_running:
                return _Over(self._now, "ended", "the tree has ended")

    def _strike(self, fault: LiveFault) -> None:
        try:
            if (late := self._now - _moment_of(fault)) > TOO_LATE_S:
                raise Spared(f"its turn came {late:.1f} s too late")
            if isinstance(fault, Hang):
                self._note(self._victims.hold(fault.path, self._now + fault.lasts), "SIGSTOP")
            else:
                self._note(self._victims.end(fault.path, signal.Signals[fault.signal]), fault.signal)
        except Spared as why:
            self._skipped.append(Skipped(at=self._now, fault=fault, why=str(why)))

    def _release(self, now: float) -> None:
        for victim in self._victims.release(now):
            self._note(victim, "SIGCONT")

    def _note(self, victim: Victim, name: str) -> None:
        run = victim.incarnation
        self._done.append(Done(at=self._now, path=victim.path, incarnation=run, pid=victim.pid, signal=name))


def _moment_of(fault: LiveFault) -> float:
    """Return when a fault of a plan is to be done."""
    assert fault.at is not None
    return fault.at


def _ended_by(data: EventData) -> EndedBy | None:
    """Return why nothing more may be done after this event; None if it may."""
    match data:
        case AgentParked() | AgentWedged():
            return "unhealthy"
        case AgentTerminated(state=state) if state in UNHEALTHY_STATES:
            return "unhealthy"
        case SupervisorTerminated(reason=reason) if reason.cause in GIVING_UP:
            return "unhealthy"
        case OrchestratorStopping(cause=cause) if cause not in GIVING_UP:
            return "ended"
        case OrchestratorStopping():
            return "unhealthy"
        case _:
            return None
