"""rabbitmq-common 201: a child that crashed before it was ready, after a delayed restart, was never tried again.

Here each try after a delay that fails is a failure like any other: the next delay follows, for as long as it takes.
"""

from __future__ import annotations

from checked import CheckedTree
from orchestree_testing.trees import a_tree, add, crash, wait_for
from tenacity import wait_fixed
from virtual import agent, supervisor

from orchestree.strategies import Backoff
from orchestree.supervisor import EventType

LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0)
TRIES = 20


def starts(tree: CheckedTree, path: str) -> list[float]:
    return [now for now, _ in tree.events("AGENT_STARTING", path)]


def test_a_child_that_crashes_before_it_is_ready_is_tried_again_after_every_delay() -> None:
    tree = CheckedTree(agent("a", backoff=LATE), max_restarts=TRIES)
    tree.manual.add("a")
    for number in range(TRIES):
        tree.crash("a")
        assert (tree.state("a"), tree.node("a").streak.failures) == ("backoff", number + 1)
        tree.advance(10.0)
        assert tree.state("a") == "starting"
    tree.ready("a")
    assert starts(tree, "a") == [10.0 * number for number in range(TRIES + 1)]
    assert tree.node("a").restarts_total == TRIES


def test_the_group_of_a_child_that_crashes_before_it_is_ready_is_tried_again_after_every_delay() -> None:
    tree = CheckedTree(agent("a"), agent("b", backoff=LATE), strategy="one_for_all", max_restarts=TRIES)
    tree.manual.add("b")
    for _ in range(TRIES):
        tree.crash("b")
        assert tree.states() == {"a": "backoff", "b": "backoff"}
        tree.advance(10.0)
    tree.ready("b")
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert starts(tree, "a") == starts(tree, "b") == [10.0 * number for number in range(TRIES + 1)]


def test_a_supervisor_whose_child_crashes_before_it_is_ready_is_tried_again_after_every_delay() -> None:
    inner = supervisor("inner", agent("a", backoff=None), max_restarts=0, backoff=LATE)
    tree = CheckedTree(inner, max_restarts=TRIES)
    tree.manual.add("inner/a")
    for _ in range(TRIES):
        tree.crash("inner/a")
        assert tree.states() == {"inner": "backoff", "inner/a": "stopped"}
        tree.advance(10.0)
    tree.ready("inner/a")
    assert tree.states() == {"inner": "ready", "inner/a": "ready"}
    assert starts(tree, "inner/a") == [10.0 * number for number in range(TRIES + 1)]


def test_a_real_agent_that_crashes_before_it_is_ready_is_restarted_again() -> None:
    tree = a_tree()
    soon = Backoff(wait=wait_fixed(0.02), jitter=0.0)
    add(tree, "a", setup=lambda agent: crash(agent) if agent.incarnation < 4 else None, backoff=soon)
    with tree:
        wait_for(tree, EventType.AGENT_READY, "a")
        assert tree.status("a").incarnation == 4
