"""dramatiq 441: a signal between the start of the workers and the signal handlers left the workers behind as orphans.

Here no process outlives its orchestrator, whenever and by whatever signal that dies; and a signal that hits a process
before it knows what it is to be is a crash like any other.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import PATIENCE, a_tree, wait_for

from orchestree.supervisor import EventType

pytestmark = [pytest.mark.slow, pytest.mark.portable]
E = EventType
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]

HEAD = """
        import os, signal, sys
        import psutil
        from orchestree import Orchestrator
        from orchestree_testing.process_agents import Sleeper

        # Whoever runs the tests may ignore some of them, as nohup does.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))

        def say_pids():
            print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
"""
STARTED = """
        for number in range(3):
            tree.register_agent(Sleeper, f"worker-{number}", executor="process")
        tree.start()
        say_pids()
        sys.stdin.readline()
"""
"""The workers run, and nobody has set a signal handler yet."""
PREPARING = """
        os.environ["ORCHESTRATOR"] = str(os.getpid())
        import slow
        tree.register_agent(slow.Worker, "worker", executor="process")
        tree.start()
"""
"""The fork server is still loading the module of the worker."""
SLOW_MODULE = """
        import os, signal
        from orchestree_testing.process_agents import Sleeper

        class Worker(Sleeper): pass

        if os.environ["ORCHESTRATOR"] != str(os.getpid()):
            print(os.getpid(), flush=True)
            signal.pause()
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", [STARTED, PREPARING])
def test_an_orchestrator_that_dies_before_it_has_set_its_signal_handlers_leaves_no_worker_behind(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    write(tmp_path / "slow.py", SLOW_MODULE)
    write(tmp_path / "app.py", HEAD + moment)
    with start_program("app.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) >= (4 if moment is STARTED else 1)
        program.send_signal(number)
        program.wait(PATIENCE)
        assert program.returncode == -number
        wait_until_gone(*pids)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_no_handler_is_set_for_leaves_no_worker_behind_either(
    tmp_path: Path, number: signal.Signals
) -> None:
    joins = """
        tree.register_agent(Sleeper, "worker", executor="process")
        tree.events.subscribe(lambda event: say_pids(), "supervisor_ready")
        sys.exit(tree.simple_join())
    """
    write(tmp_path / "app.py", HEAD + joins)
    with start_program("app.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        program.send_signal(number)
        program.wait(PATIENCE)
        assert program.returncode == (-number if number is signal.SIGHUP else 0)
        wait_until_gone(*pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_hit_before_it_knows_what_it_is_to_be_costs_at_most_one_restart(
    number: signal.Signals,
) -> None:
    tree = a_tree()
    tree.register_agent(Sleeper, "worker", executor="process", backoff=None)
    before = {process.pid for process in psutil.Process().children()}
    with tree:
        (server,) = {process.pid for process in psutil.Process().children()} - before
        for count in range(2, 12):
            # The worker itself, and what the fork server has forked in advance for the next restart.
            family = [process.pid for process in psutil.Process(server).children()]
            assert tree.status("worker").pid in family
            for pid in family:
                os.kill(pid, number)
            wait_for(tree, E.AGENT_READY, "worker", count=count)
        assert tree.status("worker").restarts_total <= 2 * 10
        crashes = [event.data.report.signal for event in tree.history(type=E.AGENT_CRASHED)]  # type: ignore[union-attr]
        assert set(crashes) <= {number.name, None}
