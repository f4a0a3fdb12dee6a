"""Warnings of `explain`, word for word: what is wrong, and what would mend it."""

from __future__ import annotations

import pytest
from explained import SOON, in_stop_on_empty, looping, root, warned
from tenacity import stop_after_attempt, wait_fixed, wait_none
from virtual import process, supervisor

from orchestree.agents.agent import Agent
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.simulation.explained.lints import Warned
from orchestree.supervisor.spec import AgentEntry, ChildEntry

pytestmark = pytest.mark.policy


class EndsAtOnce(Agent):
    def execute(self) -> None: ...


def test_a_window_that_failures_in_setup_alone_exhaust() -> None:
    backoff = Backoff(wait=wait_none(), rules=(Rule(action="park", phase="execute"),))
    assert warned(explain(looping("it", backoff=backoff)), "exhaustible-window") == Warned(
        name="exhaustible-window",
        path="",
        problem="it alone ends it by failing in setup(): 11th failure after 0s, 10 restarts in 10s allowed",
        advice="a larger max_restarts, a backoff with longer delays or stable_after, or a `stop` that comes first",
    )


def test_more_restarts_at_one_moment_than_are_allowed() -> None:
    found = warned(explain(root(*(looping(name, backoff=SOON) for name in "abc"), max_restarts=2)), "shared-failure")
    assert found == Warned(
        name="shared-failure",
        path="",
        problem="3 restarts at one moment, if all below it fail, end it: 2 restarts in 10s allowed",
        advice="max_restarts=3 or more, or fewer children below one supervisor",
    )


def test_a_stop_that_is_never_reached_as_each_failure_is_the_first() -> None:
    backoff = Backoff(wait=wait_fixed(2), stop=stop_after_attempt(5), stable_after=0.0)
    assert warned(in_stop_on_empty(looping("it", backoff=backoff), backoff=None), "unreachable-give-up") == Warned(
        name="unreachable-give-up",
        path="it",
        problem=(
            "failing at once each time never adds up: 0s of being ready starts the count anew, "
            "so this stop_on_empty tree never ends"
        ),
        advice="stable_after above 0s",
    )


def test_delays_that_are_longer_than_the_time_that_starts_them_anew() -> None:
    found = explain(looping("it", backoff=Backoff(wait=wait_fixed(30.5), stop=stop_after_attempt(3))))
    assert warned(found, "stable-after-below-delay") == Warned(
        name="stable-after-below-delay",
        path="it",
        problem="waits up to 30.5s, but 30s of being ready already starts its delays anew",
        advice="a stable_after of 30.5s or more, or delays that grow less",
    )


@pytest.mark.parametrize(
    ("backoff", "what"),
    [
        (SOON, "parked by its 2nd end"),
        (None, "its 11th end ends its supervisor"),
        (Backoff(), "10 more starts in a minute, and so on"),
    ],
)
def test_a_permanent_agent_whose_code_ends_at_once(backoff: Backoff | None, what: str) -> None:
    tree = AgentEntry(EndsAtOnce, "it", restart="permanent", backoff=backoff)
    assert warned(explain(tree), "permanent-agent-that-ends") == Warned(
        name="permanent-agent-that-ends",
        path="it",
        problem=f"its execute() returns at once, and permanent means that it starts again: {what}",
        advice='restart="transient", or a loop in execute() (LoopingAgent, PeriodicAgent)',
    )


def test_ends_that_go_on_longer_than_was_looked_at_are_told_as_at_least_so_many() -> None:
    often = Backoff(wait=wait_fixed(0.9), jitter=0.0)
    tree = root(AgentEntry(EndsAtOnce, "it", restart="permanent", backoff=often), max_restarts=12)
    found = warned(explain(tree), "permanent-agent-that-ends")
    assert found.problem.endswith("it starts again: at least 64 more starts in a minute, and so on")


def shutdown_warning(*children: ChildEntry, shutdown: float) -> Warned:
    inner = supervisor("inner", *children, shutdown=shutdown, backoff=SOON)
    return warned(explain(root(inner)), "shutdown-longer-than-parents")


def test_one_child_that_may_take_longer_to_stop_than_its_supervisor() -> None:
    assert shutdown_warning(looping("it", shutdown=7.5, backoff=SOON), shutdown=7.0) == Warned(
        name="shutdown-longer-than-parents",
        path="inner",
        problem="it may take 7.5s to stop, its own shutdown is 7s: what is left then is killed",
        advice='shutdown="infinity" here, or less for the children',
    )


def test_children_that_may_take_longer_together() -> None:
    three = [process(f"w{number}", shutdown=2.0, backoff=SOON) for number in range(3)]
    assert shutdown_warning(*three, shutdown=5.0) == Warned(
        name="shutdown-longer-than-parents",
        path="inner",
        problem=(
            "its children, stopped one by one, may take 6s together, its own shutdown is 5s: "
            "what is left then is killed"
        ),
        advice='shutdown="infinity" or 6 here, or less for the children',
    )
