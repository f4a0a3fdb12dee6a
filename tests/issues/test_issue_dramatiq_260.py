"""dramatiq 260: a worker's pipe that was closed already raised in the master, which hung with nobody at work.

Here a channel that is closed, by whomever, is no end and no failure: the process is supervised on, and can be stopped.
"""

from __future__ import annotations

import pytest
from orchestree_testing.process_agents import fall_silent, fall_silent_and_abort_once, fall_silent_once
from orchestree_testing.process_harness import is_alive
from orchestree_testing.trees import PATIENCE, Does, Switch, a_tree, add, wait_for

from orchestree.supervisor import AgentState, EventType

pytestmark = [pytest.mark.slow, pytest.mark.portable]
E = EventType


def test_a_process_that_has_closed_its_channels_is_still_supervised_and_can_be_stopped() -> None:
    tree, switch = a_tree(max_restarts=5), Switch()
    tree.register_agent(Does, "mute", executor="process", shutdown=0.1, params={"execute": fall_silent})
    add(tree, "other", backoff=None, **switch.hooks())
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "mute")
        switch.throw()
        wait_for(tree, E.AGENT_READY, "other", count=2)
        pid = tree.status("mute").pid
        assert tree.status("mute").state is AgentState.READY
        assert pid is not None
        assert is_alive(pid)
        tree.restart_agent("mute", PATIENCE)
        assert not is_alive(pid)
        wait_for(tree, E.AGENT_MESSAGE, "mute", count=2)
    assert (tree.exit_code, tree.status("mute").state) == (0, AgentState.STOPPED)
    assert tree.history(type=E.SERVICE_FAILED) == tree.history("mute", E.AGENT_CRASHED) == []


def test_a_process_that_closes_its_channels_before_it_is_ready_runs_into_its_start_timeout() -> None:
    tree = a_tree(max_restarts=5)
    tree.register_agent(
        Does, "mute", executor="process", start_timeout=0.5, backoff=None, params={"setup": fall_silent_once}
    )
    with tree:
        wait_for(tree, E.AGENT_READY, "mute")
        last_crash = tree.status("mute").last_crash
        assert last_crash is not None
        assert (last_crash.cause, tree.status("mute").incarnation) == ("start_timeout", 2)


def test_how_a_process_ended_is_known_also_without_its_channels() -> None:
    tree = a_tree(run_mode="stop_on_empty", max_restarts=5)
    tree.register_agent(Does, "mute", executor="process", backoff=None, params={"execute": fall_silent_and_abort_once})
    assert tree.simple_join() == 0
    last_crash = tree.status("mute").last_crash
    assert last_crash is not None
    assert (last_crash.signal, tree.status("mute").incarnation) == ("SIGABRT", 2)
    assert tree.status("mute").state is AgentState.COMPLETED
