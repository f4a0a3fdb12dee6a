"""circus 809: agents stopped by command were seen as flapping, and started again three seconds later.

Here a stop on demand is no failure: no stamp, no streak, and nothing that was pending brings the agent back.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import a_tree, add
from tenacity import wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL, Cause, ExitReason, abnormal
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState

LATE = Backoff(wait=wait_fixed(3.0), jitter=0.0)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_stops_and_starts_on_demand_are_never_counted(restart: str, strategy: str) -> None:
    agents = [agent(f"worker-{number}", restart=restart) for number in range(4)]
    tree = CheckedTree(*agents, strategy=strategy, max_restarts=0)
    for _ in range(20):
        for path in list(tree.states()):
            tree.stop_agent(path)
        assert set(tree.states().values()) == {"stopped"}
        for path in list(tree.states()):
            tree.start_agent(path)
            tree.restart_agent(path)
    assert set(tree.states().values()) == {"ready"}
    assert tree.core.world.root.window.count(tree.now) == 0
    assert [tree.node(path).streak.failures for path in tree.states()] == [0] * 4


@pytest.mark.parametrize("reason", [NORMAL, abnormal(Cause.SIGNAL), abnormal(Cause.EXIT)])
def test_an_agent_that_was_stopped_stays_down_however_it_ended(reason: ExitReason) -> None:
    tree = CheckedTree(agent("a", restart="permanent", backoff=LATE), agent("b"), max_restarts=0)
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.end("a", reason)
    tree.advance(3600.0)
    assert (tree.states(), tree.node("a").incarnation) == ({"a": "stopped", "b": "ready"}, 1)


def test_neither_a_pending_retry_nor_a_group_nor_its_supervisor_brings_a_stopped_agent_back() -> None:
    children = (agent("a", backoff=LATE), agent("b", backoff=None))
    tree = CheckedTree(supervisor("inner", *children, strategy="one_for_all", max_restarts=2, backoff=None))
    tree.crash("inner/a")
    tree.advance(2.0)
    tree.stop_agent("inner/a")
    tree.advance(3600.0)
    down = {"inner": "ready", "inner/a": "stopped", "inner/b": "ready"}
    assert (tree.states(), tree.core.next_deadline()) == (down, None), "the retry"
    for _ in range(2):
        tree.crash("inner/b")
        assert tree.states() == down, "the group"
    tree.crash("inner/b")
    assert tree.states() == down, "the supervisor"
    assert (tree.node("inner").incarnation, tree.node("inner/a").incarnation) == (2, 1)


def test_a_real_agent_that_is_stopped_and_started_many_times_is_ready_with_no_streak() -> None:
    tree = a_tree(max_restarts=2)
    add(tree, "a")
    with tree:
        for _ in range(10):
            tree.stop_agent("a")
            tree.start_agent("a")
            tree.restart_agent("a")
        assert tree.status("a").state is AgentState.READY
        assert tree.status("a").streak == 0
