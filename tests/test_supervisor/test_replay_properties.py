"""Whatever happens to whatever tree: its log, replayed through the core, gives the same commands one for one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest
from core_policies import POLICIES
from core_trees import Plan, plans
from hypothesis import given, note, settings, strategies as st
from replay_support import blueprint_of_plan, faults_of, operations_on, simulated

from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.inputs import Input, StopTree
from orchestree.supervisor.replaying import replay_of
from orchestree.supervisor.simulation.faults import Fault
from orchestree.supervisor.simulation.result import EventLog


@dataclass(frozen=True)
class Story:
    """A tree, what goes wrong in it, and what is asked for meanwhile, a second apart."""

    plan: Plan
    faults: tuple[Fault, ...]
    operations: tuple[Input, ...]
    timeout: float | None


@st.composite
def stories(draw: st.DrawFn) -> Story:
    plan = draw(plans())
    timeout = draw(st.sampled_from((None, 1.0)))
    return Story(plan, draw(faults_of(plan)), draw(operations_on(plan)), timeout)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(stories())
def test_the_log_of_a_simulation_replayed_gives_the_same_commands(story: Story) -> None:
    blueprint = blueprint_of_plan(story.plan, POLICIES[story.plan.default].backoff)
    simulator, noted = simulated(blueprint, story.faults)
    simulator.start()
    for operation in story.operations:
        simulator.advance_to(simulator.now + 1.0)
        with suppress(OrchestreeError):
            simulator.tell(operation)
    simulator.advance_to(simulator.now + 60.0)
    if simulator.core.world.root.is_up:  # of one that stops already, a stop with a timeout tells nobody
        simulator.tell(StopTree(timeout_s=story.timeout))
        simulator.advance_to(simulator.now + 50.0)
    events = tuple(EventLog(simulator.log))
    found = replay_of(events, blueprint)
    for event in events[-30:]:
        note(f"{event.seq} {event.monotonic} {event.type} {event.path} {event.data}")
    assert found.divergence is None, str(found.divergence)
    last = events[-1].monotonic
    assert list(found.commands) == [one for one in noted.commands if one.now <= last]
