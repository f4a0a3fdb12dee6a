"""What came of a simulation, as values. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, overload

from orchestree.agents.ends import Cause
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.events import TYPE_OF, AgentParked, Event, SupervisorTerminated
from orchestree.supervisor.phrases import counted
from orchestree.supervisor.states import UNHEALTHY_STATES, AgentState

from .durations import in_words
from .faults import Fault
from .pretended_run import Struck
from .simulator import Said, Simulator, StateChange

_TELLING: Final = frozenset({AgentParked, SupervisorTerminated})

StoppedBy = Literal["until", "ended", "max_events"]


class EventLog(Sequence[Event]):
    """The events of a simulation, numbered from 1; each is made when somebody looks at it. Times are virtual."""

    def __init__(self, said: Sequence[Said]) -> None:
        """Show `said`."""
        self._said = said

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._said)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        """Return one of them, or some."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        now, emit = self._said[place]
        data = emit.data
        return Event(place + 1, now, now, TYPE_OF[type(data)], emit.path, emit.incarnation, data)

    def __eq__(self, other: object) -> bool:
        """Compare with another log, or with any sequence of events."""
        if isinstance(other, EventLog):
            return len(self) == len(other) and all(one == two for one, two in zip(self._said, other._said, strict=True))
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return how long it is: it may have a million events."""
        return f"<EventLog of {counted(len(self), 'event')}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOutcome:
    """What became of one agent.

    Attributes:
        state: at the end.
        starts: how many runs it had.
        restarts: how many restarts were decided, whatever for.
        crashes: how many of its runs ended abnormally.
        up_s: seconds in which it was ready.
        down_s: seconds in which it was neither ready nor completed: it waited, started, stopped or was given up on. To
            `Simulation.until` if the tree fell, else to `Simulation.ended_at`.
        longest_down_s: the longest time in a row of those.
    """

    path: str
    state: AgentState
    starts: int
    restarts: int
    crashes: int
    up_s: float
    down_s: float
    longest_down_s: float


@dataclass(frozen=True, slots=True)
class Parked:
    """An agent was given up on at `at`; `why` is one line."""

    at: float
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The supervisor at `path` ended by its own decision; `offender` is the child that was one too many.

    `max_restarts` in `max_seconds` is what it allows.
    """

    at: float
    path: str
    cause: Cause
    offender: str | None
    max_restarts: int
    max_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Simulation:
    """What came of a simulation; as text, a summary. Seconds are virtual and count from the start of the tree.

    Attributes:
        seed: that everything random came from.
        until: to when it was to go.
        ended_at: when it stopped: because of `until`, or because the tree ``ended``, or the log had `max_events`.
        faults: that were asked for.
        struck: what they have done, in order; of what holds for a while only the runs that a `Down` has ended. A crash
            in ``setup`` or ``teardown`` stands there when a run ends by it.
        events: the log.
        agents: what became of each agent, by path, in start order.
        states: for each path, agents' and supervisors', the states that it had, oldest first.
        starts: for each agent that was started, when.
        crashes: for each agent that crashed, when.
        parked: in order; one that was parked twice stands there twice.
        gave_up: supervisors that ended by their own decision, in order.
        exit_code: of the tree; None if it runs on.
    """

    seed: int
    until: float
    ended_at: float
    stopped_by: StoppedBy
    faults: tuple[Fault, ...]
    struck: tuple[Struck, ...]
    events: EventLog
    agents: Mapping[str, AgentOutcome]
    states: Mapping[str, Sequence[StateChange]]
    starts: Mapping[str, Sequence[float]]
    crashes: Mapping[str, Sequence[float]]
    parked: tuple[Parked, ...]
    gave_up: tuple[GaveUp, ...]
    exit_code: int | None

    @property
    def fell(self) -> bool:
        """Whether the root supervisor gave up, and with it the whole tree."""
        return any(one.path == "" for one in self.gave_up)

    @property
    def restarts(self) -> dict[str, int]:
        """How many restarts were decided for each agent, by path."""
        return {path: agent.restarts for path, agent in self.agents.items()}

    @property
    def unhealthy(self) -> dict[str, AgentState]:
        """Which agents and supervisors are parked, failed or wedged at the end, by path."""
        at_the_end = {path: changes[-1].state for path, changes in self.states.items() if changes}
        return {path: state for path, state in at_the_end.items() if state in UNHEALTHY_STATES}

    def __repr__(self) -> str:
        """Return, say, ``<Simulation to 1d, seed 42: 3 crashes, 2 restarts, 1 parked; the tree fell at 7s>``."""
        crashes = sum(agent.crashes for agent in self.agents.values())
        said = ["1 crash" if crashes == 1 else f"{crashes} crashes"]
        said += [counted(sum(self.restarts.values()), "restart"), f"{len(self.parked)} parked"]
        how = {"until": "", "ended": "; the tree ended", "max_events": "; stopped by max_events"}[self.stopped_by]
        how = "; the tree fell" if self.fell else how
        return (
            f"<Simulation to {in_words(self.until)}, seed {self.seed}: {', '.join(said)}"
            f"{how}{f' at {in_words(self.ended_at)}' if how else ''}>"
        )

    def json_lines(self) -> Iterator[str]:
        """Yield the log, one JSON object a line: the same text for the same tree, faults and seed."""
        for event in self.events:
            yield json.dumps(to_json(event), separators=(",", ":"))


