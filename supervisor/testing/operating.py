"""What a test asks of a supervised tree as an operator, or as an agent that starts others, would. The core decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestree.agents.base import BaseAgent
from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError, StartError
from orchestree.supervisor.draft import join_path
from orchestree.supervisor.entry_fields import named_path
from orchestree.supervisor.events import AgentCrashed, Event
from orchestree.supervisor.inputs import Input, RegisterChild, RestartChild, StartChild, StopChild, StopTree
from orchestree.supervisor.keywords import agent_entry
from orchestree.supervisor.made_up_names import MadeUpNames
from orchestree.supervisor.phrases import duration
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry, check_children


@dataclass(frozen=True, slots=True)
class Order:
    """At `at` the test asked: ``start``, ``stop``, ``restart`` or ``start_child`` of what stands at `path`."""

    at: float
    name: str
    path: str

    def __str__(self) -> str:
        """Return one line."""
        return f"at {duration(self.at)}: {self.name} {self.path or 'everything'}"


class Operated(ABC):
    """The part of `SupervisedTree` that hands in what `Orchestrator` does. Nothing waits: the clock is the test's.

    Attributes:
        orders: what the test asked for, in order.
    """

    def __init__(self, simulator: Simulator) -> None:
        """Ask for nothing yet."""
        self.orders: list[Order] = []
        self._world = simulator.core.world
        self._names = MadeUpNames(self._world.nodes.__contains__)

    def start_agent(self, path: str) -> None:
        """Start what does not run, as ``Orchestrator.start_agent``; what that needs time for goes on with the clock."""
        self._order("start", path, StartChild(named_path(path)))

    def stop_agent(self, path: str) -> None:
        """Stop an agent or a supervisor and keep it down, as ``Orchestrator.stop_agent``.

        A child of a dynamic supervisor leaves the tree by that.
        """
        self._order("stop", path, StopChild(named_path(path)))

    def restart_agent(self, path: str) -> None:
        """Stop and start at once, out of any state, as ``Orchestrator.restart_agent``."""
        self._order("restart", path, RestartChild(named_path(path)))

    def start_child(
        self, parent: str, agent: type[BaseAgent] | ChildEntry, name: str | None = None, **fields: Any
    ) -> str:
        """Start one more child of the supervisor at `parent`, dynamic or not, as ``Supervisor.start_child``.

        Args:
            parent: path of the supervisor; ``""`` or ``"/"`` is the root.
            agent: a class, or a whole specification.
            name: of an agent given as a class; None makes one up (``worker-1``).
            fields: all other keywords of `register_agent`.

        Returns:
            The path of the child; a slow start goes on with the clock. Faults that name its supervisor are for those
            that are there when they are planned.

        Raises:
            StartError: it failed at once, and nothing is kept. MaxChildren: the supervisor is full. SpecError: as
                `register_agent`. NotFound: there is no such supervisor. NotRunning: it does not run.
        """
        parent = named_path(parent)
        entry = self._entry(parent, agent, name, fields)
        path = join_path(parent, entry.name)
        self._order("start_child", path, RegisterChild(parent, entry, must_start=True))
        if path not in self._world.nodes:
            raise StartError(f"{path!r} did not start: {self._last_crash(path)}")
        return path

    def stop(self, timeout: float | None = None) -> None:
        """Have everything stopped in order; after `timeout` seconds what is left is killed or abandoned."""
        limit = None if timeout is None else checks.seconds("timeout", timeout)
        self._order("stop", "", StopTree(timeout_s=limit))

    @property
    @abstractmethod
    def events(self) -> Sequence[Event]:
        """All events so far, oldest first."""

    @abstractmethod
    def _order(self, name: str, path: str, asked: Input) -> None:
        """Have the core decide on it, and note it in `orders` unless it was refused."""

    def _entry(
        self, parent: str, agent: type[BaseAgent] | ChildEntry, name: str | None, fields: dict[str, object]
    ) -> ChildEntry:
        if not isinstance(agent, (AgentEntry, SupervisorEntry)):
            return agent_entry(agent, self._names.make(parent, agent) if name is None else name, fields)
        if name is not None or fields:
            raise SpecError(f"start_child(): {agent.name!r} is a whole specification; it takes no name and no fields")
        [entry] = check_children([agent])
        return entry

    def _last_crash(self, path: str) -> str:
        found = (event.data for event in reversed(self.events) if event.path == path)
        return next((data.report.message for data in found if isinstance(data, AgentCrashed)), "it gave up")
