"""What people and programs may ask of a running tree: OTP's dynamic API, and `restart`. Pure.

Each operation checks first and raises before it has changed anything.
Source: OTP supervisor.erl, handle_call/3. Differs: waiting and queued children, `restart`, BACKOFF and unregister.
"""

from __future__ import annotations

from collections import ChainMap
from typing import assert_never

from orchestree.agents.ends import SHUTDOWN
from orchestree.strategies.backoff import Streak
from orchestree.strategies.errors import (
    AlreadyPresent,
    AlreadyStarted,
    MaxChildren,
    NotRunning,
    Restarting,
    Running,
    SpecError,
)

from . import groups
from .entry_fields import has_rounds
from .events import AgentRegistered, AgentTerminated, AgentUnregistered, Command, StopCause
from .inputs import Operation, Reconfigure, RegisterChild, RestartChild, StartChild, StopChild, UnregisterChild
from .order import check_dependencies, check_dynamic_child, check_significant, check_tree
from .policy_text import policy_of
from .reconfiguring import reconfigure
from .spec import ChildEntry, SupervisorEntry
from .starting import consider, return_when_ended
from .states import PENDING_STATES, RUNNING_STATES, WAITS_TO_START, AgentState
from .stopping import ask, settle_down
from .tree import AgentNode, AnyNode, Node, SupervisorNode, walk
from .world import World


def operate(world: World, operation: Operation) -> None:
    """Carry out one operation.

    Raises:
        OrchestreeError: a mistake of the caller; nothing has changed.
    """
    match operation:
        case StartChild(path, announced):
            _start(world, _child(world, path), announced)
        case StopChild(path, announced):
            _stop(world, _child(world, path), announced)
        case RestartChild(path, announced):
            _restart(world, _child(world, path), announced)
        case RegisterChild(parent, entry, must_start):
            _register(world, parent, entry, must_start=must_start)
        case UnregisterChild(path):
            _unregister(world, _child(world, path))
        case Reconfigure(path, fields):
            reconfigure(world, world.get(path), fields)
        case _:
            assert_never(operation)


def say_registered(world: World, node: AgentNode) -> None:
    """Announce that an agent is part of the tree."""
    entry = node.entry
    agent = f"{entry.agent.__module__}:{entry.agent.__qualname__}"
    told = (agent, entry.executor, entry.restart.value, entry.depends_on, policy_of(entry), has_rounds(entry.agent))
    world.emit(node, AgentRegistered, *told)


def _child(world: World, path: str) -> AnyNode:
    node = world.get(path)
    if node.parent is None:
        raise SpecError("path='': the root is started and stopped with start() and stop()")
    return node


def _start(world: World, node: AnyNode, announced: bool) -> None:
    parent = _running_parent(node)
    if node.state is AgentState.WEDGED:
        raise Running(f"{node.path!r} is wedged: replace_wedged=True starts another one beside it")
    if node.state in RUNNING_STATES:
        raise Running(f"{node.path!r} is {node.state}")
    if node.state is AgentState.BACKOFF:
        raise Restarting(f"{node.path!r} waits for its restart")
    if not announced:
        _say(world, node, "start")
    if node.state not in WAITS_TO_START:
        _release(parent, node)
        consider(world, node)


def _stop(world: World, node: AnyNode, announced: bool) -> None:
    if not announced:
        _say(world, node, "stop")
    if node.state in RUNNING_STATES:
        world.leave_group(node)
        ask(world, node, StopCause.COMMAND)
    elif node.state is AgentState.WEDGED:
        world.leave_group(node)
        node.purpose = StopCause.COMMAND
        node.held = True
        assert isinstance(node, AgentNode)
        match node.after_wedge:
            case AgentState.BACKOFF:
                node.after_wedge = AgentState.STOPPED
                world.emit(node, AgentTerminated, SHUTDOWN, AgentState.STOPPED)
            case AgentState.REGISTERED:
                node.after_wedge = AgentState.STOPPED
    elif node.state in PENDING_STATES:
        settle_down(world, node, StopCause.COMMAND)
    else:
        # It is down already; from now on no group and no restart of its supervisor brings it back.
        node.held = True
        if node.parent is not None and node.parent.entry.dynamic:
            world.remove(node, remember=True)
        if node.state is AgentState.REGISTERED:
            world.set_state(node, AgentState.STOPPED)


