"""What hangs, deaf agents and slow starts lead to: the same steps with real threads, coroutines and processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import pytest
from orchestree_testing.trees import a_tree, wait_for
from orchestree_testing.troubled_agents import TROUBLE_S, AsyncTroubled, CrashesOnce, Troubled
from simulated import STEADY

from orchestree import EventType, Orchestrator, simulate
from orchestree.supervisor import Event

pytestmark = [pytest.mark.policy, pytest.mark.slow]

Executor = Literal["thread", "async", "process"]
Trouble = Literal["hang", "ignore stop", "slow start"]

TIMES: Final[dict[str, Any]] = {"shutdown": 0.2, "start_timeout": 0.8}
"""A process must be able to start in this time on a busy machine."""
FAULTS: Final[dict[Trouble, Sequence[str]]] = {
    "hang": [f"w: hang at 0s for {TROUBLE_S}s"],
    "ignore stop": [f"w: ignore stop to {TROUBLE_S}s", "x: crash at 100ms"],
    "slow start": [f"w: slow start {TROUBLE_S}s to 1ms"],
}


def tree_of(executor: Executor, trouble: Trouble) -> Orchestrator:
    """Return a tree of ``w``, and for a stop that is ignored of ``x``, whose failure stops it."""
    tree = a_tree(strategy="one_for_all")
    fields: dict[str, Any] = {"backoff": STEADY, "params": {"trouble": trouble}, **TIMES}
    if trouble == "hang":
        fields["watchdog"] = 0.3
    if executor == "async":
        tree.register_agent(AsyncTroubled, "w", **fields)
    else:
        tree.register_agent(Troubled, "w", executor=executor, **fields)
    if trouble == "ignore stop":
        tree.register_agent(CrashesOnce, "x", backoff=STEADY, depends_on=["w"])
    return tree


def steps(events: Sequence[Event]) -> list[str]:
    """Return what became of ``w`` until its second run was ready."""
    of_it = [event.type for event in events if event.path == "w" and event.type is not EventType.AGENT_REGISTERED]
    second = [place for place, kind in enumerate(of_it) if kind is EventType.AGENT_STARTING][1]
    return [str(kind) for kind in of_it[: second + 2]]


@pytest.mark.parametrize("trouble", FAULTS)
@pytest.mark.parametrize("executor", ["thread", "async", "process"])
def test_a_real_agent_in_trouble_goes_through_the_steps_of_its_simulation(executor: Executor, trouble: Trouble) -> None:
    simulation = simulate(tree_of(executor, trouble), FAULTS[trouble], until=60.0)
    tree = tree_of(executor, trouble)
    with tree:
        starting = wait_for(tree, EventType.AGENT_STARTING, "w", 2)
        tree.events.wait_for(EventType.AGENT_READY, "w", since=starting.seq, timeout=20.0)
        live = tree.history("w", limit=None)
    assert steps(live) == steps(simulation.events)
    assert steps(live)[-1] == "agent_ready"
