"""Commands to a running tree: start, stop, restart, register, unregister, wait; by hand and all at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from orchestree_testing.trees import FAST, PATIENCE, AsyncDoes, Switch, a_tree, add, crash, types, wait_for
from tenacity import stop_after_attempt, wait_fixed

from orchestree.agents import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import (
    AgentState,
    AlreadyPresent,
    AlreadyStarted,
    EventType,
    NotFound,
    NotRunning,
    Restarting,
    Running,
    SpecError,
)
from orchestree.supervisor.registry import Supervisor

E = EventType
NEVER_BACK = Backoff(wait=wait_fixed(3600), jitter=0.0)


@pytest.mark.parametrize("kind", [None, AsyncDoes])
def test_an_agent_that_was_stopped_stays_down_until_it_is_started(kind: Any) -> None:
    tree = a_tree()
    add(tree, "a", **({"kind": kind} if kind else {}))
    with tree:
        tree.stop_agent("a")
        assert tree.status("a").state is AgentState.STOPPED
        tree.stop_agent("a")
        tree.start_agent("a")
        assert tree.status("a").state is AgentState.READY
        assert tree.status("a").incarnation == 2
        tree.restart_agent("a")
        assert tree.status("a").incarnation == 3
        assert tree.status("a").state is AgentState.READY


def test_commands_take_the_path_of_a_supervisor() -> None:
    tree = a_tree()
    inner = tree.add_supervisor("inner")
    add(inner, "x")
    add(inner, "y")
    with tree:
        tree.stop_agent("inner")
        assert {tree.status(path).state for path in ("inner", "inner/x", "inner/y")} == {AgentState.STOPPED}
        tree.start_agent("inner")
        tree.restart_agent("inner", PATIENCE)
        assert tree.status("inner/x").incarnation == 3
        assert tree.status("inner").state is AgentState.READY
        with pytest.raises(SpecError, match="root"):
            tree.stop_agent("")


def test_the_errors_of_start_agent_say_what_the_agent_is_doing() -> None:
    tree = a_tree()
    add(tree, "runs")
    add(tree, "waits-for-its-restart", crash, backoff=NEVER_BACK)
    with tree:
        wait_for(tree, E.AGENT_RESTARTING, "waits-for-its-restart")
        with pytest.raises(Running, match="'runs' is ready"):
            tree.start_agent("runs")
        with pytest.raises(Restarting):
            tree.start_agent("waits-for-its-restart")
        with pytest.raises(NotFound, match="did you mean 'runs'"):
            tree.start_agent("run")
        for command in (tree.stop_agent, tree.restart_agent, tree.unregister_agent):
            with pytest.raises(NotFound):
                command("nobody/here")


def test_restart_agent_ends_a_backoff_at_once_and_counts_no_failure() -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: crash(agent) if agent.incarnation == 1 else agent.sleep(3600), backoff=NEVER_BACK)
    with tree:
        wait_for(tree, E.AGENT_RESTARTING, "a")
        assert tree.status("a").next_restart_s is not None
        tree.restart_agent("a")
        status = tree.status("a")
        assert (status.state, status.incarnation, status.streak) == (AgentState.READY, 2, 0)


def test_a_command_that_times_out_goes_on() -> None:
    tree = a_tree()
    release = threading.Event()
    release.set()
    add(tree, "slow-to-start", setup=lambda agent: release.wait(PATIENCE) and None)
    with tree:
        tree.stop_agent("slow-to-start")
        release.clear()
        with pytest.raises(TimeoutError, match="goes on"):
            tree.start_agent("slow-to-start", timeout=0.01)
        # Not at once: under load the time is up before the command has been looked at.
        tree.wait_until("slow-to-start", AgentState.STARTING, PATIENCE)
        release.set()
        tree.wait_until("slow-to-start", "ready", PATIENCE)


def test_a_stop_that_times_out_goes_on() -> None:
    tree = a_tree()
    release = threading.Event()
    add(tree, "a", lambda agent: release.wait(PATIENCE), shutdown="infinity")
    with tree:
        with pytest.raises(TimeoutError, match=r"not done within 0\.01 s"):
            tree.stop_agent("a", timeout=0.01)
        tree.wait_until("a", AgentState.STOPPING, PATIENCE)
        release.set()
        tree.wait_until("a", AgentState.STOPPED, PATIENCE)


def test_wait_until_raises_for_a_state_that_does_not_come_or_does_not_exist() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        tree.wait_until("a", "ready", 0.0)
        with pytest.raises(TimeoutError):
            tree.wait_until("a", AgentState.PARKED, 0.01)
        with pytest.raises(SpecError, match=r"state='reddy'.*did you mean 'ready'"):
            tree.wait_until("a", "reddy", 1.0)
        with pytest.raises(NotFound):
            tree.wait_until("b", "ready", 1.0)


def test_wait_until_ends_with_an_error_when_the_tree_ends_without_the_state() -> None:
    tree = a_tree()
    add(tree, "a")
    tree.start()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            tree.wait_until("a", "parked", PATIENCE)
        except NotRunning as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    tree.stop()
    waiting.join(PATIENCE)
    assert len(ended) == 1


def test_register_on_a_running_tree_starts_the_agent_and_survives_a_restart_of_its_supervisor() -> None:
    tree = a_tree()
    inner = tree.add_supervisor("inner")
    with tree:
        add(inner, "late")
        tree.wait_until("inner/late", "ready", PATIENCE)
        tree.restart_agent("inner")
        assert tree.status("inner/late").incarnation == 2


def test_register_under_a_name_that_is_taken_says_whether_it_runs() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        with pytest.raises(AlreadyStarted):
            add(tree, "a")
        tree.stop_agent("a")
        with pytest.raises(AlreadyPresent):
            add(tree, "a")
        tree.unregister_agent("a")
        add(tree, "a")
        tree.wait_until("a", "ready", PATIENCE)
        assert tree.status("a").incarnation == 1


def test_register_with_an_unknown_dependency_changes_nothing() -> None:
    tree = a_tree()
    add(tree, "database")
    with tree:
        with pytest.raises(SpecError, match=r"depends_on='databse'.*did you mean 'database'"):
            add(tree, "a", depends_on=["databse"])
        assert tree.count_children().specs == 1
        add(tree, "a", depends_on=["database"])
        tree.wait_until("a", "ready", PATIENCE)


def test_a_whole_subtree_can_be_added_to_a_running_tree() -> None:
    tree = a_tree()
    with tree:
        inner = tree.add_supervisor("inner", strategy="one_for_all")
        add(inner, "x")
        deeper = inner.add_supervisor("deeper")
        add(deeper, "y")
        tree.wait_until("inner/deeper/y", "ready", PATIENCE)
        assert tree.tree().children[0].children[1].children[0].status.path == "inner/deeper/y"
        with pytest.raises(SpecError, match="is an agent"):
            add(Supervisor(tree, "inner/x"), "z")


def test_unregister_refuses_what_runs_and_what_others_need() -> None:
    tree = a_tree()
    add(tree, "a")
    add(tree, "b", depends_on=["a"])
    with tree:
        with pytest.raises(Running):
            tree.unregister_agent("b")
        tree.stop_agent("b")
        tree.stop_agent("a")
        with pytest.raises(SpecError, match="'b' depend"):
            tree.unregister_agent("a")
        tree.unregister_agent("b")
        tree.unregister_agent("a")
        assert tree.which_children() == []
        with pytest.raises(NotFound):
            tree.status("a")


def test_unregister_before_the_start_takes_the_entry_out() -> None:
    tree = a_tree()
    add(tree, "a")
    add(tree, "b", depends_on=["a"])
    with pytest.raises(SpecError, match="'b' depend"):
        tree.unregister_agent("a")
    tree.unregister_agent("b")
    tree.unregister_agent("a")
    with pytest.raises(NotFound):
        tree.unregister_agent("a")
    assert tree.check() == []


def test_a_temporary_agent_leaves_the_tree_but_its_outcome_can_be_read() -> None:
    tree = a_tree()
    add(tree, "once", crash, restart="temporary")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "once")
        tree.wait_until("once", "failed", PATIENCE)
        assert tree.which_children() == []
        status = tree.status("once")
        assert status.state is AgentState.FAILED
        assert status.last_crash is not None
        assert "ValueError: no such sensor" in status.last_crash.traceback
        with pytest.raises(NotFound):
            tree.start_agent("once")


def test_a_stop_is_served_while_an_agent_fails_for_ever() -> None:
    tree = a_tree()
    add(tree, "a", crash, **FAST)
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "a", count=20)
        tree.stop_agent("a", PATIENCE)
        assert tree.status("a").state is AgentState.STOPPED


@pytest.mark.slow
def test_many_threads_may_steer_one_tree_at_once() -> None:
    tree = a_tree()
    names = [f"a{number}" for number in range(4)]
    for name in names:
        add(tree, name)

    def steer(worker: int) -> None:
        for turn in range(40):
            name = names[(worker + turn) % len(names)]
            command = (tree.stop_agent, tree.restart_agent, tree.start_agent)[turn % 3]
            with suppress(Running, Restarting):
                command(name, PATIENCE)

    with tree, ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(steer, worker) for worker in range(6)]:
            done.result(PATIENCE)
        for name in names:
            tree.restart_agent(name, PATIENCE)
            assert tree.status(name).state is AgentState.READY


def test_siblings_of_an_agent_that_is_steered_are_not_touched() -> None:
    tree = a_tree(strategy="one_for_all")
    add(tree, "a")
    add(tree, "b")
    with tree:
        tree.restart_agent("a")
        tree.stop_agent("a")
        tree.start_agent("a")
        assert tree.status("b").incarnation == 1
        assert tree.stats().restarts_total == 1


@pytest.mark.slow
def test_start_agent_of_a_wedged_agent_is_running_and_it_comes_back_when_its_thread_ends() -> None:
    tree = a_tree()
    release = threading.Event()

    def wedge(agent: Agent) -> object:
        return release.wait(PATIENCE) if agent.incarnation == 1 else agent.sleep(3600)

    add(tree, "a", wedge, shutdown=0.01)
    with tree:
        tree.stop_agent("a")
        assert tree.status("a").state is AgentState.WEDGED
        with pytest.raises(Running):
            tree.start_agent("a")
        tree.restart_agent("a", PATIENCE)
        release.set()
        tree.wait_until("a", "ready", PATIENCE)
        assert tree.status("a").incarnation == 2


def test_an_agent_that_was_parked_starts_again_with_a_fresh_streak() -> None:
    switch = Switch()
    tree = a_tree()
    add(tree, "a", **switch.hooks(), backoff=Backoff(stop=stop_after_attempt(1)))
    with tree:
        switch.throw()
        tree.wait_until("a", "parked", PATIENCE)
        tree.start_agent("a")
        assert tree.status("a").state is AgentState.READY
        assert tree.status("a").streak == 0
        assert types(tree, "a").count(E.AGENT_PARKED) == 1
