"""klarna/supervisor3 14: a child deleted while its restart was pending stayed behind as a zombie.

Here a deleted child is gone with its timer: nothing comes back at the old time, and its name is free for another.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, wait_for
from tenacity import wait_fixed
from virtual import agent, supervisor

from orchestree.strategies import Backoff
from orchestree.supervisor import EventType, NotFound

LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0)


@pytest.mark.parametrize(("crashes", "deleted"), [("a", "a"), ("inner/x", "inner")])
def test_nothing_is_left_of_what_is_deleted_in_its_delay(crashes: str, deleted: str) -> None:
    inner = supervisor("inner", agent("x", backoff=None), agent("y"), max_restarts=0, backoff=LATE)
    tree = CheckedTree(agent("a", backoff=LATE), inner, agent("b"))
    tree.crash(crashes)
    assert tree.state(deleted) == "backoff"
    tree.unregister(deleted)
    assert tree.core.next_deadline() is None
    assert not [path for path in [*tree.states(), *(run.path for run in tree.live)] if path.startswith(deleted)]
    mark, states = tree.mark(), tree.states()
    tree.advance(3600.0)
    assert (tree.states(), tree.lines(since=mark)) == (states, [])


def test_the_timer_of_a_deleted_child_does_not_touch_the_next_one_of_its_name() -> None:
    tree = CheckedTree(agent("a", backoff=LATE))
    tree.crash("a")
    tree.advance(4.0)
    tree.unregister("a")
    tree.register("", agent("a", backoff=LATE))
    assert tree.incarnations() == {"a": 1}
    tree.advance(1.0)
    tree.crash("a")
    tree.advance(9.9)
    assert (tree.now, tree.state("a")) == (14.9, "backoff"), "the old timer was due at 10"
    tree.advance(0.1)
    assert tree.state("a") == "ready"
    assert [now for now, _ in tree.events("AGENT_STARTING", "a")] == [0.0, 4.0, 15.0]


def test_the_group_of_a_deleted_child_starts_at_its_time_without_it() -> None:
    tree = CheckedTree(agent("a"), agent("b", backoff=LATE), agent("c"), strategy="one_for_all")
    tree.crash("b")
    tree.advance(5.0)
    tree.unregister("b")
    tree.advance(5.0)
    assert tree.states() == {"a": "ready", "c": "ready"}
    assert [now for now, _ in tree.events("AGENT_STARTING", "c")] == [0.0, 10.0]


def test_a_real_agent_that_is_deleted_in_its_delay_can_be_registered_anew() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=Backoff(wait=wait_fixed(3600), jitter=0.0))
    with tree:
        wait_for(tree, EventType.AGENT_RESTARTING, "a")
        tree.unregister_agent("a")
        with pytest.raises(NotFound):
            tree.status("a")
        add(tree, "a")
        tree.wait_until("a", "ready", PATIENCE)
        assert tree.status("a").incarnation == 1
