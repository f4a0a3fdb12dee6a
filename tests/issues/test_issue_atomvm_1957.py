"""AtomVM 1957: a child that came up once and then failed its restart took the supervisor along with it.

Here a failed restart is tried again until the restart limit is exceeded, and only then the supervisor ends, in order.
"""

from __future__ import annotations

from checked import CheckedTree
from orchestree_testing.trees import Switch, a_tree, add, crash, wait_for
from virtual import agent

from orchestree.supervisor import EventType


def test_a_child_that_fails_its_restarts_is_tried_until_the_limit_and_not_once_more() -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b"), max_restarts=5)
    tree.failing.add("a")
    tree.crash("a")
    assert tree.lines("AGENT_STARTING") == ["STARTING a", "STARTING b", *["STARTING a"] * 5]
    assert tree.lines("AGENT_STOPPING", "AGENT_TERMINATED")[-2:] == ["STOPPING b", "TERMINATED b"]
    assert (tree.exit_code, list(tree.live)) == (70, [])


def test_a_child_that_succeeds_at_the_last_try_costs_its_siblings_nothing() -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b"), max_restarts=5)
    tree.manual.add("a")
    for _ in range(5):
        tree.crash("a")
    tree.ready("a")
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert tree.incarnations() == {"a": 6, "b": 1}


def test_a_child_that_was_added_later_and_fails_its_restart_is_tried_as_often() -> None:
    tree = CheckedTree(agent("b"), max_restarts=5)
    tree.register("", agent("a", backoff=None))
    tree.failing.add("a")
    tree.crash("a")
    assert tree.lines("AGENT_STARTING").count("STARTING a") == 1 + 5
    assert tree.exit_code == 70


def test_a_real_agent_that_fails_its_restart_does_not_take_the_tree_along() -> None:
    tree = a_tree()
    switch = Switch()
    add(tree, "a", setup=lambda agent: crash(agent) if agent.incarnation == 2 else None, backoff=None, **switch.hooks())
    add(tree, "b")
    with tree:
        switch.throw()
        wait_for(tree, EventType.AGENT_READY, "a", count=2)
        assert tree.status("a").incarnation == 3
        assert tree.status("b").incarnation == 1
