"""What `explain` says is what `simulate` shows with that very fault, whatever the tree looks like."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import pytest
from explained import looping, root
from hypothesis import assume, given, settings, strategies as st
from tenacity import stop_after_attempt, stop_after_delay, wait_exponential, wait_fixed
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.event_types import RestartCause
from orchestree.supervisor.events import AgentCrashed, AgentParked, AgentRestarting, AgentStopping, SupervisorTerminated
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.explained.courses import SHOWN_DELAYS, Consequence
from orchestree.supervisor.simulation.explained.explanation import AgentExplained
from orchestree.supervisor.simulation.faults import Crash
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.spec import ChildEntry, SupervisorEntry

pytestmark = [pytest.mark.policy, pytest.mark.slow]

FAILURES: Final = 40
"""That a simulation is given; `explain` looks at more."""
BACKOFFS: Final = (
    None,
    Backoff(),
    Backoff(stop=stop_after_attempt(1)),
    Backoff(stop=stop_after_attempt(4)),
    Backoff(stop=stop_after_attempt(3), on_give_up="escalate"),
    Backoff(wait=wait_fixed(0.5), stop=stop_after_delay(6)),
    Backoff(wait=wait_fixed(4), stable_after=0.0),
    Backoff(wait=wait_exponential(multiplier=0.1, max=5), jitter=1.0, stop=stop_after_attempt(8)),
    Backoff(wait=lambda state: 1 / (6 - state.attempt_number)),
)
WINDOWS: Final = ((10, 10.0), (0, 1.0), (1, 5.0), (3, 2.0), (100, 60.0))
STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one", "dependents")


@st.composite
def children(draw: st.DrawFn, depth: int) -> list[ChildEntry]:
    """Draw the children of one supervisor: each may depend on those before it."""
    found: list[ChildEntry] = []
    for number in range(draw(st.integers(1, 3))):
        name = f"{'abc'[depth]}{number}"
        common = {
            # A temporary child is gone once its supervisor or its group has been restarted.
            "depends_on": [one.name for one in found if one.restart != "temporary" and draw(st.booleans())],
            "backoff": draw(st.sampled_from(BACKOFFS)),
            "restart": draw(st.sampled_from(["transient", "permanent", "temporary"])),
        }
        if depth < 2 and draw(st.booleans()):
            max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
            found.append(
                supervisor(
                    name,
                    *draw(children(depth + 1)),
                    max_restarts=max_restarts,
                    max_seconds=max_seconds,
                    strategy=draw(st.sampled_from(STRATEGIES)),
                    **common,
                )
            )
        else:
            found.append(looping(name, strategy=draw(st.sampled_from([None, *STRATEGIES])), **common))
    return found


@st.composite
def trees(draw: st.DrawFn, *, jitter: bool) -> SupervisorEntry:
    """Draw a whole tree."""
    max_restarts, max_seconds = draw(st.sampled_from(WINDOWS))
    strategy = draw(st.sampled_from(STRATEGIES))
    below = draw(children(0))
    tree = root(*below, max_restarts=max_restarts, max_seconds=max_seconds, strategy=strategy)
    return tree if jitter else without_jitter(tree)


def without_jitter(entry: SupervisorEntry) -> SupervisorEntry:
    changed: list[ChildEntry] = []
    for child in entry.children:
        exact = replace(child.backoff, jitter=0.0) if isinstance(child.backoff, Backoff) else child.backoff
        own = replace(child, backoff=exact)
        changed.append(without_jitter(own) if isinstance(own, SupervisorEntry) else own)
    return replace(entry, children=tuple(changed))


@dataclass(slots=True)
class Shown:
    """What a simulation shows of one agent: when things first happen, as failure and seconds."""

    failures: int = 0
    delays: list[float] = field(default_factory=list)
    parked: tuple[int, float] | None = None
    ended: tuple[int, float] | None = None
    tree_ended: tuple[int, float] | None = None


def shown(simulation: Simulation, path: str) -> Shown:
    found = Shown()
    for event in simulation.events:
        here = (found.failures, event.monotonic)
        match event.data:
            case AgentCrashed() if event.path == path:
                found.failures += 1
            case AgentRestarting(cause=RestartCause.FAILURE, delay=delay) if event.path == path and not found.ended:
                found.delays.append(delay)
            case AgentParked() if event.path == path:
                found.parked = found.parked or here
            case SupervisorTerminated() if event.path == "" or path.startswith(f"{event.path}/"):
                found.ended = found.ended or here
                found.tree_ended = here if event.path == "" else None
    return found


def said(moment: Consequence | None) -> tuple[int, object] | None:
    """Return what is said, as far as the simulation goes."""
    return None if moment is None or moment.failure > FAILURES else (moment.failure, pytest.approx(moment.after_s))


def one_of(tree: SupervisorEntry, number: int) -> AgentExplained:
    paths = list(Blueprint(tree).agents())
    assume(paths)
    return explain(tree, paths[number % len(paths)]).agents[0]


@settings(max_examples=80, deadline=None)
@given(tree=trees(jitter=False), number=st.integers(0, 99))
def test_without_jitter_it_is_exactly_what_a_simulation_of_the_whole_tree_shows(
    tree: SupervisorEntry, number: int
) -> None:
    agent = one_of(tree, number)
    course = agent.fails.longest
    assert course == agent.fails.shortest
    simulation = simulate(tree, [Crash(agent.path, after=0.0, times=FAILURES)], until="1d")
    found = shown(simulation, agent.path)
    assert found.delays[:SHOWN_DELAYS] == pytest.approx(course.delays_s)
    assert found.parked == said(course.parked)
    assert found.ended == said(course.supervisor_ends)
    assert found.tree_ended == said(course.tree_ends)
    assert (found.failures == FAILURES) == (course.failures >= FAILURES)


@settings(max_examples=50, deadline=None)
@given(tree=trees(jitter=True), number=st.integers(0, 99), seed=st.integers(0, 1000))
def test_with_jitter_delays_lie_within_the_ranges(tree: SupervisorEntry, number: int, seed: int) -> None:
    agent = one_of(tree, number)
    simulation = simulate(tree, [Crash(agent.path, after=0.0, times=FAILURES)], until="1d", seed=seed)
    forecast = agent.fails
    delays = shown(simulation, agent.path).delays
    ranges = zip(delays, forecast.shortest.delays_s, forecast.longest.delays_s, strict=False)
    for delay, least, most in ranges:
        assert least - 1e-9 <= delay <= most + 1e-9


@settings(max_examples=50, deadline=None)
@given(tree=trees(jitter=False), number=st.integers(0, 99))
def test_whom_a_failure_stops_is_what_a_simulation_shows(tree: SupervisorEntry, number: int) -> None:
    agent = one_of(tree, number)
    assume(agent.fails.longest.delays_s)
    simulation = simulate(tree, [Crash(agent.path, at=1.0)], until=1.5)
    stopped = [event.path for event in simulation.events if isinstance(event.data, AgentStopping)]
    in_order = list(simulation.agents)
    assert stopped == [
        path
        for top in agent.touched.stopped
        for path in reversed(in_order)
        if path == top or path.startswith(f"{top}/")
    ]
