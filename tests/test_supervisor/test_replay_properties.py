"""Whatever happens to whatever tree: its log, replayed through the core, gives the same commands one for one."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import pytest
from core_policies import POLICIES
from core_trees import Plan, plans
from hypothesis import given, note, settings, strategies as st
from replay_support import Noted, blueprint_of_plan, faults_of, operations_on, simulated

from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.events import AgentCrashed, AgentRestarting, Event, RestartCause, SupervisorRestarting
from orchestree.supervisor.inputs import Input, StopTree
from orchestree.supervisor.replaying import replay_of
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.faults import Fault
from orchestree.supervisor.simulation.replayed.told_states import ABSENT
from orchestree.supervisor.simulation.replayed.why import account_of
from orchestree.supervisor.simulation.result import EventLog
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.tree import AgentNode


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
@pytest.mark.parametrize("with_tree", [False, True])
@settings(max_examples=300, deadline=None)
@given(story=stories())
def test_the_log_of_a_simulation_replayed_gives_the_same_commands(story: Story, with_tree: bool) -> None:
    events, blueprint, noted = log_of(story)
    found = replay_of(events, blueprint if with_tree else None)
    for event in events[-30:]:
        note(f"{event.seq} {event.monotonic} {event.type} {event.path} {event.data}")
    assert found.divergence is None, str(found.divergence)
    last = events[-1].monotonic
    assert list(found.commands) == [one for one in noted.commands if one.now <= last]


OUTCOMES = {"restart": "restarted", "park": "parked", "terminate": "finished", "escalate": "escalated"}


@pytest.mark.slow
@pytest.mark.parametrize("with_tree", [False, True])
@settings(max_examples=150, deadline=None)
@given(story=stories())
def test_what_is_told_of_a_decision_is_what_the_log_says(story: Story, with_tree: bool) -> None:
    events, blueprint, _ = log_of(story)
    found = replay_of(events, blueprint if with_tree else None)
    decisions = {one.number: one for one in found.decisions}
    for event in events:
        note(f"{event.seq} {event.monotonic} {event.type} {event.path} {event.data}")
        if isinstance(event.data, AgentCrashed):
            assert decisions[event.seq].outcome == OUTCOMES[event.data.report.decision], event
            assert decisions[event.seq].delay == event.data.report.delay_s, event
    stopped = {event.path for event in events if is_of_a_group(event)}
    assert stopped <= {path for one in found.decisions for path in one.group}
    numbers = {path: max([event.seq for event in events if event.path == path], default=0) for path in found.paths}
    for path, number in numbers.items():
        cited = [int(one) for one in re.findall(r"event (\d+)[,:]", found.why(path))]
        beyond = [one for one in cited if one > number and not is_about(events[one - 1], path)]
        assert not beyond, (path, found.why(path))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(story=stories())
def test_the_state_that_is_told_is_that_of_the_core(story: Story) -> None:
    events, _, noted = log_of(story)
    found = replay_of(events)
    for event in events:
        note(f"{event.seq} {event.monotonic} {event.type} {event.path} {event.data}")
    assert found.divergence is None
    for path in found.paths:
        node, account = noted.world.nodes.get(path), account_of(found, path, None)
        if node is None:
            assert account.state == ABSENT, path
        # The log does not say whether one that did not stop comes back beside it, or only when it has ended.
        elif isinstance(node, AgentNode) and node.state is not AgentState.WEDGED:
            assert account.state == node.state, path


def is_of_a_group(event: Event) -> bool:
    match event.data:
        case AgentRestarting(cause=RestartCause.GROUP) | SupervisorRestarting(cause=RestartCause.GROUP):
            return True
        case _:
            return False


def is_about(event: Event, path: str) -> bool:
    """Return whether that what has happened with its supervisors is told, which may still have to happen with it."""
    return path.startswith(event.path) or not event.path


def log_of(story: Story) -> tuple[tuple[Event, ...], Blueprint, Noted]:
    """Simulate a story; the events, the tree, and what was commanded."""
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
    return tuple(EventLog(simulator.log)), blueprint, noted
