"""How children are stopped: asked, awaited, killed or found wedged, one by one in reverse start order. Pure.

What follows the end of a child is decided elsewhere (`ending.py`); a supervisor that has lost its last
child is put on the agenda ``world.ended``.
"""

from __future__ import annotations

import heapq
from types import MappingProxyType
from typing import Final

from orchestree.agents.ends import SHUTDOWN, Cause, ExitReason
from orchestree.agents.executor import RunId

from . import slots
from .events import AgentStopping, AgentWedged, StopCause, SupervisorTerminated
from .inputs import AskRunToStop, KillRun
from .states import PENDING_STATES, RUNNING_STATES, STOPPED, STOPPING, WEDGED
from .tree import AgentNode, AnyNode, Node, SupervisorNode
from .world import World

GRACE_S: Final = 0.1
"""What a thread or task gets to notice that it was told to end at once, before it counts as wedged."""

GIVEN_UP_S: Final = 5.0
"""Seconds to stop in for a thread or task that was given up on and whose `shutdown` is ``infinity``."""

_FAILURES: Final = MappingProxyType(
    {
        StopCause.START_TIMEOUT: Cause.START_TIMEOUT,
        StopCause.WATCHDOG: Cause.WATCHDOG,
        StopCause.MEMORY: Cause.MEMORY,
    }
)
"""Purposes of runs that are given up on: however these end, it is a crash with this cause."""


def ask(world: World, node: Node, cause: StopCause) -> None:
    """Ask a running child to stop now, whatever its siblings do."""
    node.purpose = cause
    asked = node.state is STOPPING
    if isinstance(node, SupervisorNode):
        if not asked:
            world.set_state(node, STOPPING)
        if node.deadline is None:
            _bound(world, node)
        if not asked:
            terminate_children(world, node)
    elif isinstance(node, AgentNode) and not asked:
        _begin_to_stop(world, node, cause)
        if node.entry.shutdown != "brutal_kill" or not node.can_kill:
            world.out.append(AskRunToStop(RunId(node.path, node.incarnation)))
        _bound(world, node)


def give_up(world: World, node: AgentNode, cause: StopCause, why: str, stacks: str = "") -> None:
    """End a run that fails without ending: kill it at once, or ask it if it cannot be killed; `why` is one line."""
    node.failure, node.stacks = why, stacks
    # One that is to be stopped anyway has no failure of its own.
    purpose = node.purpose or cause
    if node.can_kill:
        node.purpose = purpose
        _begin_to_stop(world, node, purpose)
        kill(world, node, hung=cause in (StopCause.WATCHDOG, StopCause.START_TIMEOUT))
    else:
        ask(world, node, purpose)


def failure_of(node: Node) -> Cause | None:
    """Return why a child that is being ended was given up on; None if it is ended for another reason."""
    return _FAILURES.get(node.purpose) if node.purpose is not None else None


def _begin_to_stop(world: World, node: AgentNode, cause: StopCause) -> None:
    world.cancel_deadline(node)
    world.set_state(node, STOPPING)
    world.emit(node, AgentStopping, cause)


def mark(world: World, node: Node, cause: StopCause) -> None:
    """Have a running child stop when its turn comes in its supervisor's reverse start order; see `advance`."""
    assert node.parent is not None
    node.purpose = cause
    heapq.heappush(node.parent.to_stop, (-node.position, node))


def advance(world: World, supervisor: SupervisorNode) -> None:
    """Ask the next marked child, unless one is still awaited; with none left an ending supervisor has ended.

    Children of a dynamic supervisor know nothing of each other: none of them waits for another.
    """
    while supervisor.to_stop and (supervisor.entry.dynamic or not supervisor.awaited):
        node = heapq.heappop(supervisor.to_stop)[1]
        if node.purpose is not None and node.state in RUNNING_STATES:
            supervisor.awaited.add(node)
            ask(world, node, node.purpose)
    if supervisor.state is STOPPING and not supervisor.awaited:
        world.ended.append(supervisor)


