"""Runs that hang or use too much: what they must have answered leads to what the log says, in the same words."""

from __future__ import annotations

from typing import Any

import pytest
from replay_support import Noted, entry_of, noted
from virtual import VirtualTree, agent

from orchestree import Backoff, Replay, Rule, replay
from orchestree.agents.agent import LoopingAgent
from orchestree.agents.executor import Blocked, RunId, RunProgress
from orchestree.supervisor.events import AgentCrashed
from orchestree.supervisor.inputs import Effect, Input, LookAtRun, Tick
from orchestree.supervisor.spec import AgentEntry, ChildEntry

pytestmark = pytest.mark.policy

MIB = 2**20
SAID = Backoff(jitter=0.0, rules=(Rule(action="park", cause="watchdog"), Rule(action="park", cause="memory")))
"""Parks, and says for what: in a replay the core makes these words anew."""


class Rounds(LoopingAgent):
    """Can end between two rounds."""

    def runner(self) -> None: ...


class SharedLoop(VirtualTree):
    """A tree in which ``a`` and ``b`` live on one loop."""

    blocked: Blocked | None = None

    def _carry_out(self, effect: Effect) -> list[Input]:
        if isinstance(effect, LookAtRun) and effect.run.path in "ab" and self.blocked is not None:
            return [RunProgress(effect.run, self.blocked.since, "", self.blocked)]
        return super()._carry_out(effect)


def replayed(before: Noted, *children: ChildEntry) -> Replay:
    """Return the replay, which is the same with the tree and without it, and commands what was commanded."""
    found = replay(before.events(), entry_of(*children))
    for one in (found, replay(before.events())):
        assert one.divergence is None, str(one.divergence)
        assert list(one.commands) == [made for made in before.commands if made.now <= one.events[-1].monotonic]
    return found


def crashes(tree: VirtualTree, path: str) -> list[str]:
    return [data.report.message for _, data in tree.events("AGENT_CRASHED", path) if isinstance(data, AgentCrashed)]


@pytest.mark.parametrize(
    ("since", "limit"), [(0.0, 2.5), (3.0, 2.5), (11.5, 2.5), (0.7, 0.3), (2.2, 0.7), (8.2, 2.3), (8.5, 2.3)]
)
def test_for_how_long_one_was_silent_is_known(since: float, limit: float) -> None:
    child = agent("a", watchdog=limit, shutdown=1.0, backoff=SAID)
    tree = VirtualTree(child, started=False)
    before = noted(tree)
    tree.advance(since)
    tree.beats["a"] = (since, "")
    tree.advance(10)
    assert crashes(tree, "a") == [f"no progress for {limit} s (watchdog {limit} s)"]
    assert tree.state("a") == "parked"
    assert replayed(before, child).decisions[0].outcome == "parked"


def test_a_look_that_came_late_has_found_a_longer_silence() -> None:
    child = agent("a", watchdog=10.0, shutdown=1.0, backoff=SAID)
    tree = VirtualTree(child, started=False)
    before = noted(tree)
    tree.beats["a"] = (2.0, "")
    tree.advance(9.5)
    tree.now = 10.5
    tree.advance(20)
    assert crashes(tree, "a") == ["no progress for 10.5 s (watchdog 10 s)"]
    replayed(before, child)


def test_one_that_hangs_in_each_of_its_runs_is_found_each_time() -> None:
    child = agent("a", watchdog=2.0, shutdown=1.0, backoff=Backoff(jitter=0.0))
    tree = VirtualTree(child, agent("b", watchdog=3.0), started=False)
    before = noted(tree)
    for _ in range(4):
        tree.advance(5.25)
        tree.beats["a"] = (tree.now, "")
        tree.advance(2.5)
        del tree.beats["a"]
    assert len(crashes(tree, "a")) == 4
    found = replayed(before, child, agent("b", watchdog=3.0))
    assert [one.inputs.failures for one in found.decisions] == [0, 1, 2, 3]


