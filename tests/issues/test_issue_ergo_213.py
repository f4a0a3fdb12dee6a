"""ergo 213: when the restart limit was exceeded, the pid of the dead child was terminated instead of its siblings'.

Here exactly the running siblings are asked, once each, in reverse order; nobody outside, and never the one that died.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import a_tree, add, crash, wait_for
from tenacity import wait_fixed
from virtual import agent, supervisor

from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState, EventType
from orchestree.supervisor.inputs import AskRunToStop

E = EventType
LATE = Backoff(wait=wait_fixed(60.0), jitter=0.0)


def asked(tree: CheckedTree) -> list[str]:
    return [effect.run.path for effect in tree.effects if isinstance(effect, AskRunToStop)]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one", "dependents"])
def test_exceeding_the_window_stops_the_siblings_that_run_and_nobody_else(strategy: str) -> None:
    inner = supervisor(
        "inner", agent("first"), agent("down", restart="temporary"), agent("late", backoff=LATE),
        agent("bad", backoff=None), agent("last"), max_restarts=1, restart="temporary",
    )  # fmt: skip
    outer = supervisor("outer", agent("before"), inner, agent("after"), strategy=strategy)
    tree = CheckedTree(outer, agent("bystander"))
    tree.complete("outer/inner/down")
    tree.crash("outer/inner/late")
    assert asked(tree) == []
    tree.crash("outer/inner/bad")
    assert asked(tree) == ["outer/inner/last", "outer/inner/first"]
    assert {run.path for run in tree.live} == {"outer/before", "outer/after", "bystander"}
    assert tree.incarnations() == {"outer": 1, "outer/before": 1, "outer/after": 1, "bystander": 1}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "dependents"])
def test_the_crash_that_exceeds_the_window_of_a_group_asks_each_member_once(strategy: str) -> None:
    children = (agent("a", backoff=None), agent("b", depends_on=["a"]), agent("c", depends_on=["b"]))
    tree = CheckedTree(*children, strategy=strategy, max_restarts=0)
    tree.crash("a")
    assert asked(tree) == ["c", "b"]
    assert (tree.exit_code, list(tree.live), tree.now) == (70, [], 0.0)


def test_a_stop_after_a_child_has_died_waits_for_nobody() -> None:
    tree = CheckedTree(agent("a", restart="temporary"), agent("b"), agent("c", backoff=LATE))
    tree.crash("a")
    tree.crash("c")
    tree.stop()
    assert (asked(tree), tree.exit_code, tree.now) == (["b"], 1, 0.0)


def test_a_real_supervisor_that_exceeds_its_window_leaves_its_own_siblings_alone() -> None:
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
        assert [event.path for event in tree.history(type=E.AGENT_STOPPING)] == ["inner/calm"]
