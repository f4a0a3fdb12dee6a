"""The orchestrator inside an asyncio program: nothing blocks its loop, cancellations end things in order."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, crash, trace, types

from orchestree.agents import Agent, AsyncAgent
from orchestree.supervisor import (
    AgentState,
    Event,
    EventType,
    NotFound,
    NotRunning,
    Orchestrator,
    OrchestreeError,
    Running,
    SpecError,
    StartError,
)

E = EventType


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop, with a deadline."""

    @wraps(test)
    def run(*args: Any, **fields: Any) -> None:
        async def within() -> None:
            async with asyncio.timeout(2 * PATIENCE):
                await test(*args, **fields)

        asyncio.run(within())

    return run


async def event(tree: Orchestrator, kind: EventType, path: str | None = None, count: int = 1) -> None:
    """Wait for the `count`-th event of this type and path without blocking the loop."""
    async for _ in tree.events.stream(since=0, type=kind, path=path):
        count -= 1
        if not count:
            return


@pytest.mark.parametrize("agents_loop", ["own", "caller"])
@in_a_loop
async def test_async_with_starts_and_stops_the_tree(agents_loop: str) -> None:
    tree = a_tree(agents_loop=agents_loop)
    loops: list[asyncio.AbstractEventLoop] = []

    async def look(agent: AsyncAgent) -> None:
        loops.append(asyncio.get_running_loop())
        await agent.sleep(3600)

    add(tree, "a", look, kind=AsyncDoes)
    add(tree, "b")
    async with tree:
        assert {status.state for status in tree.which_children()} == {AgentState.READY}
        assert (loops[0] is asyncio.get_running_loop()) is (agents_loop == "caller")
    assert tree.exit_code == 0
    assert {status.state for status in tree.which_children()} == {AgentState.STOPPED}


@pytest.mark.parametrize("agents_loop", ["own", "caller"])
@in_a_loop
async def test_run_returns_the_exit_code(agents_loop: str) -> None:
    tree = a_tree(agents_loop=agents_loop, run_mode="stop_on_empty")

    async def done(agent: AsyncAgent) -> int:
        return 42

    add(tree, "a", done, kind=AsyncDoes)
    add(tree, "b", crash, restart="temporary")
    assert await tree.run() == 1
    assert tree.status("a").result == 42


@pytest.mark.parametrize("agents_loop", ["own", "caller"])
@in_a_loop
async def test_cancelling_run_stops_the_tree_in_order_first(agents_loop: str) -> None:
    tree = a_tree(agents_loop=agents_loop)
    add(tree, "a", kind=AsyncDoes)
    add(tree, "b", depends_on=["a"])
    running = asyncio.create_task(tree.run())
    await event(tree, E.SUPERVISOR_READY, "")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not tree.is_running
    assert trace(tree, E.AGENT_TERMINATED) == [(E.AGENT_TERMINATED, "b"), (E.AGENT_TERMINATED, "a")]


@in_a_loop
async def test_cancelling_a_start_that_hangs_stops_what_has_started() -> None:
    tree = a_tree()

    async def hang(agent: AsyncAgent) -> None:
        await agent.sleep(3600)

    add(tree, "a", kind=AsyncDoes)
    add(tree, "b", kind=AsyncDoes, setup=hang)
    starting = asyncio.create_task(tree.aio.start())
    await event(tree, E.AGENT_READY, "a")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not tree.is_running
    assert tree.status("a").state is AgentState.STOPPED


@in_a_loop
async def test_cancelling_a_start_during_its_preparation_leaves_nothing_behind() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Orchestrator):
        def before_start(self, entries: Any) -> Any:
            entered.set()
            go_on.wait(PATIENCE)
            return entries

    tree = a_tree(Slow)
    add(tree, "a")
    starting = asyncio.create_task(tree.run())
    await asyncio.to_thread(entered.wait, PATIENCE)
    starting.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not tree.is_running
    tree.start()
    await tree.aio.stop()
    assert types(tree, "a").count(E.AGENT_STARTING) == 1


@in_a_loop
async def test_the_caller_may_go_on_while_a_start_prepares_and_a_stop_waits() -> None:
    entered, go_on = threading.Event(), threading.Event()
    tree = a_tree()
    leave = threading.Event()

    def setup(agent: Agent) -> None:
        entered.set()
        go_on.wait(PATIENCE)

    add(tree, "a", setup=setup, teardown=lambda agent: leave.wait(PATIENCE), shutdown="infinity")
    starting = asyncio.create_task(tree.aio.start())
    await asyncio.to_thread(entered.wait, PATIENCE)
    assert not starting.done()
    go_on.set()
    await starting
    stopping = asyncio.create_task(tree.aio.stop())
    await event(tree, E.AGENT_STOPPING, "a")
    assert not stopping.done()
    leave.set()
    await stopping


