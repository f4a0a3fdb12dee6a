"""What was asked for through the control API: told first, then handed in, so that others may come between. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from orchestree.supervisor.events import Command, Event
from orchestree.supervisor.inputs import RestartChild, StartChild, StopChild, StopTree
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.tree import walk
from orchestree.supervisor.world import World

from .inputs_of_core import REPORTED, command, input_of

PATIENCE_S: Final = 1.0
"""Seconds in which what was asked has been handed in."""

_UP: Final = frozenset({AgentState.STARTING, AgentState.READY})
_KEPT_DOWN: Final = frozenset({AgentState.STOPPED, AgentState.PARKED})

_Operation = StartChild | StopChild | RestartChild


@dataclass(frozen=True, slots=True)
class _Asked:
    operation: _Operation
    since: float


class AskedFor:
    """What has been asked for and not been handed in yet."""

    def __init__(self, world: World) -> None:
        """Nothing has been asked for."""
        self._world = world
        self._waiting: deque[_Asked] = deque()

    def note(self, event: Event) -> StopTree | None:
        """Note what `event` asks for; return what changes a stop that runs."""
        assert isinstance(event.data, Command)
        made = command(event.data.name, event.path)
        if isinstance(made, _Operation):
            self._waiting.append(_Asked(replace(made, announced=True), event.monotonic))
        if event.data.name != "shutdown" or self._world.root.state is not AgentState.STOPPING:
            return None
        timeout = event.data.arguments.get("timeout")
        return StopTree(timeout_s=timeout if isinstance(timeout, int | float) else None)

    def due(self, event: Event) -> _Operation | None:
        """Take out what must have been handed in before `event`, or may have led to it."""
        if not self._waiting:
            return None
        asked = self._waiting[0]
        may_lead_to_it = (
            event.type not in REPORTED
            and _concerns(asked.operation, event.path)
            and input_of(self._world, event) is None
        )
        if may_lead_to_it or event.monotonic >= asked.since + PATIENCE_S:
            return self._waiting.popleft().operation
        return None

    def refused(self, operation: _Operation, now: float) -> None:
        """Note what the control API makes of the start of a supervisor that runs: of what is kept down below it."""
        node = self._world.nodes.get(operation.path)
        if isinstance(operation, StartChild) and node is not None and node.state in _UP:
            below = [one for one in walk(node) if one.state in _KEPT_DOWN and one.parent and one.parent.is_up]
            starts = [_Asked(StartChild(child.path, announced=True), now) for child in below]
            self._waiting.extendleft(reversed(starts))


def _concerns(operation: _Operation, path: str) -> bool:
    """Return whether an event of `path` may follow from the operation: a group may start, or be left, with it."""
    parent = operation.path.rpartition("/")[0]
    return path == parent or not parent or path.startswith(f"{parent}/")
