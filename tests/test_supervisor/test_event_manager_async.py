"""Events in asyncio programs: callbacks that are tasks, and streams."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.event_readers import LoopBell
from orchestree.supervisor.events import AgentReady, Event, EventType

PATIENCE: Final = 10.0
"""Seconds after which a test that waits has failed."""


def an_event(seq: int) -> Event:
    return Event(seq, 0.0, 0.0, EventType.AGENT_READY, "a", 1, AgentReady(0.0))


def publish(manager: EventManager, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        manager.publish(an_event(seq))


async def elsewhere(manager: EventManager, first: int, last: int) -> None:
    """Publish from another thread, as the supervision thread does."""
    await asyncio.to_thread(publish, manager, first, last)


def run(test: Callable[[EventManager, list[str]], Coroutine[Any, Any, None]]) -> None:
    failures = list[str]()
    manager = EventManager(lambda handler, error: failures.append(repr(error)))
    manager.start()
    asyncio.run(asyncio.wait_for(test(manager, failures), PATIENCE))
    assert not manager._readers
    assert not manager._subscriptions


def test_an_async_callback_runs_in_the_loop_that_subscribed_one_event_after_another() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        got, active, threads = list[int](), set[int](), set[int]()

        async def remember(event: Event) -> None:
            assert not active
            active.add(event.seq)
            await asyncio.to_thread(lambda: None)
            active.clear()
            got.append(event.seq)
            threads.add(threading.get_ident())

        manager.subscribe(remember)
        assert {thread.name for thread in threading.enumerate() if "handler" in thread.name} == set()
        await elsewhere(manager, 1, 50)
        manager.close()
        assert await manager.join_async(PATIENCE)
        assert got == list(range(1, 51))
        assert threads == {threading.get_ident()}
        assert failures == []

    run(main)


def test_an_async_callback_that_raises_or_cancels_itself_is_reported_and_goes_on() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        async def fails(event: Event) -> None:
            raise asyncio.CancelledError if event.seq == 1 else ValueError(event.seq)

        subscription = manager.subscribe(fails)
        await elsewhere(manager, 1, 2)
        manager.close()
        assert await manager.join_async(PATIENCE)
        assert failures == ["CancelledError()", "ValueError(2)"]
        assert subscription.failures == 2

    run(main)


def test_an_object_with_an_async_call_is_an_async_callback() -> None:
    class Remember:
        def __init__(self) -> None:
            self.got = list[int]()

        async def __call__(self, event: Event) -> None:
            self.got.append(event.seq)

    async def main(manager: EventManager, failures: list[str]) -> None:
        remember = Remember()
        with manager.subscribe(remember) as subscription:
            await elsewhere(manager, 1, 2)
        await elsewhere(manager, 3, 3)
        assert await manager.join_async(PATIENCE)
        assert remember.got == [1, 2]
        assert subscription.handler.endswith("Remember")

    run(main)


def test_an_async_callback_ends_with_its_loop() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        called = asyncio.Event()

        async def hangs(event: Event) -> None:
            called.set()
            await asyncio.Event().wait()

        manager.subscribe(hangs)
        await elsewhere(manager, 1, 2)
        await called.wait()

    run(main)


def test_an_async_callback_from_outside_of_any_loop_runs_where_the_orchestrator_is_started() -> None:
    manager, got = EventManager(lambda handler, error: None), list[int]()

    @manager.on(EventType.AGENT_READY)
    async def remember(event: Event) -> None:
        got.append(event.seq)

    with pytest.raises(SpecError, match="remember is an 'async def' and needs an event loop"):
        manager.start()

    async def main() -> None:
        manager.start()
        await elsewhere(manager, 1, 2)
        manager.close()
        assert await manager.join_async(PATIENCE)

    asyncio.run(main())
    assert got == [1, 2]


def test_an_async_callback_subscribed_later_outside_of_any_loop_is_refused() -> None:
    manager = EventManager(lambda handler, error: None)
    manager.start()

    async def never(event: Event) -> None: ...

    with pytest.raises(SpecError, match="needs an event loop"):
        manager.subscribe(never)
    assert not manager._readers
    assert not manager._subscriptions


def test_join_async_says_when_a_callback_does_not_end() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        called, go_on = asyncio.Event(), asyncio.Event()

        async def hangs(event: Event) -> None:
            called.set()
            await go_on.wait()

        manager.subscribe(hangs)
        await elsewhere(manager, 1, 1)
        await called.wait()
        manager.close()
        assert not await manager.join_async(0.01)
        go_on.set()
        assert await manager.join_async(PATIENCE)

    run(main)


def test_join_async_waits_for_callbacks_in_threads_too_and_lets_the_loop_run() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        loop, go_on = asyncio.get_running_loop(), threading.Event()

        def needs_the_loop(event: Event) -> None:
            loop.call_soon_threadsafe(go_on.set)
            assert go_on.wait(PATIENCE)

        manager.subscribe(needs_the_loop)
        await elsewhere(manager, 1, 1)
        manager.close()
        assert await manager.join_async(PATIENCE)
        assert failures == []

    run(main)


def test_a_stream_begins_with_the_past_goes_on_and_ends_with_the_manager() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        publish(manager, 1, 3)
        stream = manager.stream(since=1)
        got = list[int]()

        async def read() -> None:
            async for event in stream:
                got.append(event.seq)
                if event.seq == 3:
                    past_read.set()

        past_read = asyncio.Event()
        reading = asyncio.create_task(read())
        await past_read.wait()
        await elsewhere(manager, 4, 5000)
        manager.close()
        await reading
        assert got == list(range(2, 5001))

    run(main)


def test_a_flood_wakes_a_waiting_stream_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        rings = list[LoopBell]()
        ring = LoopBell.ring

        def counted(bell: LoopBell) -> None:
            rings.append(bell)
            ring(bell)

        monkeypatch.setattr(LoopBell, "ring", counted)
        stream = manager.stream()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(lambda: None)
        publish(manager, 1, 1000)
        assert (await waiting).seq == 1
        assert [(await anext(stream)).seq for _ in range(999)] == list(range(2, 1001))
        assert len(rings) == 1

    run(main)


def test_a_stream_may_be_left_half_way() -> None:
    async def main(manager: EventManager, failures: list[str]) -> None:
        publish(manager, 1, 3)
        async for event in manager.stream(since=0):
            assert event.seq == 1
            break
        assert not manager._readers
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                async for _ in manager.stream():
                    pass

    run(main)


def test_a_loop_closed_over_a_waiting_stream_does_not_disturb_the_publisher() -> None:
    manager = EventManager(lambda handler, error: None)
    loop = asyncio.new_event_loop()
    stream = manager.stream()
    with pytest.raises(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(anext(stream), 0.01))
    loop.close()
    publish(manager, 1, 3)
    stream.close()
    assert not manager._readers
