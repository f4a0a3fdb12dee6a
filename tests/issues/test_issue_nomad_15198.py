"""nomad 15198: a restart that a failed check had triggered came at once, although a delay had been announced.

Here every failure, whoever noticed it, is followed by exactly the delay that its AGENT_RESTARTING announces.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from checked import CheckedTree
from tenacity import wait_fixed
from virtual import agent, process, supervisor

from orchestree.agents.ends import Cause, abnormal
from orchestree.strategies import Backoff
from orchestree.supervisor.events import AgentRestarting, SupervisorRestarting
from orchestree.supervisor.world import Settings

LATE = Backoff(wait=wait_fixed(15.0), jitter=0.25)


def fail_to_start(tree: CheckedTree) -> None:
    tree.restart_agent("a")
    tree.end("a", abnormal(Cause.SIGNAL))
    tree.end("a", abnormal(Cause.START_FAILED))


def start_too_slowly(tree: CheckedTree) -> None:
    tree.restart_agent("a")
    tree.end("a", abnormal(Cause.SIGNAL))
    tree.advance(2.0)


FAILURES: dict[str, Callable[[CheckedTree], None]] = {
    **{cause: lambda tree, cause=cause: tree.end("a", abnormal(cause)) for cause in list(Cause)[5:]},  # type: ignore[misc]
    "failed start": fail_to_start,
    "slow start": start_too_slowly,
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one", "dependents"])
def test_the_delay_that_is_announced_is_the_delay_that_is_kept(strategy: str, failure: str) -> None:
    tree = CheckedTree(
        process("a", backoff=LATE, start_timeout=2.0), agent("b", depends_on=["a"]),
        strategy=strategy, max_restarts=50, settings=Settings(draw=lambda: 0.5),
    )  # fmt: skip
    tree.manual.add("a")
    FAILURES[failure](tree)
    at, data = tree.events("AGENT_RESTARTING", "a")[-1]
    assert isinstance(data, AgentRestarting)
    assert data.delay == 15.0 * 0.875
    assert (tree.state("a"), tree.core.next_deadline()) == ("backoff", at + data.delay)
    tree.advance(at + data.delay - tree.now)
    assert tree.events("AGENT_STARTING", "a")[-1][0] == at + data.delay


def test_a_start_that_hangs_and_cannot_be_killed_is_not_replaced_before_its_delay() -> None:
    tree = CheckedTree(agent("a", backoff=LATE, start_timeout=2.0, shutdown=1.0, replace_wedged=True), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(3.1)
    ((at, data),) = tree.events("AGENT_RESTARTING", "a")
    assert isinstance(data, AgentRestarting)
    assert (at, data.delay) == (3.1, 15.0)
    tree.advance(14.9)
    assert tree.node("a").incarnation == 1
    tree.advance(0.1)
    assert tree.events("AGENT_STARTING", "a")[-1][0] == 18.1


def test_a_supervisor_that_ran_out_of_restarts_keeps_its_announced_delay_too() -> None:
    tree = CheckedTree(supervisor("inner", process("a", backoff=None), max_restarts=0, backoff=LATE))
    tree.end("inner/a", abnormal(Cause.LOST))
    ((at, data),) = tree.events("SUPERVISOR_RESTARTING", "inner")
    assert isinstance(data, SupervisorRestarting)
    assert (data.delay, tree.core.next_deadline()) == (15.0, at + 15.0)
    tree.advance(15.0)
    assert [now for now, _ in tree.events("AGENT_STARTING", "inner/a")] == [0.0, 15.0]
