"""How children start: when their dependencies are met, in start order, with a worker slot. Pure."""

from __future__ import annotations

from typing import Final

from orchestree.agents.executor import RunId
from orchestree.strategies.backoff import Streak
from orchestree.strategies.restart import REST_FOR_ONE
from orchestree.strategies.window import RestartWindow

from . import slots, watching
from .blocking import blocker_of
from .events import AgentReady, AgentStarting, AgentWaiting, StopCause, SupervisorReady, SupervisorStarted
from .inputs import StartRun
from .states import BACKOFF, COMPLETED, NOT_DUE_STATES, PARKED, READY, REGISTERED, STARTING, WAITING, WEDGED
from .stopping import abandon, give_up
from .tree import AgentNode, Node, SupervisorNode
from .world import World

_new_tuple: Final = tuple.__new__  # half the time of a call of the class
_MET = (READY, COMPLETED)


def consider(world: World, node: Node) -> None:
    """Start a child that is due, or have it wait for siblings or for a slot. No effect if it must stay down."""
    parent = node.parent
    if (parent is not None and not parent.is_up) or node.held or node.group is not None:
        return
    if node.state is WEDGED:
        return
    blockers = _blockers(node)
    if blockers:
        _wait(world, node, blockers)
    elif isinstance(node, SupervisorNode):
        start_supervisor(world, node)
    else:
        assert isinstance(node, AgentNode)
        if slots.take_reserved(world, node):
            launch(world, node)
        else:
            slots.enqueue(world, node)


def grant_slots(world: World) -> None:
    """Hand free slots to the queue, in its order; one whose dependency went away meanwhile waits again."""
    while (granted := slots.grant(world)) is not None:
        node, chosen = granted
        blockers = _blockers(node)
        if blockers:
            slots.release(world, node)
            _wait(world, node, blockers)
        else:
            launch(world, node, chosen=chosen)
    slots.announce(world)


def launch(world: World, node: AgentNode, *, chosen: bool = False) -> None:
    """Start the next incarnation of an agent that holds a slot."""
    node.incarnation += 1
    node.first_run = node.started_at is None
    node.started_at = world.now
    node.ready_since = None
    node.pid = None
    node.result = None
    node.killed = False
    node.watch = None
    node.held_up = None
    world.set_state(node, STARTING)
    if node.first_run:
        world.starting_up.add(node)
    elif world.starting_up:
        world.starting_up.discard(node)
    world.emit(node, AgentStarting, node.entry.executor, chosen)
    world.out.append(StartRun(_new_tuple(RunId, (node.path, node.incarnation))))
    limit_start(world, node)


def limit_start(world: World, node: AgentNode) -> None:
    """Give up the start of `node` when its `start_timeout`, which began with the start, is over; None: never."""
    seconds = node.entry.start_timeout
    if seconds is not None and node.started_at is not None:
        node.deadline = world.deadlines.add(node.started_at + seconds, lambda: _start_is_over(world, node, seconds))


def _start_is_over(world: World, node: AgentNode, seconds: float) -> None:
    if blocker_of(node):
        # Another one keeps it from starting: it has its whole time again.
        node.deadline = world.deadlines.add(world.now + seconds, lambda: _start_is_over(world, node, seconds))
    else:
        give_up(world, node, StopCause.START_TIMEOUT, f"setup() did not return within {seconds:g} s")


def ready(world: World, node: AgentNode, pid: int | None) -> None:
    """Note that ``setup()`` returned."""
    world.cancel_deadline(node)
    node.ready_since = world.now
    node.pid = pid
    world.set_state(node, READY)
    world.emit(node, AgentReady, node.age(world.now))
    watching.begin(world, node)


