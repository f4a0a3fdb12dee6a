"""The nodes of a running tree: what the core remembers of each supervisor and agent. Pure data.

Invariants: `SupervisorNode.sequence` is sorted by `position`, which never changes; a node waits in at most one
group; a node with a `purpose` is being stopped or is marked for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar, Final, assert_never

from orchestree.agents.ends import CrashReport, ExitReason
from orchestree.agents.executor import Blocked
from orchestree.strategies.backoff import Backoff, Streak
from orchestree.strategies.restart import ONE_FOR_ONE, REST_FOR_ONE, Strategy
from orchestree.strategies.window import RestartWindow

from .deadlines import Deadline
from .events import StopCause
from .pending import Delay, Group, Pool, Ticket, Watch
from .spec import AgentEntry, ChildEntry, SupervisorEntry
from .states import BACKOFF, QUEUED, READY, REGISTERED, STARTING, STOPPING, UNHEALTHY_STATES, WAITING, AgentState

_position: Final = attrgetter("position")
DEPARTED_KEPT: Final = 1000  # last outcomes of temporary children per supervisor; the oldest are forgotten


@dataclass(eq=False, slots=True)
class Node:
    """What agents and supervisors have in common. Times are monotonic seconds.

    Attributes:
        key: positions from the root down; sorts the whole tree in start order, depth first.
        held: an operator stopped it or it parked; only a command starts it again.
        purpose: why it is being stopped; set already while it waits for its turn in the stop order.
        deadline: of its start or its stop, whichever runs.
        delay: of the restart that it waits for by its own failure.
        stopping_since: when it was last asked to stop.
        active_states: in which of them it keeps the tree from being empty.
    """

    active_states: ClassVar[frozenset[AgentState]]
    path: str
    parent: SupervisorNode | None
    name: str = field(init=False)
    position: int
    key: tuple[int, ...]
    backoff: Backoff | None
    state: AgentState = REGISTERED
    incarnation: int = 0
    held: bool = False
    purpose: StopCause | None = None
    group: Group | None = None
    deadline: Deadline | None = None
    streak: Streak = field(default_factory=Streak)
    delay: Delay | None = None
    started_at: float | None = None
    stopping_since: float = 0.0
    ready_since: float | None = None
    restarts_total: int = 0
    waiting_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Note the name among its siblings."""
        self.name = self.path.rpartition("/")[2]

    def age(self, now: float) -> float:
        """Return the seconds since its last start."""
        return 0.0 if self.started_at is None else now - self.started_at


@dataclass(eq=False, slots=True)
class AgentNode(Node):
    """An agent.

    Attributes:
        can_kill: whether its executor can end a run that does not want to.
        pool: slots of the group start it takes part in.
        ticket: its entry in the queue for a slot.
        after_wedge: what it becomes when its wedged run ends, if that was decided when it wedged; BACKOFF and
            REGISTERED: it starts.
        killed: its run was told to end at once.
        watch: of its run, since that is ready; None if nothing is watched.
        failure: why its run was given up on, one line; `stacks`: what its thread was doing then, if known.
        held_up: what blocks the event loop that its run lives on.
        first_run: whether this incarnation is the first of this entry.
    """

    active_states = frozenset({QUEUED, STARTING, READY, STOPPING, BACKOFF})
    entry: AgentEntry = field(kw_only=True)
    can_kill: bool = field(kw_only=True)
    has_slot: bool = False
    pool: Pool | None = None
    ticket: Ticket | None = None
    pid: int | None = None
    result: object = None
    last_crash: CrashReport | None = None
    after_wedge: AgentState | None = None
    killed: bool = False
    watch: Watch | None = None
    failure: str = ""
    stacks: str = ""
    held_up: Blocked | None = None
    first_run: bool = False


