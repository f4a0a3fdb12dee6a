"""A simulation's promises: the same from the same seed, an end in any case, nothing started, mistakes said at once."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from simulated import agent, simulated, started
from tenacity import wait_random_exponential
from virtual import Worker

from orchestree import (
    AgentEntry,
    Backoff,
    ChildEntry,
    Event,
    NotFound,
    Orchestrator,
    RunMode,
    Simulation,
    SpecError,
    SupervisorEntry,
    simulate,
)
from orchestree.supervisor.inputs import RestartChild, StopTree
from orchestree.supervisor.predicting import seeded_simulator
from orchestree.supervisor.simulation import Complete, Crash, Hang
from orchestree.supervisor.testing import supervised

pytestmark = pytest.mark.policy


def a_tree() -> SupervisorEntry:
    """Return a tree with jitter, groups, dependencies and a window that fills."""
    pool = SupervisorEntry(
        "pool", children=[AgentEntry(Worker, f"p{number}", watchdog=5.0) for number in range(5)], max_restarts=3
    )
    draws_by_itself = Backoff(wait=wait_random_exponential(multiplier=0.1, max=20), stop=None)
    children: list[ChildEntry] = [
        pool,
        AgentEntry(Worker, "a", executor="process", backoff=draws_by_itself),
        AgentEntry(Worker, "b", depends_on=["a"]),
    ]
    return SupervisorEntry("", children=children, strategy="dependents", max_restarts=50)


FAULTS = ["/: crash about every 60s", "a: down from 100s to 5m", "pool: hang about every 10m for 30s"]


def log_of(seed: int) -> bytes:
    """Return the log of 20 minutes as it would be written to a file."""
    return "\n".join(simulate(a_tree(), FAULTS, until="20m", seed=seed).json_lines()).encode()


def test_the_same_seed_gives_the_same_log_byte_for_byte_and_another_seed_another() -> None:
    first = log_of(1)
    assert first == log_of(1)
    assert first != log_of(2)
    assert len(first.splitlines()) > 200


def test_the_same_seed_gives_an_equal_simulation() -> None:
    first, again, other = (simulate(a_tree(), FAULTS, until="20m", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.events == again.events
    assert first.events != other.events


@pytest.mark.slow
def test_another_interpreter_gives_the_same_log() -> None:
    here = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    program = (
        "import hashlib; from tests.test_supervisor.test_simulation_limits import log_of; "
        "print(hashlib.sha256(log_of(1)).hexdigest())"
    )
    expected = hashlib.sha256(log_of(1)).hexdigest()
    for hash_seed in ("1", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{here}:{here}/tests/support"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=50, check=True
        )
        assert done.stdout.strip() == expected


def test_an_orchestrator_can_be_simulated_as_often_as_one_likes_and_started_afterwards() -> None:
    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
    tree.register_agent(Worker, "a")
    first, again = (simulate(tree, ["a: crash about every 10s"], until=600.0) for _ in range(2))
    assert first.events == again.events
    tree.register_agent(Worker, "b")
    assert list(simulate(tree, until=1.0).agents) == ["a", "b"]


def test_nothing_is_started_and_no_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a simulation starts nothing and reads no clock")

    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
    tree.register_agent(Worker, "a", executor="process")
    with monkeypatch.context() as patch:
        for name in ("time", "monotonic", "perf_counter", "sleep", "time_ns", "monotonic_ns", "process_time"):
            patch.setattr(time, name, forbidden)
        patch.setattr(threading.Thread, "start", forbidden)
        patch.setattr(multiprocessing.Process, "start", forbidden)
        patch.setattr(subprocess, "Popen", forbidden)
        patch.setattr(os, "fork", forbidden)
        patch.setattr(asyncio, "new_event_loop", forbidden)
        simulation = simulate(tree, ["a: crash every 1m"], until="2h")
    assert simulation.agents["a"].crashes == 120


@pytest.mark.parametrize(
    ("faults", "backoff"),
    [(["w: crash 0s after ready"], None), (["w: down"], None), (["w: crash 0s after ready"], Backoff())],
)
def test_a_simulation_that_goes_on_and_on_is_stopped_and_says_so(faults: list[str], backoff: Backoff | None) -> None:
    root = SupervisorEntry("", children=[AgentEntry(Worker, "w", backoff=backoff)], max_restarts=10**9)
    simulation = simulate(root, faults, until="9999d", max_events=500)
    assert simulation.stopped_by == "max_events"
    assert 500 <= len(simulation.events) <= 510
    assert simulation.ended_at < simulation.until
    assert "stopped by max_events at" in repr(simulation)


@pytest.mark.parametrize("fault", [Crash("w", every=1e-300), Crash("w", at=5.0, every=1e-9), Hang("w", every=0.001)])
def test_faults_that_lead_to_no_event_come_to_an_end_too(fault: Crash | Hang) -> None:
    parked = "w: crash with exit code 78 at 0s"
    simulation = simulate(agent(), [parked, fault], until=86400.0, max_events=500)
    assert simulation.stopped_by == "max_events"


@pytest.mark.parametrize("fields", [{"watchdog": 0.01}, {"max_memory": 2**30, "executor": "process"}])
def test_what_is_looked_at_again_and_again_comes_to_an_end_without_faults_too(fields: dict[str, Any]) -> None:
    simulation = simulate(agent(**fields), [], until="365d", max_events=100)
    assert simulation.stopped_by == ("max_events" if "max_memory" in fields else "until")


def test_a_policy_that_draws_by_itself_leaves_the_random_numbers_of_others_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    log_of(1)
    with supervised(a_tree(), seed=1) as tree:
        tree.strike("a: down from 1s to 30s")
        tree.advance(60)
    assert random.random() == expected


def test_a_supervised_tree_draws_from_its_seed_too() -> None:
    def log(*steps: float, seed: int = 1) -> list[Event]:
        with supervised(a_tree(), seed=seed) as tree:
            tree.strike("a: down from 1s to 10m")
            for step in steps:
                tree.advance(step)
                random.random()
            return list(tree.events)

    assert log(300.0) == log(100.0, 150.0, 50.0) != log(300.0, seed=2)


def test_a_simulator_that_is_exhausted_stands_still() -> None:
    simulator = seeded_simulator(SupervisorEntry("", children=[agent()]), 0, max_events=4)
    simulator.start()
    simulator.tell(StopTree())
    length = len(simulator.log)
    assert simulator.is_exhausted
    assert simulator.has_ended
    simulator.advance_to(50.0)
    assert (simulator.now, len(simulator.log)) == (0.0, length)


def test_until_nothing_more_happens_by_itself() -> None:
    simulator = seeded_simulator(agent(), 0)
    simulator.plan(Crash("w", at=10.0, every=5.0, times=2))
    simulator.start()
    simulator.advance_to(float("inf"))
    assert simulator.now == 15.25
    assert simulator.executors.live["w"].ready


def test_a_simulator_can_be_told_what_an_operator_does() -> None:
    simulator = seeded_simulator(agent(), 0)
    simulator.start()
    simulator.advance_to(10.0)
    simulator.tell(RestartChild("w"))
    with pytest.raises(NotFound):
        simulator.tell(RestartChild("x"))
    assert simulator.executors.live["w"].id.incarnation == 2


def test_a_fault_can_strike_by_hand() -> None:
    simulator = seeded_simulator([agent(), SupervisorEntry("s", children=[agent("a")])], 0)
    simulator.start()
    assert simulator.strike(Crash("", at=0.0), "w")
    assert simulator.strike(Hang("w", at=0.0), "w")
    assert simulator.strike(Complete("w", at=0.0), "w")
    assert not simulator.strike(Crash("w", at=0.0), "w")
    with pytest.raises(NotFound, match=r"'wrk: hang at 0s': there is no agent at or below 'wrk'"):
        simulator.strike(Hang("w", at=0.0), "wrk")
    with pytest.raises(NotFound, match="'s': is a supervisor; a fault strikes one agent"):
        simulator.strike(Hang("w", at=0.0), "s")
    with pytest.raises(SpecError, match="cannot happen to 'w'"):
        simulator.strike(Crash("w", at=0.0, cause="oom"), "w")


def error_of(*arguments: object, **keywords: object) -> str:
    """Return what `simulate` has to say against this."""
    with pytest.raises((SpecError, NotFound)) as caught:
        simulate(*arguments, **({"until": 5.0} | keywords))  # type: ignore[arg-type]
    return str(caught.value)


def test_a_fault_that_names_nobody_is_an_error_with_the_nearest_path() -> None:
    said = error_of([agent("worker")], ["wrker: crash at 1s"])
    assert said == "'wrker: crash at 1s': there is no agent at or below 'wrker' (did you mean 'worker'?)"
    group = SupervisorEntry("pool", children=[agent("a")])
    assert "did you mean 'pool'" in error_of(group, ["pol: crash at 1s"])
    assert error_of(SupervisorEntry("pool"), ["pool: crash at 1s"]) == (
        "'pool: crash at 1s': there is no agent at or below 'pool'"
    )


@pytest.mark.parametrize("path", ["pool", "pool/job-1", "/"])
def test_a_fault_for_children_that_come_when_the_tree_runs_says_how_a_test_starts_some(path: str) -> None:
    assert error_of(SupervisorEntry("pool", dynamic=True), [f"{path}: crash at 1s"]) == (
        f"'{path}: crash at 1s': there is no agent at or below '{path}'; 'pool' is dynamic: its children come when the "
        "tree runs, and in a test with t.start_child('pool', ...); `simulate` has none"
    )
    # Somebody else's name is a mistake of another kind.
    beside = [SupervisorEntry("pool", dynamic=True), agent("worker")]
    assert error_of(beside, ["wrker: crash at 1s"]).endswith("below 'wrker' (did you mean 'worker'?)")


def test_a_fault_that_cannot_happen_to_that_executor_is_an_error_with_one_that_can() -> None:
    assert error_of(agent(), ["w: run out of memory at 1s"]) == (
        "'w: run out of memory at 1s': cannot happen to 'w': executor='thread', and cause='oom' happens to "
        "process agents only; what can is, for example, 'w: crash at 1s'"
    )
    assert "what can is, for example, 'w: crash every 1s'" in error_of(agent(), ["/: crash with SIGSEGV every 1s"])


def test_an_orchestrator_that_was_started_is_an_error() -> None:
    with Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON)) as tree:
        assert "has been started: make a new one" in error_of(tree)


@pytest.mark.parametrize("until", [0, -1.0, "0s", "soon", "forever", float("inf"), float("nan"), True, None])
def test_a_bad_until_is_an_error(until: object) -> None:
    assert error_of(agent(), until=until) == (
        f"until={until!r}: must be above 0 seconds: a number, or a duration such as '24h'"
    )


@pytest.mark.parametrize(
    ("arguments", "keywords", "said"),
    [
        ([agent()], {"seed": "x"}, "seed='x': must be a whole number"),
        ([agent()], {"seed": True}, "seed=True: must be a whole number"),
        ([agent()], {"max_events": 0}, "max_events=0: must be a whole number, 1 or more"),
        ([agent(), "w: crash at 1s"], {}, "faults='w: crash at 1s': must be a list of faults"),
        ([agent(), Crash("w", at=1.0)], {}, "must be a list of faults"),
        ([agent(), [7]], {}, "7: must be a fault, or a line such as 'worker: crash every 7s'"),
        ([agent(), ["w: crush at 1s"]], {}, "did you mean 'crash'"),
        ([Worker], {}, "must be an Orchestrator, an AgentEntry, a SupervisorEntry or a list of entries"),
        ([Orchestrator], {}, "must be an Orchestrator, an AgentEntry, a SupervisorEntry or a list of entries"),
        (["tree"], {}, "must be an Orchestrator, an AgentEntry, a SupervisorEntry or a list of entries"),
        ([5], {}, "must be an Orchestrator, an AgentEntry, a SupervisorEntry or a list of entries"),
        ([[Worker]], {}, "must be an AgentEntry or a SupervisorEntry"),
        ([[agent(), agent()]], {}, "'w'"),
    ],
)
def test_each_mistake_is_one_error_that_names_it(
    arguments: list[object], keywords: dict[str, object], said: str
) -> None:
    error = error_of(*arguments, **keywords)
    assert said in error
    assert "\n" not in error


def test_simulations_are_short_as_text() -> None:
    simulation: Simulation = simulated("w: crash every 1s", until=60.0)
    assert len(repr(simulation)) < 120
    assert repr(simulation.events) == f"<EventLog of {len(simulation.events)} events>"
    assert started(simulation)[0] == 0.0
