"""How what an agent counts in its own process is sent: late, whole and once."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from orchestree_testing.host import DEADLINE_S

from orchestree.agents.metric_data import MetricBatch
from orchestree.agents.metrics import AgentMetrics
from orchestree.agents.process import pushing
from orchestree.agents.process.outlet import Outlet
from orchestree.agents.process.pushing import MetricPusher
from orchestree.agents.process.wire import Inlet
from orchestree.agents.run_id import RunId

RUN = RunId("a", 1)


class Channel:
    """Takes batches, or is full."""

    def __init__(self) -> None:
        self.is_full = False
        self.tried: queue.Queue[MetricBatch] = queue.Queue()
        self.came: list[MetricBatch] = []

    def send(self, batch: MetricBatch) -> bool:
        if not self.is_full:
            self.came.append(batch)
        self.tried.put(batch)
        return not self.is_full

    def wait(self) -> MetricBatch:
        return self.tried.get(timeout=DEADLINE_S)

    def total(self) -> float:
        return sum(batch.numbers.get("items", {}).get((), 0.0) for batch in self.came)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setattr(pushing, "TICK_S", 0.01)
    return Channel()


def test_what_changes_within_a_tick_is_one_batch_and_nothing_is_sent_without_a_change(channel: Channel) -> None:
    metrics, before = AgentMetrics(10), threading.active_count()
    MetricPusher(channel.send).follow(RUN, metrics.store)
    items = metrics.counter("items", "Items")
    with metrics.store.lock:
        for _ in range(100):
            items.inc()
    assert channel.wait().numbers == {"items": {(): 100.0}}
    items.inc()
    assert channel.wait().numbers == {"items": {(): 1.0}}
    assert channel.tried.empty()
    assert threading.active_count() == before


def test_a_full_channel_loses_nothing_and_sends_nothing_twice(channel: Channel) -> None:
    metrics = AgentMetrics(10)
    pusher = MetricPusher(channel.send)
    pusher.follow(RUN, metrics.store)
    items = metrics.counter("items", "Items")
    channel.is_full = True
    items.inc()
    channel.wait()
    items.inc(10)
    channel.wait()
    channel.is_full = False
    channel.wait()
    items.inc(100)
    pusher.leave(RUN, metrics.store)
    assert channel.total() == 111
    assert sum(len(batch.definitions) for batch in channel.came) == 1


def test_a_change_while_a_full_channel_empties_reaches_the_agent_as_no_error_and_is_not_lost(channel: Channel) -> None:
    metrics = AgentMetrics(10)
    items = metrics.counter("items", "Items")
    sent = threading.Event()

    def send(batch: MetricBatch) -> bool:
        match channel.tried.qsize():
            case 0:
                items.inc(10)  # while the channel is full: it is to be sent once more
                channel.is_full = True
            case 2:
                items.inc(100)  # while the second batch travels, and the sender does not wait
                items.inc(1000)
            case 3:
                sent.set()
            case _:
                channel.is_full = False
        return channel.send(batch)

    pusher = MetricPusher(send)
    items.inc()
    pusher.follow(RUN, metrics.store)
    assert sent.wait(DEADLINE_S)
    pusher.leave(RUN, metrics.store)
    assert channel.total() == 1111


def test_the_last_batch_is_tried_a_few_times(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "TICK_S", DEADLINE_S)
    metrics = AgentMetrics(10)
    pusher = MetricPusher(channel.send)
    pusher.follow(RUN, metrics.store)
    metrics.counter("items", "Items").inc()
    channel.is_full = True
    pusher.leave(RUN, metrics.store)
    assert channel.tried.qsize() == pushing.LAST_TRIES
    metrics.counter("items", "Items").inc()
    assert metrics.store.take() is None


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_batch_that_did_not_fit_whole_is_not_there(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestree.agents.process.outlet.PATIENCE_S", 0)
    ours, theirs = sockets
    outlet = Outlet()
    outlet.open(ours)
    ours.setblocking(False)
    large = MetricBatch(definitions=(), numbers={"x": {(f"{n:0200}",): 1.0 for n in range(5000)}}, observed={})
    small = MetricBatch(definitions=(), numbers={"x": {(): 1.0}}, observed={})
    assert not outlet.push(large)
    inlet = Inlet(theirs)
    assert list(inlet.receive(1000)) == []
    assert outlet.push(small)
    assert list(inlet.receive(1000)) == [small]


def test_a_timeout_that_a_module_has_set_for_all_sockets_makes_no_difference(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = sockets
    ours.settimeout(0.001)  # as after socket.setdefaulttimeout(0.001)
    monkeypatch.setattr("orchestree.agents.process.outlet.PATIENCE_S", 0)
    outlet = Outlet()
    outlet.open(ours)
    assert ours.gettimeout() is None
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 1000))
    batch = MetricBatch(definitions=(), numbers={"x": {(f"{n:0200}",): 1.0 for n in range(5000)}}, observed={})
    assert not outlet.push(batch)
    assert list(Inlet(theirs).receive(1000)) == []


def test_nobody_left_to_send_to_is_no_reason_to_try_again(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    outlet = Outlet()
    assert outlet.push(MetricBatch(definitions=(), numbers={}, observed={}))
    outlet.open(ours)
    theirs.close()
    assert outlet.push(MetricBatch(definitions=(), numbers={}, observed={}))
