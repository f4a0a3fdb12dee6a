"""Random trees for the property suite: Hypothesis strategies over specifications, and their short description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from core_policies import POLICIES, policy_of
from hypothesis import strategies as st
from virtual import AsyncWorker, Worker

from orchestree.strategies.restart import AutoShutdownName, RestartName, StrategyName
from orchestree.supervisor.spec import INHERIT, AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode

STRATEGIES: Final[tuple[StrategyName, ...]] = ("one_for_one", "one_for_all", "rest_for_one", "dependents")
RESTARTS: Final[tuple[RestartName, ...]] = ("transient", "permanent", "temporary")
SHUTDOWNS: Final = (0.5, 2.0, "infinity", "brutal_kill")
AUTO_SHUTDOWNS: Final[tuple[AutoShutdownName, ...]] = ("never", "never", "never", "any_significant", "all_significant")
WINDOWS: Final = ((10, 10.0), (10, 10.0), (0, 1.0), (1, 1.0), (2, 4.0))
BACKOFFS: Final = (INHERIT, INHERIT, *(policy.backoff for policy in POLICIES))
NAMES: Final = "abcdef"
HABITS: Final = ("obedient", "manual", "obedient", "stubborn", "failing", "ignoring", "hanging")
WATCHDOGS: Final = (None, None, 0.5, 3.0)
DEPTH: Final = 2  # supervisors below the root


@dataclass(frozen=True, slots=True, repr=False)
class Newcomer:
    """A child to be registered in a running tree; printed in one line for each entry."""

    entry: ChildEntry

    def __repr__(self) -> str:
        """Return what is special about it."""
        return f"<{' | '.join(describe(self.entry))}>"

    def among(self, siblings: Sequence[str], *, significant: bool, in_pool: bool) -> ChildEntry:
        """Return its entry, made to fit into a family."""
        wanted = [name for name in self.entry.depends_on if name in siblings and not in_pool]
        changed: dict[str, object] = {"depends_on": wanted, "significant": self.entry.significant and significant}
        if in_pool and isinstance(self.entry, AgentEntry):
            changed["strategy"] = None
        return replace(self.entry, **changed)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """What one run of the machine starts from.

    Attributes:
        draws: what jitter draws, over and over.
        choice: index into the queue that ``choose_next`` answers; None: no hook; 9: an unknown path.
        habits: of the runs of each child, over and over in start order; see `CoreLab.behave`.
    """

    root: SupervisorEntry
    run_mode: RunMode
    max_workers: int | None
    default: int
    draws: tuple[float, ...]
    choice: int | None
    strict_start: bool
    habits: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the tree and what differs from the defaults, a line per child."""
        head = f"{self.run_mode}, max_workers={self.max_workers}, backoff={POLICIES[self.default].label!r}"
        head += (
            f", choose_next={self.choice}, strict_start={self.strict_start}, draws={self.draws}, habits={self.habits}"
        )
        return "\n".join([head, *describe(self.root)])


def describe(entry: ChildEntry, indent: int = 0) -> list[str]:
    """Return a line for an entry and each below it: its name and the fields that are not defaults."""
    is_agent = isinstance(entry, AgentEntry)
    plain: ChildEntry = AgentEntry(Worker, "x") if is_agent else SupervisorEntry("")
    said = []
    for name in (field.name for field in fields(entry) if field.name not in ("name", "agent", "config", "children")):
        value = getattr(entry, name)
        if value != getattr(plain, name) and name != "params":
            is_policy = name == "backoff" and value is not INHERIT
            said.append(f"{name}={policy_of(value).label if is_policy else value!s}")
    kind = "agent" if is_agent else "supervisor"
    lines = [f"{'  ' * indent}{kind} {entry.name!r} {' '.join(said)}".rstrip()]
    for child in entry.children if isinstance(entry, SupervisorEntry) else ():
        lines += describe(child, indent + 1)
    return lines


@st.composite
def agents(draw: st.DrawFn, name: str, siblings: Sequence[str] = (), auto_shutdown: str = "never") -> AgentEntry:
    """Draw an agent that may depend on some of `siblings`."""
    agent = draw(st.sampled_from((Worker, Worker, AsyncWorker)))
    given = draw(_common(siblings, auto_shutdown))
    return AgentEntry(
        agent,
        name,
        executor=draw(st.sampled_from((None, "process"))),
        strategy=draw(st.sampled_from((None, None, None, *STRATEGIES))),
        start_timeout=draw(st.sampled_from((60.0, 1.0, None))),
        watchdog=draw(st.sampled_from(WATCHDOGS)),
        replace_wedged=draw(st.sampled_from((False, False, False, True))),
        **given,  # type: ignore[arg-type]
    )


