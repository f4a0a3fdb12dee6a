"""Readers see every change: whatever a decision changes about a child is touched by it. Virtual time."""

from __future__ import annotations

import pytest
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.supervisor import tree as tree_of_nodes
from orchestree.supervisor.inputs import Input
from orchestree.supervisor.status import Snapshot, status_of
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

LATE = Backoff(wait=wait_fixed(10.0))
TWICE = Backoff(wait=wait_fixed(10.0), stop=stop_after_attempt(2))

# What happens, step by step; a number is so many seconds.
STORIES = [
    "crash a, 4, crash team/y, 6, crash a, stop a, start a",
    "crash team/x, 3, stop team/y, 7, start team/y, restart team/x",
    "crash team/x, restart team/y, crash team/x, 2, restart team",
    "complete a, complete b, crash b, start a, complete team/x, complete team/y, crash team/y, 10",
    "ignore a, shut_itself_down b, complete t, complete last, 1",
    "crash t, crash last, complete wide, stop a, unregister last",
    "stop slow, 1.2, restart slow, 5, crash slow, 1",
    "restart slow, 1.2, stop slow, crash slow",
    "stop team, start team, crash team/x, stop team, start team, 10, restart team",
    "crash team/x, 10, crash team/x, 10, crash team/x, 10, 10",
    "crash hanging, 10, stop hanging, start hanging, 60, 10",
    "stop wide, stop b, start wide, unregister b, crash a, stop a, unregister a",
    "stop_all, complete slow",
    "crash a, 4, crash team/y, stop_all, 1.2, complete slow",
]


class Watched(VirtualTree):
    """Takes snapshots as the driver does, and compares them with the children themselves after every input."""

    shown: dict[str, Snapshot]

    def tell(self, event: Input) -> None:
        super().tell(event)
        world = self.core.world
        self.shown = getattr(self, "shown", {})
        for node in world.touched:
            if world.is_known(node):
                self.shown[node.path] = Snapshot.of(node, self.now)
            elif node.path not in world.nodes:
                self.shown.pop(node.path, None)
        world.touched.clear()
        for path, node in world.nodes.items():
            assert self.shown[path].at(self.now) == status_of(node, self.now), path
        left = self.shown.keys() - world.nodes.keys()
        assert all(world.find(path) is not None for path in left)


def watched() -> Watched:
    """Return a tree with every kind of child, all ready but `hanging` and those that queue."""
    tree = Watched(
        agent("a", backoff=LATE),
        agent("b", backoff=TWICE, depends_on=["a"]),
        supervisor("team", agent("x", backoff=LATE), agent("y", backoff=LATE), strategy="one_for_all", max_restarts=1),
        agent("t", restart="temporary"),
        agent("wide", strategy="one_for_all", restart="permanent", backoff=LATE),
        agent("slow", shutdown=1.0, backoff=LATE),
        process("hanging", start_timeout=5.0, backoff=LATE, depends_on=["wide"]),
        agent("last", depends_on=["hanging"], backoff=TWICE),
        settings=Settings(max_workers=7),
        started=False,
    )
    tree.manual |= {"slow", "hanging"}
    tree.advance(100.0)
    tree.start()
    tree.ready("slow")
    return tree


@pytest.mark.parametrize("story", STORIES)
def test_whatever_happens_readers_see_it(story: str) -> None:
    tree = watched()
    for step in story.split(", "):
        what, _, path = step.partition(" ")
        match what:
            case "crash" | "complete" | "ignore" | "shut_itself_down":
                if any(run.path == path for run in tree.live):
                    getattr(tree, what)(path)
            case "start" | "stop" | "restart":
                getattr(tree, f"{what}_agent")(path)
            case "unregister":
                tree.unregister(path)
            case "stop_all":
                tree.stop(timeout=1.0)
            case seconds:
                tree.advance(float(seconds))


def test_a_group_whose_delay_changes_is_shown_with_its_new_time_and_starts_then() -> None:
    tree = watched()
    tree.crash("team/x")
    tree.advance(1.0)
    tree.reconfigure("team/x", backoff=Backoff(wait=wait_fixed(20.0)))
    assert [tree.shown[path].at(tree.now).next_restart_s for path in ("team/x", "team/y")] == [19.0, 19.0]
    tree.advance(18.9)
    assert (tree.state("team/x"), tree.state("team/y")) == ("backoff", "backoff")
    tree.advance(0.1)
    assert (tree.state("team/x"), tree.state("team/y")) == ("ready", "ready")


def test_of_the_last_outcomes_of_temporary_agents_the_oldest_is_forgotten_by_readers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree_of_nodes, "DEPARTED_KEPT", 2)
    tree = Watched(*(agent(name, restart="temporary") for name in "abc"), agent("d", depends_on=["b"]))
    for name in "bac":
        tree.complete(name)
    assert sorted(tree.shown) == ["", "b", "c", "d"]


def test_an_outcome_that_somebody_depends_on_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_of_nodes, "DEPARTED_KEPT", 1)
    tree = Watched(*(agent(name, restart="temporary") for name in "ab"), agent("d", depends_on=["a", "b"]))
    for name in "ab":
        tree.complete(name)
    assert sorted(tree.shown) == ["", "a", "b", "d"]
    tree.restart_agent("d")
    assert tree.state("d") == "ready"
