"""actor-ts 1255: without a limit of restarts there was no record of them, so the delay never grew.

Here the delay comes from the streak of the agent, whatever the window of its supervisor counts or forgets.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from checked import CheckedTree
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies import Backoff
from orchestree.supervisor import Orchestrator
from orchestree.supervisor.world import Settings

UNLIMITED = 10**9
GROWING = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def delays(tree: CheckedTree, path: str, end: Callable[[], None]) -> list[float]:
    """Return how long each of the restarts took that follow as many ends."""
    taken = []
    for _ in GROWING:
        ended = tree.now
        end()
        while tree.state(path) == "backoff":
            tree.advance(0.25)
        taken.append(tree.now - ended)
    return taken


@pytest.mark.parametrize("seconds", [0.1, 10.0, 1e9])
def test_the_delay_grows_without_a_limit_of_restarts(seconds: float) -> None:
    tree = CheckedTree(agent("a"), max_restarts=UNLIMITED, max_seconds=seconds)
    assert delays(tree, "a", lambda: tree.crash("a")) == GROWING


def test_the_delay_grows_also_for_what_always_ends_normally() -> None:
    tree = CheckedTree(agent("a", restart="permanent"), max_restarts=UNLIMITED)
    assert delays(tree, "a", lambda: tree.end("a", NORMAL)) == GROWING


def test_the_delay_grows_also_for_a_supervisor() -> None:
    tree = CheckedTree(supervisor("inner", agent("a", backoff=None), max_restarts=0), max_restarts=UNLIMITED)
    assert delays(tree, "inner", lambda: tree.crash("inner/a")) == GROWING


def test_a_daemon_never_gives_up_by_default_and_yet_waits() -> None:
    config = Orchestrator.Config(run_mode="daemon", max_restarts=UNLIMITED)
    backoff = config.default_backoff()
    assert isinstance(backoff, Backoff)
    assert backoff.stop is None
    tree = CheckedTree(agent("a"), settings=Settings(backoff=backoff), max_restarts=UNLIMITED)
    assert delays(tree, "a", lambda: tree.crash("a")) == GROWING
