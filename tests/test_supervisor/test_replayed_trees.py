"""What a replay knows of each child: its place, its strategy, who is stopped with it, and what was drawn for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from replay_support import Noted, entry_of, noted, replayed
from tenacity import wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree import Backoff, RunMode, replay, simulate
from orchestree.supervisor.events import OrchestratorStarted
from orchestree.supervisor.simulation.faults import Complete, Crash
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

LATER = Backoff(wait=wait_fixed(2.0), jitter=0.0)


def tree_of(*children: ChildEntry, **settings: Any) -> tuple[VirtualTree, Noted]:
    tree = VirtualTree(*children, settings=Settings(**settings), started=False)
    return tree, noted(tree)


def test_those_that_had_nobody_to_stop_are_of_the_group_as_well() -> None:
    waits = agent("waits", depends_on=["b"])
    children: list[ChildEntry] = [agent("a", backoff=LATER), agent("b"), supervisor("pool", dynamic=True)]
    children.append(supervisor("c", agent("y")))
    team = supervisor("team", *children, waits, strategy="one_for_all")
    tree, before = tree_of(supervisor("s", team, agent("x")))
    tree.stubborn.add("s/team/c/y")
    tree.crash("s/team/a")
    tree.advance(1.0)
    group = ("s/team/b", "s/team/pool", "s/team/c", "s/team/waits")
    assert replayed(before).decisions[0].group == group


def test_at_the_top_the_group_is_that_of_the_tree() -> None:
    children: list[ChildEntry] = [agent("a", backoff=LATER), supervisor("pool", dynamic=True), agent("b")]
    tree = VirtualTree(*children, strategy="one_for_all", started=False)
    before = noted(tree)
    tree.crash("a")
    tree.advance(5.0)
    assert replayed(before).decisions[0].group == ("pool", "b")


def test_a_group_that_starts_again_at_once_is_known_by_what_was_said() -> None:
    team = supervisor("team", agent("a", backoff=None), supervisor("pool", dynamic=True), strategy="one_for_all")
    tree, before = tree_of(supervisor("s", team, agent("x")), supervisor("other", dynamic=True))
    tree.crash("s/team/a")
    assert replayed(before).decisions[0].group == ("s/team/pool",)


def test_supervisors_without_agents_keep_their_places() -> None:
    inner = supervisor("t", supervisor("pool", dynamic=True), agent("y"), strategy="rest_for_one")
    children = [supervisor("empty"), supervisor("s", supervisor("none"), inner, agent("x"), strategy="rest_for_one")]
    tree, before = tree_of(*children, agent("b"))
    tree.start_child("s/t/pool", agent("late"))
    tree.crash("s/t/y")
    tree.advance(1.0)
    tree.stop()
    replayed(before)


def test_the_strategy_of_an_agent_of_its_own_is_told() -> None:
    children = [agent("a", strategy="one_for_all"), agent("b")]
    tree, before = tree_of(supervisor("s", *children, strategy="rest_for_one"))
    for path in ("s/a", "s/b"):
        tree.crash(path)
        tree.advance(1.0)
    assert [one.inputs.strategy for one in replayed(before).decisions] == ["one_for_all", "rest_for_one"]


def test_what_was_drawn_for_one_that_ended_well_is_told() -> None:
    tree = [agent("a", restart="permanent", backoff=Backoff(wait=wait_fixed(2.0), jitter=0.5))]
    events = simulate(tree, [Complete("a", at=5.0, every=60.0, times=3)], until=300.0, seed=3).events
    found = replay(events, tree)
    assert found.divergence is None
    draws = [one.draw for one in found.decisions]
    assert len(draws) == 3
    for one in found.decisions:
        assert one.draw is not None
        assert one.delay == pytest.approx(2.0 * (1.0 - 0.5 * one.draw))


def test_what_was_drawn_for_a_supervisor_is_computed_from_its_delay() -> None:
    drawn = Backoff(wait=wait_fixed(2.0), jitter=0.5)
    failing = supervisor("s", agent("x", backoff=None), backoff=drawn, max_restarts=0)
    tree: list[ChildEntry] = [failing, agent("b", backoff=drawn)]
    faults = [Crash("s/x", at=5.0, every=60.0, times=3), Crash("b", at=6.0)]
    first, *rest = simulate(tree, faults, until=300.0, seed=3).events
    assert isinstance(first.data, OrchestratorStarted)
    found = replay([replace(first, data=replace(first.data, seed=None)), *rest])
    assert found.divergence is None
    delays = [(one.path, one.delay) for one in found.decisions if one.delay is not None]
    assert [path for path, _ in delays] == ["s", "b", "s", "s"]
    assert len({delay for _, delay in delays}) == 4


def test_without_a_delay_or_jitter_nothing_was_drawn() -> None:
    tree, before = tree_of(agent("a", restart="permanent", backoff=LATER), agent("b", backoff=None))
    tree.complete("a")
    tree.crash("b")
    assert [one.draw for one in replayed(before).decisions] == [None, None]


@pytest.mark.parametrize("run_mode", ["daemon", "stop_on_empty"])
def test_the_run_mode_says_whether_the_tree_ends_when_it_is_empty(run_mode: str) -> None:
    tree, before = tree_of(agent("a"), run_mode=RunMode(run_mode))
    tree.complete("a")
    assert (tree.exit_code == 0) == (run_mode == "stop_on_empty")
    replayed(before)


def test_those_that_came_later_do_not_hide_that_a_hook_has_left_one_out() -> None:
    tree, before = tree_of(agent("a"), supervisor("s", agent("x")))
    tree.register("", agent("late"))
    tree.register("s", agent("y"))
    found = replay(before.events(), entry_of(agent("a"), supervisor("s", agent("x"), agent("z"))))
    assert found.divergence is None
    assert found.assumptions[0] == "the log does not name s/z: a hook before_start has left that out"


def test_one_that_failed_to_stop_well_makes_the_same_decisions() -> None:
    children = [agent("a", backoff=LATER), agent("b"), agent("t", restart="temporary")]
    tree, before = tree_of(supervisor("s", *children, strategy="one_for_all"), agent("c"))
    tree.manual |= {"s/b", "s/t", "c"}
    tree.crash("s/a")
    tree.crash("s/b", "at the end")
    tree.crash("s/t", "at the end")
    tree.stop_agent("c")
    tree.crash("c", "at the end")
    tree.manual.clear()
    tree.advance(5.0)
    tree.manual.add("c")
    tree.start_agent("c")
    tree.ready("c")
    tree.restart_agent("c")
    tree.crash("c", "at the end")
    tree.ready("c")
    assert {data.shutdown_error for _, data in tree.events("AGENT_RESTARTING", "s/b")} == {"at the end"}  # type: ignore[union-attr]
    assert [one.path for one in replayed(before).decisions] == ["s/a"]
