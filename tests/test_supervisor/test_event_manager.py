"""What every reader of events is promised, with real threads and nothing but deadlines."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final

import pytest

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.event_readers import ThreadBell
from orchestree.supervisor.events import AgentReady, Event, EventGap, EventType, HandlerFailed

PATIENCE: Final = 10.0
"""Seconds after which a test that waits has failed."""


def an_event(seq: int, type: EventType = EventType.AGENT_READY, path: str = "a") -> Event:
    data = HandlerFailed("h", "e") if type is EventType.HANDLER_FAILED else AgentReady(0.0)
    return Event(seq, 0.0, 0.0, type, path, 1, data)


def publish(manager: EventManager, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        manager.publish(an_event(seq))


def numbers(events: list[Event]) -> list[int | tuple[int, int]]:
    """Return the numbers of `events`, a gap as (first, last)."""
    return [(e.data.first, e.data.last) if isinstance(e.data, EventGap) else e.seq for e in events]


def started(failures: list[str] | None = None, capacity: int = 10_000) -> EventManager:
    def failed(handler: str, error: BaseException) -> None:
        if failures is not None:
            failures.append(f"{handler}: {error!r}")

    manager = EventManager(failed, capacity=capacity)
    manager.start()
    return manager


def ended(manager: EventManager) -> bool:
    manager.close()
    return manager.join(PATIENCE)


class Blocker:
    """A callback that stays in its first call until it is let go."""

    def __init__(self) -> None:
        self.got: list[Event] = []
        self.busy = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, event: Event) -> None:
        self.got.append(event)
        self.busy.set()
        assert self.go_on.wait(PATIENCE)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t.name for t in set(threading.enumerate()) - before} == set()


# Filters


@pytest.mark.parametrize("type", [EventType.AGENT_READY, "agent_ready", "AGENT_READY", ["agent_ready"], None])
def test_a_type_may_be_given_as_member_as_name_in_either_case_or_as_several(
    type: EventType | str | list[EventType | str] | None,
) -> None:
    manager = started()
    publish(manager, 1, 1)
    manager.close()
    assert numbers(list(manager.iterate(since=0, type=type))) == [1]
    assert list(manager.iterate(since=0, type="agent_crashed")) == []


def test_an_unknown_type_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'agent_crashed'"):
        started().subscribe(print, type="agent_crash")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (None, ["", "ingest", "ingest/a", "ingest-2"]),
        ("", ["", "ingest", "ingest/a", "ingest-2"]),
        ("ingest", ["ingest", "ingest/a"]),
        ("ingest/a", ["ingest/a"]),
        ("a", []),
    ],
)
def test_a_path_means_itself_and_what_is_below_it(path: str | None, found: list[str]) -> None:
    manager = started()
    for seq, of in enumerate(["", "ingest", "ingest/a", "ingest-2"], 1):
        manager.publish(an_event(seq, path=of))
    manager.close()
    assert [event.path for event in manager.iterate(since=0, path=path)] == found


# Callbacks


def test_a_callback_gets_every_event_in_order_in_one_thread_of_its_own() -> None:
    manager, got, threads = started(), list[Event](), set[int]()

    def remember(event: Event) -> None:
        got.append(event)
        threads.add(threading.get_ident())

    manager.subscribe(remember)
    publish(manager, 1, 5000)
    assert ended(manager)
    assert numbers(got) == list(range(1, 5001))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_callback_gets_only_what_is_published_after_it_subscribed() -> None:
    manager, got = started(), list[Event]()
    publish(manager, 1, 3)
    manager.subscribe(got.append)
    publish(manager, 4, 5)
    assert ended(manager)
    assert numbers(got) == [4, 5]


def test_a_slow_callback_delays_neither_the_publisher_nor_another_callback() -> None:
    manager, slow, got, all_got = started(), Blocker(), list[Event](), threading.Event()

    def fast(event: Event) -> None:
        got.append(event)
        if event.seq == 100:
            all_got.set()

    manager.subscribe(slow)
    manager.subscribe(fast)
    publish(manager, 1, 100)
    assert all_got.wait(PATIENCE)
    assert slow.busy.wait(PATIENCE)
    assert numbers(got) == list(range(1, 101))
    assert len(slow.got) == 1
    slow.go_on.set()
    assert ended(manager)
    assert numbers(slow.got) == list(range(1, 101))


def test_a_callback_that_falls_behind_gets_one_gap_in_place_of_what_it_lost() -> None:
    manager, slow = started(capacity=10), Blocker()
    manager.subscribe(slow)
    publish(manager, 1, 1)
    assert slow.busy.wait(PATIENCE)
    publish(manager, 2, 31)
    slow.go_on.set()
    assert ended(manager)
    assert numbers(slow.got) == [1, (2, 21), *range(22, 32)]
    gap = slow.got[1]
    assert (gap.type, gap.seq, gap.path, gap.incarnation) == (EventType.EVENT_GAP, 21, "", 0)


def test_a_gap_of_a_filtered_callback_ends_with_an_event_that_it_would_have_got() -> None:
    manager, slow = started(capacity=2), Blocker()
    manager.subscribe(slow, path="b")
    for seq in range(1, 13):
        manager.publish(an_event(seq, path="b" if seq % 3 == 0 else "a"))
        if seq == 3:
            assert slow.busy.wait(PATIENCE)
    slow.go_on.set()
    assert ended(manager)
    assert numbers(slow.got) == [3, (4, 6), 9, 12]


def test_what_a_callback_raises_is_reported_and_hurts_nobody() -> None:
    failures, got = list[str](), list[Event]()
    manager = started(failures)

    def fails(event: Event) -> None:
        raise SystemExit(event.seq) if event.seq == 2 else ValueError(event.seq)

    subscription = manager.subscribe(fails)
    manager.subscribe(got.append)
    publish(manager, 1, 3)
    assert ended(manager)
    assert failures == [
        f"{subscription.handler}: {error}" for error in ("ValueError(1)", "SystemExit(2)", "ValueError(3)")
    ]
    assert subscription.handler.endswith("test_what_a_callback_raises_is_reported_and_hurts_nobody.<locals>.fails")
    assert subscription.failures == 3
    assert numbers(got) == [1, 2, 3]


def test_a_callback_that_fails_on_the_event_about_its_failure_does_not_go_round_for_ever() -> None:
    failures = list[str]()
    manager = started(failures)

    def fails(event: Event) -> None:
        raise ValueError(event.seq)

    subscription = manager.subscribe(fails)
    manager.publish(an_event(1))
    manager.publish(an_event(2, EventType.HANDLER_FAILED))
    assert ended(manager)
    assert len(failures) == 1
    assert subscription.failures == 2


def test_a_closed_subscription_gets_what_came_before_and_nothing_after() -> None:
    manager, slow = started(), Blocker()
    with manager.subscribe(slow) as subscription:
        publish(manager, 1, 3)
        assert slow.busy.wait(PATIENCE)
    assert subscription.closed
    subscription.close()
    publish(manager, 4, 5)
    slow.go_on.set()
    assert manager.join(PATIENCE)
    assert numbers(slow.got) == [1, 2, 3]


def test_a_callback_may_close_its_own_subscription_and_wait_for_the_others() -> None:
    manager, answers = started(), list[bool]()

    def closes(event: Event) -> None:
        subscription.close()
        answers.append(manager.join(PATIENCE))

    subscription = manager.subscribe(closes)
    publish(manager, 1, 1)
    assert ended(manager)
    assert answers == [True]


def test_the_decorator_subscribes_and_leaves_the_function_as_it_is() -> None:
    manager, got = started(), list[Event]()

    @manager.on(EventType.AGENT_CRASHED, "b")
    def crashed(event: Event) -> str:
        got.append(event)
        return "called"

    manager.publish(an_event(1))
    manager.publish(an_event(2, EventType.AGENT_CRASHED))
    manager.publish(an_event(3, EventType.AGENT_CRASHED, "b"))
    assert ended(manager)
    assert numbers(got) == [3]
    assert crashed(an_event(4)) == "called"


def test_no_thread_runs_before_the_start_and_nothing_is_lost_by_it() -> None:
    manager, got = EventManager(lambda handler, error: None), list[Event]()
    before = set(threading.enumerate())
    manager.subscribe(got.append)
    publish(manager, 1, 3)
    assert set(threading.enumerate()) <= before
    manager.start()
    assert ended(manager)
    assert numbers(got) == [1, 2, 3]


def test_join_says_when_a_callback_does_not_end() -> None:
    manager, slow = started(), Blocker()
    manager.subscribe(slow)
    publish(manager, 1, 1)
    assert slow.busy.wait(PATIENCE)
    manager.close()
    assert not manager.join(0.01)
    slow.go_on.set()
    assert manager.join(PATIENCE)


# Waiting for one event


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set whenever a reader begins to wait."""
    begins = threading.Event()
    wait_until = ThreadBell.wait_until

    def noticed(bell: ThreadBell, deadline: float | None) -> bool:
        begins.set()
        return wait_until(bell, deadline)

    monkeypatch.setattr(ThreadBell, "wait_until", noticed)
    return begins