def gone(world: World, node: Node) -> None:
    """Go on with the stop order: nothing of `node` has to be awaited any more."""
    parent = node.parent
    if parent is not None and parent.awaited and node in parent.awaited:
        parent.awaited.discard(node)
        advance(world, parent)


def terminate_children(world: World, supervisor: SupervisorNode) -> None:
    """Bring down all children of a supervisor that is STOPPING: what does not run at once, the rest in order."""
    for node in reversed(list(supervisor.sequence)):
        if node.state in PENDING_STATES:
            settle_down(world, node, StopCause.SUPERVISOR)
        elif node.state in RUNNING_STATES:
            # A child that an operator is stopping stays the operator's.
            held = node.purpose is StopCause.COMMAND
            mark(world, node, StopCause.COMMAND if held else StopCause.SUPERVISOR)
        else:
            # A wedged one may still belong to a group, which must not start any more.
            world.leave_group(node)
            if supervisor.entry.dynamic:
                _leave_behind(world, node)
    advance(world, supervisor)


def _leave_behind(world: World, node: Node) -> None:
    """Have what does not run, or cannot be ended, be gone when its dynamic supervisor starts again, empty."""
    if isinstance(node, AgentNode) and node.state is WEDGED:
        node.after_wedge = None
        node.purpose = StopCause.SUPERVISOR
    else:
        world.remove(node, remember=True)  # type: ignore[arg-type]


def settle_down(world: World, node: Node, cause: StopCause, reason: ExitReason = SHUTDOWN) -> None:
    """Stop a child of which nothing runs: it is STOPPED at once."""
    slots.release(world, node)
    node.held = cause is StopCause.COMMAND
    if isinstance(node, SupervisorNode):
        world.emit(node, SupervisorTerminated, reason)
    world.retire(node, STOPPED, reason)  # type: ignore[arg-type]


def kill(world: World, node: Node, *, hung: bool = False) -> None:
    """End a running child, and all below it, at once; what cannot be killed is wedged `GRACE_S` later."""
    if node.state is not STOPPING:
        ask(world, node, node.purpose or StopCause.SUPERVISOR)
        if node.entry.shutdown == "brutal_kill":  # type: ignore[attr-defined]
            return  # to ask was to kill
    if isinstance(node, SupervisorNode):
        for child in reversed(list(node.sequence)):
            if child.state in RUNNING_STATES:
                kill(world, child)
    else:
        assert isinstance(node, AgentNode)
        node.killed = True
        world.cancel_deadline(node)
        world.out.append(KillRun(RunId(node.path, node.incarnation), hung))
        if not node.can_kill:
            node.deadline = world.deadlines.add(world.now + GRACE_S, lambda: _wedge(world, node))


def abandon(world: World, node: AgentNode) -> None:
    """Leave a wedged run, and the slot it holds, to itself: the agent goes on without it."""
    world.abandoned.add(RunId(node.path, node.incarnation))
    node.has_slot = False
    node.after_wedge = None


def limit(world: World, node: AnyNode) -> None:
    """Kill `node` when the shutdown time that began at `stopping_since` is over; at once if it has none."""
    shutdown = node.entry.shutdown
    if shutdown == "infinity" and failure_of(node) is not None:
        # What has failed already is not waited for without end.
        shutdown = GIVEN_UP_S
    if shutdown == "brutal_kill":
        kill(world, node)
    elif not isinstance(shutdown, str):
        node.deadline = world.deadlines.add(node.stopping_since + shutdown, lambda: kill(world, node), silent=True)


def _bound(world: World, node: AnyNode) -> None:
    node.stopping_since = world.now
    limit(world, node)


def leave_behind(world: World, node: AgentNode, cause: StopCause) -> None:
    """Have a run that cannot be reached count as wedged at once; it is told to end, should it ever hear of that."""
    node.purpose = cause
    world.cancel_deadline(node)
    world.out.append(KillRun(RunId(node.path, node.incarnation)))
    _wedge(world, node)


def _wedge(world: World, node: AgentNode) -> None:
    world.set_state(node, WEDGED)
    world.emit(node, AgentWedged, node.purpose or StopCause.SUPERVISOR)
    world.wedged.append(node)
    gone(world, node)
