"""What children wait in before they start (group, delay, pool, queue), and what is watched of them. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from orchestree.agents.ends import CrashReport

from .deadlines import Deadline
from .event_types import RestartCause

if TYPE_CHECKING:
    from .tree import AgentNode, Node


@dataclass(eq=False, slots=True)
class Group:
    """Children that start together once `due_at` has come and everything that had to stop has ended.

    A single restart is a group of one, so that merging, delays and slots have one mechanism.

    Attributes:
        offenders: whose failures made the group; the strategy of each says who takes part.
        delays: for each failure, whose it was and when its delay is over; the last of them is waited for.
        members: in no order; ``dict`` used as an ordered set.
        stopping: members whose end is awaited.
    """

    offenders: list[Node]
    delays: dict[Node, float]
    members: dict[Node, None] = field(default_factory=dict)
    stopping: set[Node] = field(default_factory=set)
    started: bool = False
    deadline: Deadline | None = None

    @property
    def due_at(self) -> float:
        """When it starts at the earliest, monotonic seconds."""
        return max(self.delays.values())


class Delay(NamedTuple):
    """The delay of a restart that was decided, with all it was computed from but the policy."""

    began: float
    seconds: float
    report: CrashReport | None
    draw: float


@dataclass(eq=False, slots=True)
class Pool:
    """The worker slots of a group that starts; `pending` members may still draw from it."""

    slots: int
    members: frozenset[Node]
    pending: set[Node]


@dataclass(eq=False, slots=True)
class Watch:
    """What is known of a ready run whose progress, memory or age has a limit. Times are monotonic seconds.

    Attributes:
        progress_at: since when its silence counts: its latest known progress, or `excused_at`.
        excused_at: when it was last found silent and supervision had been late itself.
        is_fresh: its memory is limited, and has not been measured since it became ready.
        look_due: for when the look was set whose answer is awaited.
        looked_at: when that look was made.
        held_since: when it was first reported that something blocks the event loop of the run; None if nothing does.
        spared: when what blocks the loop was last let off, because supervision had been late itself.
        is_owed: a look found the run held up: it gets its whole time again when the loop turns.
        recycling: why it was asked to end between two rounds, and since when (`recycling_since`).
        excess: how much it uses beyond its limit, in words.
        is_hopeless: it used too much from the beginning, so its next run would as well.
        deadlines: those that run or have fired: ``watchdog``, ``max_memory``, ``max_age``, ``recycling``.
    """

    progress_at: float
    excused_at: float = 0.0
    is_fresh: bool = False
    look_due: float | None = None
    looked_at: float = 0.0
    held_since: float | None = None
    spared: float = 0.0
    is_owed: bool = False
    recycling: RestartCause | None = None
    recycling_since: float = 0.0
    excess: str = ""
    is_hopeless: bool = False
    deadlines: dict[str, Deadline] = field(default_factory=dict)


class Ticket(NamedTuple):
    """A place in the queue for a worker slot; one that its node no longer holds is void. No two are equal."""

    key: tuple[int, ...]
    serial: int
    node: AgentNode
