"""What agents log, through the real loguru: who speaks is in every record, and the application's sinks stay its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, crash, wait_for

from orchestree.agents import Agent, AsyncAgent
from orchestree.supervisor import EventType

if TYPE_CHECKING:
    from loguru import Message, Record

E = EventType


class Sink:
    """Keeps what it is given, and in which thread."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.threads: set[str] = set()

    def __call__(self, message: Message) -> None:
        self.records.append(message.record)
        self.threads.add(threading.current_thread().name)

    def said(self, text: str) -> Record:
        """Return the one record with this message."""
        (record,) = [record for record in self.records if record["message"] == text]
        return record


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    number = logger.add(sink, level="TRACE", catch=False)
    yield sink
    logger.remove(number)


def test_every_record_of_an_agent_carries_its_path_and_incarnation(sink: Sink) -> None:
    tree = a_tree()

    def work(agent: Agent) -> None:
        agent.logger.info("thread, run {}", agent.incarnation)
        if agent.incarnation == 1:
            crash(agent)
        agent.sleep(3600)

    async def work_async(agent: AsyncAgent) -> None:
        agent.logger.bind(extra="kept").warning("coroutine")
        await agent.sleep(3600)

    inner = tree.add_supervisor("inner")
    add(inner, "a", work, backoff=None)
    add(tree, "b", work_async, kind=AsyncDoes)
    with tree:
        wait_for(tree, E.AGENT_READY, "inner/a", count=2)
    for incarnation in (1, 2):
        extra = sink.said(f"thread, run {incarnation}")["extra"]
        assert (extra["path"], extra["incarnation"]) == ("inner/a", incarnation)
    assert sink.said("coroutine")["extra"] == {"path": "b", "incarnation": 1, "extra": "kept"}


def test_the_supervision_thread_never_calls_loguru(sink: Sink) -> None:
    class Watching(type(a_tree())):  # type: ignore[misc]
        def classify_exit(self, report: Any) -> None:
            return None

    tree = a_tree(Watching)
    tree.events.subscribe(lambda event: 1 / 0, E.AGENT_READY)
    add(tree, "a", crash, backoff=None)
    add(tree, "b", kind=AsyncDoes)
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "a", count=10)
    assert any("READY" in record["message"] for record in sink.records)
    assert not any(name.startswith("orchestree-supervisor") for name in sink.threads)


def test_the_sinks_of_the_application_are_not_touched(sink: Sink) -> None:
    handlers = dict(logger._core.handlers)  # type: ignore[attr-defined]
    tree = a_tree()
    add(tree, "a")
    add(tree, "b", kind=AsyncDoes)
    with tree:
        assert logger._core.handlers == handlers  # type: ignore[attr-defined]
    assert logger._core.handlers == handlers  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_sink_that_blocks_or_raises_delays_no_restart() -> None:
    go_on = threading.Event()
    logger.remove()

    def bad_sink(message: Message) -> None:
        go_on.wait(PATIENCE)
        raise OSError("disk full")

    number = logger.add(bad_sink, level="TRACE", catch=False)
    try:
        tree = a_tree()
        add(tree, "a", crash, backoff=None)
        with tree:
            wait_for(tree, E.AGENT_STARTING, "a", count=50)
            go_on.set()
    finally:
        logger.remove(number)
