"""The way into a loop from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestree.agents.inbox import Inbox

pytestmark = pytest.mark.portable


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often it is woken."""

    wakes = 0

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **kwargs)


@pytest.fixture
def loop() -> Iterator[CountingLoop]:
    made = CountingLoop()
    yield made
    made.close()


def numbered(done: list[int], number: int) -> Callable[[], None]:
    return lambda: done.append(number)


def test_a_burst_of_posts_keeps_its_order_and_wakes_the_loop_once(loop: CountingLoop) -> None:
    inbox, done = Inbox(loop), list[int]()
    for number in range(100):
        inbox.post(numbered(done, number))
    inbox.post(loop.stop)
    loop.run_forever()
    assert loop.wakes == 1
    assert done == list(range(100))


def test_an_action_may_post_another(loop: CountingLoop) -> None:
    inbox = Inbox(loop)
    inbox.post(lambda: inbox.post(loop.stop))
    loop.run_forever()


def test_two_threads_that_append_before_either_looks_do_wake_the_loop(loop: CountingLoop) -> None:
    inbox, done = Inbox(loop), list[int]()

    class Interleaved(type(inbox._actions)):  # type: ignore[misc]
        """Lets a second post come between the first one's append and its look."""

        def append(self, action: Callable[[], None]) -> None:
            super().append(action)
            if len(self) == 1:
                inbox.post(loop.stop)

    inbox._actions = Interleaved()
    inbox.post(numbered(done, 1))
    loop.run_forever()
    assert done == [1]


def test_no_post_of_many_threads_is_overlooked(loop: CountingLoop) -> None:
    inbox, done, posts = Inbox(loop), list[int](), 2000

    def post_all() -> None:
        for number in range(posts):
            inbox.post(numbered(done, number))
        inbox.post(stop_when_complete)

    def stop_when_complete() -> None:
        if len(done) == 4 * posts:
            loop.stop()

    threads = [threading.Thread(target=post_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert len(done) == 4 * posts


def test_a_post_into_a_closed_loop_closes_the_inbox(loop: CountingLoop) -> None:
    inbox = Inbox(loop)
    inbox.post(lambda: None)
    assert not inbox.closed
    loop.close()
    inbox.post(lambda: None)
    assert inbox.closed


def test_each_wake_up_tells_once_how_long_the_loop_took_to_turn(
    loop: CountingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lags, now = list[float](), 10.0
    monkeypatch.setattr("orchestree.agents.inbox.time", SimpleNamespace(monotonic=lambda: now))
    inbox = Inbox(loop, lags.append)
    for wait in (2.5, 0.25):
        inbox.post(lambda: None)
        now += wait
        inbox.post(loop.stop)  # no further wake-up
        loop.run_forever()
    assert lags == [2.5, 0.25]


def test_what_a_loop_was_woken_for_comes_before_the_telling(loop: CountingLoop) -> None:
    done: list[object] = []
    inbox = Inbox(loop, lambda seconds: done.append("told"))
    inbox.post(lambda: done.append("first"))
    inbox.post(loop.stop)
    loop.run_forever()
    assert done == ["first", "told"]
