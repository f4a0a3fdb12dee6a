"""`trees`: a Hypothesis strategy for whole trees that keep every rule of a specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from tenacity import stop_after_attempt, wait_fixed

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.strategies import checks
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdownName, RestartName, StrategyName
from orchestree.supervisor.entry_fields import BackoffChoice, ShutdownTime
from orchestree.supervisor.spec import INHERIT, AgentEntry, ChildEntry, ExecutorName, SupervisorEntry

from .hypothesis_strategies import st

NAMES: Final = "abcd"
"""Of the children of each supervisor."""
DEEPEST: Final = 4
EXECUTORS: Final[tuple[ExecutorName, ...]] = ("thread", "process", "async")
RESTARTS: Final[tuple[RestartName, ...]] = ("transient", "permanent", "temporary")
STRATEGIES: Final[tuple[StrategyName, ...]] = ("one_for_one", "one_for_all", "rest_for_one", "dependents")
WINDOWS: Final = ((10, 10.0), (3, 60.0), (1, 5.0), (0, 1.0), (100, 60.0))
"""``max_restarts`` and ``max_seconds``; the default first."""
BACKOFFS: Final[tuple[BackoffChoice, ...]] = (
    INHERIT,
    None,
    Backoff(wait=wait_fixed(1.0), jitter=0.0),
    Backoff(stop=stop_after_attempt(3)),
    Backoff(stop=stop_after_attempt(2), on_give_up="escalate"),
)
WATCHDOGS: Final[tuple[float | None, ...]] = (None, 10.0)
SHUTDOWNS: Final[tuple[ShutdownTime, ...]] = (5.0, 0.5, "brutal_kill", "infinity")
AUTO_SHUTDOWNS: Final[tuple[AutoShutdownName, ...]] = (
    "never",
    "never",
    "never",
    "any_significant",
    "all_significant",
)


class TestedAgent(Agent):
    """An agent of a random tree, in a thread or a process; it never really runs."""

    __test__ = False  # pytest is not to take it for tests

    def execute(self) -> None:
        """Do nothing."""


class TestedAsyncAgent(AsyncAgent):
    """A coroutine agent of a random tree; it never really runs."""

    __test__ = False

    async def execute(self) -> None:
        """Do nothing."""


class Tree(tuple[ChildEntry, ...]):
    """Entries, printed with what differs from the defaults, a line each."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the lines, indented by depth."""
        return "\n".join(["<tree", *(line for entry in self for line in _described(entry, 1)), ">"])


def trees(*, max_depth: int = 2, max_children: int = 3) -> st.SearchStrategy[tuple[ChildEntry, ...]]:
    """Return a strategy for trees: tuples of at least one entry, for `supervised` or `fault_schedules`.

    All strategies, restart types, executors, and a choice of windows, backoffs, watchdogs and shutdown times; children
    depend on earlier siblings; supervisors are nested. Such a tree shrinks to a single agent with the defaults.

    Args:
        max_depth: how many supervisors stand above one another, besides the root, 0 to 4.
        max_children: of each supervisor, 1 to 4.

    Raises:
        SpecError: a number is none of these.
    """
    for name, value, least, most in (
        ("max_depth", max_depth, 0, DEEPEST),
        ("max_children", max_children, 1, len(NAMES)),
    ):
        if checks.count(name, value, least=least) > most:
            raise SpecError(f"{name}={value!r}: must be at most {most}")
    return _drawn_trees(_children(max_depth, max_children))


@dataclass(frozen=True, slots=True)
class _Child:
    """What is drawn for one child; it is a supervisor if it has children. What does not suit it is left out."""

    executor: ExecutorName
    restart: RestartName
    backoff: BackoffChoice
    depends_on: int
    """0: on nobody, else on the sibling at this place, counted from 1, if that comes before it."""
    is_significant: bool
    shutdown: ShutdownTime
    watchdog: float | None
    strategy: StrategyName
    window: tuple[int, float]
    auto_shutdown: AutoShutdownName
    children: list[_Child]


def _children(depth: int, most: int) -> st.SearchStrategy[list[_Child]]:
    none: st.SearchStrategy[list[_Child]] = st.builds(list)
    child = st.builds(
        _Child,
        executor=st.sampled_from(EXECUTORS),
        restart=st.sampled_from(RESTARTS),
        backoff=st.sampled_from(BACKOFFS),
        depends_on=st.sampled_from((0, 0, 1, 2, 3)),
        is_significant=st.booleans(),
        shutdown=st.sampled_from(SHUTDOWNS),
        watchdog=st.sampled_from(WATCHDOGS),
        strategy=st.sampled_from(STRATEGIES),
        window=st.sampled_from(WINDOWS),
        auto_shutdown=st.sampled_from(AUTO_SHUTDOWNS),
        children=st.one_of(none, none, _children(depth - 1, most)) if depth else none,
    )
    return st.lists(child, min_size=1, max_size=most)


@st.composite
def _drawn_trees(draw: st.DrawFn, children: st.SearchStrategy[list[_Child]]) -> tuple[ChildEntry, ...]:
    return Tree(_entries(draw(children), "never"))


def _entries(children: Sequence[_Child], auto_shutdown: AutoShutdownName) -> list[ChildEntry]:
    return [_entry(child, place, auto_shutdown) for place, child in enumerate(children)]


def _entry(child: _Child, place: int, auto_shutdown: AutoShutdownName) -> ChildEntry:
    """Return the specification of the child at `place` among its siblings."""
    depends_on = [NAMES[child.depends_on - 1]] if 0 < child.depends_on <= place else []
    significant = child.is_significant and auto_shutdown != "never" and child.restart != "permanent"
    if child.children:
        return SupervisorEntry(
            NAMES[place],
            strategy=child.strategy,
            max_restarts=child.window[0],
            max_seconds=child.window[1],
            auto_shutdown=child.auto_shutdown,
            restart=child.restart,
            backoff=child.backoff,
            depends_on=depends_on,
            significant=significant,
            children=_entries(child.children, child.auto_shutdown),
        )
    return AgentEntry(
        TestedAsyncAgent if child.executor == "async" else TestedAgent,
        NAMES[place],
        executor=child.executor,
        restart=child.restart,
        backoff=child.backoff,
        shutdown=child.shutdown,
        watchdog=child.watchdog,
        depends_on=depends_on,
        significant=significant,
    )


def _described(entry: ChildEntry, depth: int) -> list[str]:
    plain = AgentEntry(TestedAgent, "x") if isinstance(entry, AgentEntry) else SupervisorEntry("x")
    skipped = ("name", "agent", "config", "params", "children")
    said = [
        f"{name}={value!s}"
        for name in (field.name for field in fields(entry))
        if name not in skipped and (value := getattr(entry, name)) != getattr(plain, name)
    ]
    kind = "agent" if isinstance(entry, AgentEntry) else "supervisor"
    lines = ["  " * depth + " ".join([f"{kind} {entry.name}", *said])]
    for child in entry.children if isinstance(entry, SupervisorEntry) else ():
        lines += _described(child, depth + 1)
    return lines
