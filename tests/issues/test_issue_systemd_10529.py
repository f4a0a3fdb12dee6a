"""systemd 10529: a unit that had hit its start limit could not be started by hand either, once it was repaired.

Here a person's command is never counted and never refused by a limit, and begins with a full budget.
"""

from __future__ import annotations

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, Switch, a_tree, add
from tenacity import stop_after_attempt
from virtual import agent, supervisor

from orchestree.strategies import Backoff

PARKS = Backoff(stop=stop_after_attempt(3))


@pytest.mark.parametrize("command", ["start_agent", "restart_agent"])
def test_one_that_parked_starts_by_hand_at_once_with_all_its_tries(command: str) -> None:
    tree = CheckedTree(agent("a", backoff=PARKS), agent("b"), max_restarts=10**6)
    for _ in range(20):
        failures = 0
        while tree.state("a") != "parked":
            failures += 1
            tree.crash("a")
            tree.advance(0.5)
        assert failures == 3
        now = tree.now
        getattr(tree, command)("a")
        assert (tree.state("a"), tree.now, tree.node("a").streak.failures) == ("ready", now, 0)


@pytest.mark.parametrize("command", ["start_agent", "restart_agent"])
def test_a_supervisor_that_gave_up_starts_by_hand_at_once_with_an_empty_window(command: str) -> None:
    inner = supervisor("inner", agent("a", backoff=None), agent("b"), max_restarts=2, restart="transient")
    tree = CheckedTree(inner, agent("c"), max_restarts=0)
    for _ in range(20):
        for _ in range(2):
            tree.crash("inner/a")
            assert tree.state("inner") == "ready"
        tree.crash("inner/a")
        assert tree.state("inner") == "failed"
        getattr(tree, command)("inner")
        assert tree.states() == {"inner": "ready", "inner/a": "ready", "inner/b": "ready", "c": "ready"}
    assert tree.now == 0.0


def test_commands_do_not_use_up_the_budget_of_what_crashes_later() -> None:
    tree = CheckedTree(agent("a", backoff=None), max_restarts=1)
    for _ in range(20):
        tree.restart_agent("a")
    tree.crash("a")
    assert tree.state("a") == "ready"
    tree.crash("a")
    assert tree.exit_code == 70


def test_a_real_agent_that_parks_can_be_started_by_hand_again_and_again() -> None:
    tree = a_tree(max_restarts=0)
    switch = Switch()
    add(tree, "a", backoff=Backoff(on_give_up="park", stop=lambda state: True), **switch.hooks())
    with tree:
        for _ in range(5):
            switch.throw()
            tree.wait_until("a", "parked", PATIENCE)
            tree.start_agent("a")
        assert tree.is_running
