"""When `orchestree simulate` says with its exit code that a tree came through: whom it takes for well in the end."""

from __future__ import annotations

import pytest
from simulated import STEADY, agent, simulated
from tenacity import stop_after_attempt

from orchestree import Backoff, Orchestrator, RunMode, Simulation, SupervisorEntry, simulate
from orchestree.supervisor.simulation.shown.timeline import is_well, timeline

pytestmark = pytest.mark.policy

PARKS = Backoff(stop=stop_after_attempt(1))


def last_line(simulation: Simulation) -> str:
    return timeline(simulation).splitlines()[-1]


def test_a_tree_that_came_through_its_faults_is_well() -> None:
    assert is_well(simulated("w: crash at 10s", until=60.0))
    assert is_well(simulated("w: complete at 10s", until=60.0))
    assert is_well(simulate([], until=60.0))


def test_who_queues_for_a_slot_at_the_end_is_well() -> None:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_workers=1, control=False)
    simulation = simulate(Orchestrator(config, [agent("a"), agent("b")]), [], until=60.0)
    assert simulation.agents["b"].state == "queued"
    assert is_well(simulation)
    assert last_line(simulation) == "Ran to the end (1m); 1 queued."


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("w: crash with exit code 78 at 10s", "parked"),
        ("w: down from 10s", "backoff"),
        ("w: slow start forever", "starting"),
    ],
)
def test_who_is_down_at_the_end_is_not_well(fault: str, state: str) -> None:
    simulation = simulated(fault, until=59.5)
    assert simulation.agents["w"].state == state
    assert not is_well(simulation)
    assert last_line(simulation) == f"Ran to the end (59.5s); 1 {state}."


def test_who_waits_for_one_that_is_down_is_not_well() -> None:
    simulation = simulate([agent("a"), agent("b", depends_on=["a"])], ["a: slow start forever"], until=50.0)
    assert not is_well(simulation)
    assert last_line(simulation) == "Ran to the end (50s); 1 waiting, 1 starting."


def test_a_supervisor_that_was_given_up_on_is_not_well_although_its_agents_were_stopped_in_peace() -> None:
    pool = SupervisorEntry("pool", children=[agent("a")], max_restarts=0, backoff=PARKS)
    simulation = simulate([agent("w"), pool], ["pool/a: crash at 10s"], until=60.0)
    assert simulation.agents["pool/a"].state == "stopped"
    assert not is_well(simulation)
    assert last_line(simulation) == "Ran to the end (1m); pool gave up once; 1 parked."


def test_a_supervisor_that_gave_up_and_came_back_is_well() -> None:
    pool = SupervisorEntry("pool", children=[agent("a")], max_restarts=0, backoff=STEADY)
    simulation = simulate([pool], ["pool/a: crash at 10s", "pool/a: crash at 20s"], until=60.0)
    assert is_well(simulation)
    assert last_line(simulation) == ("Ran to the end (1m); pool gave up 2 times; nothing is parked, failed or wedged.")


def test_a_tree_that_fell_is_not_well() -> None:
    root = SupervisorEntry("", children=[agent()], max_restarts=0)
    simulation = simulate(root, ["w: crash at 10s"], until=60.0)
    assert simulation.fell
    assert not is_well(simulation)


def test_who_hangs_unnoticed_at_the_end_is_not_well_and_whose_hang_is_over_is() -> None:
    hanging = simulated("w: hang at 10s", until=60.0)
    assert not is_well(hanging)
    assert last_line(hanging) == "Ran to the end (1m); 1 hanging unnoticed."
    assert is_well(simulated("w: hang at 10s for 20s", until=60.0))
    assert is_well(simulated("w: hang at 10s", until=60.0, executor="process", watchdog=5.0))


def test_a_tree_that_a_fault_has_never_met_is_not_said_to_be_well() -> None:
    simulation = simulated("w: crash at 10s", "w: crash at 61s", until=60.0)
    assert not is_well(simulation)
    assert timeline(simulation).splitlines()[-2:] == [
        "This never happened: w: crash at 1m1s",
        "Ran to the end (1m); nothing is parked, failed or wedged.",
    ]


def test_what_holds_for_a_while_has_happened_when_its_time_has_come() -> None:
    assert is_well(simulated("w: ignore stop from 59s", until=60.0))
    assert not is_well(simulated("w: ignore stop from 60s", until=60.0))
