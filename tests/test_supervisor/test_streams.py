"""``GET /events/stream`` over a real socket: what a client gets of the past and of what happens meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from event_samples import from_json
from orchestree_testing.streaming import Client, Served, number_of, served
from orchestree_testing.trees import PATIENCE

from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.control.api.streams import LAST_NUMBER, PAGE, SILENCE_S, Streams
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import TYPE_OF, AgentMessage, AgentReady, Event, EventData, EventGap
from orchestree.supervisor.history import EventQuery, History, a_gap

pytestmark = pytest.mark.portable


def an_event(seq: int, path: str = "a", data: EventData | None = None, run: str = "run") -> Event:
    data = data or AgentReady(0.5)
    return Event(seq, 1.0, 2.0, TYPE_OF[type(data)], path, 1, data, run)


def of_run(run: str, first: int, last: int) -> list[Event]:
    return [an_event(seq, run=run) for seq in range(first, last + 1)]


def publish(events: EventManager, first: int, last: int, path: str = "a") -> None:
    for seq in range(first, last + 1):
        events.publish(an_event(seq, path))


class Store:
    """A history file that is none."""

    def __init__(self, stored: Sequence[Event]) -> None:
        self.stored = list(stored)

    def append(self, events: Sequence[Event]) -> None:
        self.stored += events

    def query(self, query: EventQuery) -> list[Event]:
        return query.among(self.stored)

    def prune(self, rows: int | None, before: float | None) -> bool:
        return False


@pytest.fixture
def events() -> EventManager:
    return small_manager(10_000)


def small_manager(capacity: int) -> EventManager:
    return EventManager(lambda handler, error: None, capacity=capacity)


def serving(
    folder: Path, events: EventManager, store: Store | None = None, *, before: int = 0, silence_s: float = SILENCE_S
) -> AbstractContextManager[Served]:
    query = History(events, store).query
    return served(folder, Streams(events, query, AgentLogs(), before=before, silence_s=silence_s))


def gap_of(client: Client) -> tuple[int, int]:
    """Return what the next message says is missing."""
    message = client.next()
    assert message.event == "event_gap"
    data = from_json(json.loads(message.data)).data
    assert isinstance(data, EventGap)
    assert number_of(message) == data.last
    return data.first, data.last


def test_a_client_gets_what_happens_from_now_on(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 3)
    with serving(tmp_path, events) as server, server.events() as client:
        publish(events, 4, 4)
        message = client.next()
    assert client.headers["content-type"].startswith("text/event-stream")
    assert (message.id, message.event) == ("run:4", "agent_ready")
    view = json.loads(message.data)
    assert from_json(view) == an_event(4)
    assert view["text"] == "READY    a             after 0.5 s"


def test_what_an_agent_says_cannot_break_out_of_its_message(tmp_path: Path, events: EventManager) -> None:
    text = "x\r\n\ndata: {}\n\nid: 99\u2028\ud800"
    with serving(tmp_path, events) as server, server.events() as client:
        events.publish(an_event(1, data=AgentMessage("said\n\n", {"text": text, "number": float("nan")})))
        publish(events, 2, 2)
        assert client.numbers(2) == [1, 2]


def test_a_client_begins_after_the_number_it_names(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 5)
    with serving(tmp_path, events) as server, server.events("since=2") as client:
        assert client.numbers(3) == [3, 4, 5]
        publish(events, 6, 7)
        assert client.numbers(2) == [6, 7]


def test_the_last_event_id_goes_before_since(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 5)
    with serving(tmp_path, events) as server, server.events("since=2", "Last-Event-ID: 4") as client:
        assert client.numbers(1) == [5]


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "1.5",
        "x",
        "1 2",
        "0x10",
        "1_0",
        "+3",
        "\xb2",
        "9" * 5000,
        str(LAST_NUMBER + 1),
        "1;drop",
        "nan",
        "run:",
        "run:x",
        "4:run",
    ],
)
def test_a_last_event_id_that_is_no_id_of_an_event_is_refused(tmp_path: Path, events: EventManager, value: str) -> None:
    with serving(tmp_path, events) as server, server.events("", f"Last-Event-ID: {value}") as client:
        assert client.status == 400
        answer = client.file.read()
    assert b"Last-Event-ID" in answer
    assert len(answer) < 200


def test_a_stream_is_resumed_after_the_id_of_its_last_message(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 5)
    with serving(tmp_path, events) as server:
        for header in ("run:3", "3"):
            with server.events("", f"Last-Event-ID: {header}") as client:
                assert client.numbers(2) == [4, 5]


def test_without_a_file_the_id_of_another_run_brings_all_of_this_one(tmp_path: Path) -> None:
    events = small_manager(50)
    publish(events, 1, 3)
    with serving(tmp_path, events) as server:
        with server.events("", "Last-Event-ID: other:2") as client:
            assert client.numbers(3) == [1, 2, 3]
        publish(events, 4, 80)
        for number in (2, 60, 100):
            with server.events("", f"Last-Event-ID: other:{number}") as client:
                assert gap_of(client) == (1, 30)
                assert client.numbers(50) == list(range(31, 81))


def test_what_a_killed_run_could_not_store_does_not_hide_what_has_its_numbers_now(tmp_path: Path) -> None:
    events = small_manager(10)
    store = Store([*of_run("killed", 1, 40), *of_run("next", 41, 60), *of_run("run", 61, 80)])
    publish(events, 61, 80)
    with serving(tmp_path, events, store, before=60) as server:
        for seen, expected in (("killed:54", 41), ("killed:30", 31), ("next:75", 61), ("next:50", 51), ("run:65", 66)):
            with server.events("", f"Last-Event-ID: {seen}") as client:
                assert client.numbers(81 - expected) == list(range(expected, 81))


def test_a_killed_run_is_resumed_before_the_first_event_of_this_one(tmp_path: Path, events: EventManager) -> None:
    store = Store(of_run("killed", 1, 10))
    with (
        serving(tmp_path, events, store, before=10) as server,
        server.events("", "Last-Event-ID: killed:14") as client,
        server.events("", "Last-Event-ID: killed:8") as behind,
    ):
        assert behind.numbers(2) == [9, 10]
        publish(events, 11, 12)
        assert client.numbers(2) == behind.numbers(2) == [11, 12]


def test_of_a_run_that_is_forgotten_all_that_came_later_is_sent(tmp_path: Path) -> None:
    events = small_manager(10)
    store = Store([*of_run("next", 41, 60), *of_run("run", 61, 80)])
    publish(events, 61, 80)
    with serving(tmp_path, events, store, before=60) as server:
        for number in (5, 50):
            with server.events("", f"Last-Event-ID: forgotten:{number}") as client:
                assert gap_of(client) == (1, 40)
                assert client.numbers(40) == list(range(41, 81))


def test_an_empty_last_event_id_says_nothing(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 5)
    with serving(tmp_path, events) as server, server.events("since=3", "Last-Event-ID: ") as client:
        assert client.numbers(2) == [4, 5]


def test_a_client_gets_only_the_path_and_the_types_that_it_wants(tmp_path: Path, events: EventManager) -> None:
    said = AgentMessage("said", {})
    with serving(tmp_path, events) as server, server.events("since=0&path=a&type=agent_message") as client:
        for seq, (path, data) in enumerate([("a", None), ("b", said), ("a/c", said), ("ab", said), ("a", said)], 1):
            events.publish(an_event(seq, path, data))
        assert client.numbers(2) == [3, 5]


def test_the_past_comes_from_the_history_then_from_memory_then_as_it_happens(tmp_path: Path) -> None:
    events = small_manager(50)
    last = 10 * PAGE
    store = Store([an_event(seq) for seq in range(1, last + 1)])  # it has what is in memory, too
    publish(events, last - 80, last)
    with serving(tmp_path, events, store) as server, server.events("since=0") as client:
        assert client.numbers(last) == list(range(1, last + 1))
        publish(events, last + 1, last + 3)
        assert client.numbers(3) == [last + 1, last + 2, last + 3]


def test_the_past_is_filtered_and_ends_where_the_present_begins(tmp_path: Path) -> None:
    events = small_manager(50)
    stored = [an_event(seq, "a" if seq % 7 == 0 else "b") for seq in range(1, 2001)]
    for event in stored[-60:]:
        events.publish(event)
    with serving(tmp_path, events, Store(stored)) as server, server.events("since=0&path=a") as client:
        assert client.numbers(2000 // 7) == list(range(7, 2001, 7))
        publish(events, 2001, 2001)
        assert client.numbers(1) == [2001]


def test_what_the_history_keeps_no_more_is_a_gap(tmp_path: Path) -> None:
    events = small_manager(50)
    publish(events, 1, 400)
    store = Store([an_event(seq) for seq in range(301, 401)])
    with serving(tmp_path, events, store) as server:
        for query in ("since=5", "since=5&path=a", "since=5&type=agent_ready"):
            with server.events(query) as client:
                assert gap_of(client) == (6, 300)
                assert client.numbers(100) == list(range(301, 401))


def test_what_is_missing_inside_the_history_is_a_gap_whatever_is_wanted(tmp_path: Path) -> None:
    events = small_manager(50)
    publish(events, 1, 400)
    stored = [an_event(seq) for seq in range(1, 401)]
    stored[99:200] = [a_gap(100, 200, stored[200])]
    with serving(tmp_path, events, Store(stored)) as server:
        for query in ("since=0", "since=0&path=a"):
            with server.events(query) as client:
                assert client.numbers(99) == list(range(1, 100))
                assert gap_of(client) == (100, 200)
                assert client.numbers(200) == list(range(201, 401))


def test_without_a_history_file_what_is_out_of_memory_is_a_gap(tmp_path: Path) -> None:
    events = small_manager(50)
    publish(events, 1, 80)
    with serving(tmp_path, events) as server, server.events("since=10") as client:
        assert gap_of(client) == (11, 30)
        assert client.numbers(50) == list(range(31, 81))


def test_a_number_of_an_earlier_run_brings_all_of_this_one(tmp_path: Path, events: EventManager) -> None:
    publish(events, 1, 3)
    with serving(tmp_path, events) as server, server.events("", "Last-Event-ID: 5000") as client:
        assert client.numbers(3) == [1, 2, 3]


def test_runs_before_are_known_before_the_first_event_of_this_one(tmp_path: Path, events: EventManager) -> None:
    store = Store([an_event(seq) for seq in range(1, 11)])
    with (
        serving(tmp_path, events, store, before=10) as server,
        server.events("since=8") as old,
        server.events() as new,
        server.events("since=4000") as lost,
    ):
        assert old.numbers(2) == [9, 10]
        publish(events, 11, 12)
        for client in (old, new, lost):
            assert client.numbers(2) == [11, 12]


def test_the_history_is_read_by_one_thread_at_a_time_however_many_clients_want_the_past(tmp_path: Path) -> None:
    class Watched(Store):
        def query(self, query: EventQuery) -> list[Event]:
            assert alone.acquire(blocking=False)
            try:
                assert all_wait.wait(PATIENCE)
                return super().query(query)
            finally:
                alone.release()

    alone, all_wait = threading.Lock(), threading.Event()
    events = small_manager(10)
    publish(events, 1, 1000)
    with serving(tmp_path, events, Watched([an_event(seq) for seq in range(1, 1001)])) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.events("since=0")) for _ in range(10)]
        all_wait.set()
        assert [client.numbers(1000)[-1] for client in clients] == [1000] * 10


@pytest.mark.slow
def test_clients_that_come_in_the_middle_of_it_miss_nothing_and_get_nothing_twice(tmp_path: Path) -> None:
    events = small_manager(300)
    store = Store([])
    last = 3000
    half_way, all_joined = threading.Event(), threading.Event()

    def work() -> None:
        for seq in range(1, last + 1):
            event = an_event(seq)
            store.stored.append(event)
            events.publish(event)
            if seq == last // 2:
                half_way.set()
                assert all_joined.wait(PATIENCE)

    with serving(tmp_path, events, store) as server, ExitStack() as stack:
        worker = threading.Thread(target=work)
        worker.start()
        clients = [stack.enter_context(server.events("since=0")) for _ in range(5)]
        assert half_way.wait(PATIENCE)
        clients += [stack.enter_context(server.events(f"since={n * 100}")) for n in range(5)]
        all_joined.set()
        worker.join(PATIENCE)
        events.close()
        for client, first in zip(clients, [1] * 5 + [1, 101, 201, 301, 401], strict=True):
            seen = first - 1
            for message in client:
                view = from_json(json.loads(message.data))
                since = view.data.first if isinstance(view.data, EventGap) else view.seq
                assert since == seen + 1
                seen = view.seq
            assert seen == last


def test_the_stream_ends_with_the_tree_once_all_is_sent(tmp_path: Path, events: EventManager) -> None:
    with serving(tmp_path, events) as server, server.events() as client:
        publish(events, 1, 5)
        events.close()
        assert [number_of(message) for message in client] == [1, 2, 3, 4, 5]
        with server.events("since=3") as late:
            assert [number_of(message) for message in late] == [4, 5]


def test_a_silent_stream_is_kept_alive_by_comments(tmp_path: Path, events: EventManager) -> None:
    with serving(tmp_path, events, silence_s=0.01) as server, server.events("path=nobody") as client:
        assert [client.file.readline() for _ in range(4)] == [b":\n", b"\n", b":\n", b"\n"]


def test_a_client_that_has_gone_is_noticed_and_the_reader_given_back(tmp_path: Path, events: EventManager) -> None:
    with serving(tmp_path, events) as server:
        clients = [server.events() for _ in range(20)]
        publish(events, 1, 1)
        assert [client.numbers(1) for client in clients] == [[1]] * 20
        assert len(events._readers) == 1
        for client in clients:
            client.leave()
        server.traffic.wait_until_ended(20)
        assert not events._readers
        with server.events("since=0") as client:  # and the next one finds it open
            publish(events, 2, 2)
            assert client.numbers(2) == [1, 2]
            assert len(events._readers) == 1


def test_a_client_that_took_nothing_and_has_gone_is_noticed(tmp_path: Path, events: EventManager) -> None:
    said = AgentMessage("said", {"text": "x" * 1000})
    with serving(tmp_path, events) as server, server.events("who=other") as other:
        stuck = server.events("who=stuck")
        for seq in range(1, 2001):
            events.publish(an_event(seq, data=said))
        assert other.numbers(2000)[-1] == 2000
        assert server.traffic.bytes_for["stuck"] < server.traffic.bytes_for["other"]
        stuck.leave()
        server.traffic.wait_until_ended(1)
        assert len(events._readers) == 1
        other.leave()
        server.traffic.wait_until_ended(2)
        assert not events._readers


def test_who_asks_for_the_head_only_gets_no_stream(tmp_path: Path, events: EventManager) -> None:
    with serving(tmp_path, events) as server, server.events(method="HEAD") as client:
        assert client.file.read() == b""
        assert client.headers["content-type"].startswith("text/event-stream")
        server.traffic.wait_until_ended(1)
        assert not events._readers
