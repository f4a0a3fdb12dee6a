"""What groups, queues and outcomes owe to each other: cases that a single rule does not show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checked import CheckedTree
from tenacity import wait_fixed
from virtual import VirtualTree, agent, refused, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import NotFound
from orchestree.supervisor import waiting
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.status import Snapshot
from orchestree.supervisor.tree import DEPARTED_KEPT, Node, walk
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy


def waits(seconds: float) -> Backoff:
    return Backoff(wait=wait_fixed(seconds), jitter=0.0)


def test_every_member_of_a_merged_group_shows_the_later_time() -> None:
    tree = CheckedTree(
        agent("a", backoff=waits(100.0)), agent("b", backoff=waits(10.0)), agent("c"), strategy="rest_for_one"
    )
    tree.crash("b")
    tree.core.world.touched.clear()
    tree.crash("a")
    touched = {node.path for node in tree.core.world.touched}
    assert {"a", "b", "c"} <= touched, "readers see what was touched"
    shown = {Snapshot.of(tree.node(path), tree.now).at(tree.now).next_restart_s for path in ("a", "b", "c")}
    assert shown == {100.0}


@pytest.mark.parametrize("member", ["waiting", "queued"])
def test_restarting_a_member_that_does_not_run_yet_starts_its_group_now(member: str) -> None:
    children = [
        agent("x"),
        agent("a", backoff=waits(50.0)),
        agent("b", depends_on=["x"] if member == "waiting" else []),
    ]
    workers = None if member == "waiting" else 2
    tree = CheckedTree(*children, strategy="one_for_all", settings=Settings(max_workers=workers))
    if member == "waiting":
        tree.stop_agent("x")
        tree.crash("b")
        tree.advance(1.0)
    assert tree.state("b") == member
    tree.crash("a")
    assert tree.state("a") == "backoff"
    tree.restart_agent("b")
    assert tree.state("a") == "ready"
    assert tree.now < 50.0


def test_restarting_a_member_that_still_stops_starts_its_group_as_soon_as_it_has_ended() -> None:
    tree = CheckedTree(agent("a", backoff=waits(50.0)), agent("b"), strategy="one_for_all")
    tree.manual.add("b")
    tree.crash("a")
    assert tree.states() == {"a": "backoff", "b": "stopping"}
    tree.restart_agent("b")
    tree.manual.clear()
    tree.complete("b")
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert tree.now == 0.0


def test_completed_siblings_come_back_with_the_group_of_an_agent_that_has_left() -> None:
    tree = CheckedTree(agent("a", backoff=waits(5.0)), agent("b"), agent("c"), strategy="one_for_all")
    tree.complete("c")
    tree.crash("a")
    tree.stop_agent("a")
    tree.unregister("a")
    tree.advance(5.0)
    assert tree.states() == {"b": "ready", "c": "ready"}


def test_a_failure_is_remembered_longer_than_any_number_of_completions() -> None:
    tree = VirtualTree(agent("stays"), settings=Settings(run_mode=RunMode.DAEMON))
    tree.register("", agent("bad", restart="temporary"))
    tree.crash("bad")
    for number in range(DEPARTED_KEPT + 1):
        tree.register("", agent(f"job-{number}", restart="temporary"))
        tree.complete(f"job-{number}")
    assert "bad" in tree.core.world.root.departed
    assert len(tree.core.world.root.departed) == DEPARTED_KEPT
    tree.stop()
    assert tree.exit_code == 1


def test_names_that_nobody_depends_on_any_more_are_forgotten() -> None:
    tree = VirtualTree(agent("base"))
    for _ in range(10):
        tree.register("", agent("user", depends_on=["base"]))
        tree.stop_agent("user")
        tree.unregister("user")
    assert tree.core.world.root.wanted == {}
    assert isinstance(refused(lambda: tree.start_agent("user")), NotFound)


def test_places_in_the_queue_that_were_given_up_do_not_pile_up() -> None:
    tree = VirtualTree(agent("runs"), agent("head"), agent("tail"), settings=Settings(max_workers=1))
    for _ in range(500):
        tree.stop_agent("tail")
        tree.start_agent("tail")
    assert len(tree.core.world.queue) <= 2 * len(tree.core.world.nodes) + 1


def test_a_wedged_agent_does_not_keep_an_empty_tree_from_ending() -> None:
    settings = Settings(run_mode=RunMode.STOP_ON_EMPTY)
    tree = CheckedTree(
        agent("a", start_timeout=1.0, shutdown=1.0), agent("b", depends_on=["a"]), settings=settings, started=False
    )
    tree.manual.add("a")
    tree.start()
    tree.advance(3.0)
    assert tree.state("a") == "wedged"
    assert tree.exit_code == 1
    assert len(tree.events("ALL_AGENTS_TERMINATED")) == 1


def test_a_start_that_hangs_is_not_waited_for_without_end() -> None:
    tree = CheckedTree(agent("a", start_timeout=1.0, shutdown="infinity"), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(10.0)
    assert tree.state("a") == "wedged"
    assert tree.lines("AGENT_CRASHED") == ["CRASHED a"]


def test_a_root_that_gives_up_says_that_it_stops_and_why() -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b"), max_restarts=0)
    tree.crash("a")
    assert tree.lines("ORCHESTRATOR_STOPPING", "ORCHESTRATOR_STOPPED") == [
        "ORCHESTRATOR_STOPPING",
        "ORCHESTRATOR_STOPPED",
    ]
    assert tree.exit_code == 70


def test_waiting_for_a_large_subtree_looks_at_each_child_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, looked_at = 400, 0

    def counting(node: Node) -> Iterator[Node]:
        nonlocal looked_at
        for found in walk(node):
            looked_at += 1
            yield found

    monkeypatch.setattr(waiting, "walk", counting)
    tree = VirtualTree(supervisor("s", *(agent(f"a{number}") for number in range(count))), started=False)
    tree.manual |= {f"s/a{number}" for number in range(count)}
    holds = waiting.is_settled("s")
    tree.start()
    for number in range(count):
        assert not holds(tree.core.world)
        tree.ready(f"s/a{number}")
    assert holds(tree.core.world)
    assert looked_at <= 3 * count