@dataclass(eq=False, slots=True)
class SupervisorNode(Node):
    """A supervisor and its children.

    Attributes:
        window: a new one with each start.
        sequence: children in start order.
        wanted: for each name, the children that depend on it.
        departed: last outcome of temporary children that ended.
        unready: names of children that have not been ready since it started and keep it from becoming ready.
        excused: names of children that have not been ready either, but an operator keeps them down.
        ending: why it terminates its children by its own decision.
        to_stop: children marked for a stop, to be asked in reverse start order: one by one, if dynamic all at once.
        awaited: those that have been asked and have not ended.
    """

    active_states = frozenset({STOPPING, BACKOFF})
    entry: SupervisorEntry = field(kw_only=True)
    window: RestartWindow = field(default_factory=lambda: RestartWindow(0, 1.0))
    children: dict[str, Node] = field(default_factory=dict)
    sequence: list[Node] = field(default_factory=list)
    wanted: dict[str, dict[Node, None]] = field(default_factory=dict)
    departed: dict[str, Node] = field(default_factory=dict)
    unready: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    ending: ExitReason | None = None
    offender: str | None = None
    to_stop: list[tuple[int, Node]] = field(default_factory=list)
    awaited: set[Node] = field(default_factory=set)
    next_position: int = 0

    @property
    def is_up(self) -> bool:
        """Whether it starts children."""
        return self.state is READY or self.state is STARTING

    def heeds(self, node: Node) -> bool:
        """Whether a sibling may have to act on a new state of the child `node`, or the child itself."""
        return node.name in self.wanted or node.state is WAITING or self.entry.strategy is REST_FOR_ONE

    def find(self, name: str) -> Node | None:
        """Return the child of this name, or what is left of a temporary one."""
        return self.children.get(name) or self.departed.get(name)

    def before(self, node: Node) -> Node | None:
        """Return the child before `node` in start order."""
        index = bisect_left(self.sequence, node.position, key=_position)
        return self.sequence[index - 1] if index else None

    def after(self, node: Node) -> Node | None:
        """Return the child behind `node` in start order."""
        index = bisect_left(self.sequence, node.position + 1, key=_position)
        return self.sequence[index] if index < len(self.sequence) else None

    def scope(self, node: Node) -> list[Node]:
        """Return whom the failure of `node` takes along, itself included, in start order."""
        strategy = self.entry.strategy
        if isinstance(node, AgentNode) and node.entry.strategy is not None:
            strategy = node.entry.strategy
        if strategy is ONE_FOR_ONE:
            return [node]
        match strategy:
            case Strategy.ONE_FOR_ALL:
                return list(self.sequence)
            case Strategy.REST_FOR_ONE:
                return self.sequence[bisect_left(self.sequence, node.position, key=_position) :]
            case Strategy.DEPENDENTS:
                return self.with_dependents(node)
            case _:
                assert_never(strategy)

    def with_dependents(self, node: Node) -> list[Node]:
        """Return `node` and the siblings that depend on it, directly or through others, in start order."""
        found = {node: None}
        trail = [node]
        while trail:
            for dependent in self.wanted.get(trail.pop().name, ()):
                if dependent not in found:
                    found[dependent] = None
                    trail.append(dependent)
        return sorted(found, key=_position)

    def add(self, node: Node, entry: ChildEntry) -> None:
        """Append a child at the end of the start order."""
        self.departed.pop(entry.name, None)
        self.children[entry.name] = node
        self.unready.add(entry.name)
        self.sequence.append(node)
        for name in entry.depends_on:
            self.wanted.setdefault(name, {})[node] = None

    def remove(self, node: AgentNode | SupervisorNode, *, remember: bool) -> Node | None:
        """Take a child out of the tree; `remember` its last outcome under its name; return one forgotten for it."""
        del self.children[node.name]
        del self.sequence[bisect_left(self.sequence, node.position, key=_position)]
        self.unready.discard(node.name)
        self.excused.discard(node.name)
        for name in node.entry.depends_on:
            self.wanted[name].pop(node, None)
            if not self.wanted[name]:
                del self.wanted[name]
        if remember:
            self.departed[node.name] = node
        if len(self.departed) <= DEPARTED_KEPT:
            return None
        for is_unwell in (False, True):  # what makes the exit code 1 is forgotten last
            for name, gone in self.departed.items():
                if (gone.state in UNHEALTHY_STATES) is is_unwell and name not in self.wanted:
                    return self.departed.pop(name)
        return None


AnyNode = AgentNode | SupervisorNode


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and all below it, in start order, depth first; departed children come last."""
    yield node
    if isinstance(node, SupervisorNode):
        for child in node.sequence:
            yield from walk(child)
        yield from node.departed.values()
