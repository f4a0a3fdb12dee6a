"""``standby=True`` in a tree: takes over after a crash, goes when the agent is down."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Final

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.process_harness import wait_until_gone

from orchestree import EventType, Orchestrator, RunMode, SpecError
from orchestree.agents.executors.process import ProcessExecutor

DEADLINE_S: Final = 20.0


@pytest.fixture
def tree() -> Iterator[Orchestrator]:
    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, control=False))
    tree.register_agent(agents.Sleeper, "kept", executor="process", standby=True)
    with tree:
        yield tree


def pid_of(tree: Orchestrator) -> int:
    pid = tree.status("kept").pid
    assert pid is not None
    return pid


def standby_pid(tree: Orchestrator) -> int:
    executor = tree.driver._executors["process"]
    assert isinstance(executor, ProcessExecutor)

    async def find() -> int:
        while (process := executor._standbys.get("kept")) is None or process.pid is None:
            await asyncio.sleep(0)
        return process.pid

    return asyncio.run_coroutine_threadsafe(find(), tree.driver.loop).result(DEADLINE_S)


def kill_and_wait_for_the_next(tree: Orchestrator) -> None:
    before = tree.events.latest
    os.kill(pid_of(tree), signal.SIGKILL)
    tree.events.wait_for(EventType.AGENT_READY, "kept", since=before, timeout=DEADLINE_S)


def test_each_next_incarnation_is_the_process_that_stood_by_for_it(tree: Orchestrator) -> None:
    for _ in range(3):
        expected = standby_pid(tree)
        kill_and_wait_for_the_next(tree)
        assert pid_of(tree) == expected
    assert tree.status("kept").incarnation == 4


def test_a_stopped_agent_has_nobody_standing_by_and_a_started_one_has_again(tree: Orchestrator) -> None:
    first = standby_pid(tree)
    tree.stop_agent("kept", timeout=DEADLINE_S)
    wait_until_gone(first)
    tree.start_agent("kept", timeout=DEADLINE_S)
    assert standby_pid(tree) != first


def test_restart_agent_takes_the_process_that_stands_by(tree: Orchestrator) -> None:
    expected = standby_pid(tree)
    tree.restart_agent("kept", timeout=DEADLINE_S)
    assert pid_of(tree) == expected


def test_the_end_of_the_tree_leaves_nobody_standing_by(tree: Orchestrator) -> None:
    standby = standby_pid(tree)
    tree.stop()
    wait_until_gone(standby)


def test_only_a_process_can_have_one_standing_by() -> None:
    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, control=False))
    with pytest.raises(SpecError, match="standby=True: needs executor='process'"):
        tree.register_agent(agents.Sleeper, "thread", standby=True)
