"""Worker slots: who runs when ``max_workers`` caps the tree. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, process, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import AgentQueued, AgentStarting
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.world import ChooseNext, Settings

pytestmark = pytest.mark.policy

LATE = Backoff(wait=wait_fixed(10.0))


def capped(
    workers: int, *children: ChildEntry, choose: ChooseNext | None = None, manual: str = "", **root: object
) -> CheckedTree:
    settings = Settings(max_workers=workers, choose_next=choose)
    tree = CheckedTree(*children, settings=settings, started=False, **root)
    tree.manual |= set(manual.split())
    tree.start()
    return tree


def free(tree: CheckedTree) -> float:
    return tree.core.world.free_slots


def started(tree: CheckedTree, since: int = 0) -> list[str]:
    return [line.removeprefix("STARTING ") for line in tree.lines("AGENT_STARTING", since=since)]


def test_no_more_than_max_workers_run_at_once_and_the_rest_queues_in_start_order() -> None:
    tree = capped(2, *(agent(name) for name in "abcd"))
    assert tree.states() == {"a": "ready", "b": "ready", "c": "queued", "d": "queued"}
    assert [data for _, data in tree.events("AGENT_QUEUED")] == [AgentQueued(2)] * 2
    tree.complete("b")
    assert tree.states() == {"a": "ready", "b": "completed", "c": "ready", "d": "queued"}


def test_who_gets_a_slot_at_once_was_never_queued() -> None:
    tree = capped(2, *(agent(name) for name in "ab"))
    assert tree.events("AGENT_QUEUED") == []


def test_the_whole_tree_is_capped_and_served_depth_first() -> None:
    tree = capped(
        1,
        agent("a"),
        supervisor("x", agent("b"), supervisor("y", agent("c")), agent("d")),
        agent("e"),
    )
    order = []
    for _ in range(5):
        running = [run.path for run in tree.live]
        order += running
        tree.complete(running[0])
    assert order == ["a", "x/b", "x/y/c", "x/d", "e"]


def test_one_that_waits_for_a_dependency_is_not_in_the_queue_and_blocks_nobody() -> None:
    tree = capped(1, agent("a"), agent("b", depends_on=["a"]), agent("c"), manual="a")
    assert tree.states() == {"a": "starting", "b": "waiting", "c": "queued"}
    tree.ready("a")
    assert tree.states() == {"a": "ready", "b": "queued", "c": "queued"}
    tree.complete("a")
    assert tree.states() == {"a": "completed", "b": "ready", "c": "queued"}


def test_a_slot_is_held_through_backoff() -> None:
    tree = capped(1, agent("a", backoff=LATE), agent("b"))
    tree.crash("a")
    tree.advance(9.9)
    assert tree.states() == {"a": "backoff", "b": "queued"}
    tree.advance(0.1)
    assert tree.states() == {"a": "ready", "b": "queued"}


def test_a_slot_is_held_until_the_run_has_really_ended() -> None:
    tree = capped(1, agent("a"), agent("b"), manual="a")
    tree.stop_agent("a")
    assert tree.states() == {"a": "stopping", "b": "queued"}
    tree.end("a", NORMAL)
    assert tree.states() == {"a": "stopped", "b": "ready"}


@pytest.mark.parametrize("way", ["completion", "stop", "stop in backoff", "park", "temporary", "unregister"])
def test_a_slot_is_released_when_its_agent_is_down(way: str) -> None:
    parks = Backoff(stop=stop_after_attempt(1))
    policy = parks if way == "park" else LATE
    tree = capped(1, agent("a", backoff=policy, restart="temporary" if way == "temporary" else "transient"), agent("b"))
    match way:
        case "completion":
            tree.complete("a")
        case "stop":
            tree.stop_agent("a")
        case "stop in backoff":
            tree.crash("a")
            tree.stop_agent("a")
        case "unregister":
            tree.crash("a")
            tree.unregister("a")
        case _:
            tree.crash("a")
    assert tree.state("b") == "ready"


def test_a_slot_is_released_when_an_agent_due_to_start_has_to_wait_for_somebody_outside_its_group() -> None:
    tree = capped(2, agent("a"), agent("b", depends_on=["a"], backoff=LATE))
    tree.register("", agent("c"))
    assert tree.state("c") == "queued"
    tree.crash("b")
    tree.stop_agent("a")
    assert tree.states() == {"a": "stopped", "b": "backoff", "c": "ready"}
    assert free(tree) == 0
    tree.advance(10.0)
    assert tree.state("b") == "waiting"
    assert free(tree) == 1


def test_one_that_waits_for_a_member_of_its_own_group_keeps_its_slot() -> None:
    tree = capped(2, agent("a"), agent("b", depends_on=["a"]), strategy="dependents")
    tree.register("", agent("c"))
    tree.manual.add("a")
    tree.crash("a")
    assert tree.states() == {"a": "starting", "b": "waiting", "c": "queued"}
    tree.ready("a")
    assert tree.states() == {"a": "ready", "b": "ready", "c": "queued"}


def test_the_slots_of_a_group_go_to_its_members_in_start_order_and_who_gets_none_queues() -> None:
    tree = capped(2, *(agent(name) for name in "abc"), strategy="one_for_all")
    tree.complete("a")
    assert tree.states() == {"a": "completed", "b": "ready", "c": "ready"}
    mark = tree.mark()
    tree.crash("c")
    assert started(tree, mark) == ["a", "b"]
    assert tree.states() == {"a": "ready", "b": "ready", "c": "queued"}


def test_slots_that_no_member_of_the_group_can_use_any_more_become_free() -> None:
    tree = capped(3, agent("a", backoff=LATE), agent("b"), agent("c"), agent("d"), strategy="one_for_all")
    tree.crash("a")
    assert tree.states() == {"a": "backoff", "b": "backoff", "c": "backoff", "d": "queued"}
    tree.stop_agent("b")
    assert free(tree) == 1
    assert tree.state("d") == "queued", "it starts with its group"
    tree.advance(10.0)
    assert tree.states() == {"a": "ready", "b": "stopped", "c": "ready", "d": "ready"}


def test_a_temporary_member_that_is_dropped_gives_its_slot_back() -> None:
    tree = capped(2, agent("a"), agent("t", restart="temporary"), supervisor("s", agent("x")), strategy="rest_for_one")
    tree.crash("a")
    assert tree.states() == {"a": "ready", "s": "ready", "s/x": "ready"}


def test_choose_next_may_choose_otherwise_and_the_event_says_so() -> None:
    asked: list[tuple[str, ...]] = []

    def last(queued: tuple[str, ...]) -> str:
        asked.append(queued)
        return queued[-1]

    tree = capped(1, agent("a"), agent("b"), agent("c"), choose=last)
    assert started(tree) == ["c"]
    assert asked == [("a", "b", "c")]
    tree.complete("c")
    tree.complete("b")
    told = [data for _, data in tree.events("AGENT_STARTING")]
    assert told == [AgentStarting("thread", True), AgentStarting("thread", True), AgentStarting("thread", False)]


@pytest.mark.parametrize("answer", [None, "", "nobody", "a/b"])
def test_no_answer_or_an_unknown_path_of_choose_next_means_the_first(answer: str | None) -> None:
    tree = capped(1, *(agent(name) for name in "abc"), choose=lambda queued: answer)
    assert started(tree) == ["a"]


def test_stopping_one_that_is_queued_takes_it_out_at_once() -> None:
    tree = capped(1, agent("a"), agent("b"), agent("c"))
    tree.stop_agent("b")
    assert tree.lines("AGENT_TERMINATED") == ["TERMINATED b"]
    tree.complete("a")
    assert tree.states() == {"a": "completed", "b": "stopped", "c": "ready"}


def test_no_command_jumps_the_queue() -> None:
    tree = capped(1, agent("a"), agent("b"), agent("c"))
    tree.restart_agent("c")
    tree.start_agent("c")
    assert tree.state("c") == "queued"
    tree.stop_agent("b")
    tree.start_agent("b")
    tree.complete("a")
    assert tree.states() == {"a": "completed", "b": "ready", "c": "queued"}


def test_a_restart_by_command_keeps_its_slot() -> None:
    tree = capped(1, agent("a"), agent("b"), manual="a")
    tree.restart_agent("a")
    tree.end("a", NORMAL)
    assert tree.states() == {"a": "starting", "b": "queued"}


def test_one_that_is_queued_and_whose_dependency_goes_away_waits_again() -> None:
    tree = capped(2, agent("dep"), agent("a"), agent("b", depends_on=["dep"]))
    assert tree.state("b") == "queued"
    tree.manual.add("dep")
    tree.restart_agent("dep")
    tree.complete("a")
    assert tree.states() == {"dep": "stopping", "a": "completed", "b": "waiting"}
    tree.end("dep", NORMAL)
    tree.ready("dep")
    assert tree.state("b") == "ready"


def test_a_wedged_agent_keeps_its_slot_until_its_run_has_ended() -> None:
    tree = capped(1, agent("a", shutdown=1.0), agent("b"), manual="a")
    tree.stop_agent("a")
    tree.advance(1.1)
    assert tree.states() == {"a": "wedged", "b": "queued"}
    tree.end("a", NORMAL)
    assert tree.states() == {"a": "stopped", "b": "ready"}


def test_a_wedged_run_that_was_replaced_keeps_a_slot_of_its_own() -> None:
    tree = capped(1, agent("a", shutdown=1.0, replace_wedged=True), agent("b"), manual="a")
    tree.restart_agent("a")
    tree.advance(1.1)
    assert tree.states() == {"a": "queued", "b": "queued"}
    tree.end("a", NORMAL)
    assert tree.states() == {"a": "starting", "b": "queued"}


def test_a_wedged_run_whose_agent_has_left_the_tree_keeps_its_slot_until_it_ends() -> None:
    team = supervisor("team", agent("t", shutdown=1.0))
    tree = capped(2, team, agent("b"), agent("c"), manual="team/t")
    tree.stop_agent("team")
    tree.advance(1.1)
    tree.unregister("team")
    assert tree.states() == {"b": "ready", "c": "queued"}
    tree.end("team/t", NORMAL)
    assert tree.states() == {"b": "ready", "c": "ready"}


def test_a_new_agent_is_not_mistaken_for_one_of_its_name_whose_run_is_still_wedged() -> None:
    tree = CheckedTree(supervisor("team", agent("t", shutdown=1.0)))
    tree.manual.add("team/t")
    tree.stop_agent("team")
    tree.advance(1.1)
    tree.unregister("team")
    tree.register("", supervisor("team", agent("t")))
    assert tree.incarnations() == {"team": 1, "team/t": 2}
    old = next(iter(tree.live))
    assert old.incarnation == 1
    tree.tell(tree._end(old, NORMAL))
    assert tree.state("team/t") == "starting"


def test_max_workers_counts_processes_and_threads_together() -> None:
    tree = capped(2, agent("a"), process("b"), agent("c"))
    assert tree.states() == {"a": "ready", "b": "ready", "c": "queued"}
