"""The tree that a run began with: without what a hook ``before_start`` has left out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orchestree.supervisor.events import AgentRegistered, Event, OrchestratorStarted
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry


def with_registered(blueprint: Blueprint, log: Sequence[Event]) -> tuple[Blueprint, tuple[str, ...]]:
    """Return the tree without the agents that the log does not name, and their paths.

    If the log names others, it is that of another tree, or ``before_start`` has added some: nothing is left out.
    """
    named, known = _named(log), set(blueprint.agents())
    if named is None or not named < known:
        return blueprint, ()
    left_out = tuple(path for path in blueprint.agents() if path not in named)
    return replace(blueprint, root=_without(blueprint.root, "", left_out)), left_out


def added(blueprint: Blueprint, log: Sequence[Event]) -> tuple[str, ...]:
    """Return the agents that the log names beside all of the tree."""
    named, known = _named(log), set(blueprint.agents())
    return tuple(sorted(named - known)) if named is not None and known < named else ()


def _named(log: Sequence[Event]) -> set[str] | None:
    """Return the agents that the run began with; None if the log ends before it has named all."""
    started = log[0].data
    assert isinstance(started, OrchestratorStarted)
    named = {event.path for event in log[1 : 1 + started.agents] if isinstance(event.data, AgentRegistered)}
    return named if len(named) == started.agents else None


def _without(entry: SupervisorEntry, path: str, left_out: Collection[str]) -> SupervisorEntry:
    kept: list[ChildEntry] = []
    for child in entry.children:
        where = f"{path}/{child.name}" if path else child.name
        if isinstance(child, AgentEntry):
            kept += [child] if where not in left_out else []
        else:
            kept.append(_without(child, where, left_out))
    return replace(entry, children=tuple(kept))
