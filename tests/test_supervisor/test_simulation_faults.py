"""What each fault does to one agent under virtual time, in exact seconds."""

from __future__ import annotations

import pytest
from simulated import STEADY, agent, changes, kinds, moments, simulated, started
from virtual import AsyncWorker, Worker

from orchestree import AgentEntry, Backoff, EventType, LoopingAgent, Rule, Simulation, SupervisorEntry, simulate
from orchestree.supervisor.events import AgentCrashed, AgentHung
from orchestree.supervisor.simulation import Crash, Hang

pytestmark = pytest.mark.policy


class Looping(LoopingAgent):
    """Ends between two rounds when it is old."""

    def runner(self) -> None: ...


def reports(simulation: Simulation) -> list[tuple[str, str]]:
    """Return cause and phase of each crash of ``w``."""
    found = [event.data for event in simulation.events if isinstance(event.data, AgentCrashed)]
    return [(str(data.report.cause), data.report.phase) for data in found]


def test_without_faults_an_agent_is_ready_at_once_and_stays_so() -> None:
    simulation = simulated(until=3600.0)
    outcome = simulation.agents["w"]
    assert changes(simulation) == [(0.0, "ready")]
    assert (outcome.starts, outcome.restarts, outcome.crashes, outcome.up_s, outcome.down_s) == (1, 0, 0, 3600.0, 0.0)
    assert (simulation.stopped_by, simulation.ended_at, simulation.exit_code) == ("until", 3600.0, None)


def test_a_crash_in_execute_ends_the_run_that_is_ready() -> None:
    simulation = simulated("w: crash at 10s", until=20.0)
    assert reports(simulation) == [("exception", "execute")]
    assert started(simulation) == [0.0, 10.0]


def test_a_crash_in_setup_fails_the_next_start_of_one_that_is_ready() -> None:
    simulation = simulated("w: crash in setup at 10s", "w: crash at 12s", until=20.0)
    assert reports(simulation) == [("exception", "execute"), ("start_failed", "setup")]
    assert started(simulation) == [0.0, 12.0, 12.25]


def test_a_crash_in_setup_from_the_beginning_fails_the_first_start() -> None:
    assert started(simulated("w: crash in setup at 0s", until=20.0)) == [0.0, 0.0]
    twice = simulated("w: crash in setup 2 times every 5s from 0s", "w: crash at 7s", until=20.0)
    assert (started(twice), len(reports(twice))) == ([0.0, 0.0, 7.25, 7.75], 3)


def test_a_crash_in_setup_fails_the_start_that_runs() -> None:
    simulation = simulated("w: slow start 4s to 1s", "w: crash in setup at 3s", until=20.0)
    assert reports(simulation) == [("start_failed", "setup")]
    assert started(simulation) == [0.0, 3.0]


def test_a_crash_in_teardown_is_raised_when_the_run_ends_next() -> None:
    simulation = simulated("w: crash in teardown at 10s", "w: complete at 12s", until=20.0)
    assert reports(simulation) == [("exception", "teardown")]
    assert started(simulation) == [0.0, 12.0]


def test_a_crash_in_teardown_does_not_hide_why_the_run_ended() -> None:
    faults = ["w: crash in teardown at 1s", "w: crash with exit code 75 at 2s", "w: complete at 3s"]
    simulation = simulated(*faults, until=20.0)
    assert reports(simulation) == [("exit", "execute")]
    assert changes(simulation) == [(0.0, "ready"), (3.0, "completed")]


def test_a_start_that_was_asked_to_stop_does_not_get_ready() -> None:
    entries = [agent("w", shutdown=30.0), agent("x", strategy="one_for_all")]
    faults = ["w: slow start 10s to 1s", "w: ignore stop to 20s", "w: crash 1s after ready", "x: crash at 5s"]
    simulation = simulate(entries, faults, until=21.5)
    assert simulation.crashes == {"x": (5.0,), "w": (21.0,)}


def test_a_crash_in_execute_of_an_agent_that_starts_is_one_in_setup() -> None:
    simulation = simulated("w: slow start 4s to 1s", "w: crash at 3s", until=20.0)
    assert reports(simulation) == [("start_failed", "setup")]


def test_a_report_says_how_long_the_run_lived() -> None:
    simulation = simulated("w: crash at 10s", "w: crash at 11s", "w: down from 12s to 13s", until=20.0)
    crashes = [event.data for event in simulation.events if isinstance(event.data, AgentCrashed)]
    assert [data.report.uptime_s for data in crashes] == [10.0, 1.0, 0.75, 0.0]


