"""At which moment a fault happens and to which run, where two answers are near; and the log as a sequence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from simulated import agent, changes, kinds, moments, simulated, started

from orchestree import SupervisorEntry, simulate
from orchestree.supervisor.predicting import seeded_simulator
from orchestree.supervisor.simulation import Complete, Crash
from orchestree.supervisor.simulation.simulator import Simulator

pytestmark = pytest.mark.policy


def test_none_seconds_after_ready_is_at_once_and_as_often_as_was_said() -> None:
    assert simulated("w: crash 2 times 0s after ready", until=10.0).crashes == {"w": (0.0, 0.0)}
    assert simulated("w: crash 3 times 5s after ready", until=60.0).crashes == {"w": (5.0, 10.0, 15.25)}


def test_what_is_planned_on_the_way_happens_to_runs_that_get_ready_from_then_on() -> None:
    def running(since: float) -> Simulator:
        simulator = seeded_simulator(agent(), 0)
        simulator.start()
        simulator.advance_to(since)
        simulator.plan(Crash("w", after=5.0, times=1))
        simulator.advance_to(20.0)
        simulator.strike(Crash("w", at=0.0), "w")
        simulator.advance_to(60.0)
        return simulator

    assert running(0.0).crashes["w"] == [5.0, 20.0]  # it has just become ready
    assert running(0.5).crashes["w"] == [20.0, 25.0]


def test_times_that_were_planned_on_the_way_count_from_then() -> None:
    simulator = seeded_simulator(agent(), 0)
    simulator.start()
    simulator.advance_to(100.0)
    simulator.plan(Crash("w", every=7.0, until=20.0))
    simulator.advance_to(200.0)
    assert simulator.crashes["w"] == [107.0, 114.0]


def test_a_restart_that_is_due_comes_before_a_fault_of_the_same_moment() -> None:
    faults = ["w: crash at 10s", "w: crash at 10s", "w: crash at 10.25s"]
    assert simulated(*faults, until=60.0).crashes == {"w": (10.0, 10.0, 10.25)}


def test_who_is_to_ignore_a_stop_from_this_moment_on_does_and_until_this_moment_does_not() -> None:
    root = [agent("w", shutdown=3.0), agent("x", strategy="one_for_all")]
    deaf = simulate(root, ["w: ignore stop from 10s to 30s", "x: crash at 10s"], until=60.0)
    assert changes(deaf, "w") == [(0.0, "ready"), (10.0, "stopping"), (13.1, "wedged"), (30.0, "ready")]
    heard = simulate(root, ["w: ignore stop to 10s", "x: crash at 10s"], until=60.0)
    assert changes(heard, "w") == [(0.0, "ready")]
    assert started(heard, "w") == [0.0, 10.0]


def test_a_start_at_the_very_moment_at_which_something_is_over_is_a_good_one() -> None:
    down = simulated("w: down to 250ms", until=60.0)
    assert (started(down), moments(down, "agent_ready")) == ([0.0, 0.0, 0.25], [0.25])
    slow = simulated("w: slow start 5s to 10s", "w: crash at 10s", until=60.0)
    assert (started(slow), moments(slow, "agent_ready")) == ([0.0, 10.0], [5.0, 10.0])


def test_when_a_wedged_run_has_ended_at_last_faults_still_meet_the_one_that_has_replaced_it() -> None:
    faults = ["w: hang at 10s for 20s", "w: crash at 40s"]
    simulation = simulated(*faults, until=60.0, watchdog=5.0, replace_wedged=True)
    assert started(simulation) == [0.0, 20.1, 40.25]
    assert simulation.crashes["w"][-1] == 40.0


def test_who_has_ended_is_no_live_run_any_more() -> None:
    simulator = seeded_simulator(agent(), 0)
    simulator.start()
    assert simulator.executors.live["w"].ready
    simulator.strike(Complete("w", at=0.0), "w")
    assert simulator.executors.live == {}


def test_a_crash_in_setup_waits_for_the_next_start_and_only_for_one() -> None:
    simulation = simulated("w: crash in setup every 10s", "w: crash at 35s", until=60.0)
    # The one of 10 s lies there until 35 s, and as long as it does no other is laid.
    assert simulation.crashes == {"w": (35.0, 35.0)}
    assert moments(simulation, "agent_ready") == [0.0, 35.25]


def test_a_fault_of_a_supervisor_spares_those_below_that_it_cannot_happen_to() -> None:
    pool = SupervisorEntry("pool", children=[agent("thread"), agent("process", executor="process")])
    simulation = simulate([pool], ["pool: run out of memory at 5s"], until=10.0)
    assert simulation.crashes == {"pool/process": (5.0,)}
    assert kinds(simulation, "pool/thread", since=1.0) == []


def test_a_log_is_equal_to_any_sequence_of_the_same_events() -> None:
    simulation = simulated("w: crash at 5s", until=10.0)
    log, events = simulation.events, list(simulation.events)
    assert log == events
    assert log != [*events[:-1], replace(events[-1], path="other")]
    assert log != events[:-1]
    assert log != simulated("w: crash at 6s", until=10.0).events
    assert log != "log"
    assert log != 5


def test_the_time_of_an_event_is_virtual_and_so_is_that_of_its_line() -> None:
    simulation = simulated("w: crash at 5s", until=10.0)
    crash = next(event for event in simulation.events if event.type == "agent_crashed")
    assert (crash.time, crash.monotonic) == (5.0, 5.0)
    line = list(simulation.json_lines())[crash.seq - 1]
    assert (json.loads(line)["seq"], json.loads(line)["time"]) == (crash.seq, 5.0)
    assert "\n" not in line
    assert '": ' not in line


def test_a_simulation_is_told_in_one_line() -> None:
    assert repr(simulated("w: crash every 10s", until=29.0)) == (
        "<Simulation to 29s, seed 0: 2 crashes, 2 restarts, 0 parked>"
    )
    assert repr(simulated("w: crash with exit code 78 at 10s", until=30.0)) == (
        "<Simulation to 30s, seed 0: 1 crash, 0 restarts, 1 parked>"
    )
