"""Watchdogs and planned restarts of real threads and coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, trace, types, wait_for

from orchestree import (
    EventType,
    LoopingAgent,
    LoopingAsyncAgent,
    Orchestrator,
    PeriodicAgent,
    PeriodicAsyncAgent,
    SpecError,
)
from orchestree.supervisor import AgentCrashed, AgentHung, AgentRestarting

E = EventType
PATIENT = 1.0
"""A watchdog long enough for a machine that is busy; whoever is watched by it acts much more often."""


@pytest.fixture
def tree() -> Iterator[Orchestrator]:
    with a_tree() as made:
        yield made


class Blocks(LoopingAgent):
    """Its first incarnation hangs in its second round until ``params["release"]`` is set."""

    rounds = 0

    def runner(self) -> None:
        self.rounds += 1
        if self.incarnation == 1 and self.rounds == 2:
            self.progress("round 2")
            self.params["release"].wait(PATIENCE)
        self.sleep(0.01)


class Looper(LoopingAgent):
    """Has short rounds."""

    def runner(self) -> None:
        self.emit("round", stopped=self.should_stop)
        self.sleep(0.001)


class AsyncLooper(LoopingAsyncAgent):
    """What `Looper` is."""

    async def runner(self) -> None:
        self.emit("round", stopped=self.should_stop)
        await self.sleep(0.001)


class Rarely(PeriodicAgent):
    """Its rounds are much further apart than its watchdog allows silence."""

    class Config:
        interval = 0.6

    rounds = 0

    def runner(self) -> bool:
        self.rounds += 1
        return self.rounds < 3


class AsyncRarely(PeriodicAsyncAgent):
    """What `Rarely` is."""

    class Config:
        interval = 0.6

    rounds = 0

    async def runner(self) -> bool:
        self.rounds += 1
        return self.rounds < 3


def test_a_thread_that_blocks_is_hung_then_wedged_and_replaced_if_it_may_be(tree: Orchestrator) -> None:
    release = threading.Event()
    tree.register_agent(
        Blocks, "a", watchdog=0.2, shutdown=0.05, replace_wedged=True, backoff=None, params={"release": release}
    )
    try:
        wait_for(tree, E.AGENT_READY, "a", count=2)
        assert types(tree, "a")[:9] == [
            E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_HUNG, E.AGENT_STOPPING, E.AGENT_WEDGED,
            E.AGENT_CRASHED, E.AGENT_RESTARTING, E.AGENT_STARTING,
        ]  # fmt: skip
        hung, crashed = (wait_for(tree, kind, "a").data for kind in (E.AGENT_HUNG, E.AGENT_CRASHED))
        assert isinstance(hung, AgentHung)
        assert isinstance(crashed, AgentCrashed)
        assert (hung.doing, hung.watchdog_s, crashed.reason.cause) == ("round 2", 0.2, "watchdog")
        assert hung.silent_s >= 0.2
        assert crashed.report.message.startswith("no progress for 0.2")
    finally:
        release.set()


def test_a_hung_coroutine_is_cancelled_and_comes_back(tree: Orchestrator) -> None:
    async def hang_once(agent: Any) -> None:
        await (asyncio.Event().wait() if agent.incarnation == 1 else agent.sleep(3600))

    add(tree, "a", hang_once, kind=AsyncDoes, watchdog=0.1, shutdown=0.05, backoff=None)
    wait_for(tree, E.AGENT_READY, "a", count=2)
    assert types(tree, "a")[3:8] == [
        E.AGENT_HUNG, E.AGENT_STOPPING, E.AGENT_CRASHED, E.AGENT_RESTARTING, E.AGENT_STARTING,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Rarely, AsyncRarely])
def test_a_periodic_agent_that_waits_for_its_next_round_is_never_hung(tree: Orchestrator, kind: Any) -> None:
    tree.register_agent(kind, "a", watchdog=0.3)
    wait_for(tree, E.AGENT_TERMINATED, "a")
    assert trace(tree, E.AGENT_HUNG) == []


@pytest.mark.slow
def test_each_round_of_a_looping_agent_and_each_heartbeat_of_a_long_task_is_progress(tree: Orchestrator) -> None:
    def work(agent: Any) -> None:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            agent.heartbeat()
            agent.sleep(0.02)

    tree.register_agent(Looper, "rounds", watchdog=PATIENT)
    tree.register_agent(AsyncLooper, "asynchronous-rounds", watchdog=PATIENT)
    add(tree, "task", work, watchdog=PATIENT)
    wait_for(tree, E.AGENT_TERMINATED, "task")
    assert trace(tree, E.AGENT_HUNG, E.AGENT_CRASHED) == []


@pytest.mark.parametrize("kind", [Looper, AsyncLooper, Rarely, AsyncRarely])
def test_one_that_is_too_old_ends_between_two_rounds_and_starts_again_as_planned(tree: Orchestrator, kind: Any) -> None:
    tree.register_agent(kind, "a", max_age=0.05, restart="temporary", shutdown=0.0)
    second = wait_for(tree, E.AGENT_READY, "a", count=2)
    assert second.incarnation == 2
    events = [event for event in tree.history("a", limit=None) if event.type is not E.AGENT_MESSAGE]
    assert [event.type for event in events][3:6] == [E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY]
    data = events[3].data
    assert isinstance(data, AgentRestarting)
    assert (data.cause, data.delay, data.attempt) == ("max_age", 0.0, 0)
    messages: list[Any] = [event.data for event in tree.history("a", limit=None) if event.type is E.AGENT_MESSAGE]
    assert not any(message.data["stopped"] for message in messages)


def test_a_wrong_limit_is_refused_when_the_agent_is_registered() -> None:
    tree = a_tree()
    with pytest.raises(SpecError, match=r"agent 'a': max_memory=5: needs executor='process'"):
        tree.register_agent(Looper, "a", max_memory=5)
