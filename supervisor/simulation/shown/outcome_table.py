"""The figures of each agent of a simulation as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from orchestree.supervisor.phrases import duration
from orchestree.supervisor.simulation.result import AgentOutcome, Simulation
from orchestree.supervisor.states import UNHEALTHY_STATES, AgentState

_GAP: Final = "  "


class _Figures(NamedTuple):
    """One line of the table, as texts."""

    name: str
    starts: str
    crashes: str
    restarts: str
    down: str
    share: str
    longest: str
    at_the_end: str


_HEADS: Final = _Figures("AGENT", "STARTS", "CRASHES", "RESTARTS", "DOWN", "SHARE", "LONGEST", "AT THE END")


def figures(simulation: Simulation, agents: Sequence[AgentOutcome], names: Mapping[str, str]) -> list[str]:
    """Return the lines of a table of these agents, called by `names`; none if there are none."""
    if not agents:
        return []
    whole = [_HEADS, *(_figures_of(simulation, agent, names[agent.path]) for agent in agents)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    lines = []
    for name, *numbers, at_the_end in whole:
        cells = [name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:-1]), at_the_end]
        lines.append(_GAP.join(cells))
    return lines


def _figures_of(simulation: Simulation, agent: AgentOutcome, name: str) -> _Figures:
    return _Figures(
        name,
        str(agent.starts),
        str(agent.crashes),
        str(agent.restarts),
        duration(agent.down_s) if agent.down_s else "-",
        _share(agent.down_s, agent.up_s + agent.down_s),
        duration(agent.longest_down_s) if agent.longest_down_s else "-",
        _at_the_end(simulation, agent),
    )


def _share(part: float, whole: float) -> str:
    if not part:
        return "-"
    return f"{part / whole:.1%}" if part / whole >= 0.001 else "<0.1%"


def _at_the_end(simulation: Simulation, agent: AgentOutcome) -> str:
    if agent.state not in UNHEALTHY_STATES:
        return agent.state.value
    since = f"{agent.state.value} at {duration(simulation.states[agent.path][-1].at)}"
    why = next((one.why for one in reversed(simulation.parked) if one.path == agent.path), "")
    return f"{since}: {why}" if agent.state is AgentState.PARKED and why else since
