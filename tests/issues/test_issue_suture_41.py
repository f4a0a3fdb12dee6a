"""suture 41: adding a service to a supervisor that was stopping, or had stopped, blocked for ever.

Here it is refused, or handed in, at once; a supervisor that stops for a while takes it and starts it with the others.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add
from tenacity import wait_fixed
from virtual import agent, refused, supervisor

from orchestree.agents.agent import Agent
from orchestree.agents.ends import NORMAL
from orchestree.strategies import Backoff
from orchestree.supervisor import NotRunning


def test_a_tree_that_stops_or_has_stopped_refuses_what_is_added_and_keeps_nothing_of_it() -> None:
    tree = CheckedTree(agent("a"), supervisor("inner", agent("b")))
    tree.manual.add("a")
    tree.stop()
    assert tree.state("a") == "stopping"
    for parent in ("", "inner"):
        assert isinstance(refused(partial(tree.register, parent, agent("new"))), NotRunning)
    tree.end("a", NORMAL)
    assert tree.exit_code == 0
    for parent in ("", "inner"):
        assert isinstance(refused(partial(tree.register, parent, agent("new"))), NotRunning)
    assert tree.states() == {"a": "stopped", "inner": "stopped", "inner/b": "stopped"}


def test_a_supervisor_that_stops_to_come_back_takes_what_is_added_along() -> None:
    late = Backoff(wait=wait_fixed(10.0), jitter=0.0)
    tree = CheckedTree(supervisor("inner", agent("a"), agent("b", backoff=None), max_restarts=0, backoff=late))
    tree.manual.add("inner/a")
    tree.crash("inner/b")
    assert tree.state("inner") == "stopping"
    tree.register("inner", agent("during-the-stop"))
    tree.end("inner/a", NORMAL)
    tree.register("inner", agent("during-the-delay"))
    assert [run.path for run in tree.live] == []
    tree.manual.clear()
    tree.advance(10.0)
    assert set(tree.states().values()) == {"ready"}
    assert [path.rpartition("/")[2] for path in tree.states()][-2:] == ["during-the-stop", "during-the-delay"]


@pytest.mark.parametrize("hook", ["on_stop", "teardown"])
def test_a_hook_that_adds_to_the_tree_that_stops_it_comes_to_its_end(hook: str) -> None:
    tree, passed = a_tree(), threading.Event()

    def register(agent: Agent) -> None:
        add(tree, "new")
        passed.set()

    add(tree, "a", **{hook: register})
    tree.start()
    tree.stop(PATIENCE)
    assert passed.is_set()
    assert (tree.exit_code, [status.path for status in tree.which_children()]) == (0, ["a"])
    with pytest.raises(NotRunning):
        add(tree, "new")


@pytest.mark.slow
def test_registering_during_a_stop_deadlocks_nobody() -> None:
    for _ in range(20):
        tree = a_tree()
        for number in range(3):
            add(tree, f"a{number}")
        tree.start()
        refusals: list[BaseException] = []

        def register(tree: Any = tree, refusals: list[BaseException] = refusals) -> None:
            try:
                for number in range(10_000):
                    add(tree, f"b{number}", kind=AsyncDoes)
            except Exception as error:
                refusals.append(error)

        adding = threading.Thread(target=register)
        adding.start()
        tree.stop()
        adding.join(PATIENCE)
        assert not adding.is_alive()
        assert len(refusals) == 1
