"""Supervisor 629 and 918: somebody removed one log folder, and the daemon stopped with every program.

Here a folder that is gone, under a log sink or under the program itself, keeps nobody from being restarted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from loguru import logger
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import FAST, PATIENCE, a_tree, add, crash, wait_for

from orchestree.supervisor import AgentState, EventType

E = EventType

WORKERS = """
        from orchestree import Agent, AsyncAgent

        class Worker(Agent):
            def execute(self):
                if self.incarnation < 3:
                    raise OSError("no such folder")

        class AsyncWorker(AsyncAgent):
            async def execute(self):
                if self.incarnation < 3:
                    raise OSError("no such folder")
"""
SCRIPT = """
        import sys
        from orchestree import Orchestrator
        from workers import AsyncWorker, Worker

        tree = Orchestrator(Orchestrator.Config(run_mode="stop_on_empty", control=False))
        tree.register_agent(Worker, "thread", backoff=None)
        tree.register_agent(AsyncWorker, "task", backoff=None)
        tree.register_agent(Worker, "process", executor="process", backoff=None)
        print("up", flush=True)
        sys.stdin.readline()
        code = tree.simple_join()
        print(*[f"{status.path} {status.state} {status.incarnation}" for status in tree.which_children()], sep=", ")
        sys.exit(code)
"""


def test_a_log_folder_that_is_removed_stops_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()

    def write_line(message: str) -> None:
        with (folder / "orchestree.log").open("a") as file:
            file.write(message)

    logger.remove()
    number = logger.add(write_line, level="TRACE", catch=False)
    try:
        tree = a_tree()
        add(tree, "bad", crash, **FAST)
        add(tree, "good")
        with tree:
            wait_for(tree, E.AGENT_STARTING, "bad", count=5)
            shutil.rmtree(folder.rename(tmp_path / "gone"))  # at one stroke: somebody may be writing into it
            count = tree.status("bad").incarnation
            wait_for(tree, E.AGENT_STARTING, "bad", count=count + 10)
            tree.restart_agent("good", PATIENCE)
            assert tree.status("good").state is AgentState.READY
        assert tree.exit_code == 0
    finally:
        logger.remove(number)


@pytest.mark.slow
@pytest.mark.portable
def test_a_working_folder_that_is_removed_stops_no_agent_of_any_kind(tmp_path: Path) -> None:
    write(tmp_path / "workers.py", WORKERS)
    script = write(tmp_path / "app.py", SCRIPT)
    folder = tmp_path / "work"
    folder.mkdir()
    with start_program(str(script), cwd=folder) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        folder.rmdir()
        output, errors = program.communicate("go on\n", timeout=PATIENCE)
        assert program.returncode == 0, errors
        assert output == "thread completed 3, task completed 3, process completed 3\n"
