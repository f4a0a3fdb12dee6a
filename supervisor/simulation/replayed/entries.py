"""Specifications that a log lets guess: of children that came while the tree ran, and of policy that was changed. Pure.

A log holds neither classes nor functions, so what it does not say is the default; or, of restart policies, whatever
`PolicyOf` makes of it.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.entry_fields import INHERIT, BackoffChoice
from orchestree.supervisor.events import AgentCrashed, AgentRegistered, Event, EventType, PolicyChange
from orchestree.supervisor.inputs import RegisterChild
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.tree import SupervisorNode
from orchestree.supervisor.world import World


class SomeAgent(Agent):
    """Stands for the class of an agent of which only the name is known."""

    def execute(self) -> None:
        """Do nothing: it is never run."""


class SomeAsyncAgent(AsyncAgent):
    """As `SomeAgent`, for executor ``async``."""

    async def execute(self) -> None:
        """Do nothing: it is never run."""


PolicyOf = Callable[[str, str], BackoffChoice]
"""Makes the restart policy of the child at a path, of which the log says only this text; empty: not even that."""


@dataclass(slots=True)
class _Family:
    """What came together below one path: agents, and supervisors with what is below them, in start order."""

    path: str
    policy_of: PolicyOf | None
    children: dict[str, _Family | AgentEntry] = field(default_factory=dict)

    def entries(self) -> list[ChildEntry]:
        return [
            SupervisorEntry(name, children=child.entries(), backoff=_policy(child.path, self.policy_of))
            if isinstance(child, _Family)
            else child
            for name, child in self.children.items()
        ]

    def add(self, names: Sequence[str], data: AgentRegistered) -> None:
        """Add the agent that has these names from here on."""
        path = f"{self.path}/{names[0]}" if self.path else names[0]
        if len(names) > 1:
            inner = self.children.setdefault(names[0], _Family(path, self.policy_of))
            assert isinstance(inner, _Family)
            inner.add(names[1:], data)
            return
        agent = SomeAsyncAgent if data.executor == "async" else SomeAgent
        self.children[names[0]] = AgentEntry(
            agent,
            names[0],
            executor=data.executor,
            restart=data.restart,  # type: ignore[arg-type]  # which the specification checks
            depends_on=data.depends_on,
            backoff=_policy(path, self.policy_of),
        )


def registered(world: World, first: Event, events: Iterable[Event], policy_of: PolicyOf | None) -> RegisterChild | None:
    """Return what the first of these registrations, which came together, must have been; None if it cannot have been.

    Under a dynamic supervisor that was `start_child`, elsewhere `register_agent`, unless it is gone when it fails.
    """
    parent, name = _where(world, first.path)
    if parent is None:
        return None
    top = f"{parent.path}/{name}" if parent.path else name
    family, rest = _Family(parent.path, policy_of), iter(events)
    for event in rest:
        is_below = event.path == top or event.path.startswith(f"{top}/")
        if not is_below or not isinstance(event.data, AgentRegistered):
            break
        family.add(event.path.removeprefix(parent.path).strip("/").split("/"), event.data)
    return RegisterChild(parent.path, family.entries()[0], must_start=parent.entry.dynamic or _is_gone(rest, first))


def started_unknown(world: World, event: Event, policy_of: PolicyOf | None) -> RegisterChild | None:
    """Return the registration of a supervisor without agents, of which only its start is told: it is dynamic then."""
    parent, name = _where(world, event.path)
    if parent is None or event.path in world.nodes:
        return None
    return RegisterChild(parent.path, SupervisorEntry(name, dynamic=True, backoff=_policy(event.path, policy_of)))


def changed_fields(
    world: World, path: str, changes: Sequence[PolicyChange], policy_of: PolicyOf | None
) -> tuple[dict[str, object], list[str]]:
    """Return the new values of changed policy, as far as their text says them, and the texts of the others."""
    fields: dict[str, object] = {}
    unknown = []
    for change in changes:
        value = _backoff(world, change.new) if change.field == "backoff" else _value(change.new)
        if value is ... and policy_of is not None:
            fields[change.field] = policy_of(path, change.new)
        elif value is ...:
            unknown.append(f"{change.field}={change.new}")
        else:
            fields[change.field] = value
    return fields, unknown


def _is_gone(events: Iterable[Event], first: Event) -> bool:
    """Return whether an agent is not restarted after its first start has failed, though its restart type wants it."""
    assert isinstance(first.data, AgentRegistered)
    for event in events:
        if event.path == first.path and event.type in (EventType.AGENT_READY, EventType.AGENT_TERMINATED):
            return False
        if event.path == first.path and isinstance(event.data, AgentCrashed):
            return event.data.report.decision == "terminate" and first.data.restart != "temporary"
    return False


def _where(world: World, path: str) -> tuple[SupervisorNode | None, str]:
    """Return the lowest supervisor above `path` that there is, and the name below it on the way to `path`."""
    parent, _, name = path.rpartition("/")
    while parent and parent not in world.nodes:
        parent, _, name = parent.rpartition("/")
    node = world.nodes.get(parent)
    return (node if isinstance(node, SupervisorNode) else None), name


def _policy(path: str, policy_of: PolicyOf | None) -> BackoffChoice:
    return INHERIT if policy_of is None else policy_of(path, "")


def _value(text: str) -> object:
    try:
        value: object = literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word of OTP's
    return value


def _backoff(world: World, text: str) -> BackoffChoice | object:
    if text == "None":
        return None
    known = [node.backoff for node in world.nodes.values() if node.backoff is not None]
    known += [world.settings.backoff] if world.settings.backoff is not None else []
    if text == "that of the orchestrator":
        return INHERIT
    return next((backoff for backoff in [*known, Backoff()] if str(backoff) == text), ...)