@st.composite
def supervisors(
    draw: st.DrawFn, name: str, siblings: Sequence[str] = (), auto_shutdown: str = "never", depth: int = DEPTH
) -> SupervisorEntry:
    """Draw a supervisor with up to three children."""
    if draw(st.integers(0, 2)) == 2:
        return draw(_pools(name, siblings, auto_shutdown))
    inner = draw(st.sampled_from(AUTO_SHUTDOWNS))
    max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
    # Mostly those that come back after they gave up.
    given = draw(_common(siblings, auto_shutdown, ("permanent", "permanent", *RESTARTS)))
    return SupervisorEntry(
        name,
        strategy=draw(st.sampled_from(STRATEGIES)),
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        auto_shutdown=inner,
        children=draw(children(inner, depth - 1, most=3)),
        **given,  # type: ignore[arg-type]
    )


@st.composite
def _pools(draw: st.DrawFn, name: str, siblings: Sequence[str], auto_shutdown: str) -> SupervisorEntry:
    max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
    given = draw(_common(siblings, auto_shutdown))
    most = draw(st.sampled_from((None, None, 1, 3)))
    return SupervisorEntry(
        name,
        dynamic=True,
        max_children=most,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        **given,  # type: ignore[arg-type]
    )


@st.composite
def changes(draw: st.DrawFn) -> dict[str, object]:
    """Draw one or two policy fields to be changed; not every one of them suits every child."""
    max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
    values: dict[str, st.SearchStrategy[object]] = {
        "restart": st.sampled_from(RESTARTS),
        "backoff": st.sampled_from(BACKOFFS),
        "shutdown": st.sampled_from(SHUTDOWNS),
        "start_timeout": st.sampled_from((60.0, 1.0, None)),
        "watchdog": st.sampled_from(WATCHDOGS),
        "replace_wedged": st.booleans(),
        "significant": st.booleans(),
        "strategy": st.sampled_from(STRATEGIES),
        "max_restarts": st.just(max_restarts),
        "max_seconds": st.just(max_seconds),
        "auto_shutdown": st.sampled_from(AUTO_SHUTDOWNS),
    }
    first = draw(st.sampled_from(("backoff", *values)))
    second = {"max_restarts": "max_seconds", "restart": "backoff"}.get(first, first)
    return {name: draw(values[name]) for name in dict.fromkeys((first, second))}


@st.composite
def children(draw: st.DrawFn, auto_shutdown: str, depth: int, most: int) -> tuple[ChildEntry, ...]:
    """Draw the children of one supervisor, in some order of registration."""
    entries: list[ChildEntry] = []
    for name in NAMES[: draw(st.integers(0 if depth < DEPTH else 1, most))]:
        siblings = [entry.name for entry in entries]
        nested = depth > 0 and draw(st.integers(0, 3)) == 3
        drawn: st.SearchStrategy[ChildEntry] = (
            supervisors(name, siblings, auto_shutdown, depth) if nested else agents(name, siblings, auto_shutdown)
        )
        entries.append(draw(drawn))
    return tuple(draw(st.sampled_from((entries, entries[::-1], entries[1::2] + entries[::2]))))


@st.composite
def newcomers(draw: st.DrawFn) -> Newcomer:
    """Draw a child to be registered in a running tree."""
    name = draw(st.sampled_from(NAMES))
    siblings = [other for other in NAMES if other != name]
    nested = draw(st.integers(0, 3)) == 3
    drawn: st.SearchStrategy[ChildEntry] = (
        supervisors(name, siblings, "any_significant", 1) if nested else agents(name, siblings, "any_significant")
    )
    return Newcomer(draw(drawn))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a whole tree and the settings of its core."""
    auto_shutdown = draw(st.sampled_from(AUTO_SHUTDOWNS))
    max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
    root = SupervisorEntry(
        "",
        strategy=draw(st.sampled_from(STRATEGIES)),
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        auto_shutdown=auto_shutdown,
        children=draw(children(auto_shutdown, DEPTH, most=4)),
    )
    return Plan(
        root=root,
        run_mode=draw(st.sampled_from((RunMode.DAEMON, RunMode.DAEMON, RunMode.STOP_ON_EMPTY))),
        max_workers=draw(st.sampled_from((None, None, 1, 2, 3))),
        default=draw(st.integers(0, len(POLICIES) - 1)),
        draws=draw(st.sampled_from(((0.0,), (0.5,), (0.0, 0.75, 0.5)))),
        choice=draw(st.sampled_from((None, None, 0, 1, -1, 9))),
        strict_start=draw(st.sampled_from((False, False, False, False, True))),
        habits=tuple(draw(st.lists(st.sampled_from(HABITS), min_size=1, max_size=4))),
    )


@st.composite
def _common(
    draw: st.DrawFn, siblings: Sequence[str], auto_shutdown: str, restarts: Sequence[str] = RESTARTS
) -> dict[str, object]:
    restart = draw(st.sampled_from(restarts))
    most = draw(st.sampled_from((0, 2))) if siblings else 0
    wanted = draw(st.sets(st.sampled_from(siblings or [""]), max_size=most))
    return {
        "restart": restart,
        "backoff": draw(st.sampled_from(BACKOFFS)),
        "shutdown": draw(st.sampled_from(SHUTDOWNS)),
        "depends_on": sorted(wanted),
        "significant": auto_shutdown != "never" and restart != "permanent" and draw(st.booleans()),
    }
