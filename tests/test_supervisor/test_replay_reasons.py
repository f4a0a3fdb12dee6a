"""`Replay.why`: of everything that may have happened to a child, the one thing is told that made it as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from replay_support import entry_of, noted
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree import Backoff, Replay, SpecError, replay, simulate
from orchestree.supervisor.events import Command
from orchestree.supervisor.simulation.faults import Crash
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy

ONCE = Backoff(stop=stop_after_attempt(1))
LATER = Backoff(wait=wait_fixed(5.0), jitter=0.0)


class Told:
    """A tree whose events are replayed whenever something is asked."""

    def __init__(self, *children: ChildEntry, **root: Any) -> None:
        self.tree = VirtualTree(*children, started=False, **root)
        self._root = entry_of(*children, **root)
        self._noted = noted(self.tree)

    @property
    def replay(self) -> Replay:
        found = replay(self._noted.events(), self._root)
        assert found.divergence is None, str(found.divergence)
        return found

    def why(self, path: str) -> list[str]:
        return self.replay.why(path).splitlines()

    def outcomes(self) -> list[tuple[str, str]]:
        return [(one.path, one.outcome) for one in self.replay.decisions]

    def then(self, name: str, *arguments: str) -> Told:
        """Have something happen to the tree, and let a second pass."""
        getattr(self.tree, name)(*arguments)
        self.tree.advance(1)
        return self


def by_the_program(moment: int, command: str, number: int) -> str:
    return f"it was asked for at {moment} s, event {number}: {command}, by the program itself"


# What came later is not the reason


def test_one_that_somebody_stopped_is_not_down_because_the_tree_stopped_later() -> None:
    told = Told(agent("a"), supervisor("s", agent("x"))).then("stop_agent", "a").then("stop_agent", "s").then("stop")
    assert told.why("a")[0].endswith("stopped since 0 s")
    assert ": stop a, by the program itself" in told.why("a")[1]
    assert ": stop s, by the program itself" in told.why("s/x")[1]
    assert ": stop s, by the program itself" in told.why("s")[1]
    assert told.why("")[1].startswith("the whole tree stops since 2 s")


def test_the_first_that_stopped_it_is_told_though_its_turn_came_later() -> None:
    told = Told(supervisor("s", agent("x"), agent("y")))
    told.tree.stubborn.add("s/y")
    told.then("stop_agent", "s").then("stop")
    told.tree.advance(60)
    assert told.tree.state("s/x") == "stopped"
    assert ": stop s, by the program itself" in told.why("s/x")[1]


def test_a_temporary_one_that_crashed_is_not_restarted_for_its_type() -> None:
    told = Told(agent("t", restart="temporary"), agent("u")).then("crash", "t").then("stop")
    assert told.why("t")[0] == "t at 1 s: not in the tree since 0 s: failed, and not kept"
    assert told.why("t")[1].startswith("t ended at 0 s")
    assert told.why("t")[-1] == "decided: not restarted, as its restart type is temporary"


# What the core has decided


def test_a_supervisor_that_comes_back_at_once_had_ended() -> None:
    told = Told(supervisor("s", agent("x", backoff=None), max_restarts=1)).then("crash", "s/x").then("crash", "s/x")
    assert told.outcomes() == [("s/x", "restarted"), ("s/x", "escalated"), ("s", "restarted")]
    assert told.why("s/x")[1] == "it started anew with its supervisor s"


def test_one_whose_first_start_was_asked_for_is_not_said_to_be_done() -> None:
    told = Told(agent("a"), supervisor("pool", dynamic=True))
    told.tree.failing.add("pool/bad")
    told.tree.start_child("pool", agent("bad"))
    assert told.why("pool/bad")[-1] == (
        "decided: not restarted: its start failed, and whoever had asked for that was told"
    )


def test_the_group_is_everybody_that_was_stopped_for_it() -> None:
    children: list[ChildEntry] = [agent("boom", backoff=LATER), agent("u"), agent("v"), supervisor("w", agent("x"))]
    told = Told(supervisor("g", *children, strategy="one_for_all"))
    told.tree.stubborn.add("g/v")
    told.then("crash", "g/boom")
    assert told.replay.decisions[0].group == ("g/u", "g/v", "g/w")
    assert told.why("g/v")[1] == "it was stopped to restart with g/boom, by the strategy one_for_all"
    told.tree.stubborn.clear()
    told.tree.advance(60)
    for path in ("g/u", "g/w"):
        assert told.why(path)[1] == "it was stopped to restart with g/boom, by the strategy one_for_all"
    assert told.why("g/w/x")[1] == "its supervisor g/w was stopped to restart with g/boom, by the strategy one_for_all"


def test_a_group_of_four_is_told_whole() -> None:
    tree = [supervisor("g", agent("u"), agent("v"), agent("w"), agent("boom"), strategy="one_for_all")]
    found = replay(simulate(tree, [Crash("g/boom", at=5.0)], until=20.0).events, tree)
    assert found.decisions[0].group == ("g/u", "g/v", "g/w")


def test_an_empty_supervisor_that_stops_with_the_tree_is_no_decision() -> None:
    told = Told(agent("a"), supervisor("pool", dynamic=True)).then("stop")
    assert told.replay.decisions == ()
    assert told.why("pool")[1].startswith("the whole tree stops since 0 s")
    assert told.why("")[1].startswith("the whole tree stops since 0 s")


# What happened after the last decision


def test_one_that_somebody_started_again_is_up_for_that() -> None:
    told = Told(agent("a", backoff=ONCE), agent("b"))
    told.then("crash", "a").then("start_agent", "a")
    assert told.why("a")[1].split(":")[1:] == [" start a, by the program itself"]
    told.then("crash", "b").then("restart_agent", "b")
    assert told.why("b")[1].split(":")[1:] == [" restart b, by the program itself"]
    told.then("crash", "b")
    assert told.why("b")[1].startswith("b ended at 4 s")


def test_one_that_stays_down_is_not_said_to_have_come_back_with_its_supervisor() -> None:
    children = [agent("x"), agent("y", backoff=None), agent("z", backoff=ONCE)]
    told = Told(supervisor("s", *children, max_restarts=1, max_seconds=60.0))
    told.then("stop_agent", "s/x").then("crash", "s/z").then("crash", "s/y")
    assert told.why("s/x")[1].endswith("stop s/x, by the program itself")
    assert told.why("s/z")[-1].startswith("decided: parked")
    told.then("crash", "s/y")
    assert told.why("s/y")[1] == "it started anew with its supervisor s"
    state = told.tree.state("s/x")
    assert ("it started anew" in told.why("s/x")[1]) == (state == "ready")


def test_a_start_is_no_reason_for_a_later_stop() -> None:
    told = Told(agent("a", backoff=LATER), supervisor("s", agent("x")), strategy="one_for_all")
    told.then("stop_agent", "s").then("start_agent", "s").then("crash", "a")
    assert told.why("s")[1] == "it was stopped to restart with a, by the strategy one_for_all"
    assert told.why("s/x")[1] == "its supervisor s was stopped to restart with a, by the strategy one_for_all"


def test_one_that_is_stopped_while_its_group_waits_was_stopped_by_somebody() -> None:
    told = Told(agent("a", backoff=LATER), agent("b"), agent("c"), strategy="one_for_all")
    told.then("crash", "a").then("stop_agent", "b")
    assert told.why("b")[1].endswith(": stop b, by the program itself")
    assert told.why("c")[1] == "it was stopped to restart with a, by the strategy one_for_all"
    told.tree.advance(10)
    assert told.why("b")[1].endswith(": stop b, by the program itself")


def test_a_significant_child_that_took_its_supervisor_along_is_named() -> None:
    children = [agent("x", significant=True), agent("y")]
    told = Told(supervisor("s", *children, auto_shutdown="any_significant", restart="transient"), agent("other"))
    told.then("complete", "s/x")
    assert told.why("s/y")[1:3] == [
        "its supervisor s ended with its significant child s/x",
        "s/x ended at 0 s, event 15, incarnation 1, after 0 s of being ready: normal",
    ]


def test_what_was_decided_before_somebody_did_something_is_told_below_that() -> None:
    told = Told(agent("a", backoff=ONCE)).then("crash", "a").then("start_agent", "a")
    assert told.why("a")[1].endswith(": start a, by the program itself")
    assert told.why("a")[2] == "before that, when it last ended by itself:"
    assert told.why("a")[-1].startswith("decided: parked")
    told.then("stop_agent", "a").then("stop")
    assert told.why("a")[1].endswith(": stop a, by the program itself")
    assert told.why("a")[-1].startswith("decided: parked")


def test_a_stop_before_the_start_is_told() -> None:
    tree = VirtualTree(agent("a"), started=False)
    tree.stop()
    before = noted(tree)
    assert "the whole tree stops" in replay(before.events(), entry_of(agent("a"))).why("a")


def test_a_stop_through_the_api_is_the_reason_though_something_else_came_between() -> None:
    told = Told(agent("a"), agent("b"))
    told.tree.advance(5)
    told.tree.stop_agent("a")
    events = told._noted.events()
    (place,) = [place for place, event in enumerate(events) if isinstance(event.data, Command)]
    events[place] = replace(events[place], data=Command("stop", {}, 1000, 7), incarnation=0)
    assert "stop a, by uid 1000 (pid 7)" in replay(events, entry_of(agent("a"), agent("b"))).why("a")


def test_what_the_log_does_not_reach_is_not_answered_as_if_it_were_known() -> None:
    told = Told(agent("a")).then("crash", "a").then("stop")
    found = told.replay
    assert found.why("a", 1e9).splitlines()[0].startswith("the log ends at 1 s: ")
    with pytest.raises(SpecError, match="the run begins at 0 s"):
        found.why("a", -5.0)


def test_deep_dependencies_are_told_at_once() -> None:
    """Of each that is waited for only the state is told, not again all that it waits for."""
    layers: list[list[str]] = [["db"]]
    tree: list[ChildEntry] = [agent("db")]
    for layer in range(12):
        names = [f"l{layer}-{number}" for number in range(6)]
        tree += [agent(name, depends_on=layers[-1]) for name in names]
        layers.append(names)
    told = Told(*tree)
    told.tree.manual.add("db")
    assert len(told.why("l11-0")) < 10
