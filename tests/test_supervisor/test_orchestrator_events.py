"""The events of a real tree: numbers, order, floods, and handlers that fail or are slow."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest
from orchestree_testing.trees import FAST, PATIENCE, Switch, a_tree, add, crash, trace, types, wait_for
from tenacity import wait_fixed

from orchestree.agents import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentState, Event, EventType, Orchestrator
from orchestree.supervisor.events import AgentMessage, AgentRestarting, EventGap, HandlerFailed
from orchestree.supervisor.message_gate import MAX_PENDING_MESSAGES

E = EventType


def collected(tree: Orchestrator) -> list[Event]:
    """Return a list that every event is put into; it is complete when `stop` has returned."""
    seen: list[Event] = []
    tree.events.subscribe(seen.append)
    return seen


def numbers(events: list[Event]) -> list[int]:
    """Return the number of every event, also of those that a gap stands for."""
    found: list[int] = []
    for event in events:
        first = event.data.first if isinstance(event.data, EventGap) else event.seq
        found += range(first, event.seq + 1)
    return found


def test_a_crash_is_told_in_order_and_within_one_decision() -> None:
    switch = Switch()
    tree = a_tree()
    add(tree, "a", **switch.hooks(), backoff=None)
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
    assert types(tree, "a") == [
        *(E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY),
        *(E.AGENT_CRASHED, E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY),
        *(E.AGENT_STOPPING, E.AGENT_TERMINATED),
    ]
    crashed, restarting = (tree.history("a", kind)[0] for kind in (E.AGENT_CRASHED, E.AGENT_RESTARTING))
    assert restarting.seq == crashed.seq + 1
    assert restarting.monotonic == crashed.monotonic
    assert isinstance(restarting.data, AgentRestarting)
    assert (restarting.data.cause, restarting.data.delay, restarting.data.attempt) == ("failure", 0.0, 1)
    assert [event.incarnation for event in tree.history("a", E.AGENT_STARTING)] == [1, 2]
    assert crashed.incarnation == 1


@pytest.mark.slow
def test_every_event_has_a_number_and_none_is_missing_or_out_of_time() -> None:
    tree = a_tree()
    seen = collected(tree)
    for name in ("a", "b", "c"):
        add(tree, name, crash, **FAST)
    with tree:
        for name in ("a", "b", "c"):
            wait_for(tree, E.AGENT_CRASHED, name, count=50)
    assert numbers(seen) == list(range(1, len(seen) + 1))
    assert all(before.monotonic <= after.monotonic for before, after in pairwise(seen))
    assert seen[0].type is E.ORCHESTRATOR_STARTED
    assert seen[-1].type is E.ORCHESTRATOR_STOPPED


def test_between_two_starts_of_an_agent_lies_exactly_one_end() -> None:
    tree = a_tree(strategy="one_for_all")
    add(tree, "a", crash, **FAST)
    add(tree, "b", lambda agent: agent.sleep(0.001), **FAST)
    with tree:
        wait_for(tree, E.AGENT_STARTING, "b", count=30)
    ends = {E.AGENT_RESTARTING, E.AGENT_TERMINATED, E.AGENT_PARKED}
    for path in ("a", "b"):
        story = [kind for kind in types(tree, path) if kind is E.AGENT_STARTING or kind in ends]
        last = len(story) - story[::-1].index(E.AGENT_STARTING)
        assert set(story[:last:2]) == {E.AGENT_STARTING}
        assert ends.issuperset(story[1:last:2])


def test_the_whole_story_of_a_tree_is_in_its_events() -> None:
    tree = a_tree(run_mode="stop_on_empty", max_workers=1)
    add(tree, "a", lambda agent: agent.emit("hello", answer=42))
    add(tree, "b", lambda agent: None, depends_on=["a"])
    add(tree, "c", lambda agent: None)
    assert tree.simple_join() == 0
    kinds = (E.AGENT_WAITING, E.AGENT_QUEUED, E.AGENT_MESSAGE, E.AGENT_TERMINATED, E.ALL_AGENTS_TERMINATED)
    assert trace(tree, *kinds) == [
        *[(E.AGENT_WAITING, "b"), (E.AGENT_QUEUED, "c"), (E.AGENT_QUEUED, "b"), (E.AGENT_MESSAGE, "a")],
        *[(E.AGENT_TERMINATED, "a"), (E.AGENT_TERMINATED, "b"), (E.AGENT_TERMINATED, "c")],
        (E.ALL_AGENTS_TERMINATED, ""),
    ]
    message = tree.history("a", E.AGENT_MESSAGE)[0].data
    assert isinstance(message, AgentMessage)
    assert (message.name, dict(message.data)) == ("hello", {"answer": 42})


def test_a_handler_that_raises_hurts_no_other_and_is_shown() -> None:
    tree = a_tree()
    good: list[Event] = []

    def bad(event: Event) -> None:
        raise LookupError(event.type)

    def leaving(event: Event) -> None:
        raise SystemExit(3)

    tree.events.subscribe(bad, E.AGENT_READY)
    tree.events.subscribe(leaving, E.AGENT_READY)
    tree.events.subscribe(good.append, E.AGENT_READY)
    add(tree, "a")
    add(tree, "b")
    with tree:
        wait_for(tree, E.HANDLER_FAILED, count=4)
    assert {event.path for event in good} == {"a", "b"}
    failed = [event.data for event in tree.history(type=E.HANDLER_FAILED)]
    errors = {data.error for data in failed if isinstance(data, HandlerFailed)}
    assert {error.partition(" (")[0] for error in errors} == {"LookupError: agent_ready", "SystemExit: 3"}
    assert all(" (test_orchestrator_events.py:" in error for error in errors), "where it was raised"


@pytest.mark.slow
def test_a_slow_handler_delays_no_restart() -> None:
    tree = a_tree()
    go_on = threading.Event()
    tree.events.subscribe(lambda event: go_on.wait(PATIENCE))
    add(tree, "a", crash, **FAST)
    with tree:
        wait_for(tree, E.AGENT_STARTING, "a", count=200)
        go_on.set()


@pytest.mark.slow
def test_a_handler_that_never_returns_keeps_neither_the_stop_nor_the_others() -> None:
    tree = a_tree()
    go_on, seen = threading.Event(), collected(tree)
    tree.events.subscribe(lambda event: go_on.wait(PATIENCE))
    add(tree, "a")
    with tree:
        pass
    assert seen[-1].type is E.ORCHESTRATOR_STOPPED
    go_on.set()


def test_a_message_of_an_agent_comes_after_its_start_and_before_its_end() -> None:
    tree = a_tree(run_mode="stop_on_empty")

    def work(agent: Agent) -> None:
        for number in range(5):
            agent.emit(f"{number}")

    add(tree, "a", work, setup=lambda agent: agent.emit("setup"), teardown=lambda agent: agent.emit("teardown"))
    tree.simple_join()
    story = [getattr(event.data, "name", event.type) for event in tree.history("a")]
    assert story == [
        *(E.AGENT_REGISTERED, E.AGENT_STARTING, "setup", E.AGENT_READY, "0", "1", "2", "3", "4", "teardown"),
        E.AGENT_TERMINATED,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_flood_of_messages_is_cut_and_counted_and_no_decision_is_lost_or_late(threads: int) -> None:
    tree = a_tree()
    seen = collected(tree)
    sent: list[int] = []
    enough = threading.Event()

    def flood(agent: Agent) -> None:
        count = 0
        while not agent.should_stop:
            agent.emit("drop", number=count)
            count += 1
        sent.append(count)

    for number in range(threads):
        add(tree, f"flood-{number}", flood)
    add(tree, "a", lambda agent: agent.sleep(3600) if enough.is_set() else crash(agent), **FAST)
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "a", count=5)
        wait_for(tree, E.EVENT_GAP)
        enough.set()
        tree.wait_until("a", AgentState.READY, PATIENCE)
    decisions = [event for event in seen if event.type is not E.AGENT_MESSAGE]
    starts = sum(event.type is E.AGENT_STARTING and event.path == "a" for event in decisions)
    ends = sum(event.type is E.AGENT_RESTARTING and event.path == "a" for event in decisions)
    assert starts == ends + 1 >= 6
    assert numbers(seen) == list(range(1, seen[-1].seq + 1))
    dropped = sum(event.data.last - event.data.first + 1 for event in seen if isinstance(event.data, EventGap))
    accounted_for = sum(event.type is E.AGENT_MESSAGE for event in seen) + dropped
    # If the collecting handler itself was overrun, the gap that it got spans a few decisions as well.
    assert 0 <= accounted_for - sum(sent) <= 50


def test_a_burst_that_fits_is_not_cut() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    seen = collected(tree)

    def burst(agent: Agent) -> None:
        for number in range(MAX_PENDING_MESSAGES // 10):
            agent.emit("kept", number=number)

    add(tree, "a", burst)
    tree.simple_join()
    data: list[Any] = [event.data for event in seen if isinstance(event.data, AgentMessage)]
    assert [message.data["number"] for message in data] == list(range(MAX_PENDING_MESSAGES // 10))


@pytest.mark.slow
def test_backoff_runs_out_in_time_while_a_flood_goes_on() -> None:
    tree = a_tree()

    def flood(agent: Agent) -> None:
        while not agent.should_stop:
            agent.emit("drop")

    add(tree, "flood", flood)
    add(tree, "a", crash, backoff=Backoff(wait=wait_fixed(0.001)), restart="permanent")
    with tree:
        wait_for(tree, E.AGENT_STARTING, "a", count=5)


def test_wait_for_stream_and_iterate_end_with_the_tree() -> None:
    tree = a_tree()
    add(tree, "a")
    iterator = tree.events.iterate(since=0)
    with tree:
        pass
    assert [event.type for event in iterator][-1] is E.ORCHESTRATOR_STOPPED
    with pytest.raises(TimeoutError, match="has ended"):
        tree.events.wait_for(E.AGENT_CRASHED, since=0, timeout=PATIENCE)
