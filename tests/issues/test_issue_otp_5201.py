"""erlang/otp 5201: a child that was being stopped became an orphan if its supervisor died at that very moment.

Here a process ends with its fork server and its orchestrator at any moment of a stop, and a child that ends by itself
while it is being stopped has simply been stopped.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from checked import CheckedTree
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.process_harness import is_alive, wait_until_gone
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import PATIENCE, Does, a_tree, never, wait_for
from virtual import agent

from orchestree.agents.ends import NORMAL, Cause, ExitReason, abnormal
from orchestree.strategies import Restart
from orchestree.supervisor import AgentState, EventType
from orchestree.supervisor.events import AgentTerminated

E = EventType


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("reason", [NORMAL, abnormal(Cause.EXCEPTION), abnormal(Cause.SIGNAL), abnormal(Cause.LOST)])
def test_a_child_that_ends_by_itself_while_it_is_stopped_has_been_stopped(restart: Restart, reason: ExitReason) -> None:
    tree = CheckedTree(agent("a", restart=restart, backoff=None), agent("b"), strategy="one_for_all", max_restarts=0)
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.end("a", reason)
    assert (tree.states(), tree.incarnations()) == ({"a": "stopped", "b": "ready"}, {"a": 1, "b": 1})
    assert tree.lines("AGENT_CRASHED", "AGENT_RESTARTING", "AGENT_TERMINATED") == ["TERMINATED a"]
    ((_, data),) = tree.events("AGENT_TERMINATED", "a")
    assert isinstance(data, AgentTerminated)
    assert (data.shutdown_error is not None) == (reason != NORMAL)
    assert tree.core.next_deadline() is None


@pytest.mark.portable
@pytest.mark.slow
def test_no_process_outlives_an_orchestrator_that_is_killed_in_the_middle_of_a_stop(tmp_path: Path) -> None:
    script = """
        import sys, threading
        import psutil
        from orchestree import Agent, Orchestrator
        from orchestree_testing.process_agents import Sleeper

        class Stubborn(Agent):
            def on_stop(self):
                print("asked", flush=True)
            def execute(self):
                threading.Event().wait()

        tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))
        tree.register_agent(Sleeper, "waits-its-turn", executor="process")
        tree.register_agent(Stubborn, "asked", executor="process", shutdown="infinity")
        tree.start()
        print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
        sys.stdin.readline()
        tree.stop()
    """
    write(tmp_path / "app.py", script)
    with start_program("app.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) >= 3, "the fork server and two agents"
        assert program.stdin is not None
        program.stdin.write("stop\n")
        program.stdin.flush()
        assert program.stdout.readline() == "asked\n"
        assert all(map(is_alive, pids[:3]))
        program.kill()
        wait_until_gone(*pids)


@pytest.mark.slow
def test_no_process_outlives_a_fork_server_that_is_killed_in_the_middle_of_a_stop() -> None:
    tree = a_tree()
    tree.register_agent(Sleeper, "waits-its-turn", executor="process")
    tree.register_agent(Does, "asked", executor="process", shutdown="infinity", params={"execute": never})
    before = {process.pid for process in psutil.Process().children()}
    tree.start()
    pids = [status.pid for status in tree.which_children() if status.pid is not None]
    (server,) = {process.pid for process in psutil.Process().children()} - before
    tree.ask_to_stop(None)
    wait_for(tree, E.AGENT_STOPPING, "asked")
    os.kill(server, signal.SIGKILL)
    assert tree.join(PATIENCE)
    wait_until_gone(server, *pids)
    assert [tree.status(path).state for path in ("waits-its-turn", "asked")] == [AgentState.STOPPED] * 2
    assert tree.exit_code == 0
