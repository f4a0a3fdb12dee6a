"""What the executor of coroutine agents sees of a loop that one of them blocks, and what it does with that loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from orchestree_testing.agents import AsyncScripted
from orchestree_testing.host import DEADLINE_S, RecordingHost

from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.ends import SHUTDOWN
from orchestree.agents.executor import Blocked, Launch, RunEnded, RunId, RunProgress, RunReady
from orchestree.agents.executors.coroutine import CoroutineExecutor
from orchestree.agents.inbox import Inbox

pytestmark = pytest.mark.portable


class Hog(AsyncAgent):
    """Blocks its loop until ``params["gate"]`` is set."""

    async def execute(self) -> None:
        self.progress("hogging")
        self.emit("blocks")
        self.params["gate"].wait(DEADLINE_S)
        self.emit("is over")
        await self.sleep(3600.0)


class Busy(AsyncAgent):
    """Has a step due at any time."""

    async def execute(self) -> None:
        while not self.should_stop:
            self.emit("step")
            await asyncio.sleep(0)


@pytest.fixture
def host() -> Iterator[RecordingHost]:
    with RecordingHost().supervising() as made:
        yield made


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def executor(host: RecordingHost, gate: threading.Event) -> Iterator[CoroutineExecutor]:
    made = CoroutineExecutor(host)
    yield made
    gate.set()
    host.call(made.close)


def start(
    host: RecordingHost, executor: CoroutineExecutor, agent: type[BaseAgent], path: str, number: int = 1, **params: Any
) -> RunId:
    run = RunId(path, number)
    launch = Launch(run=run, agent=agent, config=agent.Config(), params=params)
    host.call(lambda: executor.start(launch))
    return run


def a_hog(host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event) -> RunId:
    run = start(host, executor, Hog, "hog", gate=gate)
    host.wait_message(run, "blocks")
    return run


def looked_at(host: RecordingHost, executor: CoroutineExecutor, run: RunId) -> RunProgress:
    before = len(host.of(RunProgress, run))
    host.call(lambda: executor.look(run))
    host._wait(lambda: host.of(RunProgress, run)[before:], f"answer of {run}")
    return host.of(RunProgress, run)[before]


def blocked_by(progress: RunProgress) -> Blocked:
    assert progress.blocked is not None
    return progress.blocked


def test_a_look_at_one_on_a_blocked_loop_says_who_blocks_it_where_and_since_when(
    host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event
) -> None:
    other = start(host, executor, AsyncScripted, "other")
    waiting = start(host, executor, Busy, "waiting")
    host.wait(RunReady, waiting)
    host.wait(RunEnded, other)
    hog = a_hog(host, executor, gate)
    first = blocked_by(looked_at(host, executor, waiting))
    again = blocked_by(looked_at(host, executor, waiting))
    assert (first.by, first.loop, first.doing) == (hog, 1, "hogging")
    assert "in Hog.execute" in first.stack
    assert first.stack.splitlines()[0].endswith("(most recent call first):")
    assert again.since == first.since
    assert blocked_by(host.wait(RunProgress, hog)).by == hog  # nobody has asked, and it is said once
    gate.set()
    host._wait(lambda: [p for p in host.of(RunProgress, waiting) if p.blocked is None], "the end of the block")
    assert looked_at(host, executor, waiting).blocked is None
    assert [progress.blocked is None for progress in host.of(RunProgress, hog)] == [False, True]


def test_a_start_beside_one_that_was_told_to_end_on_a_blocked_loop_opens_a_fresh_loop(
    host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event
) -> None:
    hog = a_hog(host, executor, gate)
    waits = start(host, executor, AsyncScripted, "waits")
    looked_at(host, executor, hog)
    host.call(lambda: executor.kill(hog))
    host.wait(RunEnded, start(host, executor, AsyncScripted, "next"))
    names = {thread.name for thread in threading.enumerate()}
    assert {"orchestree-agents", "orchestree-agents-2"} <= names
    assert host.of(RunEnded, waits) == []
    gate.set()
    assert host.wait(RunEnded, hog).reason == SHUTDOWN
    assert host.trace(waits)[:2] == ["setup", "execute"]
    for thread in threading.enumerate():
        if thread.name == "orchestree-agents":
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def test_a_start_on_a_loop_that_is_blocked_but_may_turn_again_waits_for_it(
    host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event
) -> None:
    hog = a_hog(host, executor, gate)
    looked_at(host, executor, hog)
    late = start(host, executor, AsyncScripted, "late")
    assert blocked_by(host.wait(RunProgress, late)).by == hog
    assert "orchestree-agents-2" not in {thread.name for thread in threading.enumerate()}
    gate.set()
    host.wait(RunEnded, late)


def test_runs_that_were_told_to_end_on_a_blocked_loop_take_no_further_step(
    host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event
) -> None:
    busy = start(host, executor, Busy, "busy")
    host.wait_message(busy, "step")
    hog = a_hog(host, executor, gate)
    unborn = start(host, executor, AsyncScripted, "unborn")
    looked_at(host, executor, hog)
    before = len(host.trace_so_far(busy))
    for run in (busy, unborn):
        host.call(lambda run=run: executor.kill(run))  # type: ignore[misc]
    gate.set()
    assert [host.wait(RunEnded, run).reason for run in (busy, unborn)] == [SHUTDOWN, SHUTDOWN]
    assert len(host.trace_so_far(busy)) == before
    assert host.trace_so_far(unborn) == []
    host.wait_message(hog, "is over")
    assert host.of(RunEnded, hog) == []


@pytest.mark.parametrize("has_queue", [True, False])
def test_what_is_posted_first_is_done_before_all_that_is_due_where_the_loop_allows_it(has_queue: bool) -> None:
    done: list[str] = []
    loop: Any = asyncio.new_event_loop()
    inbox = Inbox(loop)
    inbox.post(lambda: done.append("posted"))
    loop.call_soon(done.append, "due")
    ready = loop._ready
    if not has_queue:
        loop._ready = None
    for number in (1, 2):
        inbox.post_first(lambda number=number: done.append(f"first {number}"))  # type: ignore[misc]
    loop._ready = ready
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    expected = ["first 1", "first 2", "posted", "due"] if has_queue else ["posted", "first 1", "first 2", "due"]
    assert done == expected


def test_a_block_that_begins_while_a_look_is_being_answered_is_seen_all_the_same(
    host: RecordingHost, executor: CoroutineExecutor, gate: threading.Event
) -> None:
    run = start(host, executor, Busy, "busy")
    host.wait(RunReady, run)

    def block_soon() -> None:
        asyncio.get_running_loop().call_soon(gate.wait, DEADLINE_S)

    def look_and_block() -> None:
        executor.look(run)
        assert executor._home is not None
        executor._home.inbox.post(block_soon)

    host.call(look_and_block)
    host._wait(lambda: [each for each in host.of(RunProgress, run) if each.blocked is not None], "a blocked loop")
    assert blocked_by(host.of(RunProgress, run)[0]).by is None  # a callback of nobody's
