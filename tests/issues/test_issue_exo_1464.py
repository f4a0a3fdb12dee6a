"""exo 1464: a worker was killed for its memory while its parent blocked in Queue.get, and nobody ever noticed.

Here the end of a process is noticed whatever other threads wait for, and who waits for its work gets that of the next.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Any

import pytest
from orchestree_testing.process_agents import be_killed_and_deliver, wait_for_work
from orchestree_testing.process_harness import is_alive
from orchestree_testing.trees import PATIENCE, Does, a_tree, add, wait_for

from orchestree.agents.agent import Agent
from orchestree.supervisor import AgentState, EventType

pytestmark = [pytest.mark.slow, pytest.mark.portable]
E = EventType


def a_queue() -> Any:
    return multiprocessing.get_context("spawn").Queue()


def test_who_blocks_in_a_queue_gets_the_work_of_the_next_incarnation() -> None:
    queue, got = a_queue(), list[object]()
    tree = a_tree(max_restarts=5)

    def consume(agent: Agent) -> None:
        agent.emit("waiting")
        got.append(queue.get())

    add(tree, "consumer", consume)
    tree.register_agent(
        Does, "producer", executor="process", backoff=None, depends_on=["consumer"],
        params={"execute": be_killed_and_deliver, "queue": queue},
    )  # fmt: skip
    with tree:
        tree.wait_until("consumer", AgentState.COMPLETED, PATIENCE)
        assert got == [2]
        last_crash = tree.status("producer").last_crash
        assert last_crash is not None
        assert last_crash.signal == "SIGKILL"


def test_a_strategy_wakes_who_blocks_for_the_work_of_a_worker_that_was_killed() -> None:
    queue: Any = a_queue()
    tree = a_tree(strategy="one_for_all", max_restarts=5)
    tree.register_agent(Does, "producer", executor="process", backoff=None, params={})
    add(tree, "consumer", lambda agent: queue.get(), on_stop=lambda agent: queue.put(None))
    with tree:
        pid = tree.status("producer").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "consumer", count=2)
        assert [status.incarnation for status in tree.which_children()] == [2, 2]


def test_who_waits_in_the_program_itself_hears_of_the_end() -> None:
    tree = a_tree(max_restarts=5)
    tree.register_agent(Does, "worker", executor="process", restart="temporary")
    with tree:
        heard: list[object] = []

        def wait() -> None:
            heard.append(tree.events.wait_for(E.AGENT_TERMINATED, "worker", timeout=PATIENCE).data)

        waiting = threading.Thread(target=wait)
        waiting.start()
        pid = tree.status("worker").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        waiting.join(PATIENCE)
        assert len(heard) == 1
        assert tree.status("worker").state is AgentState.FAILED


def test_a_worker_that_blocks_in_a_queue_is_ended_by_a_stop() -> None:
    tree = a_tree(max_restarts=5)
    params = {"execute": wait_for_work, "queue": a_queue()}
    tree.register_agent(Does, "worker", executor="process", shutdown=0.1, params=params)
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "worker")
        pid = tree.status("worker").pid
        assert pid is not None
        tree.stop_agent("worker", PATIENCE)
        assert not is_alive(pid)
        assert tree.status("worker").state is AgentState.STOPPED
