"""microvm.nix 554: a listener that was slow to come up lost RUNNING events to a buffer of ten, and a start hung.

Here a late or slow reader holds up nobody, gets every decision, and is told exactly what it missed if it ever does.
"""

from __future__ import annotations

import threading

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add

from orchestree.agents.agent import Agent
from orchestree.supervisor import EventType
from orchestree.supervisor.events import Event, EventGap

E = EventType
SHARES = 100


def test_a_listener_that_comes_up_after_everything_has_started_hears_of_every_start() -> None:
    tree = a_tree()
    is_up, heard, all_heard = threading.Event(), list[str](), threading.Event()

    def listen(event: Event) -> None:
        is_up.wait(PATIENCE)
        heard.append(event.path)
        if len(heard) == SHARES:
            all_heard.set()

    tree.events.subscribe(listen, E.AGENT_READY)
    for number in range(SHARES):
        add(tree, f"share-{number}", kind=AsyncDoes)
    with tree:
        assert heard == []
        is_up.set()
        assert all_heard.wait(PATIENCE)
        late = [event.path for event in tree.events.iterate(since=0, timeout=0.0, type=E.AGENT_READY)]
    assert heard == late
    assert sorted(heard) == sorted(f"share-{number}" for number in range(SHARES))


def check_that_nothing_is_missing(seen: list[Event]) -> None:
    known = 0
    for event in seen:
        assert known + 1 == (event.data.first if isinstance(event.data, EventGap) else event.seq)
        known = event.seq
    assert seen[-1].type is E.ORCHESTRATOR_STOPPED


def test_a_reader_whose_buffer_is_full_is_told_exactly_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = a_tree()
    monkeypatch.setattr(tree.events, "_capacity", 10)
    is_up, said = threading.Event(), threading.Event()
    seen: list[Event] = []

    def listen(event: Event) -> None:
        is_up.wait(PATIENCE)
        seen.append(event)

    def talk(agent: Agent) -> None:
        for _ in range(100):
            agent.emit("more")
        said.set()
        agent.sleep(3600)

    tree.events.subscribe(listen)
    add(tree, "a", talk)
    with tree:
        assert said.wait(PATIENCE)
        tree.stop_agent("a", PATIENCE)  # taken in after all that was said before
        is_up.set()
    check_that_nothing_is_missing(seen)
    assert sum(isinstance(event.data, EventGap) for event in seen) >= 1
    assert len(seen) < 100


def test_a_reader_that_is_overrun_delays_nobody_and_is_told_what_it_missed() -> None:
    tree = a_tree()
    blocked = threading.Event()
    seen: list[Event] = []

    def slow(event: Event) -> None:
        blocked.wait(PATIENCE)
        seen.append(event)

    tree.events.subscribe(slow)
    finished = threading.Event()

    def flood(agent: Agent) -> None:
        for _ in range(4):
            for _ in range(4_000):
                agent.emit("more")
            agent.sleep(0.05)
        finished.set()
        agent.sleep(3600)

    add(tree, "a", flood)
    with tree:
        assert finished.wait(PATIENCE)
        tree.restart_agent("a", PATIENCE)
        blocked.set()
    types = [event.type for event in seen]
    assert types[0] in (E.EVENT_GAP, E.ORCHESTRATOR_STARTED)
    assert types.count(E.EVENT_GAP) >= 1
    check_that_nothing_is_missing(seen)
