"""What the core was told so that it decided on the event that comes next in a log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.events import (
    AgentHung,
    AgentStopping,
    Event,
    EventType,
    OrchestratorStopping,
    PolicyChanged,
    StopCause,
)
from orchestree.supervisor.inputs import Input, Reconfigure, RegisterChild, StartTree, StopTree
from orchestree.supervisor.tree import AgentNode
from orchestree.supervisor.world import World

from . import entries
from .answers import Answers
from .inputs_of_core import OUTSIDE_CAUSES, input_of

_FIRST: Final = frozenset({EventType.ORCHESTRATOR_STARTED, EventType.AGENT_REGISTERED, EventType.COMMAND})


@dataclass(frozen=True, slots=True)
class Given:
    """What the core was told.

    Attributes:
        inputs: in this order.
        assumption: what of it the log does not say.
        came: path of a child that came while the tree ran; empty if none did.
    """

    inputs: tuple[Input, ...] = ()
    assumption: str = ""
    came: str = ""


def given_for(
    world: World, event: Event, following: Iterable[Event], answers: Answers, policy_of: entries.PolicyOf | None
) -> Given:
    """Return what `event`, the first of the `following`, says that the core was told; nothing, if it does not say.

    What it does not say of restart policies `policy_of` makes; None: it is taken for the default.
    """
    node = world.nodes.get(event.path)
    match event.data:
        case PolicyChanged(changes):
            fields, unknown = entries.changed_fields(world, event.path, changes, policy_of)
            assumption = f"{event.path!r}: {', '.join(unknown)}: what that is, is not known" if unknown else ""
            return Given((Reconfigure(event.path, fields),), assumption)
        case AgentHung():
            found = answers.hung(world, event, event.data)
            return Given() if found is None else Given((found,))
        case AgentStopping(StopCause.MEMORY) if isinstance(node, AgentNode):
            is_overdue = node.watch is not None and "recycling" in node.watch.deadlines
            return Given() if is_overdue else Given((answers.excess(node),))
    match event.type:
        case EventType.ORCHESTRATOR_STARTED:
            return Given((*_stopped_before(following), StartTree()))
        case EventType.AGENT_REGISTERED:
            return _registration(entries.registered(world, event, following, policy_of))
        case EventType.SUPERVISOR_STARTED:
            return _registration(entries.started_unknown(world, event, policy_of))
    given = input_of(world, event)
    return Given() if given is None else Given((given,))


def _stopped_before(following: Iterable[Event]) -> tuple[StopTree, ...]:
    """Return the stop that came before the start, if there was one: then nothing was started."""
    later = next((event.data for event in following if event.type not in _FIRST), None)
    if isinstance(later, OrchestratorStopping) and later.cause in OUTSIDE_CAUSES:
        return (StopTree(later.cause, later.timeout_s),)
    return ()


def _registration(came: RegisterChild | None) -> Given:
    if came is None:
        return Given()
    return Given((came,), came=f"{came.parent}/{came.entry.name}" if came.parent else came.entry.name)
