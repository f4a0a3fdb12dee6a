"""What the core has decided about an end, and whom the strategy takes along, as what it then says tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestree.agents.ends import SHUTDOWN, Cause, ExitReason
from orchestree.strategies.restart import Restart
from orchestree.supervisor.decision import Again, Decision, Finish, GiveUp, Park, comes_back
from orchestree.supervisor.events import (
    AgentParked,
    AgentRestarting,
    AgentStopping,
    RestartCause,
    StopCause,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.inputs import Emit
from orchestree.supervisor.outcome import crashed
from orchestree.supervisor.tree import SupervisorNode
from orchestree.supervisor.world import World


def decided(path: str, reason: ExitReason, said: Sequence[Emit], restart: Restart, world: World) -> Decision:
    """Return what the core has decided about the child at `path`; of an end that was no crash that is read off.

    Args:
        path: of the child.
        reason: how it ended.
        said: by the core, from the event on that tells the end.
        restart: its restart type.
        world: after the decision.
    """
    if said[0].kind is crashed:
        decision = said[0].arguments[-1]
        assert isinstance(decision, Decision)
        return decision
    for emit in said:
        match emit:
            case Emit(path=other, data=AgentRestarting(delay=delay) | SupervisorRestarting(delay=delay)):
                if other == path:
                    node = world.nodes.get(path)
                    return Again(delay, node.delay.draw if node is not None and node.delay is not None else 0.0)
            case Emit(path=other, data=AgentParked(why=why)) if other == path:
                return Park(why)
            case _:
                pass
    cause = _gave_up(path, said, world)
    if cause is not None:
        return GiveUp(cause)
    return Park("") if comes_back(reason, restart) else Finish()


def _gave_up(path: str, said: Sequence[Emit], world: World) -> Cause | None:
    """Return why the supervisor ends because of the child at `path`; None if it does not, or not for its failures."""
    above = path.rpartition("/")[0]
    ends = [emit.data for emit in said if emit.path == above and emit.kind is SupervisorTerminated]
    parent = world.nodes.get(above)
    if ends and isinstance(ends[0], SupervisorTerminated):
        reason, offender = ends[0].reason, ends[0].offender
    elif isinstance(parent, SupervisorNode) and parent.ending is not None:
        reason, offender = parent.ending, parent.offender
    else:
        return None
    return reason.cause if offender == path and reason != SHUTDOWN else None


def taken_along(path: str, said: Sequence[Emit], world: World) -> tuple[str, ...]:
    """Return whom the strategy takes along: siblings that have stopped for it at once, and those that still have to."""
    parent = path.rpartition("/")[0]
    found: dict[str, None] = {}
    for emit in said:
        match emit.data:
            case (
                AgentStopping(StopCause.GROUP)
                | AgentRestarting(cause=RestartCause.GROUP)
                | SupervisorRestarting(cause=RestartCause.GROUP)
            ) if emit.path != path and emit.path.rpartition("/")[0] == parent:
                found[emit.path] = None
            case _:
                pass
    node = world.nodes.get(path)
    group = node.group if node is not None else None
    for member in group.stopping if group is not None else ():
        if member is not node and member.purpose is StopCause.GROUP:
            found[member.path] = None
    known = [one for one in found if one in world.nodes]
    return (*sorted(known, key=lambda one: world.nodes[one].position), *(one for one in found if one not in known))
