"""A `Replay` as a value: what it is shown as, and which paths it can be asked about."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed
from virtual import agent

from orchestree import Backoff, replay, simulate

pytestmark = pytest.mark.policy


def test_its_repr_is_a_summary_and_says_where_log_and_tree_part() -> None:
    tree = [agent("a", backoff=Backoff(wait=wait_fixed(3), jitter=0.0))]
    events = simulate(tree, ["a: crash every 10s"], until=35).events
    assert repr(replay(events)) == f"<Replay of {len(events)} events: 3 decisions>"
    found = replay(events, [agent("a", backoff=None)])
    assert found.divergence is not None
    told = f"<Replay of {len(found.events)} events: 0 decisions; it and the log part at event "
    assert repr(found) == f"{told}{found.divergence.event.seq}>"


def test_a_slash_is_the_root() -> None:
    found = replay(simulate([agent("a", backoff=None)], ["a: crash at 1s"], until=5).events)
    assert found.why("/") == found.why("")
