"""What runs must have answered when they were looked at or measured: the log only says what came of it. Pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from orchestree.agents.executor import Blocked, RunId, RunMemory, RunProgress
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentHung,
    AgentReady,
    AgentRestarting,
    AgentStopping,
    Event,
    PolicyChanged,
    RestartCause,
    StopCause,
)
from orchestree.supervisor.tree import AgentNode
from orchestree.supervisor.watching import MEASURE_EVERY_S
from orchestree.supervisor.world import World

NEARLY: Final = 1e-6
"""Seconds by which the last look at a run that is found hung comes before that is told."""

_USED: Final = re.compile(r"uses ([0-9.]+) MiB")
_BLOCKED: Final = re.compile(r"blocks its event loop for .* of ([^ ]+)\)$")
_WAITED: Final = re.compile(r"did not end within ([0-9.]+) s")


@dataclass(slots=True)
class _Excess:
    """A run that is found to use too much: at the last measurement before `moment`; `used` bytes, 0 if not known."""

    moment: float
    used: int = 0
    is_first: bool = False


class Answers:
    """Nobody is silent or uses anything, but for those of whom the log says otherwise later.

    While a look is not answered, or the answer is a moment to come, the core does not look again. That spares the looks
    of quiet months, which no event shows.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        """Look through the whole log."""
        self._silent: defaultdict[RunId, list[float]] = defaultdict(list)
        """When a run was found silent that had been looked at."""
        self._blocking: dict[RunId, RunId] = {}
        """For runs that blocked their event loop, whose watchdog found that out."""
        self._excess: dict[RunId, _Excess] = {}
        self._with_new_limit: set[str] = set()
        """Paths of those whose ``watchdog`` was changed: from then on it counts how long they had been silent."""
        latest: dict[str, RunId] = {}
        for event in events:
            self._note(RunId(event.path, event.incarnation), event, latest)

    def _note(self, run: RunId, event: Event, latest: dict[str, RunId]) -> None:
        match event.data:
            case AgentReady():
                latest[run.path] = run
            case AgentHung():
                self._silent[run].append(event.monotonic)
            case PolicyChanged(changes) if any(one.field == "watchdog" for one in changes):
                self._with_new_limit.add(event.path)
            case AgentRestarting(cause=RestartCause.MEMORY) | AgentStopping(cause=StopCause.MEMORY):
                self._excess[run] = _Excess(event.monotonic)
            case AgentCrashed(report=report) if run in self._excess:
                excess = self._excess[run]
                if used := _USED.search(report.message):
                    excess.used = round(float(used[1]) * 2**20)
                excess.is_first = report.message.endswith("right after setup()")
                if waited := _WAITED.search(report.message):
                    excess.moment -= float(waited[1])
            case AgentCrashed(report=report) if run in self._silent:
                found_by = _BLOCKED.search(report.message)
                if found_by is not None and found_by[1] in latest:
                    self._blocking[run] = latest[found_by[1]]
                    self._silent[latest[found_by[1]]] += self._silent.pop(run)
            case _:
                pass

    def to_look(self, node: AgentNode, now: float) -> RunProgress | None:
        """Return the answer to a look at `now`; None: an event that says who is hung is the answer, if one comes."""
        run = RunId(node.path, node.incarnation)
        moment = next((one for one in self._silent.get(run, ()) if one >= now), None)
        if moment is None or now >= moment - 2 * NEARLY:
            return None
        last = moment - NEARLY - (node.entry.watchdog or 0.0)  # so that the next look comes just before
        return RunProgress(run, min(now, last) if node.path in self._with_new_limit else last)

    def hung(self, world: World, event: Event, data: AgentHung) -> RunProgress | None:
        """Return the answer that has shown a run to be hung; None if nobody had been looked at."""
        run = RunId(event.path, event.incarnation)
        node = self.looked_at(world, event, data)
        if node is None or node.watch is None or node.watch.look_due is None:
            return None
        due, limit = node.watch.look_due, node.entry.watchdog or 0.0
        at = due - max(data.silent_s, limit)
        while at + limit > due:
            at = math.nextafter(at, -math.inf)
        looked_at = RunId(node.path, node.incarnation)
        # With loop=None nobody else is left behind on it.
        blocked = None if looked_at == run else Blocked(by=run, loop=None, since=at)
        return RunProgress(looked_at, at, blocked=blocked)

    def looked_at(self, world: World, event: Event, data: AgentHung) -> AgentNode | None:
        """Return whose watchdog has found that a run hangs; if the log ends before it tells that, who it may be."""
        run = RunId(event.path, event.incarnation)
        node = world.nodes.get(self._blocking.get(run, run).path)
        agents = [one for one in (node, *world.nodes.values()) if isinstance(one, AgentNode)]
        return next((one for one in agents if one.watch and one.entry.watchdog == data.watchdog_s), None)

    def to_measure(self, node: AgentNode, now: float) -> RunMemory | None:
        """Return the answer to a measurement at `now`; None: what the log says next about the run is the answer."""
        run = RunId(node.path, node.incarnation)
        excess = self._excess.get(run)
        if excess is not None and excess.is_first:
            return None
        is_last = excess is not None and now + MEASURE_EVERY_S > excess.moment
        return self.excess(node) if is_last and node.entry.shutdown != "brutal_kill" else RunMemory(run, 0)

    def excess(self, node: AgentNode) -> RunMemory:
        """Return what a run that uses too much is found to use."""
        run = RunId(node.path, node.incarnation)
        return RunMemory(run, max(self._excess[run].used, (node.entry.max_memory or 0) + 1))
