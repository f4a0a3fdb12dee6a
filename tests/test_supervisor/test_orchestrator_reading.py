"""What can be read of a running tree, from any thread, while everything moves."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pytest
from orchestree_testing.trees import FAST, PATIENCE, Switch, a_tree, add, crash, wait_for
from tenacity import wait_fixed

from orchestree.agents import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState, EventType, NotFound, SpecError
from orchestree.supervisor.events import AgentCrashed

E = EventType


def test_status_has_all_that_it_promises() -> None:
    tree = a_tree()
    add(tree, "a", executor="thread")
    add(tree, "b", depends_on=["a"])
    with tree:
        status = tree.status("b")
        assert {field.name for field in fields(status)} >= {
            *("path", "kind", "state", "executor", "pid", "incarnation", "restarts_total", "streak", "uptime_s"),
            *("next_restart_s", "depends_on", "waiting_for", "queued", "last_crash", "result"),
            *("cpu_percent", "memory_bytes"),
        }
        assert (status.name, status.kind, status.executor, status.pid) == ("b", "agent", "thread", None)
        assert status.depends_on == ("a",)
        assert tree.status("").kind == "supervisor"


def test_uptime_moves_on_without_any_event() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        first = tree.status("a").uptime_s
        latest = tree.events.latest
        second = tree.status("a").uptime_s
        assert first is not None
        assert second is not None
        assert 0 <= first < second
        assert tree.events.latest == latest
        tree.stop_agent("a")
        assert tree.status("a").uptime_s is None


def test_the_time_to_the_next_restart_counts_down() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=Backoff(wait=wait_fixed(3600), jitter=0.0))
    with tree:
        wait_for(tree, E.AGENT_RESTARTING, "a")
        first, second = tree.status("a"), tree.status("a")
        assert first.state is AgentState.BACKOFF
        assert first.next_restart_s is not None
        assert second.next_restart_s is not None
        assert 3500 < second.next_restart_s < first.next_restart_s <= 3600


def test_the_streak_grows_with_failures_and_falls_back_after_a_stable_time() -> None:
    switch = Switch()
    tree = a_tree()
    add(tree, "quick", **switch.hooks(), backoff=Backoff(wait=wait_fixed(0), stable_after=0.001))
    add(tree, "slow", crash, backoff=Backoff(wait=wait_fixed(3600)), restart="permanent")
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "quick", count=2)
        streaks = iter(lambda: tree.status("quick").streak, 0)
        assert set(streaks) <= {1}
        wait_for(tree, E.AGENT_RESTARTING, "slow")
        assert tree.status("slow").streak == 1
        assert tree.status("quick").restarts_total == 1


def test_the_last_crash_has_the_full_traceback_with_its_causes() -> None:
    tree = a_tree()

    def fail(agent: Agent) -> None:
        try:
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise OSError("middle") from error
        except OSError:
            crash(agent)

    add(tree, "a", fail, backoff=Backoff(wait=wait_fixed(3600)))
    with tree:
        event = wait_for(tree, E.AGENT_CRASHED, "a")
        last_crash = tree.status("a").last_crash
        assert last_crash is not None
        for text in ("KeyError: 'inner'", "direct cause", "OSError: middle", "During handling", "ValueError: no such"):
            assert text in last_crash.traceback
        assert last_crash.phase == "execute"
        assert last_crash.exception_types[:2] == ("builtins.ValueError", "builtins.Exception")
        assert isinstance(event.data, AgentCrashed)
        assert event.data.report == last_crash


@pytest.mark.parametrize("result", [None, 42, {"deep": [1, 2]}])
def test_the_result_is_what_execute_returned(result: Any) -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: result)
    with tree:
        tree.wait_until("a", "completed", PATIENCE)
        assert tree.status("a").result == result


def test_children_are_listed_and_counted_as_in_otp() -> None:
    tree = a_tree()
    add(tree, "last", depends_on=["down"])
    add(tree, "first", lambda agent: None, restart="temporary")
    add(tree, "down", setup=crash, backoff=Backoff(wait=wait_fixed(3600)))
    add(tree.add_supervisor("inner"), "x")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "first")
        assert [status.path for status in tree.which_children()] == ["down", "last", "inner"]
        counts = tree.count_children()
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (3, 1, 1, 2)
        assert [status.path for status in tree.which_children("inner")] == ["inner/x"]
        assert [node.status.path for node in tree.tree().children] == ["down", "last", "inner"]
        assert tree.tree("inner/x").children == ()
        with pytest.raises(SpecError, match="'inner/x' is an agent"):
            tree.which_children("inner/x")
        for read in (tree.status, tree.which_children, tree.count_children, tree.tree):
            with pytest.raises(NotFound, match="did you mean 'inner'"):
                read("innr")


def test_stats_count_states_and_restarts() -> None:
    switch = Switch()
    tree = a_tree(max_workers=7)
    add(tree, "a", **switch.hooks(), backoff=None)
    add(tree, "b", lambda agent: None)
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
        tree.wait_until("b", "completed", PATIENCE)
        stats = tree.stats()
        assert stats.agents == {AgentState.READY: 1, AgentState.COMPLETED: 1}
        assert stats.supervisors == {AgentState.READY: 1}
        assert (stats.restarts_total, stats.max_workers) == (1, 7)
        assert stats.events == tree.events.latest
        assert stats.uptime_s > 0


@pytest.mark.slow
def test_reads_from_many_threads_hold_together_during_heavy_restarts() -> None:
    tree = a_tree()
    enough = threading.Event()
    for name in ("a", "b"):
        add(tree, name, lambda agent: crash(agent) if not enough.is_set() else agent.sleep(3600), **FAST)
    inner = tree.add_supervisor("inner", strategy="one_for_all", max_restarts=10**6)
    add(inner, "x", lambda agent: crash(agent) if not enough.is_set() else agent.sleep(3600), **FAST)
    add(inner, "y")

    def read() -> int:
        turns = 0
        while not enough.is_set():
            turns += 1
            children = tree.which_children()
            assert [status.path for status in children] == ["a", "b", "inner"]
            status = tree.status("inner/x")
            assert status.restarts_total >= status.incarnation - 1
            assert status.uptime_s is None or status.state is AgentState.READY
            assert tree.count_children("inner").specs == 2
            assert sum(tree.stats().agents.values()) == 4
            assert tree.tree().status.path == ""
            numbers = [event.seq for event in tree.history(limit=50)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return turns

    with tree, ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for path in ("a", "b", "inner/x"):
                wait_for(tree, E.AGENT_CRASHED, path, count=20)
        finally:
            enough.set()
        assert all(reader.result(PATIENCE) for reader in readers)
        counted = Counter(event.path for event in tree.history(None, E.AGENT_RESTARTING, 0, None))
        for path in ("a", "b"):
            assert tree.status(path).restarts_total >= counted[path] > 0


def test_a_wrong_event_type_in_history_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="did you mean 'agent_crashed'"):
        a_tree().history(type="agent_crash")


def test_a_number_of_events_that_makes_no_sense_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="limit=-1: must be"):
        a_tree().history(limit=-1)
    assert a_tree().history(limit=0) == []
