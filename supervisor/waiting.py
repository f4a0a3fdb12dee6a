"""What callers wait for, as predicates over the tree. Evaluated in the supervision thread after each decision."""

from __future__ import annotations

from collections.abc import Callable
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
    """Return whether nothing at `path` or below is starting or stopping: it is ready, has ended, or has to wait."""

    def holds(world: World) -> bool:
        node = world.find(path)
        return node is None or not any(map(_moves, walk(node)))

    return holds


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
