"""Random trees with random faults: what must hold in every simulation, judged by the model of the core's tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Final

import pytest
from core_invariants import Ends, Held, Incarnations, OneEventEach, States, Times, Watchdogs
from core_ledger import Ledger
from core_machine import RecordedCore
from core_order import Slots, StartOrder, StopOrder
from core_policies import POLICIES
from core_restarts import Delays, Groups, Outcomes, Windows
from core_trees import Plan, plans
from hypothesis import given, settings, strategies as st

from orchestree import EventType, NotFound, SpecError
from orchestree.agents.ends import Cause
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.events import SupervisorTerminated
from orchestree.supervisor.simulation import Complete, Crash, Down, Fault, Hang, IgnoreStop, SlowStart
from orchestree.supervisor.simulation.blueprint import Blueprint, walk_entries
from orchestree.supervisor.simulation.result import result_of
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.spec import AgentEntry

pytestmark = pytest.mark.policy

UNTIL_S: Final = 60.0
MOMENTS: Final = st.sampled_from((0.0, 0.25, 1.0, 2.0, 7.5, 30.0))
"""Few, so that many things happen at one moment."""


@st.composite
def faults(draw: st.DrawFn, plan: Plan) -> list[Fault]:
    """Draw faults of all kinds for the agents and supervisors of `plan`."""
    paths = [path for path, entry in walk_entries(plan.root) if isinstance(entry, AgentEntry)] or [""]
    places = st.sampled_from(("", *paths))
    when = st.sampled_from(
        (
            {"at": 1.0},
            {"every": 3.0},
            {"every": 0.25, "times": 5, "at": 2.0},
            {"after": 0.0, "times": 3},
            {"after": 2.0, "about": True},
        )
    )
    crashes = st.builds(
        lambda path, when, phase, cause: Crash(path, phase=phase, cause=cause, **when),
        places,
        when,
        st.sampled_from(("setup", "execute", "teardown")),
        st.sampled_from(("exception", "exit", "oom", "lost")),
    )
    hangs = st.builds(
        lambda path, when, lasts: Hang(path, lasts=lasts, **when),
        places,
        when,
        st.sampled_from((1.0, 9.0, float("inf"))),
    )
    completions = st.builds(lambda path, when: Complete(path, **when), places, when)
    spells = st.builds(lambda begin, lasts: {"at": begin, "until": begin + lasts}, MOMENTS, st.sampled_from((1.0, 9.0)))
    lasting = st.one_of(
        st.builds(lambda path, spell: Down(path, **spell), places, spells),
        st.builds(lambda path, spell, takes: SlowStart(path, takes=takes, **spell), places, spells, MOMENTS),
        st.builds(lambda path, spell: IgnoreStop(path, **spell), places, spells),
    )
    return draw(st.lists(st.one_of(crashes, hangs, completions, lasting), max_size=6))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Plan, list[Fault]]:
    plan = draw(plans())
    return plan, draw(faults(plan))


def simulator_of(plan: Plan, draws: Sequence[float], core: type[RecordedCore] | None = None) -> Simulator:
    """Return a simulator of `plan`; with `core` each decision is judged by a ledger."""
    jitter, times = cycle(plan.draws), cycle(draws)
    default = POLICIES[plan.default]
    choice = plan.choice
    values = Settings(
        run_mode=plan.run_mode,
        max_workers=plan.max_workers,
        backoff=default.backoff,
        strict_start=plan.strict_start,
        draw=lambda: next(jitter),
        choose_next=None if choice is None else lambda queued: queued[choice] if choice in (0, -1) else "nobody",
    )
    simulator = Simulator(Blueprint(plan.root, values), lambda: next(times), max_events=2_000)
    if core is not None:
        observed: dict[str, str] = {}
        rules = (Incarnations(), Held(), Outcomes(), Windows(), Delays(), Groups(), StartOrder(), StopOrder(), Slots())
        rest = (OneEventEach(), Times(), Watchdogs(), Ends(), States(observed))
        ledger = Ledger(plan.root, default, plan.max_workers, (*rules, *rest), strict_start=plan.strict_start)
        simulator.core = core(plan.root, values, ledger, observed)
    return simulator


def planned(simulator: Simulator, drawn: Sequence[Fault]) -> None:
    for fault in drawn:
        try:
            simulator.plan(fault)
        except (SpecError, NotFound):
            continue  # it cannot happen to anybody there


@pytest.mark.slow
@settings(max_examples=150)
@given(cases())
def test_a_simulation_keeps_every_rule_of_the_core(case: tuple[Plan, list[Fault]]) -> None:
    plan, drawn = case
    simulator = simulator_of(plan, (0.3, 0.8), RecordedCore)
    planned(simulator, drawn)
    may_be_two = {
        path for path, entry in walk_entries(plan.root) if isinstance(entry, AgentEntry) and entry.replace_wedged
    }
    simulator.start()
    for moment in range(int(UNTIL_S) + 1):
        simulator.advance_to(float(moment))
        assert {path for path, lives in simulator.executors.lives.items() if lives > 1} <= may_be_two
        assert all(lives >= 0 for lives in simulator.executors.lives.values())
        nodes = simulator.core.world.nodes
        known = {path: changes[-1].state for path, changes in simulator.states.items() if path in nodes}
        assert known == {path: nodes[path].state for path in known}
    assert isinstance(simulator.core, RecordedCore)
    simulator.core.replay(plan.root, all_of_it=True)


@pytest.mark.slow
@settings(max_examples=150)
@given(cases())
def test_the_same_faults_and_draws_give_the_same_result(case: tuple[Plan, list[Fault]]) -> None:
    plan, drawn = case
    results = []
    for steps in (1, 7):
        simulator = simulator_of(plan, (0.3, 0.8))
        planned(simulator, drawn)
        simulator.start()
        for step in range(1, steps + 1):
            simulator.advance_to(UNTIL_S * step / steps)
        results.append(result_of(simulator, drawn, 0, UNTIL_S))
    first, again = results
    assert first == again
    assert [event.seq for event in first.events] == list(range(1, len(first.events) + 1))
    times = [event.monotonic for event in first.events]
    assert times == sorted(times)
    told = Counter((event.type, event.path) for event in first.events)
    for agent in first.agents.values():
        assert 0.0 <= agent.up_s + agent.down_s <= UNTIL_S + 1e-6
        assert agent.longest_down_s <= agent.down_s + 1e-6
        assert agent.crashes == told[EventType.AGENT_CRASHED, agent.path]
        assert agent.starts == told[EventType.AGENT_STARTING, agent.path]
        assert agent.restarts == told[EventType.AGENT_RESTARTING, agent.path]
    assert len(first.parked) == sum(event.type is EventType.AGENT_PARKED for event in first.events)
    ends = [event.data for event in first.events if isinstance(event.data, SupervisorTerminated)]
    own = [data.reason.cause for data in ends if data.reason.cause in (Cause.MAX_RESTARTS, Cause.ESCALATED)]
    assert [one.cause for one in first.gave_up] == own
    assert all(one.fault in drawn and one.path in first.agents for one in first.struck)