def test_crashes_apart_wait_longer_and_longer_until_a_run_was_stable() -> None:
    simulation = simulated("w: crash 1s after ready to 8s", until=100.0)
    assert started(simulation) == [0.0, 1.0, 2.25, 3.75, 5.75, 8.75]
    assert simulation.agents["w"].down_s == 0.25 + 0.5 + 1.0 + 2.0
    assert simulation.agents["w"].longest_down_s == 2.0


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_hang_without_a_watchdog_is_seen_by_nobody(executor: str) -> None:
    simulation = simulated("w: hang at 10s", until=1000.0, executor=executor)
    assert changes(simulation) == [(0.0, "ready")]
    assert simulation.agents["w"].starts == 1


def test_a_process_that_hangs_is_killed_when_its_watchdog_has_waited() -> None:
    simulation = simulated("w: hang at 10s", until=60.0, executor="process", watchdog=5.0)
    assert moments(simulation, "agent_hung") == [15.0]
    assert reports(simulation) == [("watchdog", "execute")]
    assert started(simulation) == [0.0, 15.0]


def test_a_thread_that_hangs_is_wedged_when_it_was_asked_to_stop() -> None:
    simulation = simulated("w: hang at 10s", until=60.0, watchdog=5.0)
    assert moments(simulation, "agent_hung") == [15.0]
    assert moments(simulation, "agent_wedged") == [20.1]
    assert changes(simulation) == [(0.0, "ready"), (15.0, "stopping"), (20.1, "wedged")]
    assert started(simulation) == [0.0]


def test_a_coroutine_that_hangs_is_cancelled_when_its_time_to_stop_is_over() -> None:
    entry = AgentEntry(AsyncWorker, "w", backoff=STEADY, watchdog=5.0)
    simulation = simulate(entry, ["w: hang at 10s"], until=60.0)
    assert moments(simulation, "agent_hung") == [15.0]
    assert changes(simulation) == [(0.0, "ready"), (15.0, "stopping"), (20.0, "ready")]
    assert reports(simulation) == [("watchdog", "execute")]


@pytest.mark.parametrize("at", [0.0, 4.0, 5.0, 5.25, 9.99, 10.0, 1234.5])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_hang_is_noticed_a_whole_watchdog_after_it_began_whenever_it_began(at: float, executor: str) -> None:
    simulation = simulated(Hang("w", at=at), until=at + 5.5, watchdog=5.0, executor=executor)
    hung = [event for event in simulation.events if isinstance(event.data, AgentHung)]
    assert [event.monotonic for event in hung] == pytest.approx([at + 5.0])
    assert [event.data.silent_s for event in hung if isinstance(event.data, AgentHung)] == pytest.approx([5.0])


def test_of_two_hangs_in_a_row_each_counts_from_its_own_beginning() -> None:
    simulation = simulated("w: hang every 100s for 4s", "w: hang at 1003s", until=2000.0, watchdog=5.0)
    assert moments(simulation, "agent_hung") == pytest.approx([1005.0])


def test_one_that_is_wedged_comes_back_when_its_hang_is_over() -> None:
    simulation = simulated("w: hang at 10s for 20s", until=60.0, watchdog=5.0)
    assert started(simulation) == [0.0, 30.0]
    assert simulation.agents["w"].down_s == 15.0


def test_one_that_may_be_replaced_runs_beside_its_wedged_run() -> None:
    simulation = simulated("w: hang at 10s", until=60.0, watchdog=5.0, replace_wedged=True)
    assert started(simulation) == [0.0, 20.1]
    assert simulation.agents["w"].state == "ready"


def test_a_hang_that_ends_in_time_changes_nothing() -> None:
    simulation = simulated("w: hang at 10s for 4s", until=60.0, watchdog=5.0)
    assert kinds(simulation) == ["agent_registered", "agent_starting", "agent_ready"]


def test_a_second_hang_makes_the_first_one_longer() -> None:
    simulation = simulated("w: hang at 10s for 4s", "w: hang at 12s for 4s", until=60.0, watchdog=5.0)
    assert moments(simulation, "agent_hung") == [15.0]


def test_a_start_that_hangs_is_ready_when_that_is_over() -> None:
    simulation = simulated("w: slow start 2s to 1s", "w: hang at 1s for 5s", until=60.0)
    assert changes(simulation) == [(0.0, "starting"), (6.0, "ready")]


