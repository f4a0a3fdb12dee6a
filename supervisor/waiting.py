"""What callers wait for, as predicates over the tree. Evaluated in the supervision thread after each decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from orchestree.strategies import checks
from orchestree.strategies.restart import parse_enum

from .states import AgentState
from .tree import AgentNode, Node, walk
from .world import World

Until = Callable[[World], bool]

HANDLERS_END_S: Final = 2.0
"""How long whoever waits for the end of the tree also waits for event handlers to see the last events."""


def check_timeout(timeout: float | None) -> float | None:
    """Return `timeout`; raise `SpecError` if it is neither None nor a number of seconds."""
    return None if timeout is None else checks.seconds("timeout", timeout)


def is_started(world: World) -> bool:
    """Whether no first start is running any more."""
    return not world.starting_up


def is_settled(path: str) -> Until:
    """Return whether nothing at `path` or below is starting or stopping: it is ready, has ended, or has to wait.

    Waiting for a sibling's stop, for a delay or for a slot is "has to wait".
    """
    return _Settled(path)


class _Settled:
    """Remembers the last node that was seen moving, so that a thousand decisions do not walk the tree as often."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._moving: Node | None = None
        self._rest: Iterator[Node] = iter(())

    def __call__(self, world: World) -> bool:
        seen_all = False
        while self._moving is None or not _moves(self._moving):
            self._moving = next(filter(_moves, self._rest), None)
            if self._moving is not None:
                seen_all = False
            elif seen_all:
                return True
            else:
                node = world.find(self._path)
                self._rest = iter(() if node is None else walk(node))
                seen_all = True
        return False


class Started:
    """Whether the start that was asked for at `path` is over, and then how it went.

    Attributes:
        error: what went wrong, in one line; None if nothing did.
        ignored: it said that it is not needed.
    """

    def __init__(self, path: str) -> None:
        """Nothing is known yet."""
        self._path = path
        self._settled = is_settled(path)
        self._node: Node | None = None
        self.error: str | None = None
        self.ignored = False

    def __call__(self, world: World) -> bool:
        """Look; once it is over the attributes say how."""
        # It may leave the tree by failing, or make room for another of its name.
        self._node = self._node or world.find(self._path)
        if not self._settled(world):
            return False
        if self._node is not None and self._node.ready_since is None:
            self._look_at(self._node)
        return True

    def _look_at(self, node: Node) -> None:
        match node.state:
            case AgentState.FAILED:
                crash = node.last_crash if isinstance(node, AgentNode) else None
                self.error = crash.message if crash else "it gave up"
            case AgentState.STOPPED | AgentState.REGISTERED:
                self.error = "it was stopped before it was ready"
            case state:
                self.ignored = state is AgentState.COMPLETED


def is_in(path: str, state: AgentState | str) -> Until:
    """Return whether the child at `path` is in `state`.

    Raises:
        SpecError: there is no such state.
    """
    wanted = parse_enum(AgentState, state, "state")

    def holds(world: World) -> bool:
        node = world.find(path)
        return node is not None and node.state is wanted

    return holds


def _moves(node: Node) -> bool:
    starts = node.state is AgentState.STARTING and isinstance(node, AgentNode)
    return starts or node.state is AgentState.STOPPING