def test_one_that_blocks_the_loop_of_another_is_found_by_that() -> None:
    others = [agent("first", watchdog=20.0), agent("second", watchdog=10.0)]
    children = [*others, agent("a", watchdog=10.0), agent("b", shutdown=2.0, backoff=SAID)]
    tree = SharedLoop(*children, started=False)
    before = noted(tree)
    tree.advance(3.0)
    tree.blocked = Blocked(by=RunId("b", 1), loop=None, since=3.0)
    tree.stubborn.add("b")
    tree.advance(25.0)
    assert tree.state("b") == "wedged"
    assert crashes(tree, "b") == ["blocks its event loop for 10 s (watchdog 10 s of a)"]
    tree.blocked = None
    tree.advance(10.0)
    found = replayed(before, *children)
    assert found.decisions[0].path == "b"
    events = before.events()
    for end in range(6, len(events)):
        assert replay(events[:end]).divergence is None, "who has found it is told when it has ended"


@pytest.mark.parametrize("used", [100 * MIB + 1, 150 * MIB, 3 * 2**30])
def test_how_much_one_used_right_after_its_setup_is_known(used: int) -> None:
    child = agent("a", executor="process", max_memory=100 * MIB, shutdown=2.0)
    tree = VirtualTree(child, agent("b"), started=False)
    tree.memory["a"] = used
    before = noted(tree)
    tree.advance(5)
    assert tree.state("a") == "parked"
    replayed(before, child, agent("b"))


@pytest.mark.parametrize("shutdown", [2.0, "brutal_kill"])
def test_how_much_one_used_later_is_known(shutdown: Any) -> None:
    child = AgentEntry(Rounds, "a", executor="process", max_memory=100 * MIB, shutdown=shutdown, backoff=SAID)
    tree = VirtualTree(child, agent("b"), started=False)
    before = noted(tree)
    tree.advance(12)
    tree.memory["a"] = 123 * MIB
    tree.advance(12)
    assert tree.state("a") == "parked"
    assert crashes(tree, "a")[0].startswith("uses 123")
    found = replayed(before, child, agent("b"))
    assert found.decisions[0].why.startswith("a rule says so: uses 123")


def test_one_that_ends_between_two_rounds_is_recycled_at_its_next_measurement() -> None:
    child = AgentEntry(Rounds, "a", executor="process", max_memory=100 * MIB, shutdown=2.0)
    tree = VirtualTree(child, started=False)
    tree.rounds.add("a")
    tree.manual.add("a")
    before = noted(tree)
    for _ in range(3):
        tree.memory["a"] = 50 * MIB
        tree.ready("a")
        tree.advance(12)
        tree.memory["a"] = 150 * MIB
        tree.advance(4)
    assert tree.node("a").incarnation == 4
    assert replayed(before, child).decisions == ()


def test_one_that_is_told_to_end_and_does_not_is_ended() -> None:
    child = AgentEntry(Rounds, "a", executor="process", max_memory=100 * MIB, max_age=8.0, shutdown=2.0)
    tree = VirtualTree(child, agent("b"), started=False)
    before = noted(tree)
    tree.advance(9)
    tree.memory["a"] = 150 * MIB
    tree.advance(12)
    assert tree.node("a").incarnation == 2
    replayed(before, child, agent("b"))


@pytest.mark.parametrize("shutdown", [2.0, "brutal_kill"])
def test_something_else_may_come_between_a_measurement_that_is_due_and_what_it_shows(shutdown: Any) -> None:
    children = [
        AgentEntry(Rounds, "a", executor="process", max_memory=100 * MIB, shutdown=shutdown, backoff=SAID),
        agent("b", backoff=None),
    ]
    tree = VirtualTree(*children, started=False)
    before = noted(tree)
    tree.advance(14.9)
    tree.memory["a"] = 123 * MIB
    tree.now = 15.001
    tree.crash("b")
    tree.now = 15.002
    tree.tell(Tick())
    tree.advance(5.0)
    assert tree.state("a") == "parked"
    found = replay(before.events(), entry_of(*children))
    assert found.divergence is None
    assert [one.path for one in found.decisions] == ["b", "a"]
