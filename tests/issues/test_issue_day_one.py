"""Bugs of other supervisors that must never be ours; each test names where it was first reported."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from orchestree_testing.trees import FAST, PATIENCE, AsyncDoes, Switch, a_tree, add, crash, trace, wait_for
from tenacity import wait_fixed

from orchestree.agents import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState, EventType, NotFound

E = EventType
LONG = Backoff(wait=wait_fixed(3600), jitter=0.0)
SHORT = Backoff(wait=wait_fixed(0.02), jitter=0.0)


def test_rabbitmq_common_201_a_delayed_restart_that_crashes_before_it_is_ready_is_restarted_again() -> None:
    tree = a_tree()
    add(tree, "a", setup=lambda agent: crash(agent) if agent.incarnation < 4 else None, backoff=SHORT)
    with tree:
        wait_for(tree, E.AGENT_READY, "a")
        assert tree.status("a").incarnation == 4


def test_klarna_supervisor3_14_a_child_deleted_in_its_delay_leaves_no_zombie() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=LONG)
    with tree:
        wait_for(tree, E.AGENT_RESTARTING, "a")
        tree.unregister_agent("a")
        with pytest.raises(NotFound):
            tree.status("a")
        add(tree, "a")
        tree.wait_until("a", "ready", PATIENCE)
        assert tree.status("a").incarnation == 1


def test_ergo_213_exceeding_the_window_ends_the_right_supervisor_and_no_other() -> None:
    tree = a_tree()
    add(tree, "bystander")
    inner = tree.add_supervisor("inner", max_restarts=2, restart="temporary")
    add(inner, "calm")
    add(inner, "bad", crash, backoff=None)
    with tree:
        wait_for(tree, E.SUPERVISOR_TERMINATED, "inner")
        assert tree.status("bystander").incarnation == 1
        assert tree.status("bystander").state is AgentState.READY
        assert [event.path for event in tree.history(type=E.SUPERVISOR_TERMINATED)] == ["inner"]


def test_atomvm_1957_a_child_that_fails_its_restart_does_not_take_the_supervisor_along() -> None:
    tree = a_tree()
    switch = Switch()
    add(tree, "a", setup=lambda agent: crash(agent) if agent.incarnation == 2 else None, backoff=None, **switch.hooks())
    add(tree, "b")
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
        assert tree.status("a").incarnation == 3
        assert tree.status("b").incarnation == 1


@pytest.mark.slow
def test_suture_41_registering_during_a_stop_deadlocks_nobody() -> None:
    for _ in range(20):
        tree = a_tree()
        for number in range(3):
            add(tree, f"a{number}")
        tree.start()
        refused: list[BaseException] = []

        def register(tree: Any = tree, refused: list[BaseException] = refused) -> None:
            try:
                for number in range(10_000):
                    add(tree, f"b{number}", kind=AsyncDoes)
            except Exception as error:
                refused.append(error)

        adding = threading.Thread(target=register)
        adding.start()
        tree.stop()
        adding.join(PATIENCE)
        assert not adding.is_alive()
        assert len(refused) == 1


def test_circus_809_a_stop_on_demand_is_no_flapping() -> None:
    tree = a_tree(max_restarts=2)
    add(tree, "a")
    with tree:
        for _ in range(10):
            tree.stop_agent("a")
            tree.start_agent("a")
            tree.restart_agent("a")
        assert tree.status("a").state is AgentState.READY
        assert tree.status("a").streak == 0


def test_systemd_10529_a_start_by_hand_is_not_refused_by_the_restart_limit() -> None:
    tree = a_tree(max_restarts=0)
    switch = Switch()
    add(tree, "a", backoff=Backoff(on_give_up="park", stop=lambda state: True), **switch.hooks())
    with tree:
        for _ in range(5):
            switch.throw()
            tree.wait_until("a", "parked", PATIENCE)
            tree.start_agent("a")
        assert tree.is_running


def test_circus_1157_commands_are_served_while_others_fail_for_ever() -> None:
    tree = a_tree()
    for number in range(3):
        add(tree, f"bad-{number}", crash, **FAST)
    add(tree, "good")
    with tree:
        for _ in range(10):
            tree.restart_agent("good", PATIENCE)
        tree.stop_agent("bad-0", PATIENCE)
        assert tree.status("good").incarnation == 11
        assert tree.status("bad-0").state == "stopped"


def test_supervisor_1043_a_step_of_the_wall_clock_during_a_delay_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: crash(agent) if agent.incarnation < 3 else agent.sleep(3600), backoff=SHORT)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    with tree:
        wait_for(tree, E.AGENT_READY, "a", count=3)
        assert (tree.status("a").uptime_s or 0) < PATIENCE


def test_microvm_554_a_reader_that_is_overrun_delays_nobody_and_is_told_what_it_missed() -> None:
    tree = a_tree()
    blocked = threading.Event()
    seen: list[EventType] = []

    def slow(event: Any) -> None:
        blocked.wait(PATIENCE)
        seen.append(event.type)

    tree.events.subscribe(slow)
    finished = threading.Event()

    def flood(agent: Agent) -> None:
        for _ in range(4):
            for _ in range(4_000):
                agent.emit("more")
            agent.sleep(0.05)
        finished.set()
        agent.sleep(3600)

    add(tree, "a", flood)
    with tree:
        assert finished.wait(PATIENCE)
        tree.restart_agent("a", PATIENCE)
        blocked.set()
    assert seen[0] in (E.EVENT_GAP, E.ORCHESTRATOR_STARTED)
    assert seen.count(E.EVENT_GAP) >= 1
    assert seen[-1] is E.ORCHESTRATOR_STOPPED


def test_dramatiq_376_the_loss_of_an_agent_is_in_the_exit_code() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    add(tree, "a", crash, restart="temporary")
    add(tree, "b", lambda agent: None)
    assert tree.simple_join() == 1


def test_otp_4638_a_bystander_that_a_sibling_restarts_does_not_trigger_the_automatic_shutdown() -> None:
    switch = Switch()
    tree = a_tree(strategy="one_for_all", auto_shutdown="any_significant")
    add(tree, "a", backoff=None, **switch.hooks())
    add(tree, "important", significant=True)
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "important", count=2)
        assert tree.is_running
        assert trace(tree, E.ORCHESTRATOR_STOPPING) == []
