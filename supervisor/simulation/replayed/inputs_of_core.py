"""What the core must have been told so that it decided on an event, as the event and the core's state say. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from orchestree.agents.ends import NORMAL, CrashReport
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunReady
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentMessage,
    AgentParked,
    AgentReady,
    AgentRestarting,
    AgentStarting,
    AgentTerminated,
    AllAgentsTerminated,
    Command,
    Event,
    EventType,
    OrchestratorStopped,
    OrchestratorStopping,
)
from orchestree.supervisor.inputs import (
    Input,
    Operation,
    RestartChild,
    StartChild,
    StopChild,
    StopTree,
    UnregisterChild,
)
from orchestree.supervisor.states import RUNNING_STATES, AgentState
from orchestree.supervisor.tree import AgentNode, AnyNode
from orchestree.supervisor.world import World

OUTSIDE_CAUSES: Final = ("command", "signal")
"""Why a whole tree is stopped if it was told to; all other causes are decisions."""

REPORTED: Final = frozenset(
    {EventType.AGENT_READY, EventType.AGENT_CRASHED, EventType.AGENT_MESSAGE, EventType.AGENT_HUNG}
    | {EventType.AGENT_REGISTERED, EventType.COMMAND}
)
"""Types of events that are the first of a decision, and say themselves what it is about."""


def input_of(world: World, event: Event) -> Input | None:
    """Return what led to `event`, the first of a decision; None if it does not say that.

    Registrations and changes of policy are not its matter, see `given`.
    """
    run, node = RunId(event.path, event.incarnation), world.nodes.get(event.path)
    match event.data:
        case AgentReady():
            return RunReady(run)
        case AgentMessage(name, data):
            return RunMessage(run, name, data)
        case AgentCrashed(reason, report, classified):
            return RunEnded(run=run, reason=reason, report=as_reported(report), classified=classified)
        case AgentTerminated(reason=reason) | AgentRestarting(reason=reason) | AgentParked(reason=reason) if _is_alive(
            node, event.incarnation
        ):
            return RunEnded(run=run, reason=reason or NORMAL)  # of one that was asked to stop it makes no difference
        case Command(name):
            return command(name, event.path)
        case OrchestratorStopping(cause, timeout_s) if cause in OUTSIDE_CAUSES:
            return StopTree(cause, timeout_s)
        case _:
            return None


def command(name: str, path: str) -> Operation | None:
    """Return the operation that goes by `name`; None if none does."""
    match name:
        case "start":
            return StartChild(path)
        case "stop":
            return StopChild(path)
        case "restart":
            return RestartChild(path)
        case "unregister":
            return UnregisterChild(path)
        case _:
            return None


def as_reported(report: CrashReport) -> CrashReport:
    """Return a report as it was before the decision."""
    return replace(report, fingerprint="", occurrence=1, first_seen=None, decision="", delay_s=None)


def silent_ends(world: World, path: str) -> Iterator[RunEnded]:
    """Yield the ends of runs that could not be ended, which no event need tell; first those under `path`."""
    runs = list(world.abandoned)
    runs += [
        RunId(node.path, node.incarnation)
        for node in world.nodes.values()
        if isinstance(node, AgentNode) and node.state is AgentState.WEDGED
    ]
    for run in sorted(runs, key=lambda run: (run.path != path, run.path, run.incarnation)):
        yield RunEnded(run=run, reason=NORMAL)


def ended_meanwhile(world: World, decision: Iterable[Event], was_empty: Callable[[], bool]) -> Iterator[RunEnded]:
    """Yield the ends of runs that could not be ended, without which the core would decide something else.

    Args:
        world: before the decision.
        decision: what the log says of it: who starts anew with its group or by hand, who is not well when the tree has
            ended, and that nothing runs (any more, so one that is stopped waited for its restart, and did not hold that
            up).
        was_empty: whether the log has said that before, and nothing since that shows it to have changed.
    """
    delayed: list[RunEnded] = []
    first: AnyNode | None = None
    for event in decision:
        first = first or world.nodes.get(event.path)
        node = world.nodes.get(event.path)
        match event.data:
            case AgentStarting() if isinstance(node, AgentNode) and node.state is AgentState.WEDGED:
                if _must_have_ended(world, node, first):
                    yield RunEnded(run=RunId(event.path, node.incarnation), reason=NORMAL)
            case AgentTerminated() if isinstance(node, AgentNode) and node.after_wedge is AgentState.BACKOFF:
                delayed.append(RunEnded(run=RunId(event.path, node.incarnation), reason=NORMAL))
            case Command("start") if isinstance(node, AgentNode) and node.state is AgentState.WEDGED:
                yield RunEnded(run=RunId(event.path, node.incarnation), reason=NORMAL)  # else it had been refused
            case AllAgentsTerminated() if delayed and was_empty():
                yield delayed[0]
            case OrchestratorStopped(unhealthy=unhealthy):
                yield from (
                    ended
                    for ended in silent_ends(world, "")
                    if ended.run.path not in unhealthy and _ends_silently(world, ended.run)
                )
            case _:
                pass


def _must_have_ended(world: World, node: AgentNode, first: AnyNode | None) -> bool:
    """Return whether the run of one that starts anew in a decision on `first` must have ended before that.

    If its delay is over, and it does not start together with `first`, it may as well have ended right after that.
    """
    group = node.group
    if node is first:
        return True
    if node.after_wedge is not AgentState.BACKOFF or group is None or group.started:
        return False
    return world.now < group.due_at or (first is not None and first.group is group)


def _ends_silently(world: World, run: RunId) -> bool:
    """Return whether the end of this run says nothing, and lets nobody start."""
    node = world.nodes.get(run.path)
    if run in world.abandoned:
        return node is None or world.settings.max_workers is None or not world.root.is_up
    return isinstance(node, AgentNode) and node.after_wedge not in (None, AgentState.BACKOFF, AgentState.REGISTERED)


def _is_alive(node: object, incarnation: int) -> bool:
    if not isinstance(node, AgentNode) or node.incarnation != incarnation:
        return False
    return node.state in RUNNING_STATES or node.state is AgentState.WEDGED
