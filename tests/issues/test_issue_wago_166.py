"""wago 166 and KiroCrew 10649: the late exit of an old generation was taken for one of the new, or ended its watch.

Here reports carry the incarnation: what an old one says changes nothing, and a start by hand that fails is watched on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, a_tree, add, types
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent

from orchestree.agents.agent import Agent
from orchestree.agents.ends import NORMAL, Cause, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunReady
from orchestree.strategies import Backoff

LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0, stop=stop_after_attempt(3))


def replaced() -> CheckedTree:
    """Return a tree whose ``a`` is STARTING for the second time, beside a first run that does not end."""
    tree = CheckedTree(agent("a", backoff=LATE, shutdown=1.0, replace_wedged=True), agent("b"))
    tree.manual.add("a")
    tree.restart_agent("a")
    tree.advance(1.1)
    assert [run.incarnation for run in tree.live if run.path == "a"] == [1, 2]
    return tree


def park(tree: CheckedTree) -> None:
    for _ in range(3):
        tree.crash("a")
        tree.advance(10.0)


MOVES: dict[str, Callable[[CheckedTree], None]] = {
    "starting": lambda tree: None,
    "ready": lambda tree: tree.ready("a"),
    "stopping": lambda tree: tree.stop_agent("a"),
    "backoff": lambda tree: tree.crash("a"),
    "parked": park,
    "completed": lambda tree: tree.complete("a"),
}


@pytest.mark.parametrize("state", MOVES)
@pytest.mark.parametrize("reason", [NORMAL, abnormal(Cause.SIGNAL)])
def test_the_late_end_of_a_superseded_run_changes_nothing(state: str, reason: ExitReason) -> None:
    tree = replaced()
    MOVES[state](tree)
    assert tree.state("a") == state
    node, mark, running = tree.node("a"), tree.mark(), {run for run in tree.live if run != RunId("a", 1)}
    before = (tree.incarnations(), node.streak, node.restarts_total, node.ready_since, tree.core.next_deadline())
    old = RunId("a", 1)
    tree.tell(RunReady(old))
    tree.tell(RunMessage(old, "late", {}))
    tree.tell(tree._end(old, reason))
    tree.tell(RunEnded(run=old, reason=abnormal(Cause.LOST)))
    assert tree.state("a") == state
    assert tree.lines(since=mark) == []
    after = (tree.incarnations(), node.streak, node.restarts_total, node.ready_since, tree.core.next_deadline())
    assert (after, set(tree.live)) == (before, running)
    assert tree.core.world.root.window.count(tree.now) <= 3


def test_the_late_end_of_a_superseded_run_does_not_end_the_new_agent_of_its_name() -> None:
    tree = replaced()
    tree.stop_agent("a")
    tree.end("a", NORMAL)
    tree.unregister("a")
    tree.manual.clear()
    tree.register("", agent("a"))
    mark = tree.mark()
    tree.tell(tree._end(RunId("a", 1), abnormal(Cause.SIGNAL)))
    assert (tree.states(), tree.lines(since=mark)) == ({"b": "ready", "a": "ready"}, [])
    assert tree.run_of("a") == RunId("a", 2), "not 1, which is still taken"


def test_a_start_by_hand_that_fails_is_followed_by_the_next_delay() -> None:
    forever = Backoff(wait=wait_fixed(10.0), jitter=0.0)
    tree = CheckedTree(agent("a", backoff=forever), max_restarts=100)
    tree.manual.add("a")
    tree.crash("a")
    for _ in range(10):
        tree.advance(5.0)
        tree.restart_agent("a")
        assert tree.state("a") == "starting"
        tree.crash("a")
        assert (tree.state("a"), tree.core.next_deadline()) == ("backoff", tree.now + 10.0)
    tree.advance(10.0)
    tree.ready("a")
    assert (tree.state("a"), tree.node("a").incarnation) == ("ready", 12)


def test_a_real_thread_that_ends_after_it_was_replaced_is_not_taken_for_its_successor() -> None:
    let_go = threading.Event()

    def hang(agent: Agent) -> None:
        if agent.incarnation == 1:
            let_go.wait(PATIENCE)
            raise ValueError("too late")
        agent.sleep(3600)

    tree = a_tree(max_restarts=0)
    add(tree, "a", hang, shutdown=0.05, replace_wedged=True)
    add(tree, "b")
    with tree:
        tree.restart_agent("a", PATIENCE)
        before = types(tree, "a")
        (old,) = [thread for thread in threading.enumerate() if thread.name == "orchestree:a#1"]
        let_go.set()
        old.join(PATIENCE)
        assert not old.is_alive()
        # Its last report was handed in before this, and is served before it.
        tree.restart_agent("b", PATIENCE)
        assert types(tree, "a") == before
        assert (tree.status("a").state, tree.status("a").incarnation) == ("ready", 2)
