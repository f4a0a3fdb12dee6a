"""Process agents under a real orchestrator: pids, kills, and several trees in one program."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import psutil
import pytest
from loguru import logger
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import Does, a_tree, log, never, talk, threads_left, wait_for

from orchestree.supervisor import AgentState, EventType, Orchestrator
from orchestree.supervisor.events import AgentCrashed

pytestmark = pytest.mark.slow

E = EventType


def with_sleepers(*names: str, **settings: Any) -> Orchestrator:
    tree = a_tree(**settings)
    for name in names:
        tree.register_agent(Sleeper, name, executor="process", backoff=None)
    return tree


def pids(tree: Orchestrator) -> list[int]:
    found = [status.pid for status in tree.which_children()]
    assert None not in found
    return [pid for pid in found if pid is not None]


def test_a_process_that_is_killed_comes_back_and_its_siblings_stay() -> None:
    tree = with_sleepers("a", "b")
    with tree:
        before = pids(tree)
        os.kill(before[0], signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "a", count=2)
        after = pids(tree)
        assert after[0] != before[0]
        assert after[1] == before[1]
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert (data.reason.cause, data.report.signal, data.report.pid) == ("signal", "SIGKILL", before[0])
        assert tree.status("b").memory_bytes is not None
    assert not any(psutil.pid_exists(pid) for pid in after)


def test_the_end_of_one_tree_leaves_the_processes_of_another_alone() -> None:
    one, other = with_sleepers("a"), with_sleepers("a", "b")
    with other:
        before = pids(other)
        with one:
            assert not set(pids(one)) & set(before)
        assert pids(other) == before
        assert {status.state for status in other.which_children()} == {AgentState.READY}
        other.restart_agent("a")
        assert pids(other)[1] == before[1]


def test_stopping_leaves_no_child_process_no_thread_and_no_descriptor() -> None:
    with with_sleepers("warm-up"):
        pass
    threads = threading.enumerate()  # other tests leave some that nobody can end
    descriptors, children = len(os.listdir("/proc/self/fd")), psutil.Process().children()
    with with_sleepers("a", "b", "c"):
        assert psutil.Process().children() != children
    assert psutil.Process().children() == children
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert threads_left(threads) == []


def test_a_record_of_a_process_agent_arrives_here_with_path_and_incarnation() -> None:
    records: list[Any] = []
    number = logger.add(lambda message: records.append(message.record), format="{message}")
    try:
        tree = a_tree(run_mode="stop_on_empty")
        tree.register_agent(Does, "a", executor="process", params={"execute": log})
        assert tree.simple_join() == 0
    finally:
        logger.remove(number)
    (record,) = [record for record in records if record["message"] == "from afar"]
    assert (record["extra"]["path"], record["extra"]["incarnation"]) == ("a", 1)
    assert record["process"].id != os.getpid()


def test_messages_of_a_process_come_before_its_end() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    tree.register_agent(Does, "a", executor="process", params={"execute": talk})
    assert tree.simple_join() == 0
    story = [getattr(event.data, "name", event.type) for event in tree.history("a")]
    # Ready comes by a channel of its own, so only among themselves, and before the end, are messages in order.
    assert [word for word in story if word in ("0", "1", "2")] == ["0", "1", "2"]
    assert story[-1] is E.AGENT_TERMINATED


def test_a_stop_with_a_deadline_kills_a_process_that_will_not_end() -> None:
    tree = a_tree()
    tree.register_agent(Does, "a", executor="process", shutdown="infinity", params={"execute": never})
    tree.start()
    (pid,) = pids(tree)
    tree.stop(timeout=0.1)
    assert tree.status("a").state is AgentState.STOPPED
    assert not psutil.pid_exists(pid)
    assert tree.exit_code == 0
