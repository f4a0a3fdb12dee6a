"""Who sees each event before any reader, and how many events readers have lost: exact, whatever they do meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

import pytest
from orchestree_testing.trees import PATIENCE, a_tree, add

from orchestree.agents import Agent
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import AgentMessage, AgentReady, Event, EventGap, EventType
from orchestree.supervisor.message_gate import MAX_PENDING_MESSAGES

PUBLISHED: Final = 20_000


def an_event(seq: int, path: str = "a") -> Event:
    return Event(seq, 0.0, 0.0, EventType.AGENT_READY, path, 1, AgentReady(0.0))


def a_manager(capacity: int) -> EventManager:
    return EventManager(lambda handler, error: None, capacity=capacity)


@pytest.fixture
def manager() -> Iterator[EventManager]:
    made = a_manager(10)
    yield made
    made.close()


def publish(manager: EventManager, first: int, last: int, path: str = "a") -> None:
    for seq in range(first, last + 1):
        manager.publish(an_event(seq, path))


def test_a_watcher_has_each_event_before_any_reader_can_have_it(manager: EventManager) -> None:
    reader = manager.reader(lambda: None, 0)
    seen: list[tuple[int, int, int]] = []
    manager.watch(lambda event: seen.append((event.seq, len(reader.take()), manager.latest)))
    publish(manager, 1, 3)
    assert seen == [(1, 0, 0), (2, 1, 1), (3, 1, 2)]


def test_the_latest_watcher_takes_the_place_of_the_one_before(manager: EventManager) -> None:
    first, second = list[Event](), list[Event]()
    manager.watch(first.append)
    manager.watch(second.append)
    publish(manager, 1, 1)
    assert (len(first), len(second)) == (0, 1)


def test_a_reader_that_keeps_up_loses_nothing(manager: EventManager) -> None:
    reader = manager.reader(lambda: None, 0)
    for seq in range(1, 101):
        manager.publish(an_event(seq))
        if seq % 10 == 0:
            assert len(reader.take()) == 10
    assert manager.dropped == 0


def test_what_a_slow_reader_loses_is_counted_when_it_is_lost_and_not_when_it_looks(manager: EventManager) -> None:
    reader = manager.reader(lambda: None, 0)
    publish(manager, 1, 10)
    assert manager.dropped == 0
    publish(manager, 11, 35)
    assert manager.dropped == 25
    assert len(reader.take()) == 11  # one of them is the gap
    assert manager.dropped == 25


def test_each_reader_counts_and_one_that_has_closed_still_does(manager: EventManager) -> None:
    readers = [manager.reader(lambda: None, 0) for _ in range(2)]
    publish(manager, 1, 15)
    assert manager.dropped == 10
    readers[0].close()
    publish(manager, 16, 18)
    assert manager.dropped == 13
    del readers
    assert manager.dropped == 13


def test_a_reader_loses_only_what_it_wanted(manager: EventManager) -> None:
    iterator = manager.iterate(path="b")
    publish(manager, 1, 100)
    assert manager.dropped == 0
    publish(manager, 101, 111, "b")
    assert manager.dropped == 1
    iterator.close()


def test_messages_cut_in_a_flood_are_lost_once_and_not_for_each_reader(manager: EventManager) -> None:
    readers = [manager.reader(lambda: None, 0) for _ in range(2)]
    manager.publish(Event(7, 0.0, 0.0, EventType.EVENT_GAP, "", 0, EventGap(1, 7)))
    assert manager.dropped == 7
    assert [len(reader.take()) for reader in readers] == [1, 1]


def test_a_reader_whose_only_event_is_dropped_as_it_begins_to_take_waits_for_the_next() -> None:
    manager, rung = a_manager(1), list[str]()
    reader = manager.reader(lambda: rung.append("rung"), 0)

    class Interleaved(deque[tuple[int, Event]]):
        """Lets the publisher drop between the reader's look at the length and its first step."""

        def __len__(self) -> int:
            found = super().__len__()
            self.clear()
            return found

    reader._buffer = Interleaved([(0, an_event(1))])
    assert reader.take() == []
    reader._buffer = deque()
    publish(manager, 2, 2)
    assert rung == ["rung"]
    assert [event.seq for event in reader.take()] == [2]
    manager.close()


@pytest.mark.parametrize("capacity", [1, 2, 50])
def test_what_was_read_and_what_was_lost_add_up_to_what_was_published_whoever_reads_meanwhile(capacity: int) -> None:
    manager, rung = a_manager(capacity), threading.Event()
    reader = manager.reader(rung.set, 0)
    got: list[Event] = []

    def read() -> None:
        while not reader.ended:
            events = reader.take()
            got.extend(events)
            if not events and not reader.ended:
                rung.wait()
                rung.clear()

    thread = threading.Thread(target=read)
    thread.start()
    publish(manager, 1, PUBLISHED)
    manager.close()
    thread.join()
    read_ones = [event.seq for event in got if not isinstance(event.data, EventGap)]
    missing = sum(event.data.last - event.data.first + 1 for event in got if isinstance(event.data, EventGap))
    assert read_ones[-1] == PUBLISHED
    assert read_ones == sorted(read_ones)
    assert len(read_ones) + missing == PUBLISHED
    assert manager.dropped == missing


def test_a_real_flood_is_counted_to_the_last_message() -> None:
    tree, emitted = a_tree(run_mode="stop_on_empty"), 5 * MAX_PENDING_MESSAGES
    watched, go_on = list[Event](), threading.Event()
    tree.events.watch(watched.append)

    def take_nothing_in() -> None:
        assert go_on.wait(PATIENCE)

    def flood(agent: Agent) -> None:
        tree.driver.call(take_nothing_in)
        for _ in range(emitted):
            agent.emit("drop")
        go_on.set()

    add(tree, "a", flood)
    tree.simple_join()
    taken = sum(isinstance(event.data, AgentMessage) for event in watched)
    assert taken + tree.events.dropped == emitted
    assert tree.events.dropped >= emitted - 2 * MAX_PENDING_MESSAGES
    assert [event.seq for event in watched if event.type is not EventType.EVENT_GAP] == [
        event.seq for event in tree.history(limit=None) if event.type is not EventType.EVENT_GAP
    ]
