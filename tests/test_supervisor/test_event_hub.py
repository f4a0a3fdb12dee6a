"""The one reader that all streaming clients share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestree.supervisor.control.api import event_hub
from orchestree.supervisor.control.api.event_hub import EventFeed, EventHub
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.event_readers import EventFilter
from orchestree.supervisor.events import AgentReady, Event, EventGap, EventType

PATIENCE = 10.0
ALL = EventFilter()


class Encoder:
    """Writes events down as their numbers, gaps as what they stand for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Event) -> bytes:
        self.calls += 1
        first = getattr(event.data, "first", event.seq)
        return (f"{first}-{event.seq}." if first != event.seq else f"{event.seq}.").encode()


def publish(manager: EventManager, first: int, last: int, path: str = "a") -> None:
    for seq in range(first, last + 1):
        manager.publish(Event(seq, 0.0, 0.0, EventType.AGENT_READY, path, 1, AgentReady(0.0)))


def run(test: Callable[[EventManager, EventHub, Encoder], Coroutine[Any, Any, None]], limit: int = 10_000) -> None:
    async def main() -> None:
        manager, encode = EventManager(lambda handler, error: None, capacity=limit), Encoder()
        async with asyncio.timeout(PATIENCE):
            await test(manager, EventHub(manager, encode, limit=limit), encode)
        assert not manager._readers

    asyncio.run(main())


async def until(feed: EventFeed, seq: int) -> None:
    """Wait until the feed knows the event with this number."""
    while feed.after(0, ALL).seq < seq:
        await feed.news()


def test_each_event_is_encoded_once_whoever_wants_it() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed, hub.listening() as same:
            assert same is feed
            assert len(manager._readers) == 1
            publish(manager, 1, 3)
            await until(feed, 3)
            calls = encode.calls
            writes = [feed.after(seq, wanted).data for seq in (0, 1) for wanted in (ALL, EventFilter(path="a"))]
            assert writes == [b"1.2.3.", b"1.2.3.", b"2.3.", b"2.3."]
            assert encode.calls == calls == 3

    run(test)


def test_what_nobody_wants_is_not_even_encoded() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        publish(manager, 1, 100)
        with hub.listening() as feed:
            publish(manager, 101, 102)
            while (write := feed.after(0, EventFilter(path="b"))).seq < 102:
                await feed.news()
            assert write.data == b""
            assert encode.calls == 0

    run(test)


def test_nothing_is_read_while_nobody_listens() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        for last in (5, 10):
            assert not manager._readers
            with hub.listening() as feed:
                assert len(manager._readers) == 1
                publish(manager, last - 4, last)
                await until(feed, last)
            assert not manager._readers

    run(test)


def test_a_client_that_is_too_late_gets_one_gap_in_place_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "COALESCE_S", 0.0)

    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed:
            for last in range(5, 31, 5):
                publish(manager, last - 4, last)
                while feed.after(last - 5, ALL).seq < last:
                    await feed.news()
            assert feed.after(2, ALL).data == b"3-20.21.22.23.24.25.26.27.28.29.30."
            assert feed.after(2, EventFilter(path="nobody")).data == b"3-20."
            assert feed.after(20, ALL).data.startswith(b"21.")
            assert feed.reaches_back_to(20)
            assert not feed.reaches_back_to(19)

    run(test, limit=10)


def test_when_the_hub_itself_is_too_slow_everybody_sees_the_gap() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed:
            publish(manager, 1, 25)  # before it has had its turn
            while feed.after(0, EventFilter(path="b")).seq < 25:
                await feed.news()
            assert feed.after(0, EventFilter(path="b")).data == b"1-15."
            assert feed.after(0, ALL).data.startswith(b"1-15.16.")

    run(test, limit=10)


def test_a_flood_that_was_cut_is_a_gap_for_everybody() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        publish(manager, 1, 1)
        manager.publish(Event(9, 0.0, 0.0, EventType.EVENT_GAP, "", 0, EventGap(2, 9)))
        publish(manager, 10, 10)
        with hub.listening() as feed:
            assert feed.after(0, ALL).data == b"1.2-9.10."
            assert feed.after(0, EventFilter(path="b")).data == b"2-9."

    run(test)


def test_a_write_is_bounded_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "WRITE_BYTES", 10)

    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        publish(manager, 101, 109)
        with hub.listening() as feed:
            write = feed.after(100, ALL)
            assert (write.data, write.seq) == (b"101.102.103.", 103)
            assert feed.after(103, ALL).data == b"104.105.106."

    run(test)


def test_what_is_kept_encoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "ENCODED_BYTES", 40)

    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        publish(manager, 101, 200)
        with hub.listening() as feed:
            whole = feed.after(100, ALL).data
            assert whole == b"".join(b"%d." % seq for seq in range(101, 201))
            assert sum(map(len, feed._encoded.values())) == feed._encoded_bytes <= 40
            publish(manager, 201, 250)  # the oldest go
            while feed.after(200, ALL).seq < 250:
                await feed.news()
            assert sum(map(len, feed._encoded.values())) == feed._encoded_bytes <= 40
            assert feed.after(150, ALL).data.count(b".") == 100  # and are encoded again for who comes late

    run(test, limit=100)


def test_a_storm_costs_few_wake_ups_and_the_first_event_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "COALESCE_S", PATIENCE * 10)

    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed:
            waiting = asyncio.create_task(feed.news())
            await asyncio.sleep(0)
            publish(manager, 1, 1)
            await waiting
            rings = list[int]()
            (reader,) = manager._readers
            monkeypatch.setattr(reader, "_wake", lambda: rings.append(1))
            publish(manager, 2, 5000)  # the supervision thread need not wake anybody for these
            assert not rings
            assert feed.after(0, ALL).seq == 1

    run(test)


def test_many_clients_are_woken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "WOKEN_AT_ONCE", 2)
    monkeypatch.setattr(event_hub, "BREATH_S", PATIENCE * 10)

    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed:
            waiting = [asyncio.create_task(feed.news()) for _ in range(5)]
            await asyncio.sleep(0)
            waiting[0].cancel()  # it has gone, or wants to say that it is still there
            publish(manager, 1, 1)
            await asyncio.wait(waiting[:3])
            assert [task.done() for task in waiting] == [True, True, True, False, False]
        await asyncio.wait(waiting)  # all are told of the end
        assert feed.ended
        assert not feed._waiting

    run(test)


def test_the_end_comes_after_the_last_event() -> None:
    async def test(manager: EventManager, hub: EventHub, encode: Encoder) -> None:
        with hub.listening() as feed:
            publish(manager, 1, 3)
            manager.close()
            while not feed.ended:
                await feed.news()
            assert feed.after(0, ALL).data == b"1.2.3."

    run(test)
