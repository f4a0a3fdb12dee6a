"""What tests of `explain` share: agents that never end, and short ways to what an explanation says."""

from __future__ import annotations

import random
from typing import Final

from tenacity import stop_after_attempt

from orchestree.agents.agent import LoopingAgent, PeriodicAgent
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.explaining import ends_at_once, explain
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.explained.courses import Consequence
from orchestree.supervisor.simulation.explained.explanation import (
    AgentExplained,
    Explanation,
    SupervisorExplained,
    explanation_of,
)
from orchestree.supervisor.simulation.explained.lints import Warned
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode


class Round(LoopingAgent):
    """Never ends by itself."""

    def runner(self) -> None: ...


class Beat(PeriodicAgent):
    """Has an interval, of 1 s if nobody says otherwise."""

    def runner(self) -> None: ...


def looping(name: str, **fields: object) -> AgentEntry:
    """Return the entry of an agent that never ends by itself."""
    return AgentEntry(Round, name, **fields)  # type: ignore[arg-type]


def beating(name: str, interval: float, **fields: object) -> AgentEntry:
    """Return the entry of a periodic agent."""
    return AgentEntry(Beat, name, config=Beat.Config(interval=interval), **fields)  # type: ignore[arg-type]


def root(*children: ChildEntry, **fields: object) -> SupervisorEntry:
    """Return a whole tree."""
    return SupervisorEntry("", children=children, **fields)  # type: ignore[arg-type]


SOON: Final = Backoff(stop=stop_after_attempt(2))
"""What makes simulations short."""


def explained(path: str, *children: ChildEntry, **fields: object) -> AgentExplained:
    """Return what is said about the agent at `path`."""
    [found] = explain(root(*children, **fields), path).agents
    return found


def supervised(path: str, *children: ChildEntry, **fields: object) -> SupervisorExplained:
    """Return what is said about the supervisor at `path`."""
    found = explain(root(*children, **fields), path).supervisors[0]
    assert found.path == path
    return found


def in_stop_on_empty(*children: ChildEntry, backoff: Backoff | None, **fields: object) -> Explanation:
    """Explain a tree that ends when it is empty; `backoff` is what its agents inherit."""
    settings = Settings(run_mode=RunMode.STOP_ON_EMPTY, backoff=backoff)
    return explanation_of(Blueprint(root(*children, **fields), settings), "", ends_at_once, random)


def named(explanation: Explanation) -> list[tuple[str, str]]:
    """Return the name and the path of each warning."""
    return [(warned.name, warned.path) for warned in explanation.warnings]


def warned(explanation: Explanation, name: str) -> Warned:
    """Return the only warning of this name."""
    [found] = [one for one in explanation.warnings if one.name == name]
    return found


def when(moment: Consequence | None) -> tuple[int, object]:
    """Return at which failure that was, and how many seconds after the first."""
    assert moment is not None
    return moment.failure, moment.after_s
