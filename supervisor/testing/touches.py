"""Whom the faults of others have touched: who was restarted or stopped with them, waited for them or for their slots.

Read off the log and the states; nothing here knows a policy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from orchestree.supervisor.events import (
    AgentQueued,
    AgentRestarting,
    AgentStopping,
    RestartCause,
    StopCause,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.states import AgentState

_SHARED: Final = frozenset({RestartCause.GROUP, StopCause.GROUP, StopCause.SUPERVISOR})


class _Together(NamedTuple):
    """At a moment those at or below `top` were stopped or restarted together, as far as their policy goes."""

    moment: float
    top: str


class Touches:
    """Reads what has happened to a tree so far, once."""

    def __init__(self, simulator: Simulator) -> None:
        """Read the log."""
        self._simulator = simulator
        self._shared: defaultdict[str, set[_Together]] = defaultdict(set)
        self._all_shared: dict[str, list[_Together]] = {}
        """The same with that of the supervisors above, oldest first; made when it is asked for, as the next one."""
        self._all_moments: dict[str, set[float]] = {}
        self._queues: defaultdict[str, list[float]] = defaultdict(list)
        for now, emit in simulator.log:
            if emit.kind in (AgentStopping, AgentRestarting, SupervisorRestarting):
                if emit.arguments[0] in _SHARED:
                    self._shared[emit.path].add(_Together(now, emit.path.rpartition("/")[0]))
            elif emit.kind is AgentQueued:
                self._queues[emit.path].append(now)
            if emit.kind in (SupervisorRestarting, SupervisorTerminated):
                self._shared[emit.path].add(_Together(now, emit.path))

    def touched(self, path: str, begin: float, end: float) -> set[str]:
        """Return the agent at `path` and those who touched it between two moments, or touched one that did."""
        found: set[str] = set()
        to_see = {path}
        while to_see:
            found |= to_see
            to_see = {other for one in to_see for other in self._next_to(one, begin, end)} - found
        return found

    def waited_for(self, path: str, begin: float, end: float) -> Iterator[str]:
        """Yield the paths of the agents and supervisors that the agent at `path` has waited for."""
        for waiter in (path, *above(path)):
            parent = waiter.rpartition("/")[0]
            for name in self._names(waiter, begin, end):
                yield f"{parent}/{name}" if parent else name

    def _next_to(self, path: str, begin: float, end: float) -> Iterator[str]:
        agents = self._simulator.executors.habits
        if any(begin <= now <= end for now in self._queues[path]):
            yield from agents  # worker slots are the whole tree's
            return
        waited = [*self.waited_for(path, begin, end)]
        for other in agents:
            if any(is_at_or_below(other, one) for one in waited) or self._met(path, other, begin, end):
                yield other

    def _met(self, one: str, other: str, begin: float, end: float) -> bool:
        """Return whether one was stopped or restarted because the other was, or crashed."""
        return any(
            is_at_or_below(second, top) and moment in self._moments(second)
            for first, second in ((one, other), (other, one))
            for moment, top in _between(self._together(first), begin, end)
        )

    def _together(self, path: str) -> list[_Together]:
        if path not in self._all_shared:
            self._all_shared[path] = sorted(self._shared[path].union(*(self._shared[one] for one in above(path))))
        return self._all_shared[path]

    def _moments(self, path: str) -> set[float]:
        """Return when an agent crashed or was stopped or restarted together with others."""
        if path not in self._all_moments:
            shared = {moment for moment, _ in self._together(path)}
            self._all_moments[path] = shared.union(self._simulator.crashes.get(path, ()))
        return self._all_moments[path]

    def _names(self, path: str, begin: float, end: float) -> Iterator[str]:
        """Yield the names of the siblings that one was waiting for."""
        node = self._simulator.core.world.nodes.get(path)
        if node is None:
            return
        changes = self._simulator.states.get(path, ())
        ends = [change.at for change in changes[1:]] + [end]
        for change, until in zip(changes, ends, strict=False):
            if change.state is AgentState.WAITING and change.at <= end and until >= begin:
                yield from (*node.waiting_for, *node.entry.depends_on)


def _between(found: Sequence[_Together], begin: float, end: float) -> Sequence[_Together]:
    after_end = math.nextafter(end, math.inf)
    return found[bisect_left(found, (begin, "")) : bisect_left(found, (after_end, ""))]


def above(path: str) -> Sequence[str]:
    """Return the paths of the supervisors above, the nearest first; the root's is ``""``."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, -1, -1)] if path else []


def is_at_or_below(path: str, top: str) -> bool:
    """Return whether one stands at `top` or below it."""
    return not top or path == top or path.startswith(f"{top}/")
