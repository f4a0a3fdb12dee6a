"""The invariants of the test kit, each just true and just broken, and what is none of their business."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, process, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import AgentState, RunMode
from orchestree.supervisor.testing import (
    CheckFailed,
    Invariant,
    Schedule,
    SupervisedTree,
    never_two_live,
    recovers_within,
    stays_within,
    supervised,
)

pytestmark = pytest.mark.policy

PARKS = Backoff(stop=stop_after_attempt(1))
ESCALATES = Backoff(stop=stop_after_attempt(1), on_give_up="escalate")


def after(seconds: float) -> Backoff:
    """Wait so long before each restart."""
    return Backoff(wait=wait_fixed(seconds), jitter=0.0)


def broken(t: SupervisedTree, *invariants: Invariant) -> list[str]:
    """Return what a check says, one text for each finding."""
    try:
        t.check(*invariants)
    except CheckFailed as failed:
        return [finding.text for finding in failed.findings]
    return []


def recovery(tree: list[ChildEntry], *lines: str, seconds: float = 60.0, duration: float = 0.0) -> list[str]:
    """Run a schedule, and return what `recovers_within` says about it."""
    with supervised(tree) as t:
        t.run(Schedule(lines, duration))
        return broken(t, recovers_within(seconds))


# recovers_within


def test_one_that_is_ready_again_at_the_very_last_moment_has_recovered() -> None:
    assert recovery([agent("worker", backoff=after(60.0))], "worker: crash at 0s") == []


def test_one_that_is_ready_again_a_moment_too_late_has_not() -> None:
    with supervised([agent("worker", backoff=after(60.5))]) as t:
        t.crash("worker")
        assert broken(t, recovers_within(60)) == [
            "'worker' went down at 0 s and is not ready 1 min later: it starts again in 0.5 s"
        ]
        assert t.now == 60.0
        t.advance(1)
        assert broken(t, recovers_within(60)) == ["'worker' went down at 0 s and was ready again only 1 min later"]
        assert broken(t, recovers_within(61)) == []


def test_the_clock_stands_still_when_nobody_is_down() -> None:
    with supervised([agent("worker")]) as t:
        t.crash("worker")
        t.check(recovers_within(60))
        assert t.now == 0.0


def test_each_crash_of_its_own_counts_anew() -> None:
    tree: list[ChildEntry] = [agent("worker", backoff=after(50.0))]
    assert recovery(tree, "worker: crash at 0s", "worker: crash in setup at 10s", duration=60.0) == []
    assert len(recovery(tree, "worker: crash at 0s", "worker: crash in setup at 10s", seconds=49.0)) == 1


def test_time_counts_from_the_end_of_what_keeps_it_down() -> None:
    tree: list[ChildEntry] = [agent("worker", backoff=after(40.0))]
    # It is down for 120 s, its starts at 40 s and 80 s fail, the one at 120 s comes 20 s after that is over.
    assert recovery(tree, "worker: down from 0s to 100s", seconds=20.0) == []
    assert recovery(tree, "worker: down from 0s to 100s", seconds=19.0) == [
        "'worker' went down at 0 s (and counts from 1 min 40 s) and is not ready 19 s later: it starts again in 1 s"
    ]


def test_nothing_is_said_of_one_that_is_still_tried_while_a_fault_holds_that_never_ends() -> None:
    tree: list[ChildEntry] = [agent("worker", backoff=after(5.0))]
    assert recovery(tree, "worker: down from 0s", duration=1000.0) == []


def test_one_that_is_parked_does_not_come_back_whether_its_fault_ends_or_not() -> None:
    tree: list[ChildEntry] = [agent("worker", backoff=PARKS)]
    for line in ("worker: down from 0s", "worker: down from 0s to 10h"):
        assert recovery(tree, line) == [
            "'worker' went down at 0 s and does not come back: it was parked at 0 s: failed"
        ]


def test_a_hang_that_lasts_holds_a_thread_but_not_a_process() -> None:
    thread: list[ChildEntry] = [agent("worker", watchdog=10, backoff=after(1.0))]
    # The watchdog ends it at 10 s, its shutdown takes 5 s, and it is wedged until 300 s.
    assert recovery(thread, "worker: hang at 0s for 5m", seconds=5.0, duration=20.0) == []
    killed: list[ChildEntry] = [process("worker", watchdog=10, backoff=after(6.0))]
    assert recovery(killed, "worker: hang at 0s for 5m", seconds=6.0, duration=20.0) == []
    assert len(recovery(killed, "worker: hang at 0s for 5m", seconds=5.0, duration=20.0)) == 1


def test_a_run_that_ignores_the_stop_holds_a_thread() -> None:
    tree: list[ChildEntry] = [agent("worker", watchdog=10, backoff=after(1.0))]
    lines = ("worker: hang at 0s for 20s", "worker: ignore stop from 0s to 5m")
    assert recovery(tree, *lines, seconds=5.0, duration=20.0) == []


def test_starts_that_take_for_ever_hold_and_slow_ones_do_not() -> None:
    tree: list[ChildEntry] = [agent("worker", start_timeout=None)]
    lines = ("worker: crash at 1s", "worker: slow start forever from 1s to 20s")
    assert len(recovery(tree, *lines, seconds=30.0, duration=5.0)) == 1  # that start never gets ready
    tree = [agent("worker", start_timeout=8.0, backoff=after(0.0), executor="process")]
    assert recovery(tree, *lines, seconds=10.0, duration=5.0) == []
    slow = ("worker: crash at 1s", "worker: slow start 7s from 1s")
    assert recovery(tree, *slow, seconds=7.0, duration=1.0) == []
    assert len(recovery(tree, *slow, seconds=6.0, duration=1.0)) == 1


def test_a_hang_that_no_watchdog_notices_is_not_down() -> None:
    assert recovery([agent("worker")], "worker: hang at 0s") == []


@pytest.mark.parametrize(
    ("tree", "line", "why"),
    [
        ([agent("a", backoff=PARKS)], "a: crash at 0s", "it was parked at 0 s: failed"),
        (
            [agent("a"), supervisor("pool", agent("b"), max_restarts=0, restart="temporary")],
            "pool/b: crash at 0s",
            "supervisor 'pool' gave up at 0 s: too many restarts, the last failure was that of 'pool/b'",
        ),
        (
            [agent("a"), supervisor("pool", agent("b", backoff=ESCALATES), restart="transient", backoff=PARKS)],
            "pool/b: crash at 0s",
            "supervisor 'pool' gave up at 0 s: a policy said so, the last failure was that of 'pool/b'",
        ),
    ],
)
def test_who_is_given_up_on_has_not_recovered(tree: list[ChildEntry], line: str, why: str) -> None:
    (text,) = recovery(tree, line)
    assert text.partition(" does not come back: ")[2] == why


def test_all_whom_the_fall_of_the_tree_took_down_have_not_recovered() -> None:
    orchestrator = Orchestrator(
        Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=1), [agent("a"), supervisor("pool", agent("b"))]
    )
    with supervised(orchestrator) as t:
        t.run(Schedule(["a: crash at 5s", "a: crash at 5s"], 5))
        assert t.exit_code == 70
        why = "the root supervisor gave up at 5 s: too many restarts, the last failure was that of 'a'"
        assert broken(t, recovers_within(60)) == [
            f"'a' went down at 5 s and does not come back: {why}",
            f"'pool/b' went down at 5 s and does not come back: {why}",
        ]


def test_a_supervisor_that_falls_and_comes_back_in_time_has_recovered() -> None:
    tree: list[ChildEntry] = [supervisor("pool", agent("a"), agent("b"), max_restarts=0, backoff=after(10.0))]
    assert recovery(tree, "pool/a: crash at 0s", seconds=10.0) == []
    assert [text.partition(" and ")[0] for text in recovery(tree, "pool/a: crash at 0s", seconds=9.0)] == [
        "'pool/a' went down at 0 s",
        "'pool/b' went down at 0 s",
    ]


def test_one_that_waits_for_another_is_judged_by_the_faults_of_both() -> None:
    tree: list[ChildEntry] = [
        supervisor("all", agent("db", backoff=after(4.0)), agent("web", depends_on=["db"]), strategy="dependents")
    ]
    lines = ("all/db: down from 0s to 10m",)
    assert recovery(tree, *lines, seconds=4.0) == []
    assert len(recovery(tree, *lines, seconds=1.0)) == 0  # 600 s is a multiple of 4 s: both start at that moment


def test_one_that_waits_for_a_parked_one_has_not_recovered() -> None:
    tree: list[ChildEntry] = [
        agent("db", backoff=Backoff(stop=stop_after_attempt(2), jitter=0.0, wait=wait_fixed(5.0))),
        agent("web", depends_on=["db"]),
    ]
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, strategy="dependents"), tree)
    with supervised(orchestrator) as t:
        t.run(Schedule(["db: crash at 0s", "db: crash in setup at 1s"], 10))
        first, second = broken(t, recovers_within(60))
    assert "'db' went down at 0 s (and counts from 5 s) and does not come back: it was parked at 5 s" in first
    assert "'web' went down at 0 s (and counts from 5 s) and is not ready 1 min later: it waits for db" in second


def test_one_that_queues_for_a_slot_is_judged_when_all_faults_are_over() -> None:
    def queued(*lines: str) -> list[str]:
        config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_workers=2)
        tree = [agent("db", backoff=after(1.0)), agent("a", depends_on=["db"]), agent("c", backoff=PARKS)]
        with supervised(Orchestrator(config, tree)) as t:
            t.stop_agent("c")
            t.start_agent("c")  # behind the other two
            t.run(Schedule(["db: crash at 1s", "a: crash at 1s", *lines], 10))  # c takes the slot of a meanwhile
            assert t.status("a").state is AgentState.QUEUED
            t.advance(50)
            return broken(t, recovers_within(50))

    assert queued() == ["'a' went down at 1 s and is not ready 50 s later: it waits for a worker slot"]
    assert not [text for text in queued("c: crash at 55s") if text.startswith("'a'")]


# Whose faults count: only of those who touched it


def test_the_crash_of_another_is_no_excuse() -> None:
    with supervised([agent("a", backoff=after(36000.0)), agent("b")]) as t:
        t.crash("a")
        t.advance(35990)
        t.crash("b")
        t.advance(100)
        assert broken(t, recovers_within(60)) == ["'a' went down at 0 s and was ready again only 10 h later"]


def test_the_crash_of_another_is_no_excuse_for_one_whose_supervisor_fell() -> None:
    with supervised([supervisor("pool", agent("a"), max_restarts=0, backoff=after(3600.0)), agent("b")]) as t:
        t.crash("pool/a")
        t.crash("b")
        t.advance(3590)
        t.crash("b")
        t.advance(20)
        assert broken(t, recovers_within(60)) == ["'pool/a' went down at 0 s and was ready again only 1 h later"]


@pytest.mark.parametrize("line", ["b: hang at 0s", "b: down from 0s", "b: ignore stop", "b: slow start forever"])
def test_an_endless_fault_of_another_is_no_excuse(line: str) -> None:
    with supervised([agent("a", backoff=after(36000.0)), agent("b")]) as t:
        t.strike(line)
        t.crash("a")
        t.advance(30000)
        assert [text[:22] for text in broken(t, recovers_within(60))] == ["'a' went down at 0 s a"]


def test_who_is_restarted_with_another_is_judged_by_the_faults_of_both() -> None:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, strategy="one_for_all", backoff=after(10.0))
    for crashed in ("a", "b"):
        with supervised(Orchestrator(config, [agent("a"), agent("b")])) as t:
            t.advance(5)
            t.strike("b: down from 1s to 97s")
            t.crash(crashed)
            t.advance(200)
            t.check(recovers_within(3))
            assert broken(t, recovers_within(2))


def test_whose_supervisor_falls_with_another_is_judged_by_the_faults_of_both() -> None:
    pool = supervisor("pool", agent("a"), agent("b"), max_restarts=0, backoff=after(10.0))
    with supervised([pool, agent("other")]) as t:
        t.strike("pool/b: down from 5s to 100s")
        t.advance(300)
        t.check(recovers_within(10))


def test_one_below_a_supervisor_that_waits_is_judged_by_whom_it_waits_for() -> None:
    tree: list[ChildEntry] = [
        agent("db", backoff=after(10.0)),
        supervisor("pool", agent("a"), depends_on=["db"], max_restarts=0, backoff=None),
    ]
    with supervised(tree) as t:
        t.run(["db: down from 5s to 200s", "pool/a: crash at 10s"])
        assert t.status("pool").state is AgentState.WAITING
        t.check(recovers_within(10))


def test_a_wedged_agent_is_judged_when_its_hang_is_over_and_at_once_if_that_never_is() -> None:
    tree: list[ChildEntry] = [agent("a", watchdog=5.0, backoff=after(1.0)), agent("c", depends_on=["a"])]
    with supervised(tree) as t:
        t.hang("a", lasts=1000)
        t.advance(20)
        assert t.status("a").state is AgentState.WEDGED
        t.crash("c")
        t.check(recovers_within(2))
    with supervised(tree) as t:
        t.hang("a")
        t.advance(20)
        t.crash("c")
        first, second = broken(t, recovers_within(60))
    assert first == (
        "'a' went down at 5 s (and counts from 10 s) and does not come back: its run does not end and cannot be killed"
    )
    assert second == "'c' went down at 20 s and is not ready 1 min later: it waits for a"


# How far the check looks


def test_one_that_is_parked_on_the_way_of_the_check_is_found() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=Backoff(stop=stop_after_attempt(3)))]
    (text,) = recovery(tree, "a: crash in setup at 1s", "a: crash in setup at 1s", "a: crash at 1s", duration=1.0)
    assert "does not come back: it was parked" in text


def test_a_crash_on_the_way_of_the_check_is_followed() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=after(50.0))]
    lines = ("a: crash in setup at 0s", "a: crash in setup at 0s", "a: crash at 0s")
    with supervised(tree) as t:
        t.advance(0)  # it is ready before anything goes wrong
        t.run(Schedule(lines, 0))
        t.check(recovers_within(50))
        assert (t.now, t.status("a").state) == (150.0, AgentState.READY)
    assert recovery(tree, *lines, seconds=49.0)


def test_a_hang_at_the_end_is_looked_at_if_a_watchdog_does() -> None:
    tree: list[ChildEntry] = [process("a", watchdog=5, backoff=PARKS)]
    (text,) = recovery(tree, "a: hang at 0s")
    assert "does not come back: it was parked at 5 s" in text
    assert recovery(tree, "a: hang at 0s for 100s", duration=1.0)
    assert recovery([process("a", watchdog=5)], "a: hang at 0s") == []


def test_a_check_of_a_tree_in_which_somebody_is_always_down_ends() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=after(30.0))]
    assert recovery(tree, "a: crash in setup every 7s", "a: crash at 5s", duration=10.0) == []


REPLACED = [
    agent("a", watchdog=5, shutdown=1.0, replace_wedged=True),
    process("b", backoff=after(30.0)),
]


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_of_the_invariants_does_not_matter(turned: bool) -> None:
    order = -1 if turned else 1
    with supervised(REPLACED) as t:
        t.hang("a", lasts=40)
        t.crash("b")
        found = broken(t, *[never_two_live, recovers_within(60)][::order])
        assert found == ["'a' was started at 6.1 s while an earlier run of it was still alive"]
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=100)
    with supervised(Orchestrator(config, [agent("a", backoff=after(1.0))])) as t:
        t.strike("a: down from 0s to 30s")
        found = broken(t, *[stays_within(max_starts_per_minute=10), recovers_within(60)][::order])
        assert found == ["'a' was started 31 times in the minute from 0 s on"]


# What is meant


def test_an_outage_is_not_excused_by_a_stop_that_comes_later() -> None:
    for then in ("stop", "start"):
        with supervised([agent("a", backoff=after(36000.0))]) as t:
            t.crash("a")
            t.advance(30000)
            t.stop_agent("a")
            if then == "start":
                t.start_agent("a")
            assert broken(t, recovers_within(60)) == [
                "'a' went down at 0 s and was not ready when it was stopped 8 h 20 min later"
            ]


def test_who_waits_for_one_that_an_operator_stopped_is_meant_to_be_down() -> None:
    with supervised([agent("db"), agent("api", depends_on=["db"])]) as t:
        t.stop_agent("db")
        t.crash("api")
        t.advance(1)
        t.check(recovers_within(60))


@pytest.mark.parametrize("path", ["a", "pool/b", "pool", ""])
def test_an_operators_stop_is_meant(path: str) -> None:
    with supervised([agent("a"), supervisor("pool", agent("b"))]) as t:
        t.advance(5)
        if path:
            t.stop_agent(path)
        else:
            t.stop()
        t.check(recovers_within(1))


def test_how_long_an_operator_keeps_one_down_is_meant_too() -> None:
    with supervised([agent("a"), supervisor("pool", agent("b"))]) as t:
        t.advance(5)
        t.stop_agent("pool")
        t.advance(100)
        t.start_agent("pool")
        assert t.status("pool/b").state is AgentState.READY
        t.check(recovers_within(1))


def test_one_that_is_given_up_on_is_found_although_others_go_on_crashing() -> None:
    with supervised([agent("a", backoff=PARKS), agent("b")]) as t:
        t.run(Schedule(["a: crash at 1s", "b: crash every 20s"], 10))
        assert [text[:23] for text in broken(t, recovers_within(60))] == ["'a' went down at 1 s an"]


def test_one_that_had_completed_does_not_go_down_when_its_group_starts_it_again() -> None:
    tree: list[ChildEntry] = [agent("job"), agent("worker", backoff=after(20.0))]
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, strategy="one_for_all"), tree)
    with supervised(orchestrator) as t:
        t.advance(1)
        t.complete("job")
        t.advance(1)
        t.strike("job: slow start 30s")
        t.crash("worker")
        t.advance(60)
        assert t.starts("job") == 2
        assert [text[:8] for text in broken(t, recovers_within(10))] == ["'worker'"]


def test_an_operator_who_starts_one_again_wants_it_up() -> None:
    with supervised([agent("a", backoff=after(20.0))]) as t:
        t.stop_agent("a")
        t.start_agent("a")
        t.advance(1)
        t.crash("a")
        assert len(broken(t, recovers_within(10))) == 1


def test_a_restart_by_an_operator_takes_no_longer_than_any_other() -> None:
    with supervised([agent("a")]) as t:
        t.strike("a: slow start 20s")
        t.restart_agent("a")
        assert len(broken(t, recovers_within(10))) == 1


def test_completed_and_temporary_agents_and_those_that_auto_shutdown_ends_are_meant() -> None:
    pool = supervisor(
        "pool",
        agent("main", significant=True),
        agent("helper"),
        auto_shutdown="any_significant",
        restart="transient",
    )
    with supervised([agent("job"), agent("once", restart="temporary"), pool]) as t:
        t.complete("job")
        t.crash("once")
        t.complete("pool/main")
        assert t.status("pool").state is AgentState.COMPLETED
        t.check(recovers_within(1))


def test_a_failed_first_start_is_an_outage_too() -> None:
    with supervised([agent("a", backoff=after(20.0))]) as t:
        t.strike("a: down from 0s to 1s")  # it has been up for no time at all
        assert len(broken(t, recovers_within(10))) == 1


@pytest.mark.parametrize("wrong", [-1, float("nan"), "60"])
def test_a_time_that_makes_no_sense_is_refused(wrong: float) -> None:
    with pytest.raises(SpecError, match=r"seconds|recovers_within"):
        recovers_within(wrong)


def test_a_check_names_an_invariant_that_lacks_its_value() -> None:
    with supervised([agent("a")]) as t, pytest.raises(SpecError, match=r"such as recovers_within\(60\)"):
        t.check(recovers_within)  # type: ignore[arg-type]


# stays_within


def test_starts_are_counted_in_any_minute_the_first_start_too() -> None:
    with supervised([agent("worker", backoff=None)]) as t:
        t.run(Schedule(["worker: crash every 6s to 54500ms"], 60))
        assert t.starts("worker") == 10
        t.check(stays_within(max_starts_per_minute=10))
        assert broken(t, stays_within(max_starts_per_minute=9)) == [
            "'worker' was started 10 times in the minute from 0 s on"
        ]


def test_two_starts_a_minute_apart_are_not_in_the_same_minute() -> None:
    with supervised([agent("worker", backoff=None)]) as t:
        t.run(Schedule(["worker: crash every 1m"], 600))
        t.check(stays_within(max_starts_per_minute=1))
        t.run(Schedule(["worker: crash at 59s"], 59))
        assert broken(t, stays_within(max_starts_per_minute=1)) == [
            "'worker' was started 2 times in the minute from 10 min on"
        ]


def test_each_agent_has_a_count_of_its_own() -> None:
    with supervised([agent("a"), agent("b")]) as t:
        t.crash("a")
        t.crash("b")
        t.check(stays_within(max_starts_per_minute=2))


def test_a_number_of_starts_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SpecError, match="max_starts_per_minute=0: must be a whole number, 1 or more"):
        stays_within(max_starts_per_minute=0)


# never_two_live


def test_two_live_runs_are_found_where_a_wedged_one_is_replaced() -> None:
    def wedged(*, replace_wedged: bool) -> list[str]:
        with supervised([agent("worker", watchdog=10, replace_wedged=replace_wedged)]) as t:
            t.hang("worker")
            t.advance(60)
            return broken(t, never_two_live)

    assert wedged(replace_wedged=False) == []
    assert wedged(replace_wedged=True) == ["'worker' was started at 15 s while an earlier run of it was still alive"]


# Invariants of one's own


def test_an_invariant_of_ones_own_yields_returns_a_text_or_says_nothing() -> None:
    def quiet(t: SupervisedTree) -> None:
        assert t.starts("a") == 2

    def all_start_once(t: SupervisedTree) -> Iterator[str]:
        for path, outcome in t.simulation.agents.items():
            if outcome.starts > 1:
                yield f"{path} was started {outcome.starts} times"

    def nobody_crashes(t: SupervisedTree) -> str:
        return "somebody crashed" if t.simulation.crashes else ""

    def two(t: SupervisedTree) -> list[str]:
        return ["one", "two"]

    with supervised([agent("a"), agent("b")]) as t:
        t.check(nobody_crashes, all_start_once)
        t.crash("a")
        t.check(quiet)
        assert broken(t, all_start_once, nobody_crashes, two) == [
            "a was started 2 times",
            "somebody crashed",
            "one",
            "two",
        ]