@pytest.mark.parametrize(("takes", "ready"), [("4s", [4.0]), ("20s", [5.0])])
def test_a_slow_start_is_given_up_when_its_time_is_over(takes: str, ready: list[float]) -> None:
    simulation = simulated(f"w: slow start {takes} to 1s", until=60.0, start_timeout=5.0, executor="process")
    assert moments(simulation, "agent_ready") == ready
    assert reports(simulation) == ([] if takes == "4s" else [("start_timeout", "setup")])


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_slow_start_hears_nothing_but_a_coroutine_is_cancelled(kind: str) -> None:
    made = AgentEntry(AsyncWorker if kind == "async" else Worker, "w", backoff=STEADY, start_timeout=5.0)
    simulation = simulate(made, ["w: slow start 20s to 1s"], until=60.0)
    ready = 10.0 if kind == "async" else 20.0
    assert moments(simulation, "agent_wedged") == ([] if kind == "async" else [10.1])
    assert moments(simulation, "agent_ready") == [ready]


def test_a_coroutine_that_ignores_its_stop_is_cancelled_after_its_shutdown_time() -> None:
    deaf = AgentEntry(AsyncWorker, "w", backoff=STEADY, shutdown=3.0)
    entries = [deaf, agent("x", strategy="one_for_all")]
    simulation = simulate(entries, ["w: ignore stop", "x: crash at 10s"], until=60.0)
    assert changes(simulation, "w") == [(0.0, "ready"), (10.0, "stopping"), (13.0, "ready")]


def test_a_start_that_takes_forever_is_tried_again_and_again() -> None:
    simulation = simulated("w: slow start forever", until=20.0, start_timeout=5.0, executor="process")
    assert started(simulation) == [0.0, 5.0, 10.25, 15.75]
    assert simulation.agents["w"].up_s == 0.0
    assert simulation.agents["w"].longest_down_s == 20.0


def test_a_process_that_ignores_its_stop_is_killed_after_its_shutdown_time() -> None:
    simulation = simulate(
        [agent("w", executor="process", shutdown=3.0), agent("x", executor="process", strategy="one_for_all")],
        ["w: ignore stop", "x: crash at 10s"],
        until=60.0,
    )
    assert changes(simulation, "w") == [(0.0, "ready"), (10.0, "stopping"), (13.0, "ready")]


def test_a_thread_that_ignores_its_stop_is_wedged_until_it_hears_again() -> None:
    simulation = simulate(
        [agent("w", shutdown=3.0), agent("x", strategy="one_for_all")],
        ["w: ignore stop from 5s to 30s", "x: crash at 10s"],
        until=60.0,
    )
    assert changes(simulation, "w") == [(0.0, "ready"), (10.0, "stopping"), (13.1, "wedged"), (30.0, "ready")]
    assert started(simulation, "w") == [0.0, 30.0]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("w: lost at 5s", "lost"),
        ("w: run out of memory at 5s", "oom"),
        ("w: crash with SIGSEGV at 5s", "signal"),
        ("w: crash with exit code 75 at 5s", "exit"),
        ("w: crash with ValueError at 5s", "exception"),
    ],
)
def test_each_cause_of_a_crash_is_reported_and_the_agent_comes_back(fault: str, cause: str) -> None:
    simulation = simulated(fault, until=60.0, executor="process")
    assert reports(simulation) == [(cause, "execute")]
    assert started(simulation) == [0.0, 5.0]
    assert simulation.crashes == {"w": (5.0,)}


def test_exit_code_78_parks() -> None:
    simulation = simulated("w: crash with exit code 78 at 5s", until=60.0)
    assert [(one.at, one.path, one.why) for one in simulation.parked] == [
        (5.0, "w", "a rule says so: exited with code 78")
    ]
    assert simulation.agents["w"].down_s == 55.0


def test_a_rule_knows_an_exception_by_the_name_of_its_base() -> None:
    backoff = Backoff(rules=(Rule(action="park", exception="ArithmeticError"),))
    simulation = simulated("w: crash with ZeroDivisionError at 5s", until=60.0, backoff=backoff)
    assert [one.at for one in simulation.parked] == [5.0]
    assert simulated("w: crash with KeyError at 5s", until=60.0, backoff=backoff).parked == ()


