"""What an agent's process logs and emits, and what a flood of it may not do."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest
from loguru import logger
from orchestree_testing import process_agents as agents
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.process_harness import Harness

from orchestree.agents.agent import Agent
from orchestree.agents.executor import RunId, RunMessage
from orchestree.agents.process import logs, outlet, wire
from orchestree.agents.process.wire import Inlet, Lost

if TYPE_CHECKING:
    from loguru import Message, Record

NUMBERS = count(1)

pytestmark = pytest.mark.portable


class Sink:
    """Keeps the records; may be held up by the test."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.gate = threading.Event()
        self.gate.set()
        self._changed = threading.Condition()

    def __call__(self, message: Message) -> None:
        self.gate.wait()
        with self._changed:
            self.records.append(message.record)
            self._changed.notify_all()

    def wait(self, found: Callable[[list[Record]], bool]) -> list[Record]:
        with self._changed:
            assert self._changed.wait_for(lambda: found(self.records), DEADLINE_S), len(self.records)
            return list(self.records)


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    logger.remove()
    number = logger.add(made, level=0, format="{message}")
    yield made
    made.gate.set()
    logger.remove(number)
    logger.add(sys.stderr)


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def call(harness: Harness, function: Callable[[Agent], object], **params: object) -> RunId:
    """Start an agent of its own name that calls the function."""
    return harness.start(agents.Caller, f"agent-{next(NUMBERS)}", params={"call": function, **params})


@pytest.mark.parametrize(("function", "lines"), [(agents.log_and_die, 1000), (agents.log_many_and_die, 2000)])
def test_every_line_arrives_when_the_agent_is_killed_right_after_the_last(
    harness: Harness, sink: Sink, function: Callable[[Agent], object], lines: int
) -> None:
    run = call(harness, function)
    records = sink.wait(lambda records: len(records) >= lines)
    assert [record["message"] for record in records] == [f"line {number}" for number in range(lines)]
    assert {record["extra"]["path"] for record in records} == {run.path}
    assert {record["extra"]["incarnation"] for record in records} == {1}


def test_a_record_arrives_as_it_was_made(harness: Harness, sink: Sink) -> None:
    run = call(harness, agents.log_all_kinds)
    pid = harness.ended(run).result
    plain, bound, failed, long = sink.wait(lambda records: len(records) >= 4)
    assert plain["message"] == "unbound {braces}"
    assert plain["extra"] == {"path": run.path, "incarnation": 1}
    assert plain["name"] == "orchestree_testing.process_agents"
    assert plain["function"] == "log_all_kinds"
    assert plain["file"].path.endswith("process_agents.py")
    assert plain["process"].id == pid
    assert (bound["level"].name, bound["level"].no) == ("LOUD", 37)
    assert bound["extra"]["colour"] == "blue"
    assert bound["extra"]["settings"] == repr(agents.Settings)
    assert plain["time"] < bound["time"] < failed["time"]
    assert failed["message"].startswith("failed\nTraceback")
    assert failed["message"].endswith("ValueError: no such sensor")
    assert len(long["message"]) == 100_000


def test_processes_that_share_a_channel_do_not_mix_up_their_records(harness: Harness, sink: Sink) -> None:
    harness.ended(call(harness, agents.log_from_a_forked_child))
    records = sink.wait(lambda records: len(records) >= 200)
    for who in ("agent", "child"):
        words = [record["message"].split() for record in records if record["message"].startswith(who)]
        assert [int(number) for _, number, _ in words] == list(range(100))
        assert {len(text) for _, _, text in words} == {40_000}


def test_a_sink_that_raises_ends_nothing(harness: Harness, sink: Sink) -> None:
    def fail(message: Message) -> None:
        raise OSError("disk full")

    number = logger.add(fail, catch=False)
    try:
        harness.ended(call(harness, agents.log_and_die))
    finally:
        logger.remove(number)
    harness.ended(call(harness, agents.log_and_die))
    sink.wait(lambda records: len(records) >= 1000)


