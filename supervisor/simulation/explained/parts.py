"""Simulators of parts of one tree: what a question is about, and the supervisors above it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from orchestree.agents.agent import Agent
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.events import SupervisorTerminated
from orchestree.supervisor.inputs import StopTree
from orchestree.supervisor.simulation.blueprint import Blueprint, walk_entries
from orchestree.supervisor.simulation.faults import IgnoreStop
from orchestree.supervisor.simulation.simulator import Said, Simulator
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode

from .places import only_way_to, standing_everything

LONGEST: Final = 0.0
"""Draw of the longest delay that jitter allows."""
SHORTEST: Final = math.nextafter(1.0, 0.0)
"""Draw of the shortest."""
HORIZON_S: Final = 100 * 365 * 86400.0
_STUB: Final = "stub"


class Stub(Agent):
    """Stands for what a supervisor is there for, where only the supervisor matters."""

    def execute(self) -> None:
        """Never called."""


class Parts:
    """Builds simulators of parts of one tree.

    Attributes:
        entries: of the tree, by path, in registration order.
        settings: of the simulations of one child.
        with_slots: of those in which several children matter, of which no more run than `max_workers` says.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        """Build nothing yet."""
        self.entries = dict(walk_entries(blueprint.root))
        self._blueprint = blueprint
        # What one child does is not to depend on slots, on hooks that see all of them, or on others having ended.
        self.settings = replace(
            blueprint.settings, run_mode=RunMode.DAEMON, strict_start=False, choose_next=None, max_workers=None
        )
        self.with_slots = replace(self.settings, max_workers=blueprint.settings.max_workers)

    def of_child(self, path: str, draw: float, *, wide: bool = False) -> tuple[Simulator, str]:
        """Return a simulator of the child at `path`, and the path of the agent in it whose failure is the child's.

        Of a supervisor that is an agent whose first failure makes it give up.

        Args:
            path: of an agent or a supervisor.
            draw: of each delay, see `LONGEST`.
            wide: no supervisor above gives up because of too many restarts.
        """
        is_agent = isinstance(self.entries[path], AgentEntry)
        simulator = self.of(path, draw, _unwatched if is_agent else _gives_up_at_once, wide=wide)
        return simulator, path if is_agent else f"{path}/{_STUB}"

    def of_policy(self, path: str, draw: float, *, wide: bool = False) -> Simulator:
        """Return a simulator of a permanent agent at `path` with the backoff of the child there; see `of_child`."""
        return self.of(path, draw, _stub_for, wide=wide)

    def of(
        self,
        path: str,
        draw: float,
        last: Callable[[ChildEntry], ChildEntry] = lambda entry: entry,
        *,
        wide: bool = False,
        settings: Settings | None = None,
    ) -> Simulator:
        """Return a simulator of what `last` makes of the entry at `path`, below the supervisors above it alone."""
        settings = replace(settings or self.settings, draw=lambda: draw)
        root = only_way_to(self._blueprint.root, path, last, standing_everything if wide else lambda entry: entry)
        return Simulator(replace(self._blueprint, root=root, settings=settings), lambda: 0.0)

    def stop_time(self, path: str) -> float:
        """Return the seconds that the supervisor at `path` takes to stop all below when none of them wants to.

        Infinity if one of them may take for ever. Its own `shutdown` is left out of account, and the moment that a
        thread gets to notice that its time is over.
        """
        settings = replace(self.settings, killable=("thread", "process", "async"))
        simulator = self.of(path, LONGEST, lambda entry: replace(entry, shutdown="infinity"), settings=settings)
        if simulator.executors.habits:  # children that come when the tree runs are nobody yet
            simulator.plan(IgnoreStop(path))
        simulator.start()
        simulator.tell(StopTree())
        simulator.advance_to(HORIZON_S)
        end = end_of(simulator, path)
        return math.inf if end is None else end.now


def end_of(simulator: Simulator, path: str) -> Said | None:
    """Return what was said when the supervisor at `path` first ended."""
    ends = (said for said in simulator.log if said.emit.kind is SupervisorTerminated and said.emit.path == path)
    return next(ends, None)


def _unwatched(entry: ChildEntry) -> ChildEntry:
    """Return an agent without what looks at it while it runs: that would go on for ever."""
    assert isinstance(entry, AgentEntry)
    return replace(entry, watchdog=None, max_memory=None, max_age=None)


def _gives_up_at_once(entry: ChildEntry) -> ChildEntry:
    """Return a supervisor whose only child makes it give up with its first failure."""
    assert isinstance(entry, SupervisorEntry)
    stub = AgentEntry(Stub, _STUB, restart="permanent", backoff=None)
    return replace(entry, max_restarts=0, children=(stub,), dynamic=False, max_children=None)


def _stub_for(entry: ChildEntry) -> ChildEntry:
    return AgentEntry(Stub, entry.name, restart="permanent", backoff=entry.backoff)
