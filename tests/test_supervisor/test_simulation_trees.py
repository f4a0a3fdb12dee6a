"""Whole trees under virtual time: groups, windows, queues, dependencies, hooks, ends."""

from __future__ import annotations

import pytest
from simulated import agent, changes, kinds, moments, started
from virtual import Worker

from orchestree import (
    Cause,
    CrashReport,
    EventType,
    ExitKind,
    ExitReason,
    Orchestrator,
    RunMode,
    Simulation,
    SupervisorEntry,
    simulate,
)
from orchestree.supervisor.events import AgentReady, AgentStarting

pytestmark = pytest.mark.policy


def starts_after(simulation: Simulation, moment: float) -> list[str]:
    """Return who was started from `moment` on, in order."""
    return [
        event.path for event in simulation.events if event.monotonic >= moment and isinstance(event.data, AgentStarting)
    ]


def an_orchestrator(kind: type[Orchestrator] = Orchestrator, **config: object) -> Orchestrator:
    """Return one with the agents a, b and c."""
    tree = kind(Orchestrator.Config(**({"run_mode": RunMode.DAEMON} | config)))
    for name in "abc":
        tree.register_agent(Worker, name)
    return tree


def test_the_path_of_a_supervisor_strikes_all_below_at_one_moment() -> None:
    tree = SupervisorEntry(
        "s", children=[agent("a"), SupervisorEntry("t", children=[agent("b")]), agent("c")], max_restarts=10
    )
    simulation = simulate([tree, agent("d")], ["s: crash at 5s"], until=10.0)
    assert simulation.crashes == {"s/a": (5.0,), "s/t/b": (5.0,), "s/c": (5.0,)}
    assert simulate([tree, agent("d")], ["/: crash at 5s"], until=10.0).crashes.keys() >= {"d", "s/t/b"}


def test_a_supervisors_path_spares_those_to_whom_it_cannot_happen() -> None:
    tree = [agent("a", executor="process"), agent("b")]
    simulation = simulate(tree, ["/: run out of memory at 5s"], until=10.0)
    assert simulation.crashes == {"a": (5.0,)}


def test_a_burst_that_a_window_cannot_hold_ends_the_supervisor_which_comes_back() -> None:
    pool = SupervisorEntry("pool", children=[agent(name) for name in "abcd"], max_restarts=2, max_seconds=5.0)
    simulation = simulate([pool], ["pool: crash at 5s"], until=60.0)
    (gave_up,) = simulation.gave_up
    assert (gave_up.at, gave_up.path, gave_up.cause, gave_up.offender) == (5.0, "pool", Cause.MAX_RESTARTS, "pool/c")
    assert (gave_up.max_restarts, gave_up.max_seconds) == (2, 5.0)
    assert not simulation.fell
    assert simulation.agents["pool/a"].starts == 3


def test_one_agent_that_exhausts_the_window_of_the_root_has_the_whole_tree_fall() -> None:
    root = SupervisorEntry("", children=[agent("a", backoff=None), agent("b")], max_restarts=2, max_seconds=60.0)
    simulation = simulate(root, ["a: crash every 1s"], until=100.0)
    assert simulation.fell
    assert [(one.at, one.path, one.offender) for one in simulation.gave_up] == [(3.0, "", "a")]
    assert (simulation.stopped_by, simulation.ended_at, simulation.exit_code) == ("ended", 3.0, 70)
    assert changes(simulation, "b") == [(0.0, "ready"), (3.0, "stopped")]
    assert [simulation.agents[name].down_s for name in "ab"] == [97.0, 97.0]
    assert repr(simulation) == "<Simulation to 1m40s, seed 0: 3 crashes, 2 restarts, 0 parked; the tree fell at 3s>"


def test_a_failure_climbs_from_supervisor_to_supervisor() -> None:
    inner = SupervisorEntry("s", children=[agent("a", backoff=None)], max_restarts=1, max_seconds=60.0)
    root = SupervisorEntry("", children=[inner, agent("c")], max_restarts=1, max_seconds=60.0)
    simulation = simulate(root, ["s/a: crash every 1s"], until=100.0)
    assert [(one.at, one.path) for one in simulation.gave_up] == [(2.0, "s"), (4.0, "s"), (4.0, "")]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])],
)
def test_the_strategy_says_who_restarts_with_whom(strategy: str, restarted: list[str]) -> None:
    root = SupervisorEntry("", children=[agent(name) for name in "abc"], strategy=strategy)  # type: ignore[arg-type]
    assert starts_after(simulate(root, ["b: crash at 5s"], until=10.0), 5.0) == restarted


def test_dependents_restart_with_what_they_depend_on() -> None:
    children = [agent("a"), agent("b", depends_on=["a"]), agent("c")]
    root = SupervisorEntry("", children=children, strategy="dependents")
    assert starts_after(simulate(root, ["a: crash at 5s"], until=10.0), 5.0) == ["a", "b"]


def test_one_that_depends_on_another_waits_for_it() -> None:
    simulation = simulate([agent("a"), agent("b", depends_on=["a"])], ["a: slow start 20s"], until=60.0)
    assert changes(simulation, "b") == [(0.0, "waiting"), (20.0, "ready")]
    assert simulation.agents["b"].down_s == 20.0