def test_a_message_that_cannot_be_pickled_arrives_in_words(harness: Harness) -> None:
    run = call(harness, agents.emit_what_cannot_be_pickled)
    data = harness.host.wait_message(run, "odd").data
    assert data["plain"] == "1"
    assert "generator" in str(data["generator"])


def test_a_message_that_cannot_be_unpickled_is_logged_and_dropped(harness: Harness, sink: Sink) -> None:
    def emit(agent: Agent) -> None:
        agent.emit("odd", thing=agents.Unreadable())
        agent.emit("next")

    run = call(harness, emit)
    harness.host.wait_message(run, "next")
    (record,) = sink.wait(lambda records: len(records) >= 1)
    assert record["message"].endswith("'odd' cannot be read here: LookupError: no such drawer")


def test_a_sink_that_stands_still_delays_neither_messages_nor_ends(harness: Harness, sink: Sink) -> None:
    sink.gate.clear()
    for function in (agents.log_all_kinds, agents.log_and_die, agents.emit_and_die):
        run = call(harness, function)
        harness.ended(run)
    assert len(harness.host.of(RunMessage, run)) == 100
    assert not sink.records


def test_records_that_wait_for_a_sink_are_bounded_and_those_that_are_lost_are_counted(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BACKLOG", 10)
    monkeypatch.setattr(logs, "PATIENCE_S", 0.01)
    with Harness() as harness:
        sink.gate.clear()
        harness.ended(call(harness, agents.log_and_die))
        harness.host.wait_message(call(harness, agents.flood, lines=10), "flooded")
        sink.gate.set()
        sink.wait(lambda records: any("were lost" in record["message"] for record in records))
    lost = [record["message"] for record in sink.records if "were lost" in record["message"]]
    assert sum(int(text.split()[0]) for text in lost) + len(sink.records) - len(lost) >= 1000


def test_a_channel_that_nobody_reads_holds_an_agent_up_once_and_then_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlet, "PATIENCE_S", 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inlet, made = Inlet(ours), outlet.Outlet()
    made.open(theirs)
    theirs.setblocking(False)  # no patience at all
    for number in range(1000):
        made.emit("number", {"number": number})
    arrived = list(inlet.receive(1000))
    made.emit("last", {})
    gap, last = inlet.receive(1000)
    assert isinstance(gap, Lost)
    assert gap.count + len(arrived) == 1000
    assert isinstance(last, wire.Message)
    ours.close()
    theirs.close()


def test_ends_and_messages_keep_coming_during_a_flood_of_records(harness: Harness, sink: Sink) -> None:
    flooder = call(harness, agents.flood, lines=-1)
    harness.host.wait_message(flooder, "flooding")
    for _ in range(5):
        harness.host.wait_message(call(harness, lambda agent: agent.emit("beside")), "beside")
    harness.stop(flooder)
    harness.ended(flooder)
    sink.wait(lambda records: len(records) > 100)


def test_the_thread_that_logs_ends_when_its_sink_goes_on_even_if_it_was_full_at_its_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "BACKLOG", 1)
    monkeypatch.setattr(logs, "CLOSE_S", 0.01)
    monkeypatch.setattr(logs, "PATIENCE_S", 0.01)
    busy, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        busy.set()
        go_on.wait(DEADLINE_S)

    writer = logs.LogWriter()
    writer.put(hang)
    assert busy.wait(DEADLINE_S)
    writer.put(lambda: None)  # now it is full
    writer.close()
    go_on.set()
    writer._thread.join(DEADLINE_S)
    assert not writer._thread.is_alive()


def test_a_message_that_found_the_channel_full_half_way_does_not_spoil_the_next_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        inlet = Inlet(ours)
        sent = 0
        with suppress(BlockingIOError):
            while True:  # three packets each, so that some message is cut in two
                wire.send(theirs, wire.Message("talk", b"x" * (2 * wire.PART + 1)))
                sent += 1
        assert len(list(inlet.receive(64))) == sent
        wire.send(theirs, Lost(1))
        assert list(inlet.receive(64)) == [Lost(1)]