@in_a_loop
async def test_the_awaitable_twins_do_and_raise_what_the_originals_do() -> None:
    tree = a_tree(agents_loop="caller")
    add(tree, "a", kind=AsyncDoes)
    with pytest.raises(NotRunning):
        await tree.aio.stop()
    async with tree:
        await tree.aio.stop_agent("a")
        assert tree.status("a").state is AgentState.STOPPED
        await tree.aio.start_agent("a", PATIENCE)
        with pytest.raises(Running):
            await tree.aio.start_agent("a")
        await tree.aio.restart_agent("a")
        await tree.aio.wait_until("a", "ready", PATIENCE)
        assert tree.status("a").incarnation == 3
        with pytest.raises(TimeoutError, match="goes on"):
            await tree.aio.wait_until("a", "parked", 0.01)
        with pytest.raises(NotFound):
            await tree.aio.restart_agent("b")
        with pytest.raises(SpecError, match="timeout="):
            await tree.aio.restart_agent("a", -1)
    with pytest.raises(NotRunning):
        await tree.aio.restart_agent("a")


@in_a_loop
async def test_a_cancelled_wait_leaves_no_waiter_behind() -> None:
    tree = a_tree()
    add(tree, "a")
    async with tree:
        waiting = asyncio.create_task(tree.aio.wait_until("a", "parked", PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await tree.aio.restart_agent("a")
        assert tree.driver._waiters == []


@in_a_loop
async def test_no_signal_handler_is_touched() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    tree = a_tree()
    add(tree, "a")
    async with tree:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@in_a_loop
async def test_strict_start_raises_after_everything_was_stopped() -> None:
    tree = a_tree(strict_start=True, agents_loop="caller")
    add(tree, "a", kind=AsyncDoes)
    add(tree, "b", setup=crash, depends_on=["a"])
    with pytest.raises(StartError, match="'b' did not start"):
        await tree.aio.start()
    assert not tree.is_running


def test_a_tree_for_the_callers_loop_cannot_be_started_without_one() -> None:
    tree = a_tree(agents_loop="caller")
    add(tree, "a", kind=AsyncDoes)
    with pytest.raises(SpecError, match="agents_loop='caller'"):
        tree.start()
    assert tree.simple_join() == 78


@in_a_loop
async def test_async_handlers_run_on_the_loop_that_subscribed_and_see_the_last_event() -> None:
    tree = a_tree()
    seen: list[Event] = []
    loops: set[asyncio.AbstractEventLoop] = set()

    @tree.on()
    async def handle(event: Event) -> None:
        seen.append(event)
        loops.add(asyncio.get_running_loop())
        if event.type is E.AGENT_READY and event.path == "a":
            await tree.aio.restart_agent("b")

    add(tree, "a")
    add(tree, "b")
    async with tree:
        await event(tree, E.AGENT_READY, "b", 2)
    assert seen[-1].type is E.ORCHESTRATOR_STOPPED
    assert loops == {asyncio.get_running_loop()}


@in_a_loop
async def test_a_coroutine_agent_on_the_callers_loop_crashes_and_comes_back() -> None:
    tree = a_tree(agents_loop="caller")

    async def fail_twice(agent: AsyncAgent) -> None:
        if agent.incarnation < 3:
            crash(agent)
        await agent.sleep(3600)

    add(tree, "a", fail_twice, kind=AsyncDoes, backoff=None)
    async with tree:
        await event(tree, E.AGENT_READY, "a", 3)
        assert tree.status("a").restarts_total == 2
    assert [task for task in asyncio.all_tasks() if "orchestree" in task.get_name()] == []


@in_a_loop
async def test_two_trees_in_one_loop_do_not_know_of_each_other() -> None:
    one, other = a_tree(agents_loop="caller"), a_tree(agents_loop="caller")
    for tree in (one, other):
        add(tree, "a", kind=AsyncDoes)
        add(tree, "b")
    async with other:
        async with one:
            assert one.is_running
        assert not one.is_running
        assert {status.state for status in other.which_children()} == {AgentState.READY}
        await other.aio.restart_agent("a")
        assert other.status("a").incarnation == 2
        assert other.status("b").incarnation == 1


def test_a_loop_that_ends_without_stopping_the_tree_leaves_it_to_be_stopped_from_outside() -> None:
    tree = a_tree(agents_loop="caller")
    add(tree, "a", kind=AsyncDoes, restart="temporary")
    add(tree, "b")
    asyncio.run(tree.aio.start())
    tree.stop()
    assert tree.status("b").state is AgentState.STOPPED


@pytest.mark.parametrize("call", ["stop", "join", "restart_agent"])
@in_a_loop
async def test_a_blocking_call_on_the_loop_of_the_agents_is_refused_with_the_cure(call: str) -> None:
    tree = a_tree(agents_loop="caller")
    add(tree, "a")
    async with tree:
        arguments = ["a"] if call == "restart_agent" else []
        with pytest.raises(OrchestreeError, match=rf"{call}\(\) would block .* orchestrator\.aio\.{call}\(\)"):
            getattr(tree, call)(*arguments)
        assert tree.status("a").state is AgentState.READY