def test_one_whose_dependency_never_gets_ready_is_down_all_the_time() -> None:
    simulation = simulate([agent("a"), agent("b", depends_on=["a"])], ["a: slow start forever"], until=50.0)
    assert (simulation.agents["b"].starts, simulation.agents["b"].longest_down_s) == (0, 50.0)


def test_no_more_run_than_there_are_workers() -> None:
    simulation = simulate(an_orchestrator(max_workers=1), ["a: complete at 5s", "b: complete at 7s"], until=100.0)
    assert changes(simulation, "b") == [(0.0, "queued"), (5.0, "ready"), (7.0, "completed")]
    assert changes(simulation, "c") == [(0.0, "queued"), (7.0, "ready")]
    assert simulation.agents["c"].down_s == 7.0


def test_the_hook_choose_next_is_asked() -> None:
    asked: list[tuple[str, ...]] = []

    class LastFirst(Orchestrator):
        def choose_next(self, queued: tuple[str, ...]) -> str | None:
            asked.append(queued)
            return queued[-1]

    simulation = simulate(an_orchestrator(LastFirst, max_workers=1), ["/: complete 5s after ready"], until=100.0)
    assert starts_after(simulation, 0.0) == ["c", "b", "a"]
    assert ("a", "b", "c") in asked


def test_the_hook_classify_exit_is_asked() -> None:
    class Forgiving(Orchestrator):
        def classify_exit(self, report: CrashReport) -> ExitReason | None:
            return ExitReason(ExitKind.NORMAL, Cause.NORMAL) if "ValueError" in report.message else None

    faults = ["a: crash with ValueError at 5s", "b: crash with KeyError at 5s"]
    simulation = simulate(an_orchestrator(Forgiving), faults, until=100.0)
    assert [simulation.agents[name].state for name in "ab"] == ["completed", "ready"]
    assert simulation.crashes == {"b": (5.0,)}


def test_what_a_hook_raises_is_raised() -> None:
    class Careless(Orchestrator):
        def choose_next(self, queued: tuple[str, ...]) -> str | None:
            raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        simulate(an_orchestrator(Careless, max_workers=1), [], until=100.0)


def test_a_tree_that_stops_on_empty_ends_when_all_have_completed() -> None:
    tree = an_orchestrator(run_mode=RunMode.STOP_ON_EMPTY)
    simulation = simulate(tree, ["/: complete at 5s", "c: crash at 4s"], until=100.0)
    assert (simulation.stopped_by, simulation.ended_at, simulation.exit_code) == ("ended", 5.0, 0)
    assert not simulation.fell
    assert [simulation.agents[name].down_s for name in "abc"] == [0.0, 0.0, 0.0]
    assert repr(simulation) == "<Simulation to 1m40s, seed 0: 1 crash, 1 restart, 0 parked; the tree ended at 5s>"


def test_a_daemon_goes_on_when_all_have_completed() -> None:
    simulation = simulate(an_orchestrator(), ["/: complete at 5s"], until=100.0)
    assert (simulation.stopped_by, simulation.ended_at, simulation.exit_code) == ("until", 100.0, None)
    assert moments(simulation, "all_agents_terminated", "") == [5.0]


def test_a_tree_with_strict_start_ends_when_a_first_start_fails() -> None:
    simulation = simulate(an_orchestrator(strict_start=True), ["b: down to 1m"], until=100.0)
    assert (simulation.stopped_by, simulation.ended_at) == ("ended", 0.0)


def test_a_dynamic_supervisor_has_nobody_yet() -> None:
    simulation = simulate([SupervisorEntry("pool", dynamic=True), agent()], ["w: crash at 1s"], until=10.0)
    assert kinds(simulation, "pool") == ["supervisor_started", "supervisor_ready"]
    assert list(simulation.agents) == ["w"]


def test_an_empty_tree_can_be_simulated() -> None:
    simulation = simulate([], until=10.0)
    assert simulation.agents == {}
    assert [event.seq for event in simulation.events] == [1, 2, 3, 4]


def test_each_fault_that_struck_is_told_in_order() -> None:
    simulation = simulate([agent("a"), agent("b")], ["b: hang at 2s", "/: crash every 1s"], until=2.5)
    assert [(one.now, type(one.fault).__name__, one.path) for one in simulation.struck] == [
        (1.0, "Crash", "a"),
        (1.0, "Crash", "b"),
        (2.0, "Hang", "b"),
        (2.0, "Crash", "a"),
        (2.0, "Crash", "b"),
    ]


def test_the_log_reads_like_any_log() -> None:
    simulation = simulate(agent(), ["w: crash at 5s"], until=10.0)
    log = simulation.events
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert log[-1] == log[len(log) - 1] == log[-2:][1]
    assert isinstance(log[-1].data, AgentReady)
    assert log[-1].type is EventType.AGENT_READY
    for place in (len(log), -len(log) - 1):
        with pytest.raises(IndexError):
            log[place]


def test_the_real_agents_of_a_tree_may_have_fields_of_any_kind() -> None:
    tree = an_orchestrator()
    group = tree.add_supervisor("group")
    group.register_agent(Worker, "b", params={"of": object()}, watchdog=5.0, max_age=None)
    simulation = simulate(tree, ["group/b: hang at 5s"], until=60.0)
    assert started(simulation, "group/b") == [0.0]
