"""erlang/otp 4638: when automatic shutdown came, a bystander that a sibling's crash restarts must not trigger it.

Here only the end of a significant child by itself does; one that is stopped, or dropped, for its group never does.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import Switch, a_tree, add, trace, wait_for
from virtual import agent

from orchestree.supervisor import EventType

E = EventType


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "dependents"])
def test_a_significant_bystander_that_is_restarted_or_dropped_ends_nobody(strategy: str, auto_shutdown: str) -> None:
    tree = CheckedTree(
        agent("a", backoff=None),
        agent("back", significant=True, depends_on=["a"]),
        agent("dropped", significant=True, restart="temporary", depends_on=["a"]),
        strategy=strategy, auto_shutdown=auto_shutdown,
    )  # fmt: skip
    tree.crash("a")
    assert tree.states() == {"a": "ready", "back": "ready"}
    assert tree.incarnations() == {"a": 2, "back": 2}
    tree.complete("back")
    assert tree.exit_code == 0


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_a_significant_bystander_that_fails_while_it_is_stopped_for_its_group_ends_nobody(auto_shutdown: str) -> None:
    children = (agent("a", backoff=None), agent("important", significant=True))
    tree = CheckedTree(*children, strategy="one_for_all", auto_shutdown=auto_shutdown)
    tree.manual.add("important")
    tree.crash("a")
    tree.crash("important")
    tree.ready("important")
    assert tree.states() == {"a": "ready", "important": "ready"}
    assert tree.lines("ORCHESTRATOR_STOPPING") == []


def test_a_real_bystander_that_is_restarted_does_not_stop_the_tree() -> None:
    switch = Switch()
    tree = a_tree(strategy="one_for_all", auto_shutdown="any_significant")
    add(tree, "a", backoff=None, **switch.hooks())
    add(tree, "important", significant=True)
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "important", count=2)
        assert tree.is_running
        assert trace(tree, E.ORCHESTRATOR_STOPPING) == []
