"""dramatiq 376: the OOM killer took one worker, all others were stopped, and the program ended with exit code 0.

Here a killed process comes back alone; only what is lost for good ends a run, and then the exit code says so.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from orchestree_testing.process_agents import Sleeper, be_killed
from orchestree_testing.trees import Does, a_tree, add, crash, wait_for

from orchestree.supervisor import AgentState, EventType

E = EventType


def test_the_loss_of_an_agent_is_in_the_exit_code() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    add(tree, "a", crash, restart="temporary")
    add(tree, "b", lambda agent: None)
    assert tree.simple_join() == 1


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "code"), [({"restart": "temporary"}, 1), ({"backoff": None}, 70), ({}, 1)])
def test_a_worker_that_is_always_killed_is_in_the_exit_code(policy: dict[str, Any], code: int) -> None:
    tree = a_tree(run_mode="stop_on_empty", max_restarts=6)
    tree.register_agent(Does, "a", executor="process", params={"execute": be_killed}, **policy)
    add(tree, "b", lambda agent: None)
    assert tree.simple_join() == code
    last_crash = tree.status("a").last_crash
    assert last_crash is not None
    assert (last_crash.cause, last_crash.signal) == ("signal", "SIGKILL")


@pytest.mark.slow
def test_one_worker_that_is_killed_comes_back_and_the_others_never_notice() -> None:
    tree = a_tree()
    for number in range(3):
        tree.register_agent(Sleeper, f"worker-{number}", executor="process")
    with tree:
        before = [status.pid for status in tree.which_children()]
        assert before[1] is not None
        os.kill(before[1], signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "worker-1", count=2)
        after = [status.pid for status in tree.which_children()]
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] not in before
        assert [status.incarnation for status in tree.which_children()] == [1, 2, 1]
        assert {status.state for status in tree.which_children()} == {AgentState.READY}
    assert tree.exit_code == 0
