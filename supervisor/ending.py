"""What follows when something has ended: an agent's run, a supervisor, the whole tree. Pure.

An end that was asked for goes by the purpose it was asked for; every other end is `outcome.py`'s matter.
"""

from __future__ import annotations

from orchestree.agents.ends import SHUTDOWN, Cause, ExitKind, ExitReason
from orchestree.agents.executor import RunEnded, RunId
from orchestree.strategies.restart import Restart

from . import blocking, groups, slots
from .entry_fields import has_rounds
from .events import OrchestratorStopped, OrchestratorStopping, RestartCause, StopCause, SupervisorTerminated
from .inputs import TreeEnded
from .outcome import agent_ended, given_up, say_restarting, supervisor_gone
from .starting import consider
from .states import BACKOFF, FAILED, REGISTERED, STOPPED, STOPPING, UNHEALTHY_STATES, WEDGED
from .stopping import abandon, failure_of, gone, terminate_children
from .streaks import current_streak
from .tree import AgentNode, AnyNode, Node, SupervisorNode, walk
from .world import World


def run_ended(world: World, node: AgentNode, ended: RunEnded) -> None:
    """Act on the end of the current incarnation of `node`."""
    node.pid = None
    if node.state is WEDGED:
        _wedged_run_ended(world, node, _shutdown_error(node, ended))
        return
    world.cancel_deadline(node)
    recycling = node.watch.recycling if node.watch is not None else None
    if (failure := failure_of(node)) is not None:
        node.purpose = None
        given_up(world, node, failure, ended.report)
    elif node.purpose is not None:
        _stopped(world, node, _shutdown_error(node, ended))
    elif recycling is not None and ended.reason.kind is not ExitKind.ABNORMAL and has_rounds(node.entry.agent):
        _recycled(world, node, recycling, _shutdown_error(node, ended))
    else:
        node.result = ended.result
        agent_ended(world, node, ended.reason, ended.report, classified=ended.classified)
    gone(world, node)


def wedged(world: World, node: AgentNode) -> None:
    """Decide what a run that cannot be ended holds up, and what goes on without it."""
    node.held = node.held or node.purpose is StopCause.COMMAND
    blocking.run_wedged(world, node)
    if node.parent is None or not node.parent.is_up:
        # Its supervisor has other plans by now.
        world.leave_group(node)
        return
    if (failure := failure_of(node)) is not None:
        node.purpose = None
        # Whatever is decided now, the slot stays with the run.
        node.has_slot = False
        given_up(world, node, failure, None)
        node.ready_since = None  # what it does from now on is no stable run
        if world.nodes.get(node.path) is not node:
            world.abandoned.add(RunId(node.path, node.incarnation))
            return
        node.has_slot = True
        node.after_wedge = node.state
        world.set_state(node, WEDGED)
    elif node.group is not None:
        node.group.stopping.discard(node)
        world.due_groups.append(node.group)
    elif node.purpose is StopCause.BLOCKED:
        say_restarting(world, node, RestartCause.BLOCKED, 0.0, 0)
    comes_back = node.after_wedge in (BACKOFF, REGISTERED) or _returns(node)
    if node.entry.replace_wedged and comes_back:
        abandon(world, node)
        _rejoin(world, node)


def supervisor_ended(world: World, node: SupervisorNode) -> None:
    """Act on a supervisor that has lost its last child."""
    world.cancel_deadline(node)
    reason = node.ending or SHUTDOWN
    world.emit(node, SupervisorTerminated, reason, node.offender)
    if node.parent is None:
        _tree_ended(world, node, reason)
    elif node.purpose is not None:
        _stopped(world, node, None)
    else:
        supervisor_gone(world, node, reason)
    gone(world, node)


def stop_tree(world: World, cause: str, timeout_s: float | None = None) -> None:
    """Begin to stop everything; no effect when it is stopping already. `timeout_s` is only told."""
    root = world.root
    if root.is_up:
        world.emit(root, OrchestratorStopping, cause, timeout_s)
        world.stop_cause = cause
        world.set_state(root, STOPPING)
        terminate_children(world, root)


