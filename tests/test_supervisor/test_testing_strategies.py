"""`trees` and `fault_schedules`: valid, varied, quick, and shrunk to what is simple."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, example, find, given, settings, strategies as st
from hypothesis.vendor.pretty import pretty
from virtual import agent, process, supervisor

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.order import check_tree
from orchestree.supervisor.simulation.blueprint import walk_entries
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.testing import (
    CheckFailed,
    Complete,
    Crash,
    Down,
    Hang,
    Schedule,
    fault_schedules,
    line_of,
    never_two_live,
    recovers_within,
    stays_within,
    supervised,
    trees,
)

# To find and shrink, without trying in the end which of the values did not matter, which takes five times as long.
PHASES = [Phase.generate, Phase.shrink]
QUICK = settings(
    phases=PHASES, max_examples=100, database=None, suppress_health_check=[HealthCheck.differing_executors]
)
TREE: list[ChildEntry] = [agent("first"), supervisor("pool", agent("second"), process("third"))]


def drawn(strategy: st.SearchStrategy[Schedule], many: int = 300) -> list[Schedule]:
    """Return schedules as a test under ``@given`` would see them."""
    found: list[Schedule] = []

    @settings(max_examples=many, database=None, derandomize=True, phases=[Phase.generate])
    @given(strategy)
    def collect(schedule: Schedule) -> None:
        found.append(schedule)

    collect()
    return found


def simplest(strategy: st.SearchStrategy[Schedule], tree: list[ChildEntry] | Orchestrator, seconds: float) -> Schedule:
    """Return the simplest schedule after which somebody does not recover."""

    def is_too_much(schedule: Schedule) -> bool:
        with supervised(tree) as t:
            t.run(schedule)
            try:
                t.check(recovers_within(seconds))
            except CheckFailed:
                return True
            return False

    return find(
        strategy, is_too_much, settings=settings(max_examples=2000, database=None, derandomize=True, phases=PHASES)
    )


@pytest.mark.slow
@given(st.data())
@settings(max_examples=500, database=None)
def test_five_hundred_random_trees_keep_all_rules_survive_random_faults_and_pass_all_health_checks(
    data: st.DataObject,
) -> None:
    tree = data.draw(trees())
    check_tree(SupervisorEntry("", children=tree))
    with supervised(tree) as t:
        t.run(data.draw(fault_schedules(tree)))
        t.check(never_two_live)


@pytest.mark.slow
def test_random_trees_are_varied_and_the_simplest_is_one_plain_agent() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, database=None, derandomize=True, phases=[Phase.generate])
    @given(trees())
    def collect(tree: tuple[ChildEntry, ...]) -> None:
        for _, entry in walk_entries(SupervisorEntry("", children=tree)):
            seen.update([f"restart {entry.restart}", f"depends {bool(entry.depends_on)}"])
            if isinstance(entry, AgentEntry):
                seen[entry.executor] += 1
            else:
                seen.update([str(entry.strategy), f"window {entry.max_restarts}", f"auto {entry.auto_shutdown}"])

    collect()
    wanted = ["restart transient", "restart permanent", "restart temporary", "depends True", "thread", "process"]
    wanted += ["async", "one_for_one", "one_for_all", "rest_for_one", "dependents", "window 0", "window 3"]
    wanted += ["auto any_significant", "auto all_significant"]
    assert not [name for name in wanted if seen[name] < 10]
    assert repr(find(trees(), lambda tree: True, settings=QUICK)) == "<tree\n  agent a\n>"
    two = find(trees(), lambda tree: any(isinstance(one, SupervisorEntry) for one in tree), settings=QUICK)
    assert repr(two) == "<tree\n  supervisor a restart=transient\n    agent a\n>"


@pytest.mark.slow
def test_schedules_keep_their_bounds() -> None:
    for schedule in drawn(fault_schedules(TREE, max_faults=5, within=30.0), 200):
        assert len(schedule.faults) <= 5
        assert schedule.duration <= 30.0
        for fault in schedule.faults:
            begin = fault.at or 0.0
            end = begin + fault.lasts if isinstance(fault, Hang) else begin
            end = end if isinstance(fault, (Crash, Hang)) else fault.until
            assert begin <= end <= schedule.duration


@pytest.mark.slow
def test_flapping_bursts_and_shared_failures_are_common() -> None:
    schedules = drawn(fault_schedules(TREE))
    flapping = bursts = shared = 0
    for schedule in schedules:
        crashes = sorted((fault.path, fault.at or 0.0) for fault in schedule.faults if isinstance(fault, Crash))
        flapping += any(
            four[0][0] == four[3][0] and four[3][1] - four[0][1] <= 10
            for four in zip(crashes, crashes[1:], crashes[2:], crashes[3:], strict=False)
        )
        moments = Counter((fault.at, fault.path) for fault in schedule.faults)
        bursts += any(len({path for at, path in moments if at == moment}) > 1 for moment, _ in moments)
        shared += any(fault.path in ("", "pool") for fault in schedule.faults)
    assert min(flapping, bursts, shared) > len(schedules) / 5


@pytest.mark.slow
def test_only_what_can_happen_to_an_executor_happens_to_it() -> None:
    causes: dict[str, set[str]] = {"thread": set(), "process": set(), "async": set()}
    for executor, tree in (("thread", [agent("a")]), ("process", [process("a")])):
        for schedule in drawn(fault_schedules(tree)):
            causes[executor] |= {fault.cause for fault in schedule.faults if isinstance(fault, Crash)}
    assert causes["thread"] == {"exception", "exit"}
    assert causes["process"] == {"exception", "exit", "signal", "oom", "lost"}


@pytest.mark.slow
def test_only_the_kinds_that_were_asked_for_are_drawn() -> None:
    kinds = {
        type(fault) for schedule in drawn(fault_schedules(TREE, kinds=[Complete, Down])) for fault in schedule.faults
    }
    assert kinds == {Complete, Down}
    default = {type(fault).__name__ for schedule in drawn(fault_schedules(TREE)) for fault in schedule.faults}
    assert default == {"Crash", "Hang", "Down", "SlowStart", "IgnoreStop"}


def test_an_orchestrator_can_be_the_tree_and_is_not_touched() -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON), TREE)
    assert drawn(fault_schedules(orchestrator), 20)
    assert not orchestrator.is_running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "most"), [((0, 60.0), 1), ((1, 60.0), 2), ((2, 60.0), 3), ((3, 60.0), 4)], ids=lambda value: str(value)
)
def test_a_failure_shrinks_to_as_few_early_and_plain_faults_as_are_needed(window: tuple[int, float], most: int) -> None:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=window[0], max_seconds=window[1])
    tree = Orchestrator(config, [agent("first"), agent("second")])
    found = simplest(fault_schedules(tree, kinds=[Crash]), tree, 60.0)
    assert 1 <= len(found.faults) <= most
    assert all(
        line_of(fault) in {f"{path}: crash at {at}s" for path, at in itertools.product(["first", "/"], range(10))}
        for fault in found.faults
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_faults": 0}, "max_faults=0: must be a whole number, 1 or more"),
        ({"within": 0.5, "kinds": [Down, Hang]}, "within=0.5: none of these faults is over so soon, it takes 1 s"),
        ({"kinds": Down}, "kinds=<class 'orchestree.supervisor.simulation.faults.Down'>: must be some of the classes"),
        ({"within": -1}, "within=-1: must be a finite number of seconds, 0 or more"),
        ({"kinds": []}, "kinds=[]: must be some of the classes Crash, Hang, Down, SlowStart, IgnoreStop, Complete"),
        ({"kinds": ["crash"]}, "kinds=['crash']: must be some of the classes Crash, Hang, Down, SlowStart,"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        fault_schedules(TREE, **arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


@pytest.mark.slow
def test_only_faults_that_have_room_are_drawn() -> None:
    schedules = drawn(fault_schedules(TREE, within=0.5), 100)
    assert {type(fault) for schedule in schedules for fault in schedule} == {Crash}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_children": 0}, "max_children=0: must be a whole number, 1 or more"),
        ({"max_children": 5}, "max_children=5: must be at most 4"),
        ({"max_depth": -1}, "max_depth=-1: must be a whole number, 0 or more"),
        ({"max_depth": 1.5}, "max_depth=1.5: must be a whole number, 0 or more"),
        ({"max_depth": None}, "max_depth=None: must be a whole number, 0 or more"),
        ({"max_depth": 5}, "max_depth=5: must be at most 4"),
    ],
)
def test_a_size_of_trees_that_makes_no_sense_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        trees(**arguments)
    assert str(caught.value) == message


def test_a_tree_without_agents_is_refused() -> None:
    with pytest.raises(SpecError, match="the tree has no agents that something could happen to"):
        fault_schedules([supervisor("empty")])


@pytest.mark.slow
@given(schedule=fault_schedules(TREE))
@example(schedule=Schedule(["first: crash at 0s", "pool: down from 1s to 5s"], duration=5.0))
@QUICK
def test_a_test_under_given_uses_the_context_manager(schedule: Schedule) -> None:
    with supervised(TREE) as t:
        t.run(schedule)
        t.check(never_two_live, stays_within(max_starts_per_minute=50))


def test_hypothesis_prints_a_schedule_as_one_can_paste_it() -> None:
    schedule = Schedule(["a: crash at 0s", "a: down from 0s to 10s"], 10)
    assert pretty(schedule) == repr(schedule)
    assert (
        pretty([schedule])
        == """[Schedule([
     "a: crash at 0s",
     "a: down from 0s to 10s",
 ], duration=10.0)]"""
    )
