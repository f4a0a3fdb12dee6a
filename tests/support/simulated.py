"""Short simulations: entries of agents that only pretend, and what the log of a simulation says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from virtual import Worker

from orchestree import AgentEntry, Backoff, EventType, Simulation, simulate
from orchestree.supervisor.simulation import Fault

STEADY: Final = Backoff(jitter=0.0)
"""The default backoff without its jitter: 0 s, 0.25 s, 0.5 s, 1 s ... 30 s."""


def agent(name: str = "w", **fields: Any) -> AgentEntry:
    """Return the entry of an agent whose delays are exact."""
    given: dict[str, Any] = {"backoff": STEADY} | fields
    return AgentEntry(Worker, name, **given)


def simulated(*faults: Fault | str, until: float, **fields: Any) -> Simulation:
    """Return what becomes of one agent ``w``."""
    return simulate(agent(**fields), faults, until=until)


def moments(simulation: Simulation, kind: str, path: str = "w") -> list[float]:
    """Return when `path` had events of this kind."""
    wanted = EventType(kind)
    return [event.monotonic for event in simulation.events if event.type is wanted and event.path == path]


def started(simulation: Simulation, path: str = "w") -> list[float]:
    """Return when `path` was started."""
    return moments(simulation, "agent_starting", path)


def changes(simulation: Simulation, path: str = "w") -> list[tuple[float, str]]:
    """Return the states that `path` had, and since when."""
    return [(at, str(state)) for at, state in simulation.states[path]]


def kinds(simulation: Simulation, path: str = "w", *, since: float = 0.0) -> Sequence[str]:
    """Return what `path` went through from `since` on."""
    return [event.type.value for event in simulation.events if event.path == path and event.monotonic >= since]
