"""Coroutine agents whose shared event loop one of them really blocks, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from orchestree_testing.trees import FAST, PATIENCE, AsyncDoes, a_tree, add, threads_left, trace, types, wait_for

from orchestree import AsyncAgent, EventType, Orchestrator, Status
from orchestree.supervisor import AgentCrashed, AgentHung, AgentWedged, ServiceFailed

E = EventType
WATCHDOG = 0.3
STUCK: dict[str, Any] = {"kind": AsyncDoes, "watchdog": WATCHDOG, "shutdown": 0.05, "backoff": None}


class Gate:
    """Holds a block up, at the longest for `seconds`.

    Attributes:
        blocked: set while somebody blocks.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.seconds = seconds
        self.blocked = threading.Event()
        self.is_open = False

    def hold(self) -> bool:
        """Return whether the block is to go on."""
        self.blocked.set()
        return not self.is_open and time.monotonic() < self.until

    def begin(self) -> None:
        self.until = time.monotonic() + self.seconds

    def sleeps(self) -> None:
        """Block in calls that give up the interpreter."""
        self.begin()
        while self.hold():
            time.sleep(0.01)

    def spins(self) -> None:
        """Block in pure Python code."""
        self.begin()
        while self.hold():
            pass

    def sleeps_once(self) -> None:
        """Block in one call, which nothing ends early."""
        self.blocked.set()
        time.sleep(self.seconds)
        self.is_open = True


async def lives(agent: AsyncAgent) -> None:
    """Go on for ever, saying so."""
    while not await agent.sleep(0.02):
        agent.heartbeat()
        agent.emit("alive")


def blocks_once(block: Callable[[], None]) -> Callable[[AsyncAgent], Any]:
    """Return an ``execute`` whose first incarnation blocks the loop a moment after it has begun."""

    async def execute(agent: AsyncAgent) -> None:
        await agent.sleep(0.05)
        if agent.incarnation == 1:
            block()
        await lives(agent)

    return execute


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.is_open = True


@pytest.fixture
def tree(gate: Gate) -> Iterator[Orchestrator]:
    with a_tree() as made:
        yield made
        gate.is_open = True


def waits(tree: Orchestrator, path: str, name: str | None) -> Status:
    """Return the status of `path` when it waits for `name` (None: for nobody)."""
    deadline = time.monotonic() + PATIENCE
    changed = threading.Event()
    while (status := tree.status(path)).waiting_for != (() if name is None else (name,)):
        assert time.monotonic() < deadline, f"{path}: {status}"
        changed.wait(0.005)
    return status


def alive(tree: Orchestrator, path: str, incarnation: int) -> int:
    """Return how many messages of this incarnation have come."""
    events = tree.history(path, limit=None)
    return sum(event.type is E.AGENT_MESSAGE and event.incarnation == incarnation for event in events)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sleeps", "spins"])
def test_whoever_blocks_the_loop_is_named_with_its_stack_and_the_others_wait_for_it(
    tree: Orchestrator, gate: Gate, way: str
) -> None:
    add(tree, "good", lives, **STUCK)
    wait_for(tree, E.AGENT_READY, "good")
    add(tree, "hog", blocks_once(getattr(gate, way)), **STUCK | {"shutdown": 60.0, "watchdog": None})
    waiting = waits(tree, "good", "hog")
    assert (waiting.state, tree.status("hog").waiting_for) == ("ready", ())
    hung = wait_for(tree, E.AGENT_HUNG, "hog").data
    assert isinstance(hung, AgentHung)
    assert hung.stack.startswith("Current thread 0x")
    assert f"in Gate.{way}" in hung.stack
    assert hung.watchdog_s == WATCHDOG
    gate.is_open = True
    crashed = wait_for(tree, E.AGENT_CRASHED, "hog").data
    assert isinstance(crashed, AgentCrashed)
    assert (crashed.reason.cause, crashed.report.stacks) == ("watchdog", hung.stack)
    wait_for(tree, E.AGENT_READY, "hog", count=2)
    waits(tree, "good", None)
    assert trace(tree, E.AGENT_HUNG) == [(E.AGENT_HUNG, "hog")]
    assert tree.status("good").incarnation == 1


