"""ray 64539: after many attempts the power in the backoff was more than a float holds, and the loop that retried died.

Here no number of failures breaks a restart, and a policy that does overflow parks its agent and hurts nobody else.
"""

from __future__ import annotations

import math

import pytest
from checked import CheckedTree
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, wait_for
from tenacity import (
    RetryCallState,
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random_exponential,
)
from virtual import agent

from orchestree.strategies import Backoff
from orchestree.strategies.backoff import WaitPolicy
from orchestree.supervisor import EventType
from orchestree.supervisor.events import AgentParked, AgentRestarting


@pytest.mark.slow
def test_10_000_failures_in_a_row_are_10_000_restarts_each_after_30_s_at_most() -> None:
    tree = CheckedTree(agent("a", backoff=Backoff()), max_restarts=10**6)
    for _ in range(10_000):
        tree.crash("a")
        crashed = tree.now
        while (due := tree.core.next_deadline()) is not None:
            tree.advance(due - tree.now)
        assert tree.state("a") == "ready"
        assert tree.now - crashed <= 30.0
    assert tree.node("a").streak.failures == 10_000
    assert tree.node("a").restarts_total == 10_000


@pytest.mark.parametrize("failures", [1_023, 1_024, 10_000, 1_000_000])
@pytest.mark.parametrize(
    "wait",
    [
        Backoff().wait,
        wait_exponential(),
        wait_exponential(multiplier=1e300, exp_base=10, max=60),
        wait_exponential_jitter(max=60),
        wait_random_exponential(max=60),
        wait_chain(wait_none(), wait_exponential(max=60)),
        wait_incrementing(start=1, increment=1e300, max=60),
    ],
)
def test_every_wait_of_tenacity_stands_any_number_of_failures(wait: WaitPolicy, failures: int) -> None:
    tree = CheckedTree(agent("a", backoff=Backoff(wait=wait)), agent("b"), max_restarts=10**6)
    node = tree.node("a")
    node.streak = type(node.streak)(failures=failures)
    tree.crash("a")
    ((_, data),) = tree.events("AGENT_RESTARTING", "a")
    assert isinstance(data, AgentRestarting)
    assert math.isfinite(data.delay)
    assert data.attempt == failures + 1
    assert tree.state("b") == "ready"


def overflowing(state: RetryCallState) -> float:
    return 0.5 * 2.0**state.attempt_number


def test_a_policy_that_overflows_parks_its_agent_and_says_why() -> None:
    tree = CheckedTree(agent("a", backoff=Backoff(wait=overflowing)), agent("b"), max_restarts=10**6)
    node = tree.node("a")
    node.streak = type(node.streak)(failures=5_000)
    tree.crash("a")
    ((_, data),) = tree.events("AGENT_PARKED", "a")
    assert isinstance(data, AgentParked)
    assert "OverflowError" in data.why
    assert tree.states() == {"a": "parked", "b": "ready"}
    tree.start_agent("a")
    assert tree.state("a") == "ready"


def test_a_delay_that_no_clock_will_ever_reach_does_not_stop_the_tree() -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: crash(agent) if agent.incarnation == 1 else agent.sleep(3600),
        backoff=Backoff(wait=wait_fixed(1e300), jitter=0.0))  # fmt: skip
    add(tree, "b")
    with tree:
        wait_for(tree, EventType.AGENT_RESTARTING, "a")
        tree.restart_agent("b", PATIENCE)
        tree.restart_agent("a", PATIENCE)
        assert tree.status("a").state == "ready"
