"""Who restarts together, and when: the strategy's scope, merging of overlapping groups, the start. Pure.

Source: OTP supervisor.erl, restart/3. Differs: a group may have to wait, so a failure outside it can overlap it.
"""

from __future__ import annotations

from operator import attrgetter

from orchestree.strategies.restart import Restart

from . import slots
from .events import StopCause
from .pending import Group
from .starting import consider
from .states import BACKOFF, COMPLETED, PENDING_STATES, READY, STARTING, STOPPING, WAITS_TO_START, WEDGED
from .stopping import advance, mark, settle_down
from .tree import Node
from .world import World


def restart_with_siblings(world: World, node: Node, delay: float) -> None:
    """Restart `node`, of which nothing runs, and whoever its strategy takes along, `delay` seconds from now.

    Siblings that run are stopped now, in reverse start order; overlapping groups become one, which starts at
    the later time.
    """
    parent = node.parent
    assert parent is not None
    scope = parent.scope(node)
    if not delay and len(scope) == 1 and node.state is not WEDGED:
        # There is nobody to stop and nothing to wait for.
        world.leave_group(node)
        consider(world, node)
        return
    group = Group([node], {node: world.now + delay})
    _join(group, node)
    for sibling in scope:
        if sibling is not node:
            _sweep(world, group, sibling)
    world.set_state(node, BACKOFF)
    world.touched |= group.members
    advance(world, parent)
    world.due_groups.append(group)


def restart_alone(world: World, node: Node, due_at: float) -> None:
    """Start `node`, of which nothing runs, at `due_at`, without any sibling."""
    world.leave_group(node)
    group = Group([], {node: due_at})
    _join(group, node)
    world.set_state(node, BACKOFF)
    world.due_groups.append(group)


def stopped_for_group(world: World, node: Node) -> None:
    """Note that a member that was stopped for its group has ended: from now on it waits with the others."""
    group = node.group
    assert group is not None
    group.stopping.discard(node)
    world.set_state(node, BACKOFF)
    world.due_groups.append(group)


def start_when_due(world: World, group: Group) -> None:
    """Start `group` if its time has come and everything that had to stop has ended; else see to it later."""
    if group.started or not group.members or group.stopping:
        return
    due_at = group.due_at
    if world.now >= due_at:
        _start(world, group)
    elif group.deadline is None or group.deadline.cancelled:
        group.deadline = world.deadlines.add(due_at, lambda: start_when_due(world, group))


def start_now(world: World, group: Group) -> None:
    """End the delay of `group`."""
    for node in group.delays:
        node.delay = None
    group.delays = dict.fromkeys(group.delays, world.now)
    reschedule(world, group)


def reschedule(world: World, group: Group) -> None:
    """Look at `group`, whose delays have changed, again."""
    world.touched |= group.members
    world.deadlines.cancel(group.deadline)
    world.due_groups.append(group)


def _join(group: Group, node: Node) -> None:
    group.members[node] = None
    node.group = group


def _sweep(world: World, group: Group, node: Node) -> None:
    if node.group is group:
        return
    if node.group is not None and not node.group.started:
        _merge(world, group, node.group)
    elif node.state in (STARTING, READY) or (node.state is STOPPING and node.purpose is not StopCause.COMMAND):
        _join(group, node)
        group.stopping.add(node)
        mark(world, node, StopCause.GROUP)
    elif node.state in WAITS_TO_START:
        if node.entry.restart is Restart.TEMPORARY:  # type: ignore[attr-defined]
            settle_down(world, node, StopCause.GROUP)
        else:
            slots.keep_reserved(world, node)
            _join(group, node)


def _merge(world: World, group: Group, other: Group) -> None:
    for node, due_at in other.delays.items():
        group.delays[node] = max(due_at, group.delays.get(node, due_at))
    group.offenders += other.offenders
    group.stopping |= other.stopping
    for node in list(other.members):
        _join(group, node)
    other.members.clear()
    other.stopping.clear()
    world.deadlines.cancel(other.deadline)


def _start(world: World, group: Group) -> None:
    group.started = True
    world.deadlines.cancel(group.deadline)
    _drop_temporary(world, group)
    members = _participants(group)
    for node in members:
        node.group = None
        if node.state is COMPLETED:
            # From here on nobody takes it for done.
            world.set_state(node, BACKOFF)
    slots.make_pool(world, members)
    for node in members:
        consider(world, node)


def _drop_temporary(world: World, group: Group) -> None:
    """Have members that became temporary while they waited leave, as they would have at once (O04)."""
    for node in list(group.members):
        is_temporary = node.entry.restart is Restart.TEMPORARY  # type: ignore[attr-defined]
        if is_temporary and node not in group.delays and node.state in PENDING_STATES:
            settle_down(world, node, StopCause.GROUP)


def _participants(group: Group) -> list[Node]:
    """Return who starts, in start order: the members that wait, and completed ones that the strategy takes along."""
    found = {node: None for node in group.members if node.state in PENDING_STATES}
    for offender in group.offenders:
        assert offender.parent is not None
        for node in offender.parent.scope(offender):
            if node.state is not COMPLETED or node.held:
                continue
            if node.entry.restart is not Restart.TEMPORARY:  # type: ignore[attr-defined]
                found[node] = None
    return sorted(found, key=attrgetter("position"))