@pytest.mark.slow
def test_a_task_that_an_agent_has_made_is_known_as_its_own(tree: Orchestrator, gate: Gate) -> None:
    async def spawn(agent: AsyncAgent) -> None:
        async def block() -> None:
            gate.sleeps()

        if agent.incarnation == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(block())
        await lives(agent)

    add(tree, "parent", spawn, **STUCK)
    hung = wait_for(tree, E.AGENT_HUNG, "parent").data
    assert isinstance(hung, AgentHung)
    assert "spawn.<locals>.block" in hung.stack


@pytest.mark.slow
def test_a_callback_that_belongs_to_no_agent_is_named_by_the_stack(tree: Orchestrator, gate: Gate) -> None:
    async def leaves_a_callback(agent: AsyncAgent) -> None:
        if agent.incarnation == 1:
            asyncio.get_running_loop().call_later(0.05, gate.sleeps)
        await lives(agent)

    add(tree, "a", leaves_a_callback, **STUCK)
    waits(tree, "a", "(event loop)")
    failed = wait_for(tree, E.SERVICE_FAILED).data
    assert isinstance(failed, ServiceFailed)
    assert "in Gate.sleeps" in failed.error
    gate.is_open = True
    waits(tree, "a", None)
    assert trace(tree, E.AGENT_HUNG, E.AGENT_CRASHED, E.AGENT_WEDGED) == []


def test_a_block_that_ends_by_itself_leaves_no_trace(tree: Orchestrator) -> None:
    brief = Gate(0.2)
    add(tree, "good", lives, kind=AsyncDoes, watchdog=0.15)
    wait_for(tree, E.AGENT_READY, "good")
    add(tree, "hog", blocks_once(brief.sleeps_once), kind=AsyncDoes)
    assert brief.blocked.wait(PATIENCE)
    seen = wait_for(tree, E.AGENT_MESSAGE, "hog")
    tree.events.wait_for(E.AGENT_MESSAGE, "good", since=seen.seq, timeout=PATIENCE)
    assert waits(tree, "good", None).incarnation == 1
    assert trace(tree, E.AGENT_HUNG, E.AGENT_CRASHED) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sleeps", "spins"])
def test_those_that_may_be_replaced_go_on_on_a_fresh_loop_while_the_old_one_is_blocked(
    tree: Orchestrator, gate: Gate, way: str
) -> None:
    threads: dict[tuple[str, int], str] = {}
    cancelled: list[str] = []

    async def busy(agent: AsyncAgent) -> None:
        """Be due for a step whenever the loop turns."""
        threads[agent.path, agent.incarnation] = threading.current_thread().name
        try:
            while not agent.should_stop:
                agent.emit("alive")
                agent.heartbeat()
                if gate.is_open and agent.incarnation == 1:
                    cancelled.append(f"{agent.path} took a step")
                await asyncio.sleep(0 if agent.incarnation == 1 else 0.02)
        except asyncio.CancelledError:
            cancelled.append(agent.path)
            raise

    add(tree, "good", busy, **STUCK | {"replace_wedged": True})
    add(tree, "patient", lives, kind=AsyncDoes)
    for path in ("good", "patient"):
        wait_for(tree, E.AGENT_READY, path)
    add(tree, "hog", blocks_once(getattr(gate, way)), **STUCK | {"watchdog": None, "replace_wedged": True})
    wait_for(tree, E.AGENT_READY, "good", count=2)
    wait_for(tree, E.AGENT_READY, "hog", count=2)
    assert not gate.is_open
    assert E.AGENT_CRASHED not in types(tree, "good")
    wedged = wait_for(tree, E.AGENT_WEDGED, "good").data
    assert isinstance(wedged, AgentWedged)
    assert wedged.cause == "blocked"
    second = wait_for(tree, E.AGENT_READY, "good", count=2)
    tree.events.wait_for(E.AGENT_MESSAGE, "good", since=second.seq, timeout=PATIENCE)
    assert threads == {("good", 1): "orchestree-agents", ("good", 2): "orchestree-agents-2"}
    assert waits(tree, "patient", "hog").state == "ready"
    assert tree.status("good").waiting_for == ()
    before = alive(tree, "good", 1)
    gate.is_open = True
    waits(tree, "patient", None)
    tree.events.wait_for(E.AGENT_MESSAGE, "patient", since=tree.history(limit=1)[-1].seq, timeout=PATIENCE)
    assert cancelled == ["good"]
    assert alive(tree, "good", 1) == before
    assert tree.status("patient").incarnation == 1
    tree.stop_agent("patient")
    assert wait_until_gone("orchestree-agents")


