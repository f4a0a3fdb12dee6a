"""AtomVM 2022: the test of the restart limit passed by a race, and allowed one restart too many.

Here the limit is exact, and it is read from the events: `max_restarts` restarts and not one more.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, trace, types
from virtual import agent

from orchestree.supervisor import EventType

E = EventType


@pytest.mark.parametrize("limit", [0, 1, 5, 50])
def test_as_many_restarts_as_the_limit_says_are_made_and_one_more_ends_the_supervisor(limit: int) -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b"), max_restarts=limit, max_seconds=10.0)
    for number in range(limit):
        tree.crash("a")
        assert tree.states() == {"a": "ready", "b": "ready"}, f"after {number + 1} restarts"
    tree.crash("a")
    assert tree.states() == {"a": "stopped", "b": "stopped"}
    assert len(tree.events("AGENT_RESTARTING")) == limit
    assert len(tree.events("AGENT_STARTING", "a")) == limit + 1
    assert len(tree.events("AGENT_CRASHED", "a")) == limit + 1


def test_a_real_tree_makes_exactly_as_many_restarts_as_its_limit_says() -> None:
    tree = a_tree(max_restarts=5, max_seconds=PATIENCE)
    add(tree, "calm")
    add(tree, "bad", crash, backoff=None)
    assert tree.simple_join() == 70
    assert types(tree, "bad").count(E.AGENT_RESTARTING) == 5
    assert types(tree, "bad").count(E.AGENT_STARTING) == types(tree, "bad").count(E.AGENT_CRASHED) == 6
    assert trace(tree, E.AGENT_STOPPING) == [(E.AGENT_STOPPING, "calm")]
    assert types(tree, "")[-1] is E.ORCHESTRATOR_STOPPED