def start_supervisor(world: World, node: SupervisorNode) -> None:
    """Start a supervisor: empty window, empty streaks, and each child that nobody holds down."""
    node.incarnation += 1
    node.started_at = world.now
    node.ready_since = None
    node.ending = None
    node.offender = None
    node.window = RestartWindow(node.entry.max_restarts, node.entry.max_seconds)
    world.set_state(node, STARTING)
    world.emit(node, SupervisorStarted, tuple(child.name for child in node.sequence))
    # What a dynamic one still has is a wedged run of its earlier life.
    children = [] if node.entry.dynamic else list(node.sequence)
    node.excused = {child.name for child in children if child.held and child.state is not PARKED}
    node.unready = {child.name for child in children} - node.excused
    due = [child for child in children if not child.held]
    for child in due:
        child.streak = Streak()
        if isinstance(child, AgentNode) and child.state is WEDGED:
            return_when_ended(world, child, StopCause.GROUP)
        else:
            # From here on nobody takes it for completed.
            world.set_state(child, REGISTERED)
    for child in due:
        consider(world, child)
    _check_ready(world, node)


def return_when_ended(world: World, node: AgentNode, cause: StopCause) -> None:
    """Have a wedged agent come back: beside its old run if it may, else as soon as that has ended."""
    if node.entry.replace_wedged:
        abandon(world, node)
        world.leave_group(node)
        node.purpose = None
        world.set_state(node, REGISTERED)
    elif node.after_wedge is None:
        node.purpose = cause
    elif node.after_wedge is not BACKOFF:
        node.after_wedge = REGISTERED


def react(world: World, node: Node) -> None:
    """Look at the neighbours of a child whose state changed: its supervisor, and those that waited for it."""
    parent = node.parent
    assert parent is not None
    if node.state is WAITING:
        # It may have been moved up: the one before it may have left the tree.
        consider(world, node)
    if node.state in _MET:
        parent.unready.discard(node.name)
    elif node.held and node.state is not PARKED and node.name in parent.unready:
        parent.unready.discard(node.name)
        parent.excused.add(node.name)
    _check_ready(world, parent)
    for dependent in list(parent.wanted.get(node.name, ())):
        _reconsider(world, dependent)
    if parent.entry.strategy is REST_FOR_ONE:
        following = parent.after(node)
        if following is not None:
            _reconsider(world, following)


def _reconsider(world: World, node: Node) -> None:
    if node.state is WAITING:
        consider(world, node)


def _check_ready(world: World, node: SupervisorNode) -> None:
    if node.state is STARTING and not node.unready:
        node.ready_since = world.now
        world.set_state(node, READY)
        world.emit(node, SupervisorReady, node.age(world.now))


def _blockers(node: Node) -> list[Node | str]:
    """Return what `node` has to wait for, each once; a name stands for a sibling that is not there."""
    parent = node.parent
    names: tuple[str, ...] = node.entry.depends_on  # type: ignore[attr-defined]
    if parent is None or not (names or parent.entry.strategy is REST_FOR_ONE):
        return []
    found: dict[Node | str, None] = {}
    if parent.entry.strategy is REST_FOR_ONE:
        previous = parent.before(node)
        if previous and previous.state is not READY and previous.state not in NOT_DUE_STATES:
            found[previous] = None
    for name in names:
        dependency = parent.find(name)
        if dependency is None or dependency.state not in _MET:
            found[dependency or name] = None
    return list(found)


def _wait(world: World, node: Node, blockers: list[Node | str]) -> None:
    names = tuple(blocker if isinstance(blocker, str) else blocker.name for blocker in blockers)
    if isinstance(node, AgentNode):
        if node.pool is None or not node.pool.members.issuperset(blockers):
            # Whoever has to wait for somebody outside its group gives its slot to others meanwhile.
            slots.release(world, node)
        if node.state is not WAITING:
            world.set_state(node, WAITING)
            world.emit(node, AgentWaiting, names)
    elif node.state is not WAITING:
        world.set_state(node, WAITING)
    node.waiting_for = names
    world.touched[node] = None