def wait_until_gone(name: str) -> bool:
    """Return whether the thread of this name ends."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE)
            return not thread.is_alive()
    return True


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sleeps_once", "spins"])
def test_supervision_goes_on_while_the_loop_of_the_agents_is_blocked(way: str) -> None:
    gate = Gate(5.0)
    with a_tree() as tree:
        add(tree, "worker", executor="process", **FAST)
        add(tree, "good", lives, **STUCK)
        for path in ("worker", "good"):
            wait_for(tree, E.AGENT_READY, path)
        add(tree, "hog", blocks_once(getattr(gate, way)), **STUCK | {"shutdown": 60.0})
        assert gate.blocked.wait(PATIENCE)
        wait_for(tree, E.AGENT_HUNG, "hog")
        for incarnation in (1, 2, 3):
            pid = tree.status("worker").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert wait_for(tree, E.AGENT_READY, "worker", count=incarnation + 1).incarnation == incarnation + 1
        assert tree.status("good").waiting_for == ("hog",)
        assert E.AGENT_CRASHED not in types(tree, "hog")  # which would have followed the end of the block
        gate.is_open = True  # `spins` has seen enough; nothing ends `sleeps_once` before its five seconds are over
        wait_for(tree, E.AGENT_READY, "hog", count=2)
        waits(tree, "good", None)
        assert trace(tree, E.AGENT_HUNG, E.AGENT_WEDGED) == [(E.AGENT_HUNG, "hog")]


@pytest.mark.slow
def test_on_the_loop_of_the_caller_those_that_are_held_up_wait_until_it_turns() -> None:
    gate = Gate(2.0)
    replaced = STUCK | {"replace_wedged": True}

    async def program() -> Orchestrator:
        tree = a_tree(agents_loop="caller")
        add(tree, "good", lives, **replaced)
        async with tree:
            add(tree, "hog", blocks_once(gate.sleeps), **replaced)
            while not gate.blocked.is_set():
                await asyncio.sleep(0.01)
            await tree.aio.wait_until("hog", "ready", timeout=PATIENCE)
            since = tree.history(limit=1)[-1].seq
            await asyncio.to_thread(tree.events.wait_for, E.AGENT_MESSAGE, "good", since=since, timeout=PATIENCE)
        return tree

    tree = asyncio.run(program())
    assert E.AGENT_WEDGED in types(tree, "hog")
    assert trace(tree, E.AGENT_HUNG) == [(E.AGENT_HUNG, "hog")]
    assert tree.status("good").incarnation == 1


def test_a_tree_whose_loop_is_blocked_ends_all_the_same() -> None:
    gate = Gate()
    before = threading.enumerate()
    with a_tree() as tree:
        add(tree, "hog", blocks_once(gate.sleeps), kind=AsyncDoes, shutdown=0.05)
        assert gate.blocked.wait(PATIENCE)
    assert tree.status("hog").state == "wedged"
    gate.is_open = True
    assert threads_left(before) == []
