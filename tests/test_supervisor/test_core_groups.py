"""Who restarts together, and when: strategies, delays of groups, merging, members that leave. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, process

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import AgentRestarting, AgentTerminated

pytestmark = pytest.mark.policy

STEPS = ("AGENT_STARTING", "AGENT_STOPPING", "AGENT_CRASHED", "AGENT_RESTARTING")
LATE = Backoff(wait=wait_fixed(10.0))


def stamps(tree: CheckedTree) -> int:
    return tree.core.world.root.window.count(tree.now)


def due(tree: CheckedTree, path: str) -> float:
    group = tree.node(path).group
    assert group is not None
    return group.due_at


def abc(strategy: str) -> CheckedTree:
    """Return three agents of which every failure is followed by a delay of 10 s."""
    return CheckedTree(*(agent(name, backoff=LATE) for name in "abc"), strategy=strategy, max_restarts=50)


def test_one_for_all_stops_all_others_in_reverse_order_then_starts_all_in_order() -> None:
    tree = CheckedTree(*(agent(name) for name in "abcd"), strategy="one_for_all")
    mark = tree.mark()
    tree.crash("b")
    assert tree.lines(*STEPS, since=mark) == [
        "CRASHED b", "RESTARTING b",
        "STOPPING d", "RESTARTING d", "STOPPING c", "RESTARTING c", "STOPPING a", "RESTARTING a",
        "STARTING a", "STARTING b", "STARTING c", "STARTING d",
    ]  # fmt: skip


def test_rest_for_one_takes_along_those_behind_and_leaves_those_before_alone() -> None:
    tree = CheckedTree(*(agent(name) for name in ("c7", "c3", "c10", "c2", "c5")), strategy="rest_for_one")
    mark = tree.mark()
    tree.crash("c10")
    assert tree.lines("AGENT_STARTING", "AGENT_STOPPING", since=mark) == [
        "STOPPING c5", "STOPPING c2", "STARTING c10", "STARTING c2", "STARTING c5",
    ]  # fmt: skip
    assert tree.incarnations() == {"c7": 1, "c3": 1, "c10": 2, "c2": 2, "c5": 2}


def test_dependents_takes_along_those_that_depend_on_it_directly_or_through_others_and_nobody_else() -> None:
    tree = CheckedTree(
        agent("db"),
        agent("cache"),
        agent("api", depends_on=["db"]),
        agent("web", depends_on=["api", "cache"]),
        agent("log"),
        strategy="dependents",
    )
    mark = tree.mark()
    tree.crash("db")
    assert tree.lines("AGENT_STARTING", "AGENT_STOPPING", since=mark) == [
        "STOPPING web", "STOPPING api", "STARTING db", "STARTING api", "STARTING web",
    ]  # fmt: skip
    tree.crash("web")
    assert tree.incarnations() == {"db": 2, "cache": 1, "api": 2, "web": 3, "log": 1}


def test_an_entrys_strategy_overrides_that_of_its_supervisor_for_its_own_crashes_only() -> None:
    tree = CheckedTree(agent("a"), agent("b", strategy="one_for_all"), agent("c"), strategy="one_for_one")
    tree.crash("a")
    assert tree.incarnations() == {"a": 2, "b": 1, "c": 1}
    tree.crash("b")
    assert tree.incarnations() == {"a": 3, "b": 2, "c": 2}


def test_members_are_stopped_one_by_one_each_awaited_before_the_next_is_asked() -> None:
    tree = CheckedTree(agent("a"), agent("b"), agent("c"), strategy="one_for_all")
    tree.manual |= {"b", "c"}
    mark = tree.mark()
    tree.crash("a")
    assert tree.lines("AGENT_STOPPING", since=mark) == ["STOPPING c"]
    tree.end("c", NORMAL)
    assert tree.lines("AGENT_STOPPING", since=mark) == ["STOPPING c", "STOPPING b"]
    assert tree.states() == {"a": "backoff", "b": "stopping", "c": "backoff"}
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "ready", "b": "starting", "c": "starting"}


def test_the_siblings_stop_at_once_and_the_whole_group_starts_after_the_delay_of_the_one_that_failed() -> None:
    tree = abc("one_for_all")
    tree.crash("b")
    assert tree.states() == dict.fromkeys("abc", "backoff")
    assert [due(tree, name) for name in "abc"] == [10.0] * 3
    told = [data for _, data in tree.events("AGENT_RESTARTING")]
    assert [(data.cause, data.delay, data.attempt) for data in told if isinstance(data, AgentRestarting)] == [
        ("failure", 10.0, 1), ("group", 10.0, 0), ("group", 10.0, 0),
    ]  # fmt: skip
    tree.advance(10.0)
    assert tree.states() == dict.fromkeys("abc", "ready")


def test_the_delay_of_a_bystander_is_what_is_left_when_it_has_ended() -> None:
    tree = abc("one_for_all")
    tree.manual.add("c")
    tree.crash("a")
    tree.advance(4.0)
    tree.end("c", NORMAL)
    delays = {path: data.delay for _, kind, path, data in tree.log if isinstance(data, AgentRestarting) and kind}
    assert delays == {"a": 10.0, "c": 6.0, "b": 6.0}


def test_a_group_whose_members_need_longer_to_stop_than_the_delay_starts_when_the_last_has_ended() -> None:
    tree = abc("one_for_all")
    tree.stubborn.add("c")
    tree.manual.add("c")
    tree.crash("a")
    tree.advance(4.9)
    tree.end("c", NORMAL)
    tree.advance(5.1)
    assert tree.states()["a"] == "ready"
    tree = CheckedTree(agent("a"), agent("b", shutdown="infinity"), strategy="one_for_all")
    tree.manual.add("b")
    tree.crash("a")
    tree.advance(50.0)
    assert tree.states() == {"a": "backoff", "b": "stopping"}
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "ready", "b": "starting"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_one_failure_is_one_stamp_however_many_members_restart(strategy: str) -> None:
    tree = CheckedTree(*(agent(name) for name in "abcde"), strategy=strategy, max_restarts=1)
    tree.crash("a")
    assert stamps(tree) == 1
    assert tree.exit_code is None


def test_a_sibling_that_fails_while_it_is_stopped_for_the_group_sets_no_stamp_and_shows_a_shutdown_error() -> None:
    tree = CheckedTree(agent("a"), agent("b"), agent("c"), strategy="one_for_all", max_restarts=1)
    tree.manual |= {"b", "c"}
    tree.crash("a")
    tree.crash("b", "first")  # not asked yet, its turn comes after c
    tree.crash("c", "second")
    assert tree.exit_code is None
    assert stamps(tree) == 1
    told = {path: data for _, _, path, data in tree.log if isinstance(data, AgentRestarting)}
    assert {name: data.shutdown_error for name, data in told.items()} == {"a": None, "b": "first", "c": "second"}
    assert tree.lines("AGENT_CRASHED") == ["CRASHED a"]


def test_a_sibling_that_runs_into_its_start_timeout_while_it_is_to_be_stopped_sets_no_stamp() -> None:
    tree = CheckedTree(
        agent("a", backoff=LATE), process("b", start_timeout=1.0), agent("c"), strategy="one_for_all", started=False
    )
    tree.manual |= {"b", "c"}
    tree.start()
    tree.crash("a")
    tree.advance(1.0)
    assert tree.state("b") == "backoff"
    assert stamps(tree) == 1


def test_bystanders_keep_their_streaks() -> None:
    tree = CheckedTree(*(agent(name) for name in "ab"), strategy="one_for_all")
    tree.crash("a")
    tree.crash("b")
    tree.advance(1.0)
    assert [tree.node(name).streak.failures for name in "ab"] == [1, 1]


def test_a_bystander_that_had_been_ready_long_enough_starts_a_new_streak() -> None:
    tree = CheckedTree(agent("a", restart="permanent"), agent("b"), strategy="one_for_all")
    tree.crash("b")
    tree.advance(40.0)
    tree.failing.add("b")
    tree.complete("a")
    told = [data for _, data in tree.events("AGENT_RESTARTING", "b") if isinstance(data, AgentRestarting)]
    assert [data.attempt for data in told if data.cause == "failure"][:2] == [1, 1]


def test_overlapping_groups_become_one_that_starts_at_the_later_time() -> None:
    tree = CheckedTree(
        agent("a", backoff=Backoff(wait=wait_fixed(3.0))),
        agent("b"),
        agent("c", backoff=Backoff(wait=wait_fixed(10.0))),
        agent("d"),
        strategy="rest_for_one",
        max_restarts=5,
    )
    tree.crash("c")
    assert tree.states() == {"a": "ready", "b": "ready", "c": "backoff", "d": "backoff"}
    tree.advance(2.0)
    tree.crash("a")
    assert stamps(tree) == 2
    assert [due(tree, name) for name in "abcd"] == [10.0] * 4
    tree.advance(7.9)
    assert set(tree.states().values()) == {"backoff"}
    tree.advance(0.1)
    assert set(tree.states().values()) == {"ready"}
    assert tree.incarnations() == dict.fromkeys("abcd", 2)


def test_a_later_failure_with_a_longer_delay_puts_the_union_off() -> None:
    tree = CheckedTree(
        agent("a", backoff=Backoff(wait=wait_fixed(20.0))),
        agent("b"),
        agent("c", backoff=LATE),
        strategy="rest_for_one",
    )
    tree.crash("c")
    tree.advance(5.0)
    tree.crash("a")
    assert [due(tree, name) for name in "abc"] == [25.0] * 3


def test_groups_that_do_not_overlap_go_their_own_ways() -> None:
    tree = CheckedTree(
        agent("a", backoff=LATE), agent("a2", depends_on=["a"]),
        agent("b", backoff=Backoff(wait=wait_fixed(3.0))), agent("b2", depends_on=["b"]),
        strategy="dependents",
    )  # fmt: skip
    tree.crash("a")
    tree.crash("b")
    assert [due(tree, name) for name in ("a", "a2", "b", "b2")] == [10.0, 10.0, 3.0, 3.0]


def test_a_start_failure_inside_the_group_start_is_a_new_failure_and_its_group_stops_and_waits_again() -> None:
    tree = CheckedTree(*(agent(name) for name in "abc"), strategy="one_for_all")
    tree.manual.add("b")
    tree.crash("a")
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "ready", "b": "starting", "c": "ready"}
    mark = tree.mark()
    tree.crash("b")
    assert stamps(tree) == 2
    assert tree.lines("AGENT_STOPPING", since=mark) == ["STOPPING c", "STOPPING a"]
    assert tree.incarnations() == {"a": 3, "b": 3, "c": 3}


def test_under_rest_for_one_earlier_members_stay_up_while_a_member_fails_to_start() -> None:
    tree = CheckedTree(*(agent(name) for name in "abfz"), strategy="rest_for_one")
    tree.failing.add("f")
    tree.crash("b")
    tree.advance(0.25 - 0.001)
    assert tree.states() == {"a": "ready", "b": "ready", "f": "backoff", "z": "waiting"}
    tree.failing.clear()
    tree.advance(1.0)
    assert set(tree.states().values()) == {"ready"}
    assert tree.incarnations() == {"a": 1, "b": 2, "f": 4, "z": 2}


def test_completed_and_ignored_transients_come_back_with_the_group() -> None:
    tree = CheckedTree(*(agent(name) for name in "abc"), strategy="one_for_all")
    tree.complete("b")
    tree.ignore("c")
    tree.crash("a")
    assert tree.states() == dict.fromkeys("abc", "ready")


def test_under_rest_for_one_a_completed_agent_before_the_crash_stays_completed() -> None:
    tree = CheckedTree(*(agent(name) for name in "abc"), strategy="rest_for_one")
    tree.complete("a")
    tree.complete("c")
    tree.crash("b")
    assert tree.states() == {"a": "completed", "b": "ready", "c": "ready"}


def test_members_that_an_operator_stopped_or_that_parked_stay_so() -> None:
    tree = CheckedTree(
        agent("a"), agent("b"), agent("c", backoff=Backoff(stop=stop_after_attempt(1))), strategy="one_for_all"
    )
    tree.stop_agent("b")
    tree.crash("c")
    tree.crash("a")
    assert tree.states() == {"a": "ready", "b": "stopped", "c": "parked"}


def test_a_completed_agent_that_an_operator_stopped_stays_down() -> None:
    tree = CheckedTree(agent("a"), agent("b"), strategy="one_for_all")
    tree.complete("b")
    tree.stop_agent("b")
    tree.crash("a")
    assert tree.states() == {"a": "ready", "b": "completed"}


def test_temporary_members_are_stopped_and_dropped() -> None:
    tree = CheckedTree(agent("a"), agent("t", restart="temporary"), strategy="one_for_all")
    tree.crash("a")
    assert tree.states() == {"a": "ready"}
    assert tree.core.world.root.departed["t"].state.value == "stopped"
    ((_, data),) = tree.events("AGENT_TERMINATED", "t")
    assert isinstance(data, AgentTerminated)
    assert str(data.reason) == "shutdown"


def test_a_temporary_agent_that_fails_touches_nobody() -> None:
    tree = CheckedTree(agent("a"), agent("t", restart="temporary"), strategy="one_for_all")
    tree.crash("t")
    assert tree.incarnations() == {"a": 1}


def test_a_completed_member_of_any_of_the_merged_groups_comes_back() -> None:
    tree = CheckedTree(
        agent("a", strategy="dependents"),
        agent("x", depends_on=["a"], strategy="rest_for_one", backoff=LATE),
        agent("z"),
    )
    tree.complete("z")
    tree.crash("x")
    tree.crash("a")
    tree.advance(10.0)
    assert tree.states() == {"a": "ready", "x": "ready", "z": "ready"}
