"""What is shown of a child at a moment, under virtual time."""

from __future__ import annotations

import dataclasses

import pytest
from tenacity import wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree.agents.ends import Cause
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot, Status, status_of
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

WAITS_10 = Backoff(wait=wait_fixed(10.0), stable_after=30.0)


def shown(tree: VirtualTree, path: str) -> Status:
    return status_of(tree.node(path), tree.now)


def test_before_the_start_only_what_was_registered_is_known() -> None:
    tree = VirtualTree(agent("db"), agent("web", depends_on=["db"], executor="process"), started=False)
    assert shown(tree, "web") == Status(
        path="web", kind="agent", state=AgentState.REGISTERED, executor="process", depends_on=("db",)
    )
    assert shown(tree, "") == Status(path="", kind="supervisor", state=AgentState.REGISTERED)


def test_the_name_is_the_last_part_of_the_path() -> None:
    tree = VirtualTree(supervisor("outer", supervisor("inner", agent("x"))))
    assert [shown(tree, path).name for path in ("", "outer", "outer/inner/x")] == ["", "outer", "x"]


def test_uptime_counts_from_the_moment_it_became_ready() -> None:
    tree = VirtualTree(agent("a"), started=False)
    tree.manual.add("a")
    tree.advance(100.0)
    tree.start()
    tree.advance(2.0)
    assert (shown(tree, "a").state, shown(tree, "a").uptime_s) == (AgentState.STARTING, None)
    tree.ready("a")
    assert shown(tree, "a").uptime_s == 0.0
    tree.advance(7.5)
    assert shown(tree, "a").uptime_s == 7.5
    assert shown(tree, "").uptime_s == 7.5
    tree.stop_agent("a")
    assert (shown(tree, "a").state, shown(tree, "a").uptime_s) == (AgentState.STOPPING, None)


def test_a_crash_shows_its_report_the_streak_and_when_it_comes_back() -> None:
    tree = VirtualTree(agent("a", backoff=WAITS_10))
    tree.crash("a", "ValueError: no such sensor")
    tree.advance(4.0)
    status = shown(tree, "a")
    assert (status.state, status.next_restart_s, status.uptime_s) == (AgentState.BACKOFF, 6.0, None)
    assert (status.streak, status.restarts_total, status.incarnation) == (1, 1, 1)
    assert status.last_crash is not None
    assert (status.last_crash.cause, status.last_crash.message) == (Cause.EXCEPTION, "ValueError: no such sensor")
    tree.advance(6.0)
    status = shown(tree, "a")
    assert (status.state, status.next_restart_s, status.incarnation) == (AgentState.READY, None, 2)
    assert status.streak == 1


def test_a_restart_that_is_overdue_is_due_now() -> None:
    tree = VirtualTree(agent("a", backoff=WAITS_10))
    tree.crash("a")
    assert status_of(tree.node("a"), 11.0).next_restart_s == 0.0


def test_a_member_that_waits_for_more_than_its_group_shows_no_time() -> None:
    tree = VirtualTree(agent("x"), agent("a", backoff=WAITS_10), agent("b", depends_on=["x"]), strategy="one_for_all")
    tree.stop_agent("x")
    tree.crash("b")
    assert tree.state("b") == "waiting"
    tree.crash("a")
    assert (shown(tree, "a").next_restart_s, shown(tree, "b").next_restart_s) == (10.0, None)
    assert tree.node("b").group is not None


def test_the_streak_is_0_after_a_stable_run() -> None:
    tree = VirtualTree(agent("a", backoff=WAITS_10))
    tree.crash("a")
    tree.advance(10.0 + 29.9)
    assert shown(tree, "a").streak == 1
    tree.advance(0.1)
    assert shown(tree, "a").streak == 0


def test_a_policy_of_none_is_stable_after_30_seconds() -> None:
    tree = VirtualTree(agent("a", backoff=None))
    tree.crash("a")
    tree.advance(29.9)
    assert shown(tree, "a").streak == 1
    tree.advance(0.1)
    assert shown(tree, "a").streak == 0


def test_one_that_waits_names_its_siblings_and_one_that_queues_says_so() -> None:
    tree = VirtualTree(
        agent("db"), agent("web", depends_on=["db"]), agent("other"), settings=Settings(max_workers=1), started=False
    )
    tree.manual.add("db")
    tree.start()
    assert (shown(tree, "web").waiting_for, shown(tree, "web").queued) == (("db",), False)
    assert (shown(tree, "other").waiting_for, shown(tree, "other").queued) == ((), True)


def test_a_snapshot_moves_the_uptime_on_and_ends_the_streak() -> None:
    tree = VirtualTree(agent("a", backoff=WAITS_10))
    tree.crash("a")
    tree.advance(12.0)
    snapshot = Snapshot.of(tree.node("a"), tree.now)
    assert snapshot.at(12.0) == shown(tree, "a")
    assert (snapshot.at(20.0).uptime_s, snapshot.at(20.0).streak) == (10.0, 1)
    assert snapshot.at(39.9).streak == 1
    assert (snapshot.at(40.0).uptime_s, snapshot.at(40.0).streak) == (30.0, 0)


def test_a_snapshot_counts_down_to_the_restart_but_not_below_0() -> None:
    tree = VirtualTree(agent("a", backoff=WAITS_10))
    tree.crash("a")
    snapshot = Snapshot.of(tree.node("a"), 3.0)
    assert [snapshot.at(now).next_restart_s for now in (3.0, 5.0, 10.0, 11.0)] == [7.0, 5.0, 0.0, 0.0]
    assert snapshot.at(5.0).streak == 1


def test_a_snapshot_of_one_that_is_down_never_changes() -> None:
    tree = VirtualTree(agent("a"))
    tree.complete("a")
    snapshot = Snapshot.of(tree.node("a"), 0.0)
    assert snapshot.at(1e6) == snapshot.status
    assert snapshot.status.state is AgentState.COMPLETED


def test_a_process_is_shown_with_its_pid_and_the_result_of_its_work() -> None:
    tree = VirtualTree(agent("a"))
    node = tree.node("a")
    node.pid, node.result = 4711, {"lines": 3}  # type: ignore[union-attr]
    assert (shown(tree, "a").pid, shown(tree, "a").result) == (4711, {"lines": 3})


def test_a_status_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        shown(VirtualTree(agent("a")), "a").state = AgentState.PARKED  # type: ignore[misc]
