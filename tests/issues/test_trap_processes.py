"""The traps of multiprocessing that were met before the first line of the process executor was written.

Each of them was real with the fork server of the standard library, or with that of `multiprocess`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.host import DEADLINE_S, RecordingHost
from orchestree_testing.process_harness import Harness, is_alive, wait_until_gone
from orchestree_testing.scripts import run_program, start_program, write

from orchestree.agents.ends import NORMAL, Cause, abnormal
from orchestree.agents.executor import Launch, RunEnded, RunId, RunReady
from orchestree.agents.executors.process import ProcessExecutor

pytestmark = pytest.mark.portable


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def test_a_script_that_reads_its_arguments_at_the_top_level_can_have_process_agents(tmp_path: Path) -> None:
    """Trap a: on Python 3.13 the main file was executed in the fork server without any ``sys.argv``."""
    write(
        tmp_path / "script.py",
        """
        import sys
        from orchestree.agents.agent import Agent
        from orchestree.agents.loading import refuse_if_copy
        from orchestree_testing.process_harness import Harness

        argument = sys.argv[1]

        class Worker(Agent):
            def execute(self):
                return argument

        refuse_if_copy("start()")
        with Harness() as harness:
            print(harness.run(Worker).result)
        """,
    )
    assert run_program("script.py", "given", cwd=tmp_path) == "given\n"


def test_agents_outlive_the_thread_that_started_them() -> None:
    """Trap b: ``PR_SET_PDEATHSIG`` fires when the thread that made the process ends, not when the process does."""
    host = RecordingHost()
    executor = ProcessExecutor(host)
    launch = Launch(run=RunId("sleeper", 1), agent=agents.Sleeper, config=agents.Sleeper.Config(), params={})

    async def start() -> None:
        executor.prepare([launch])
        executor.start(launch)
        await asyncio.to_thread(host.wait, RunReady, launch.run)

    async def stop() -> None:
        executor.ask_stop(launch.run)
        await asyncio.to_thread(host.wait, RunEnded, launch.run)
        executor.close()

    for part in (start, stop):
        thread = threading.Thread(target=lambda part=part: host.loop.run_until_complete(part()))
        thread.start()
        thread.join(DEADLINE_S)
    host.loop.close()
    assert host.wait(RunEnded, launch.run).reason == NORMAL
    assert host.wait(RunEnded, launch.run).result == "asked to stop"


def test_no_agent_outlives_an_orchestrator_that_is_killed(tmp_path: Path) -> None:
    """Trap c: the children of a fork server ran on, and most cures failed while C code held the interpreter."""
    write(
        tmp_path / "parent.py",
        """
        import sys
        from orchestree_testing import process_agents as agents
        from orchestree_testing.process_harness import Harness

        if __name__ == "__main__":
            with Harness() as harness:
                pids = [harness.start_ready(agents.Sleeper, "sleeper")[1]]
                run = harness.start(agents.Caller, "holder", params={"call": agents.hold_the_interpreter})
                pids += [harness.host.wait_message(run, "holding").data["pid"], harness.server_pid()]
                print(*pids, flush=True)
                sys.stdin.read()
        """,
    )
    with start_program("parent.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 3
        program.kill()
        wait_until_gone(*pids)


def test_the_death_of_the_fork_server_is_told_as_what_it_is(harness: Harness) -> None:
    """Trap d: every agent was said to have exited with code 255, and ran on."""
    run, pid = harness.start_ready(agents.Sleeper)
    os.kill(harness.server_pid(), signal.SIGKILL)
    ended = harness.ended(run)
    assert ended.reason == abnormal(Cause.LOST)
    assert ended.report is not None
    assert ended.report.exit_code is None
    assert not is_alive(pid)


def test_a_start_right_after_the_death_of_the_fork_server_raises_nothing(harness: Harness) -> None:
    """Trap e: one start in ten raised EOFError before the death had been noticed."""
    first = harness.launch(agents.Sleeper, "first")
    harness.prepare(first)
    for number in range(5):
        launch = harness.launch(agents.Sleeper, "agent", incarnation=number + 1)
        again = harness.launch(agents.Sleeper, "again", incarnation=number + 1)

        def kill_and_start(launch: object = launch) -> None:
            assert harness.inner._server is not None
            os.kill(harness.inner._server.pid, signal.SIGKILL)
            harness.inner.start(launch)  # type: ignore[arg-type]

        harness.host.call(kill_and_start)
        assert harness.ended(launch.run).reason == abnormal(Cause.LOST)
        harness.host.call(lambda again=again: harness.inner.start(again))  # type: ignore[misc]
        assert harness.host.wait(RunReady, again.run).pid is not None


def test_the_kernel_kills_an_agent_with_its_fork_server_and_no_package_is_needed_for_that(
    harness: Harness,
) -> None:
    """Trap f: the packages for ``prctl`` fail to build, or take 60 ms to import."""
    ended = harness.run(agents.Caller, params={"call": agents.describe_process})
    assert isinstance(ended.result, dict)
    assert ended.result["death signal"] == signal.SIGKILL
