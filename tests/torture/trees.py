"""The tree that is tortured: every strategy, every executor, more agents than worker slots, two that only fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from orchestree_testing import torture_agents as agents
from orchestree_testing.family import MARKED
from tenacity import stop_after_attempt, wait_exponential, wait_fixed

from orchestree.agents.base import BaseAgent
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor import Orchestrator, RunMode
from orchestree.supervisor.clock import Clock
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry

WATCHDOG_S: Final = 2.0
MANY: Final = 10**6
QUICK: Final = Backoff(wait=wait_exponential(multiplier=0.005, max=0.1), stable_after=0.3)
PARKS: Final = Backoff(wait=wait_fixed(0.02), stop=stop_after_attempt(3))

HOPELESS: Final = ("hopeless/thread", "hopeless/process")
JOBS: Final = tuple(f"jobs/{number}" for number in range(6))
FREE_FOR_JOBS: Final = 2
"""Worker slots beyond those that all others need."""


class SteppingClock(Clock):
    """A clock that somebody sets; supervision must not care."""

    def __init__(self) -> None:
        self.offset = 0.0
        """Seconds by which it is wrong."""

    def wall(self) -> float:
        return time.time() + self.offset


class Tree(Orchestrator):
    """The orchestrator of the run.

    Attributes:
        steady: paths of the agents that are to run all the time.
    """

    clock: SteppingClock
    steady: tuple[str, ...] = ()


def tortured(folder: Path) -> Tree:
    """Return the tree; `folder` is where its agents get their orders."""
    entries = children(folder)
    paths = [path for entry in entries for path in agents_of(entry)]
    steady = tuple(path for path in paths if path not in HOPELESS + JOBS)
    config = Tree.Config(
        run_mode=RunMode.DAEMON,
        control=False,
        max_restarts=MANY,
        backoff=QUICK,
        max_workers=len(steady) + FREE_FOR_JOBS,
    )
    tree = Tree(config, entries)
    tree.clock, tree.steady = SteppingClock(), steady
    return tree


def agents_of(entry: ChildEntry, above: str = "") -> list[str]:
    """Return the paths of all agents below and including `entry`."""
    path = f"{above}/{entry.name}" if above else entry.name
    if isinstance(entry, AgentEntry):
        return [path]
    return [found for child in entry.children for found in agents_of(child, path)]


def children(folder: Path) -> list[ChildEntry]:
    """Return the children of the root."""

    def agent(
        kind: type[BaseAgent], name: str, executor: str | None = None, *helpers: str, **fields: Any
    ) -> AgentEntry:
        watchdog = {"watchdog": WATCHDOG_S} if executor == "process" else {}
        params = {"folder": folder, "helpers": helpers}
        return AgentEntry(
            kind, name, executor=executor, params=params, **{"restart": "permanent", **watchdog, **fields}
        )

    return [*by_strategy(agent), *with_a_part_of_their_own(agent)]


def by_strategy(agent: Callable[..., AgentEntry]) -> list[SupervisorEntry]:
    """Return a supervisor for each strategy."""
    alone = (
        agent(agents.Plain, "thread"),
        agent(agents.AsyncPlain, "task", restart="transient"),
        agent(agents.Plain, "process", "process"),
        agent(agents.Loop, "loop", "process", restart="transient"),
        agent(agents.Tick, "tick", "process"),
        agent(agents.AsyncTick, "async-tick", "process"),
    )
    together = (
        agent(agents.Loop, "thread", restart="transient"),
        agent(agents.AsyncTick, "task"),
        agent(agents.Plain, "process", "process", "session", "daemon"),
    )
    chain = (
        agent(agents.Tick, "first"),
        agent(agents.Loop, "second", "process"),
        agent(agents.AsyncLoop, "third"),
    )
    inner = (
        agent(agents.AsyncLoop, "process", "process"),
        agent(agents.Tick, "thread"),
    )
    needs = (
        agent(agents.Plain, "base", "process"),
        agent(agents.Plain, "user", depends_on=["base"]),
        agent(agents.AsyncPlain, "leaf", depends_on=["user"]),
        agent(agents.AsyncTick, "other"),
        supervisor("inner", "one_for_one", *inner, depends_on=["base"]),
    )
    return [
        supervisor("alone", "one_for_one", *alone),
        supervisor("together", "one_for_all", *together),
        supervisor("chain", "rest_for_one", *chain),
        supervisor("needs", "dependents", *needs),
    ]


def with_a_part_of_their_own(agent: Callable[..., AgentEntry]) -> list[SupervisorEntry]:
    """Return one that gives up often, those who start processes, those who only fail, and those who queue."""
    fragile = (agent(agents.Plain, "thread"), agent(agents.AsyncPlain, "task"))
    family = (
        agent(agents.Plain, "all", "process", *MARKED),
        agent(agents.Tick, "some", "process", "group", "daemon"),
    )
    hopeless = (
        agent(agents.Hopeless, "thread", backoff=PARKS),
        agent(agents.Hopeless, "process", "process", backoff=PARKS),
    )
    kinds = ((agents.Job, "thread"), (agents.AsyncJob, "async"), (agents.Job, "process"))
    jobs = [
        agent(kind, path.rpartition("/")[2], executor, restart="transient")
        for path, (kind, executor) in zip(JOBS, cycle(kinds), strict=False)
    ]
    return [
        supervisor("fragile", "one_for_one", *fragile, max_restarts=2, max_seconds=10.0),
        supervisor("family", "one_for_one", *family),
        supervisor("hopeless", "one_for_one", *hopeless),
        supervisor("jobs", "one_for_one", *jobs),
    ]


def supervisor(name: str, strategy: Any, *children: ChildEntry, **fields: Any) -> SupervisorEntry:
    """Return a supervisor that hardly ever gives up, unless told otherwise."""
    return SupervisorEntry(name, strategy=strategy, children=children, **{"max_restarts": MANY, **fields})
