"""What a simulation tells of what happened, also of what has left the tree since; and when a fault counts as struck."""

from __future__ import annotations

from collections import Counter

import pytest
from simulated import STEADY, agent, moments, simulated, started

from orchestree import EventType, SupervisorEntry, simulate
from orchestree.agents.ends import Cause
from orchestree.supervisor.events import SupervisorTerminated
from orchestree.supervisor.predicting import seeded_simulator
from orchestree.supervisor.simulation import Crash, Down
from orchestree.supervisor.simulation.shown.timeline import timeline
from orchestree.supervisor.states import AgentState

pytestmark = pytest.mark.policy


def fragile(name: str, *children: object, **fields: object) -> SupervisorEntry:
    """Return a supervisor that gives up with the first failure below it."""
    return SupervisorEntry(name, children=children, max_restarts=0, **fields)  # type: ignore[arg-type]


def test_what_was_below_a_temporary_supervisor_that_gave_up_keeps_its_figures() -> None:
    simulation = simulate([fragile("p", agent("a"), restart="temporary")], ["p/a: crash at 10s"], until=60.0)
    outcome = simulation.agents["p/a"]
    assert (outcome.starts, outcome.restarts, outcome.crashes) == (1, 0, 1)


def test_supervisors_below_one_that_gave_up_are_among_those_that_did() -> None:
    inner = SupervisorEntry("q", children=[agent("a")], max_restarts=0, max_seconds=7.0)
    simulation = simulate([fragile("p", inner, restart="temporary")], ["p/q/a: crash at 10s"], until=60.0)
    told = [
        event.path
        for event in simulation.events
        if isinstance(event.data, SupervisorTerminated) and event.data.reason.cause is Cause.MAX_RESTARTS
    ]
    assert [one.path for one in simulation.gave_up] == told == ["p/q", "p"]
    assert simulation.gave_up[0].max_seconds == 7.0


def test_starts_and_restarts_are_those_of_the_log() -> None:
    simulation = simulate([agent("a"), agent("b")], ["a: crash every 20s", "b: complete at 30s"], until=600.0)
    told = Counter((event.type, event.path) for event in simulation.events)
    for path, outcome in simulation.agents.items():
        assert outcome.starts == told[EventType.AGENT_STARTING, path] == len(simulation.starts[path])
        assert outcome.restarts == told[EventType.AGENT_RESTARTING, path]
        assert list(simulation.starts[path]) == started(simulation, path)


def test_a_supervisor_that_has_failed_is_told_in_the_last_line() -> None:
    simulation = simulate([fragile("p", agent("a"), restart="temporary")], ["p/a: crash at 10s"], until=60.0)
    assert simulation.unhealthy == {"p": AgentState.FAILED}
    assert timeline(simulation).endswith("Ran to the end (1m); p gave up once; 1 failed.")


def test_a_hang_is_over_when_its_run_has_crashed_and_the_next_one_is_fine() -> None:
    simulation = simulated("w: hang at 10s", "w: crash at 20s", until=60.0)
    assert timeline(simulation).endswith("Ran to the end (1m); nothing is parked, failed or wedged.")


def test_an_outage_that_never_came_is_named() -> None:
    text = timeline(simulated("w: down from 2h to 3h", until=60.0))
    assert "This never happened: w: down from 2h to 3h" in text


def test_crashes_in_setup_do_not_pile_up() -> None:
    simulation = simulated("w: crash in setup every 1m", "w: crash at 3030s", until=3600.0)
    assert simulation.crashes["w"] == (3030.0, 3030.0)
    assert [(one.now, one.fault) for one in simulation.struck] == [
        (3030.0, Crash("w", at=3030.0)),
        (3030.0, Crash("w", every=60.0, phase="setup")),
    ]


def test_crashes_in_setup_that_a_hand_lays_are_one_start_each() -> None:
    simulator = seeded_simulator(agent(), 0)
    for _ in range(3):
        assert simulator.strike(Crash("w", at=0.0, phase="setup"), "w")
    simulator.start()
    simulator.advance_to(60.0)
    assert len(simulator.crashes["w"]) == len(simulator.struck) == 3


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_a_crash_that_was_laid_and_never_came_about_is_named(phase: str) -> None:
    simulation = simulated(f"w: crash in {phase} at 10s", until=60.0)
    assert simulation.struck == ()
    assert f"This never happened: w: crash in {phase} at 10s" in timeline(simulation)


def test_a_crash_in_teardown_has_struck_when_the_run_ends_by_it() -> None:
    simulation = simulated("w: crash in teardown at 10s", "w: complete at 12s", until=20.0)
    assert sorted(one.now for one in simulation.struck) == [12.0, 12.0]


def test_what_a_process_is_asked_while_it_starts_it_hears_when_it_is_ready() -> None:
    entries = [agent("w", shutdown=30.0), agent("x", strategy="one_for_all", backoff=STEADY)]
    simulation = simulate(entries, ["w: slow start 10s to 1s", "x: crash at 5s"], until=60.0)
    assert moments(simulation, "agent_ready") == [10.0]
    assert simulation.agents["w"].state == "ready"


def test_down_is_among_the_faults_that_never_happened_only_if_its_time_never_came() -> None:
    assert "never happened" not in timeline(simulate([agent()], [Down("w", at=1.0, until=2.0)], until=3.0))
