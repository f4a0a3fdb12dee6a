"""Who blocks an event loop that other agents live on too: whom these wait for, and what goes on without it. Pure.

An executor finds out (`RunProgress.blocked`), because the `watchdog` of somebody on that loop had it looked at. Whoever
blocks the loop is given up on like any other that hangs; those that it holds up are not at fault. When it turns out
that it cannot be ended, those with ``replace_wedged`` leave their runs behind and start again on a fresh loop.
"""

from __future__ import annotations

from typing import Final

from orchestree.agents.executor import Blocked, RunId
from orchestree.strategies.restart import Restart

from .events import AgentHung, ServiceFailed, StopCause
from .states import RUNNING_STATES, AgentState
from .stopping import give_up, leave_behind
from .tree import AgentNode
from .world import World

NO_AGENT: Final = "(event loop)"
"""Stands in `Status.waiting_for` for what blocks the loop and is no agent; no agent can have this name."""

_BEFORE_STOP: Final = (AgentState.STARTING, AgentState.READY)


def note(world: World, node: AgentNode, blocked: Blocked | None) -> None:
    """Note what blocks the loop of the current run of `node`; None: it turns."""
    if node.held_up != blocked:
        node.held_up = blocked
        world.touched[node] = None


def is_by(node: AgentNode, blocked: Blocked) -> bool:
    """Return whether it is the current run of `node` that blocks its loop."""
    return blocked.by == RunId(node.path, node.incarnation)


def blocker_of(node: AgentNode) -> tuple[str, ...]:
    """Return whom a running agent waits for because of its loop: a sibling's name, another's path, or `NO_AGENT`."""
    blocked = node.held_up
    if blocked is None or node.state not in RUNNING_STATES or is_by(node, blocked):
        return ()
    if blocked.by is None:
        return (NO_AGENT,)
    parent, _, name = blocked.by.path.rpartition("/")
    return (name if parent == node.path.rpartition("/")[0] else blocked.by.path,)


def condemn(world: World, blocked: Blocked, seconds: float, limit: float, path: str) -> None:
    """End what has blocked a loop for `seconds`, longer than the watchdog (`limit`) of the agent at `path` allows."""
    run = blocked.by
    node = world.nodes.get(run.path) if run is not None else None
    if run is None:
        if world.told_blocks.get(blocked.loop) != blocked.since:
            world.told_blocks[blocked.loop] = blocked.since
            error = f"blocked for {seconds:g} s by what is no agent\n{blocked.stack}"
            world.emit(world.root, ServiceFailed, "the event loop of coroutine agents", error)
        _lose_loop(world, blocked)
    elif not isinstance(node, AgentNode) or not is_by(node, blocked) or node.state is AgentState.WEDGED:
        _lose_loop(world, blocked)
    elif node.state in _BEFORE_STOP:
        world.emit(node, AgentHung, seconds, blocked.doing, limit, blocked.stack)
        why = f"blocks its event loop for {seconds:g} s (watchdog {limit:g} s of {path})"
        give_up(world, node, StopCause.WATCHDOG, why, blocked.stack)


def run_wedged(world: World, node: AgentNode) -> None:
    """Give up the loop of a run that turned out to be wedged, if the run is what blocks it."""
    if node.held_up is not None and is_by(node, node.held_up):
        _lose_loop(world, node.held_up)


def _lose_loop(world: World, blocked: Blocked) -> None:
    """Leave behind the runs on a loop that nobody can free, if they may be replaced; the others wait for it."""
    if blocked.loop is None:
        return  # there is no other that they could go on with
    for node in list(world.nodes.values()):
        if isinstance(node, AgentNode) and _is_on(node, blocked.loop) and _may_be_replaced(node):
            leave_behind(world, node, StopCause.BLOCKED)


def _is_on(node: AgentNode, loop: int) -> bool:
    return node.held_up is not None and node.held_up.loop == loop


def _may_be_replaced(node: AgentNode) -> bool:
    is_free = node.state in _BEFORE_STOP and node.purpose is None and node.parent is not None and node.parent.is_up
    return is_free and node.entry.replace_wedged and node.entry.restart is not Restart.TEMPORARY
