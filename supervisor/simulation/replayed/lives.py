"""What is at a path, or was there last: names are used again, and what has ended for good is not kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.events import Command, Event
from orchestree.supervisor.simulation.blueprint import is_at_or_below
from orchestree.supervisor.states import AgentState

from .told_states import ABSENT, State, is_about, state_told

_UNREGISTER: Final = Command("unregister")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Of one child, from when it came into the tree.

    Attributes:
        begin: number of the event with which an earlier one of its path had left the tree; 0 if there was none.
        last: latest event that tells a state of it.
        left: with which it has left the tree; None if it is in it.
        unregistered: command by which it has; None if it was none.
    """

    begin: int
    last: Event
    left: Event | None
    unregistered: Event | None

    @property
    def state(self) -> State:
        """In which it is."""
        return self.told if self.left is None else ABSENT

    @property
    def told(self) -> State:
        """In which its last event left it."""
        return state_told(self.last) or ABSENT

    @property
    def since(self) -> Event:
        """The event from which on it is as it is."""
        return self.left or self.last


def latest_life(path: str, events: Iterable[Event], leaving: Set[int]) -> Life | None:
    """Return the latest life at `path`; None if there was none yet.

    Args:
        path: of the child.
        events: of all paths, up to a moment.
        leaving: numbers of the events with which something at `path` has left the tree.
    """
    begin = 0
    last: Event | None = None
    left: Event | None = None
    command: Event | None = None
    for event in events:
        if event.data == _UNREGISTER and is_at_or_below(path, event.path):
            command = event
        state = state_told(event) if is_about(event, path) else None
        if state is AgentState.REGISTERED:  # somebody else, of the same name
            begin = begin if left is None else left.seq
            left = command = None
        if state is not None:
            last = event
        if left is None and event.seq in leaving:
            left = event
    if last is None:
        return None
    is_unregistered = left is not None and command is not None and command.seq <= left.seq
    return Life(begin=begin, last=last, left=left, unregistered=command if is_unregistered else None)
