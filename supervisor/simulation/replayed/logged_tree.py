"""Specifications as a log says them: the tree that a run began with, and what came while it ran. Pure.

Agents tell theirs when they are registered; supervisors with the start of the run, or when they came later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestree.agents.async_agent import AsyncAgent, LoopingAsyncAgent
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentRegistered,
    Command,
    Event,
    EventType,
    OrchestratorStarted,
    SupervisorStarted,
)
from orchestree.supervisor.inputs import RegisterChild
from orchestree.supervisor.plain import LEFT_OUT
from orchestree.supervisor.policy_text import INHERITED
from orchestree.supervisor.simulation.blueprint import Blueprint, is_at_or_below
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.tree import SupervisorNode
from orchestree.supervisor.world import World

from .foresight import Foresight
from .logged_policy import LoggedPolicy


class SomeAgent(AsyncAgent):
    """Stands for the class of an agent of which only the name is known."""

    executors = ("thread", "process", "async")

    async def execute(self) -> None:
        """Do nothing: it is never run."""


class SomeLoopingAgent(LoopingAsyncAgent):
    """As `SomeAgent`, for those that can end between two rounds."""

    executors = SomeAgent.executors

    async def runner(self) -> None:
        """Do nothing: it is never run."""


class _Told:
    """What a log says of some children, by path, and the order in which supervisors started theirs."""

    def __init__(self, policy: LoggedPolicy) -> None:
        self.order: dict[str, tuple[str, ...]] = {}
        self._policy = policy
        self._said: dict[str, AgentRegistered | Mapping[str, str]] = {}
        self._below: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def take(self, event: Event) -> bool:
        """Note the child that `event` tells of; return whether it tells of one."""
        match event.data:
            case AgentRegistered():
                self.add(event.path, event.data)
            case Command("register", policy):
                _check_whole(event, policy)
                self.add(event.path, {name: str(text) for name, text in policy.items()})
            case _:
                return False
        return True

    def add(self, path: str, said: AgentRegistered | Mapping[str, str]) -> None:
        """Note an agent, or the policy of a supervisor."""
        self._said[path] = said
        while path:  # a supervisor stands where the first one below it does
            above = path.rpartition("/")[0]
            self._below[above].setdefault(path)
            path = above

    def entry(self, path: str) -> ChildEntry:
        """Return the specification of the child at `path`, with all below it."""
        name, said = path.rpartition("/")[2], self._said[path]
        policy = {"backoff": INHERITED, **(said.policy if isinstance(said, AgentRegistered) else said)}
        fields: dict[str, Any] = self._policy.fields(path, policy)
        try:
            if isinstance(said, AgentRegistered):
                fields |= {"executor": said.executor, "restart": said.restart, "depends_on": said.depends_on}
                return AgentEntry(SomeLoopingAgent if said.has_rounds else SomeAgent, name, **fields)
            above = f"{path}/" if path else ""
            places = {f"{above}{one}": place for place, one in enumerate(self.order.get(path, ()))}
            children = sorted(self._below[path], key=lambda one: places.get(one, len(places)))
            return SupervisorEntry(name, children=map(self.entry, children), **fields)
        except TypeError:
            raise SpecError(f"{path!r}: the log is of a later version, with policy unknown here: {policy}") from None


def _check_whole(event: Event, policy: Mapping[str, object]) -> None:
    """Refuse policy that is too long for a history file, which cuts what commands say; of a backoff a part will do."""
    cut = [name for name, text in policy.items() if name != "backoff" and str(text).endswith(LEFT_OUT)]
    if cut:
        raise SpecError(
            f"event {event.seq}: {cut[0]} of {event.path!r} is too long for the history file, which has only its "
            f"beginning: replay up to there"
        )


def tree_of(log: Sequence[Event], policy: LoggedPolicy) -> Blueprint:
    """Return the tree that a run began with.

    Raises:
        SpecError: the log is of an earlier version, which did not say policy, or ends before it has named all agents.
    """
    started = log[0].data
    assert isinstance(started, OrchestratorStarted)
    if not policy.is_said:
        raise SpecError("the events are of an earlier version, and say nothing of policies: give the tree as well")
    told = _Told(policy)
    agents = [event for event in log[1 : 1 + started.agents] if told.take(event)]
    if len(agents) < started.agents:
        raise SpecError(f"the log ends before it has named all {started.agents} agents: give more of it, or the tree")
    for path, said in started.policies.items():
        told.add(path, said)
    for event in log:
        if isinstance(event.data, SupervisorStarted):
            told.order.setdefault(event.path, event.data.children)
    if "" not in started.policies:
        raise SpecError("the log does not say the policy of the root: give the tree as well")
    given: dict[str, Any] = policy.settings(started.settings)
    root = told.entry("")
    assert isinstance(root, SupervisorEntry)
    try:
        settings = Settings(run_mode=started.run_mode, **given)
    except TypeError:
        raise SpecError(f"the log is of a later version, with settings unknown here: {started.settings}") from None
    return Blueprint(root, settings)


def came(world: World, first: Event, foresight: Foresight, policy: LoggedPolicy) -> RegisterChild | None:
    """Return what led to `first`, which tells of a child that came while the tree ran; None if it cannot have come.

    Under a dynamic supervisor that was `start_child`, elsewhere `register_agent`, unless it is gone when it fails.
    """
    above = first.path.rpartition("/")[0]
    parent = world.nodes.get(above)
    if not isinstance(parent, SupervisorNode):
        return None
    told, following = _Told(policy), foresight.following()
    for event in following:
        if not is_at_or_below(event.path, first.path) or not told.take(event):
            break
    if not policy.is_said:
        policy.assumed[first.path] = None
    must_start = parent.entry.dynamic or _is_gone(following, first)
    return RegisterChild(above, told.entry(first.path), must_start=must_start)


def _is_gone(events: Iterable[Event], first: Event) -> bool:
    """Return whether an agent is not restarted after its first start has failed, though its restart type wants it."""
    for event in events if isinstance(first.data, AgentRegistered) else ():
        if event.path == first.path and event.type in (EventType.AGENT_READY, EventType.AGENT_TERMINATED):
            return False
        if event.path == first.path and isinstance(event.data, AgentCrashed):
            return event.data.report.decision == "terminate" and first.data.restart != "temporary"  # type: ignore[union-attr]
    return False