def unhealthy(world: World) -> tuple[str, ...]:
    """Return the paths that make the exit code 1, in start order."""
    paths = [node.path for node in walk(world.root) if node.state in UNHEALTHY_STATES]
    paths += sorted(run.path for run in world.abandoned if run.path not in world.nodes)
    return tuple(dict.fromkeys([*paths, *world.left_waiting]))


def _stopped(world: World, node: AnyNode, error: str | None) -> None:
    """Act on the end of a child that was asked to stop, by what it was asked for."""
    assert node.parent is not None
    node.streak = current_streak(node, world.now)
    returns = _returns(node) and node.parent.is_up
    if returns and node.purpose is StopCause.RESTART:
        say_restarting(world, node, RestartCause.COMMAND, 0.0, 0, error)
        _rejoin(world, node)
    elif returns:
        due_at = node.group.due_at if node.group else world.now
        say_restarting(world, node, RestartCause.GROUP, max(0.0, due_at - world.now), 0, error)
        _rejoin(world, node)
    else:
        node.held = node.purpose is StopCause.COMMAND
        slots.release(world, node)
        world.retire(node, STOPPED, SHUTDOWN, error)


def _recycled(world: World, node: AgentNode, cause: RestartCause, error: str | None) -> None:
    """Start a run anew that has ended between two rounds because it was to: as planned, whatever its restart type."""
    node.streak = current_streak(node, world.now)
    say_restarting(world, node, cause, 0.0, 0, error)
    _rejoin(world, node)


def _returns(node: AnyNode) -> bool:
    """Return whether a child that is being stopped is to start again; a group drops its temporary members (O04)."""
    is_member = node.purpose is StopCause.GROUP and node.entry.restart is not Restart.TEMPORARY
    return is_member or node.purpose in (StopCause.RESTART, StopCause.BLOCKED)


def _wedged_run_ended(world: World, node: AgentNode, error: str | None) -> None:
    assert node.parent is not None
    after, node.after_wedge = node.after_wedge, None
    if after is None or (after is BACKOFF and not node.parent.is_up):
        _stopped(world, node, error)
        return
    node.purpose = None
    if after is BACKOFF:
        _rejoin(world, node)
    elif after is REGISTERED and node.parent.is_up:
        world.set_state(node, after)
        consider(world, node)
    else:
        slots.release(world, node)
        world.set_state(node, STOPPED if after is REGISTERED else after)


def _rejoin(world: World, node: Node) -> None:
    """Have a child that comes back wait for its group, or alone if the group has started without it."""
    node.purpose = None
    if node.group is not None and not node.group.started:
        groups.stopped_for_group(world, node)
    else:
        groups.restart_alone(world, node, node.group.due_at if node.group else world.now)


def _tree_ended(world: World, root: SupervisorNode, reason: ExitReason) -> None:
    gave_up = reason != SHUTDOWN
    paths = unhealthy(world)
    world.set_state(root, FAILED if gave_up else STOPPED)
    exit_code = 70 if gave_up else int(bool(paths) or world.stop_cause == "start_failed")
    world.emit(root, OrchestratorStopped, exit_code, world.stop_cause or "", paths)
    world.out.append(TreeEnded(exit_code))


def _shutdown_error(node: AgentNode, ended: RunEnded) -> str | None:
    """Return what went wrong in a run that was being stopped, in one line; None if it ended well (T06)."""
    if node.entry.shutdown == "brutal_kill" and node.can_kill and ended.reason.cause is Cause.SIGNAL:
        return None  # it was asked for
    if ended.reason.kind is ExitKind.ABNORMAL:
        return ended.report.message if ended.report else str(ended.reason.cause)
    return "; ".join(ended.report.notes) or None if ended.report else None
