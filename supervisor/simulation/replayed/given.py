"""What the core was told so that it decided on the event that comes next in a log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestree.supervisor.deadlines import Deadline
from orchestree.supervisor.events import (
    AgentHung,
    AgentRegistered,
    AgentStopping,
    AgentWedged,
    Command,
    Event,
    EventType,
    OrchestratorStarted,
    OrchestratorStopping,
    PolicyChanged,
    StopCause,
)
from orchestree.supervisor.inputs import Input, Reconfigure, StartTree, StopTree
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.tree import AgentNode
from orchestree.supervisor.world import World

from .answers import Answers
from .foresight import Foresight
from .inputs_of_core import OUTSIDE_CAUSES, input_of
from .logged_policy import LoggedPolicy
from .logged_tree import came

_FIRST: Final = frozenset({EventType.ORCHESTRATOR_STARTED, EventType.AGENT_REGISTERED, EventType.COMMAND})


def given_for(
    world: World, event: Event, foresight: Foresight, answers: Answers, policy: LoggedPolicy
) -> tuple[Input, ...]:
    """Return what `event`, at which `foresight` stands, says that the core was told; nothing, if it does not say."""
    given: Input | None
    node = world.nodes.get(event.path)
    match event.data:
        case OrchestratorStarted():
            return *_stopped_before(foresight.following()), StartTree()
        case PolicyChanged(changes):
            given = Reconfigure(event.path, policy.fields(event.path, {one.field: one.new for one in changes}))
        case AgentHung():
            given = answers.hung(world, event, event.data)
        case AgentStopping(StopCause.MEMORY) if isinstance(node, AgentNode):
            given = answers.excess(node)  # of one that is to be recycled already the core takes no notice
        case AgentRegistered() | Command("register"):
            given = came(world, event, foresight, policy)
        case _:
            given = input_of(world, event)
    return () if given is None else (given,)


def deadline_told(world: World, event: Event | None, answers: Answers) -> Deadline | None:
    """Return the deadline that has fired if `event` comes next; None if it need not have been one of those."""
    node = world.nodes.get(event.path) if event is not None else None
    if event is None or not isinstance(node, AgentNode) or node.incarnation != event.incarnation:
        return None
    match event.data:
        case AgentWedged() if node.state is AgentState.STOPPING and node.killed:
            return node.deadline
        case AgentStopping(StopCause.MEMORY) if node.watch is not None:
            return node.watch.deadlines.get("recycling")
        case AgentHung():
            found_by = answers.looked_at(world, event, event.data)
            return None if found_by is None or found_by.watch is None else found_by.watch.deadlines.get("watchdog")
        case _:
            return None


def tells_nothing(world: World, deadline: Deadline) -> bool:
    """Return whether nothing follows from `deadline`: of those who were to start then some run that are to stop."""
    groups = (node.group for node in world.nodes.values())
    group = next((one for one in groups if one is not None and one.deadline is deadline), None)
    if group is None:
        return False
    return bool(group.stopping) or all(member.state is AgentState.WEDGED for member in group.members)


def _stopped_before(following: Iterable[Event]) -> tuple[StopTree, ...]:
    """Return the stop that came before the start, if there was one: then nothing was started."""
    later = next((event.data for event in following if event.type not in _FIRST), None)
    if isinstance(later, OrchestratorStopping) and later.cause in OUTSIDE_CAUSES:
        return (StopTree(later.cause, later.timeout_s),)
    return ()
