"""dramatiq 693: the master waited for ever for the end of a log pipe that somebody else still held open.

Here the end of a process is its exit, never the end of a pipe, and no log that nobody reads holds up a restart.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from loguru import logger
from orchestree_testing.process_agents import log_many_and_die
from orchestree_testing.process_harness import is_alive
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import PATIENCE, Does, a_tree, wait_for

from orchestree.supervisor import EventType

pytestmark = [pytest.mark.slow, pytest.mark.portable]
E = EventType

SCRIPT = """
        import os, signal, sys
        from orchestree import Agent, Orchestrator

        class Worker(Agent):
            def execute(self):
                grandchild = os.fork()
                if grandchild == 0:
                    os.setsid()
                    signal.pause()
                self.logger.info("the other one holds all my pipes")
                self.emit("grandchild", pid=grandchild)
                if self.incarnation == 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        tree = Orchestrator(Orchestrator.Config(run_mode="stop_on_empty", control=False))
        tree.register_agent(Worker, "worker", executor="process")
        tree.events.subscribe(lambda event: print(event.data.data["pid"], flush=True), "agent_message")
        sys.exit(tree.simple_join())
"""


def test_a_pipe_that_a_grandchild_holds_open_keeps_neither_a_restart_nor_the_program(tmp_path: Path) -> None:
    write(tmp_path / "app.py", SCRIPT)
    with start_program("app.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        grandchildren = [int(program.stdout.readline()) for _ in range(2)]
        try:
            program.wait(PATIENCE)
            assert program.returncode == 0
            assert not any(map(is_alive, grandchildren))  # ours go with the run that has started them
        finally:
            for pid in filter(is_alive, grandchildren):
                os.kill(pid, signal.SIGKILL)


def test_logs_that_nobody_takes_keep_neither_a_restart_nor_the_stop() -> None:
    go_on = threading.Event()

    def stand_still(message: object) -> None:
        go_on.wait(PATIENCE)

    logger.remove()
    number = logger.add(stand_still, level="TRACE")
    try:
        tree = a_tree()
        tree.register_agent(Does, "worker", executor="process", backoff=None, params={"execute": log_many_and_die})
        with tree:
            wait_for(tree, E.AGENT_READY, "worker", count=3)
        assert not go_on.is_set()
    finally:
        go_on.set()
        logger.remove(number)
