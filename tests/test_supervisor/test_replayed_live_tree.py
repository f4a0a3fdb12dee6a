"""`replay` with a tree that has run."""

from __future__ import annotations

import pytest
from virtual import Worker

from orchestree import Orchestrator, SpecError, replay


def test_a_tree_that_runs_is_refused() -> None:
    tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))
    tree.register_agent(Worker, "a")
    with tree:
        pass
    events = tree.history(limit=None)
    with pytest.raises(SpecError, match="has been started: make a new one"):
        replay(events, tree)