def test_what_it_needs_is_down_from_10_to_1200_seconds() -> None:
    simulation = simulated("w: down from 10s to 20m", until=1300.0)
    delays = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0] + [30.0] * 39
    expected = [0.0] + [10.0 + sum(delays[: count + 1]) for count in range(len(delays))]
    assert started(simulation) == expected
    assert changes(simulation) == [(0.0, "ready"), (10.0, "backoff"), (1211.75, "ready")]
    outcome = simulation.agents["w"]
    assert (outcome.crashes, outcome.restarts, outcome.starts) == (47, 47, 48)
    assert (outcome.down_s, outcome.longest_down_s, outcome.up_s) == (1201.75, 1201.75, 98.25)
    assert [one.now for one in simulation.struck] == [10.0]


def test_what_it_needs_may_be_down_from_the_start() -> None:
    simulation = simulated("w: down to 1s", until=60.0)
    assert started(simulation) == [0.0, 0.0, 0.25, 0.75, 1.75]
    assert reports(simulation) == [("start_failed", "setup")] * 4
    assert changes(simulation) == [(0.0, "backoff"), (1.75, "ready")]
    assert simulation.agents["w"].down_s == 1.75


def test_two_crashes_at_one_moment_strike_two_runs_if_the_restart_does_not_wait() -> None:
    simulation = simulated("w: crash at 10s", "w: crash at 10s", "w: crash at 10s", until=60.0)
    assert started(simulation) == [0.0, 10.0, 10.25]
    assert len(simulation.struck) == 2  # the third found nobody to strike


def test_an_end_by_itself_and_a_crash_at_one_moment_happen_in_their_order() -> None:
    faults = ["w: complete at 10s", "w: crash at 10s"]
    assert simulated(*faults, until=60.0).agents["w"].state == "completed"
    assert simulated(*faults[::-1], until=60.0).agents["w"].starts == 2


def test_times_counts_only_what_struck() -> None:
    # It waits a second after the fourth crash, which is over at the fifth, and two seconds after that.
    simulation = simulated("w: crash 6 times every 1s", until=60.0)
    assert simulation.crashes["w"] == tuple(float(one.now) for one in simulation.struck)
    assert simulation.crashes["w"] == (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)


def test_moments_do_not_drift() -> None:
    simulation = simulated(Crash("w", at=10.0, every=0.1, times=30), until=60.0, backoff=None, executor="process")
    everything = [one.now for one in simulation.struck]
    assert everything == [10.0 + number * 0.1 for number in range(len(everything))]


def test_after_ready_counts_from_each_time_that_it_becomes_ready_within_its_limits() -> None:
    simulation = simulated("w: crash 5s after ready from 6s to 12s", "w: crash at 2s", until=60.0, backoff=None)
    assert simulation.crashes["w"] == (2.0, 7.0)  # ready at 0 is too early, ready at 7 would be just too late


def test_one_that_had_crashed_meanwhile_is_not_struck_by_what_was_meant_for_its_earlier_run() -> None:
    simulation = simulated("w: crash 5s after ready to 8s", "w: crash at 4s", until=60.0)
    assert simulation.crashes["w"] == (4.0,)


def test_times_drawn_come_from_the_seed_and_have_the_mean_that_was_asked_for() -> None:
    entry = SupervisorEntry("", children=[agent(backoff=None)], max_restarts=1000)
    faults = ["w: crash about every 60s"]
    first, again, other = (simulate(entry, faults, until=60_000.0, seed=seed).struck for seed in (1, 1, 2))
    assert first == again != other
    assert 900 < len(first) < 1100


def test_a_looping_agent_is_recycled_at_its_age() -> None:
    entry = AgentEntry(Looping, "w", max_age=600.0)
    simulation = simulate(entry, [], until=1500.0)
    assert started(simulation) == [0.0, 600.0, 1200.0]
    assert simulation.crashes == {}
    assert [e.type for e in simulation.events if e.type is EventType.AGENT_CRASHED] == []


def test_one_that_hangs_is_not_recycled() -> None:
    simulation = simulate(AgentEntry(Looping, "w", max_age=600.0), ["w: hang at 500s"], until=1500.0)
    assert started(simulation) == [0.0]


def test_completing_is_a_normal_end() -> None:
    simulation = simulated("w: complete at 30s", until=60.0)
    assert changes(simulation) == [(0.0, "ready"), (30.0, "completed")]
    assert (simulation.agents["w"].up_s, simulation.agents["w"].down_s) == (30.0, 0.0)
