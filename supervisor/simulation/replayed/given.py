"""What the core was told so that it decided on the event that comes next in a log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orchestree.supervisor.events import (
    AgentHung,
    AgentRegistered,
    AgentStopping,
    Command,
    Event,
    EventType,
    OrchestratorStarted,
    OrchestratorStopping,
    PolicyChanged,
    StopCause,
)
from orchestree.supervisor.inputs import Input, Reconfigure, StartTree, StopTree
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


def _stopped_before(following: Iterable[Event]) -> tuple[StopTree, ...]:
    """Return the stop that came before the start, if there was one: then nothing was started."""
    later = next((event.data for event in following if event.type not in _FIRST), None)
    if isinstance(later, OrchestratorStopping) and later.cause in OUTSIDE_CAUSES:
        return (StopTree(later.cause, later.timeout_s),)
    return ()
