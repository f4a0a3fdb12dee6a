"""A child of a tree as an event log tells it, and one decision of the core as it was recorded. Data only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestree.agents.executor import RunId
from orchestree.strategies.restart import Restart, Strategy
from orchestree.supervisor import events as ev
from orchestree.supervisor.inputs import (
    Effect,
    Emit,
    Input,
    Refused,
    RunEffect,
    TreeEnded,
)
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry

RUNNING = ("starting", "ready", "stopping")
PENDING = ("waiting", "queued", "backoff")


@dataclass(frozen=True, slots=True)
class Said:
    """An event, with its data made once."""

    path: str
    incarnation: int
    data: ev.EventData


Answer = Said | RunEffect | Refused | TreeEnded


def answer(effect: Effect) -> Answer:
    """Return an effect as rules look at it."""
    return Said(effect.path, effect.incarnation, effect.data) if isinstance(effect, Emit) else effect


@dataclass(frozen=True, slots=True)
class Decision:
    """One call of the core: when, what it was told, what it answered, and when it wants to be called again."""

    now: float
    told: Input
    effects: Sequence[Answer]
    next_deadline: float | None

    @property
    def is_refused(self) -> bool:
        """Whether the operation was a mistake of the caller."""
        return bool(self.effects) and isinstance(self.effects[0], Refused)


@dataclass(eq=False, slots=True, kw_only=True)
class Child:
    """An agent or a supervisor, as the log tells it.

    Attributes:
        key: positions from the root down, in start order.
        phase: as `AgentState`; of a supervisor also ``terminated`` (down, whatever its state is).
        before: the phase before this one.
        held: an operator stopped it or it parked: only a command moves it.
        wedged: its run that outlived its shutdown time, while the executor still has it.
        fenced: wedged runs that it goes on without.
        failures: in a row; `failing_since` is the time of the first.
        starts: how often it has been started.
        was_up: it has been ready or completed since its supervisor started.
        ended_as: its restart type when it last ended, which may have been changed since.
        asked: it has been told to stop, or has to stop as soon as its turn comes.
        hurried: somebody asked for a sibling or for itself since, so its delay may have been cut short.
        led: it failed and comes back for that, with its group.
        is_swept: it was due when a sibling failed, and starts with the group of that if the strategy says so.
        is_late: it is asked to stop because its start takes too long or it hangs, whatever else it was to stop for.
        is_hung: its run was found hung.
        group: children that have to end before it may start again.
        must_start: it leaves the tree, uncounted, if the start that runs fails.
        stamps: times of the failures of its children that were restarted (supervisors); `old_stamps`: how many
            of them were out of the window when the window was changed, so that they may have been forgotten.
        latest_due: the latest time that any restart among its children was announced for (supervisors).
        terminating: it brings down all its children (supervisors).
        gives_up: the cause, if it does so by its own decision.
    """

    path: str
    entry: ChildEntry
    parent: Child | None
    key: tuple[int, ...]
    phase: str = "registered"
    before: str = ""
    since: float = 0.0
    held: bool = False
    incarnation: int = 0
    wedged: RunId | None = None
    fenced: set[RunId] = field(default_factory=set)
    failures: int = 0
    failing_since: float = 0.0
    ready_since: float | None = None
    starts: int = 0
    was_up: bool = False
    ended_as: Restart | None = None
    asked: bool = False
    stop_cause: str = ""
    is_late: bool = False
    is_hung: bool = False
    due_at: float = 0.0
    hurried: bool = False
    led: bool = False
    is_swept: bool = False
    group: set[Child] = field(default_factory=set)
    must_start: bool = False
    stamps: list[float] = field(default_factory=list)
    old_stamps: int = 0
    latest_due: float = 0.0
    terminating: bool = False
    gives_up: str = ""
    sequence: list[Child] = field(default_factory=list)
    departed: dict[str, Child] = field(default_factory=dict)
    positions: int = 0

    def __repr__(self) -> str:
        """Return path and phase."""
        return f"<{self.path or 'root'} {self.phase}>"

    @property
    def is_agent(self) -> bool:
        """Whether it is an agent."""
        return isinstance(self.entry, AgentEntry)

    @property
    def is_dynamic(self) -> bool:
        """Whether it is a dynamic supervisor."""
        return isinstance(self.entry, SupervisorEntry) and self.entry.dynamic

    @property
    def runs(self) -> bool:
        """Whether it is starting, ready or stopping, as far as the log tells."""
        return self.phase in RUNNING and self.wedged is None

    def start_is_over(self, now: float) -> bool:
        """Whether it has been starting for longer than it may."""
        if not isinstance(self.entry, AgentEntry) or self.phase != "starting":
            return False
        return self.entry.start_timeout is not None and now >= self.since + self.entry.start_timeout

    @property
    def is_in_first_start(self) -> bool:
        """Whether its first start is not over; nobody waits for one that is wedged."""
        is_starting = self.phase in ("starting", "stopping") and self.wedged is None
        return self.starts == 1 and is_starting and self.ready_since is None

    @property
    def waits(self) -> bool:
        """Whether it comes to run by itself as soon as it may."""
        return self.phase in PENDING

    @property
    def leaves(self) -> bool:
        """Whether it leaves the tree when it ends for good."""
        if self.parent is None:
            return False
        never_started = self.must_start and self.phase != "completed"
        return self.entry.restart is Restart.TEMPORARY or self.parent.is_dynamic or never_started

    @staticmethod
    def comes_back_with(effect: Answer) -> bool:
        """Return whether `effect`, which follows the end of a supervisor, says that it comes back."""
        return isinstance(effect, Said) and isinstance(effect.data, ev.SupervisorRestarting)

    @property
    def name(self) -> str:
        """Name among its siblings."""
        return self.path.rpartition("/")[2]

    def find(self, name: str) -> Child | None:
        """Return a child, or what is left of a temporary one."""
        return next((child for child in self.sequence if child.name == name), None) or self.departed.get(name)

    def ancestors(self) -> Iterator[Child]:
        """Yield its supervisor, and so on up to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def scope(self) -> list[Child]:
        """Return whom its failure takes along, itself included, in start order."""
        assert self.parent is not None
        assert isinstance(self.parent.entry, SupervisorEntry)
        strategy = self.parent.entry.strategy
        if isinstance(self.entry, AgentEntry) and self.entry.strategy is not None:
            strategy = self.entry.strategy
        family = self.parent.sequence
        if strategy is Strategy.DEPENDENTS:
            taken = {self.name}
            for _ in family:
                taken |= {sibling.name for sibling in family if taken & set(sibling.entry.depends_on)}
            return [sibling for sibling in family if sibling.name in taken]
        if strategy is Strategy.ONE_FOR_ONE:
            return [self]
        return [s for s in family if strategy is Strategy.ONE_FOR_ALL or s.key >= self.key]