def test_wait_for_returns_the_first_event_from_now_on_that_fits(asleep: threading.Event) -> None:
    manager = started()
    manager.publish(an_event(2, EventType.AGENT_CRASHED, "b/c"))

    def wait() -> Event:
        return manager.wait_for(EventType.AGENT_CRASHED, "b", where=lambda event: event.seq % 2 == 0, timeout=PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        assert asleep.wait(PATIENCE)
        manager.publish(an_event(3, EventType.AGENT_CRASHED, "b"))
        manager.publish(an_event(4, EventType.AGENT_CRASHED, "a"))
        manager.publish(an_event(6, EventType.AGENT_READY, "b"))
        manager.publish(an_event(8, EventType.AGENT_CRASHED, "b/c"))
        assert answer.result(PATIENCE).seq == 8
    assert not manager._readers


def test_wait_for_looks_at_the_past_when_it_is_told_since_when() -> None:
    manager = started()
    publish(manager, 1, 5)
    assert manager.wait_for("agent_ready", since=0, timeout=PATIENCE).seq == 1
    assert manager.wait_for("agent_ready", since=3, timeout=PATIENCE).seq == 4
    with pytest.raises(TimeoutError):
        manager.wait_for("agent_ready", since=5, timeout=0)


def test_wait_for_times_out_and_says_what_it_waited_for() -> None:
    manager = started()
    with pytest.raises(TimeoutError, match=r"no agent_ready event of 'a' within 0\.01 s"):
        manager.wait_for("agent_ready", "a", timeout=0.01)
    assert not manager._readers


def test_wait_for_gives_up_at_once_when_the_end_was_reached() -> None:
    manager = started()
    manager.close()
    with pytest.raises(TimeoutError, match="no agent_ready event, and the orchestrator has ended"):
        manager.wait_for("agent_ready", timeout=PATIENCE)


def test_what_where_raises_reaches_the_caller() -> None:
    manager = started()
    publish(manager, 1, 1)

    def fails(event: Event) -> bool:
        raise ValueError(event.seq)

    with pytest.raises(ValueError, match="1"):
        manager.wait_for(None, where=fails, since=0, timeout=PATIENCE)
    assert not manager._readers


def test_wait_for_is_not_answered_by_a_gap() -> None:
    manager = started(capacity=2)
    publish(manager, 1, 5)
    assert manager.wait_for("agent_ready", since=0, timeout=PATIENCE).seq == 4
    assert manager.wait_for("event_gap", since=0, timeout=PATIENCE).seq == 3


def test_an_event_published_while_a_reader_joins_is_read_exactly_once() -> None:
    class Busy(deque[Event]):
        """Events come in before and after a reader has copied the past."""

        def copy(self) -> Busy:
            publish(manager, 2, 2)
            past = Busy(self)
            publish(manager, 3, 3)
            return past

    manager = started()
    manager._recent = Busy()
    publish(manager, 1, 1)
    events = manager.iterate()
    publish(manager, 4, 4)
    manager.close()
    assert numbers(list(events)) == [2, 3, 4]


def test_readers_that_join_in_a_flood_miss_nothing() -> None:
    manager = started(capacity=100_000)
    stop = threading.Event()

    def flood() -> int:
        seq = 0
        while not stop.is_set() and seq < 90_000:
            seq += 1
            manager.publish(an_event(seq))
        return seq

    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood)
        for _ in range(20):
            since = manager.latest
            events = manager.iterate(since, timeout=PATIENCE if not flooding.done() else 0)
            got = [event.seq for event in islice(events, 20)]
            assert got == list(range(since + 1, since + 1 + len(got)))
        stop.set()


