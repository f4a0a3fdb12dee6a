"""Supervisor 1043 and 895: a step of the wall clock made a start last for ever, or crashed the daemon.

Here the wall clock is a label; deadlines, delays and uptimes go by the monotonic clock alone.
"""

from __future__ import annotations

import time
from itertools import count

import pytest
from checked import CheckedTree
from orchestree_testing.trees import FAST, PATIENCE, a_tree, add, crash, wait_for
from tenacity import wait_fixed
from virtual import agent

from orchestree.agents.agent import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import EventType
from orchestree.supervisor.inputs import Tick

E = EventType
SOON = Backoff(wait=wait_fixed(0.02), jitter=0.0)
DAY = 86_400.0


@pytest.fixture
def mad_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each look at the wall clock differ from the last by days, in both directions."""
    real, looks = time.time, count(1)
    monkeypatch.setattr(time, "time", lambda: real() + DAY * (-1) ** (look := next(looks)) * (look % 30))


def hang_once(agent: Agent) -> None:
    if agent.incarnation == 1:
        agent.sleep(3600)


@pytest.mark.usefixtures("mad_clock")
def test_a_clock_that_jumps_neither_shortens_nor_prolongs_a_start() -> None:
    tree = a_tree()
    add(tree, "patient", setup=lambda agent: agent.sleep(0.1), start_timeout=PATIENCE)
    add(tree, "slow", setup=hang_once, start_timeout=0.05, backoff=SOON)
    with tree:
        wait_for(tree, E.AGENT_READY, "slow")
        tree.wait_until("patient", "ready", PATIENCE)
        assert tree.status("slow").incarnation == 2
        last_crash = tree.status("slow").last_crash
        assert last_crash is not None
        assert last_crash.cause == "start_timeout"
        assert 0.05 <= last_crash.uptime_s < PATIENCE
        assert tree.status("patient").incarnation == 1


@pytest.mark.usefixtures("mad_clock")
def test_a_clock_that_jumps_during_many_restarts_loses_none() -> None:
    tree = a_tree()
    add(tree, "bad", crash, **FAST)
    add(tree, "good")
    with tree:
        wait_for(tree, E.AGENT_STARTING, "bad", count=50)
        tree.restart_agent("good", PATIENCE)
        events = tree.history(limit=None)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    moments = [event.monotonic for event in events]
    assert moments == sorted(moments)


def test_a_step_of_the_wall_clock_during_a_delay_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: crash(agent) if agent.incarnation < 3 else agent.sleep(3600), backoff=SOON)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - DAY)
    with tree:
        wait_for(tree, E.AGENT_READY, "a", count=3)
        assert (tree.status("a").uptime_s or 0) < PATIENCE


def test_even_a_core_that_is_told_of_the_past_neither_shortens_nor_prolongs_a_delay() -> None:
    tree = CheckedTree(agent("a", backoff=Backoff(wait=wait_fixed(10.0), jitter=0.0)))
    tree.advance(100.0)
    tree.tell(Tick())
    tree.now = 5.0
    tree.crash("a")
    assert (tree.state("a"), tree.core.next_deadline()) == ("backoff", 110.0)
    tree.tell(Tick())
    assert tree.state("a") == "backoff"
    tree.advance(105.0)
    assert (tree.state("a"), tree.node("a").incarnation) == ("ready", 2)