def result_of(simulator: Simulator, faults: Sequence[Fault], seed: int, until: float) -> Simulation:
    """Return what has come of `simulator` so far."""
    if simulator.is_exhausted:
        stopped_by: StoppedBy = "max_events"
    else:
        stopped_by = "until" if simulator.exit_code is None else "ended"
    ended_at = simulator.log[-1].now if stopped_by == "ended" else simulator.now
    events = EventLog(tuple(simulator.log))
    telling = [events[place] for place, (_, emit) in enumerate(simulator.log) if emit.kind in _TELLING]
    gave_up = tuple(_gave_up(simulator, telling))
    down_to = until if any(one.path == "" for one in gave_up) else ended_at
    return Simulation(
        seed=seed,
        until=until,
        ended_at=ended_at,
        stopped_by=stopped_by,
        faults=tuple(faults),
        struck=tuple(simulator.struck),
        events=events,
        agents={path: _outcome(simulator, path, down_to) for path in simulator.executors.habits},
        states={path: tuple(changes) for path, changes in simulator.states.items()},
        starts={path: tuple(moments) for path, moments in simulator.executors.starts.items()},
        crashes={path: tuple(moments) for path, moments in simulator.crashes.items()},
        parked=tuple(
            Parked(event.monotonic, event.path, event.data.why)
            for event in telling
            if isinstance(event.data, AgentParked)
        ),
        gave_up=gave_up,
        exit_code=simulator.exit_code,
    )


def _gave_up(simulator: Simulator, telling: Sequence[Event]) -> Iterator[GaveUp]:
    for event in telling:
        data = event.data
        if isinstance(data, SupervisorTerminated) and data.reason.cause in (Cause.MAX_RESTARTS, Cause.ESCALATED):
            entry = simulator.supervisors[event.path]
            limits = entry.max_restarts, entry.max_seconds
            yield GaveUp(event.monotonic, event.path, data.reason.cause, data.offender, *limits)


def _outcome(simulator: Simulator, path: str, end: float) -> AgentOutcome:
    changes = simulator.states.get(path, [])
    up_s = down_s = longest_s = spell_s = 0.0
    for place, (at, state) in enumerate(changes):
        lasted = (changes[place + 1].at if place + 1 < len(changes) else end) - at
        if state is AgentState.READY:
            up_s += lasted
            spell_s = 0.0
        elif state is not AgentState.COMPLETED:
            down_s += lasted
            spell_s += lasted
            longest_s = max(longest_s, spell_s)
    return AgentOutcome(
        path=path,
        state=changes[-1].state if changes else AgentState.REGISTERED,
        starts=len(simulator.executors.starts.get(path, ())),
        restarts=simulator.restarts.get(path, 0),
        crashes=len(simulator.crashes.get(path, ())),
        up_s=up_s,
        down_s=down_s,
        longest_down_s=longest_s,
    )