# Iterators


def test_an_iterator_takes_part_from_the_call_on_and_ends_with_the_manager() -> None:
    manager = started()
    publish(manager, 1, 2)
    events = manager.iterate()
    publish(manager, 3, 5)
    manager.close()
    assert numbers(list(events)) == [3, 4, 5]
    assert list(events) == []


def test_an_iterator_ends_after_the_longest_silence() -> None:
    manager = started()
    events = manager.iterate(timeout=0.01)
    publish(manager, 1, 2)
    assert numbers(list(events)) == [1, 2]
    assert not manager._readers


def test_an_iterator_that_waits_is_woken_by_an_event_and_by_the_end(asleep: threading.Event) -> None:
    manager = started()
    events = manager.iterate()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(next, events)
        assert asleep.wait(PATIENCE)
        publish(manager, 1, 1)
        assert answer.result(PATIENCE).seq == 1
        asleep.clear()
        rest = pool.submit(list, events)
        assert asleep.wait(PATIENCE)
        manager.close()
        assert rest.result(PATIENCE) == []


def test_an_iterator_begins_with_the_past_and_goes_on() -> None:
    manager = started()
    publish(manager, 1, 4)
    events = manager.iterate(since=2)
    publish(manager, 5, 6)
    manager.close()
    assert numbers(list(events)) == [3, 4, 5, 6]


def test_a_past_that_is_no_longer_kept_is_a_gap() -> None:
    manager = started(capacity=3)
    publish(manager, 1, 10)
    events = manager.iterate(since=4, type="agent_ready")
    manager.close()
    assert numbers(list(events)) == [(5, 7), 8, 9, 10]


def test_an_iterator_dropped_half_way_is_no_reader_any_more() -> None:
    manager = started()
    publish(manager, 1, 3)
    for event in manager.iterate(since=0):
        assert event.seq == 1
        break
    manager.iterate()
    gc.collect()
    assert not manager._readers


def test_readers_that_come_after_the_end_read_the_past_and_end() -> None:
    manager, got = started(), list[Event]()
    publish(manager, 1, 2)
    manager.close()
    assert numbers(list(manager.iterate(since=0))) == [1, 2]
    assert manager.subscribe(got.append).closed
    assert manager.join(PATIENCE)
    assert not manager._readers
    assert not manager._subscriptions


# What is kept


def test_the_newest_events_are_kept_oldest_first() -> None:
    manager = started(capacity=6)
    publish(manager, 1, 10)
    assert numbers(manager.recent()) == [5, 6, 7, 8, 9, 10]
    assert started().recent() == []
    assert manager.latest == 10
    assert started().latest == 0