def _restart(world: World, node: AnyNode, announced: bool) -> None:
    parent = _running_parent(node)
    if not announced:
        _say(world, node, "restart")
    _release(parent, node)
    waits_for_group = node.group is not None and not node.group.started
    if node.group is not None and waits_for_group:
        groups.start_now(world, node.group)
    if isinstance(node, AgentNode) and node.state is AgentState.WEDGED:
        return_when_ended(world, node, StopCause.RESTART)
        consider(world, node)
    elif waits_for_group or node.state in WAITS_TO_START:
        pass  # it starts with its group, or when what it waits for allows it
    elif node.state in RUNNING_STATES:
        ask(world, node, StopCause.RESTART)
    else:
        consider(world, node)


def _register(world: World, parent_path: str, entry: ChildEntry, *, must_start: bool) -> None:
    parent = world.get(parent_path)
    if not isinstance(parent, SupervisorNode):
        raise SpecError(f"{parent_path!r} is an agent; only supervisors have children")
    present = parent.children.get(entry.name)
    if present is not None:
        if present.state in RUNNING_STATES or present.state is AgentState.WEDGED:
            raise AlreadyStarted(f"name={entry.name!r}: {present.path!r} is {present.state}")
        raise AlreadyPresent(f"name={entry.name!r}: {present.path!r} is {present.state}")
    if parent.entry.dynamic:
        _check_dynamic(parent, entry, must_start=must_start)
    siblings: ChainMap[str, object] = ChainMap({}, parent.children, parent.departed)  # type: ignore[arg-type]
    check_dependencies(entry, siblings, parent_path)
    check_significant(entry, parent.entry.auto_shutdown, parent_path)
    if isinstance(entry, SupervisorEntry):
        check_tree(entry, f"{parent_path}/{entry.name}" if parent_path else entry.name)
    if must_start and not parent.is_up:
        raise NotRunning(f"{entry.name!r}: its supervisor {parent_path!r} is {parent.state}")
    node = world.add(parent, entry)
    if must_start and isinstance(node, AgentNode):
        world.must_start.add(node)
    for added in walk(node):
        if isinstance(added, AgentNode):
            say_registered(world, added)
        elif isinstance(added, SupervisorNode):
            world.emit(added, Command, "register", policy_of(added.entry))
    if parent.is_up:
        consider(world, node)


def _check_dynamic(parent: SupervisorNode, entry: ChildEntry, *, must_start: bool) -> None:
    """Refuse what cannot be a child of a dynamic supervisor, or is one too many."""
    check_dynamic_child(entry, parent.path)
    if not must_start:
        raise SpecError(f"{entry.name!r}: children of {parent.path!r}, which is dynamic, come with start_child()")
    most = parent.entry.max_children
    if most is not None and len(parent.children) >= most:
        parked = sum(child.state is AgentState.PARKED for child in parent.sequence)
        note = f" ({parked} parked)" if parked else ""
        raise MaxChildren(f"{entry.name!r}: {parent.path!r} is full: max_children={most}{note}")


def _unregister(world: World, node: AnyNode) -> None:
    parent = node.parent
    assert parent is not None
    if parent.wanted.get(node.name):
        dependents = ", ".join(repr(dependent.name) for dependent in parent.wanted[node.name])
        raise SpecError(f"{node.path!r}: {dependents} depend on it")
    if node.state in RUNNING_STATES or node.state is AgentState.WEDGED:
        raise Running(f"{node.path!r} is {node.state}; stop it first")
    _say(world, node, "unregister")
    if node.state in PENDING_STATES:
        settle_down(world, node, StopCause.COMMAND)
    left = [below for below in walk(node) if isinstance(below, AgentNode) and world.is_known(below)]
    if parent.children.get(node.name) is node:
        world.remove(node, remember=False)
    for agent in left:
        world.emit(agent, AgentUnregistered)


def _running_parent(node: AnyNode) -> SupervisorNode:
    assert node.parent is not None
    if not node.parent.is_up:
        where = f"its supervisor {node.parent.path!r}" if node.parent.path else "the tree"
        raise NotRunning(f"{node.path!r}: {where} is {node.parent.state}")
    return node.parent


def _release(parent: SupervisorNode, node: Node) -> None:
    node.streak = Streak()
    node.held = False
    if node.name in parent.excused:
        parent.excused.discard(node.name)
        parent.unready.add(node.name)


def _say(world: World, node: Node, name: str) -> None:
    world.emit(node, Command, name)
