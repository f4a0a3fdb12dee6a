"""Elixir's Task.Supervisor and Registry: E17 to E21. A task is a temporary agent under a dynamic supervisor.

The registry is the tree itself: an agent's path is its name, unique, and goes with it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from loguru import logger
from orchestree_testing.agents import AsyncScripted, Scripted
from orchestree_testing.each_executor import add_scripted, end_of, hooks_of, wait_for_hook
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, a_tree, add, crash, types, wait_for
from otp_support import every_executor

from orchestree.agents import AsyncAgent
from orchestree.strategies.errors import MaxChildren
from orchestree.supervisor import (
    AgentEntry,
    AgentState,
    AlreadyPresent,
    AlreadyStarted,
    EventType,
    NotFound,
    Orchestrator,
    StartError,
)
from orchestree.supervisor.events import AgentCrashed
from orchestree.supervisor.lifecycle_log import level_of

E = EventType


def a_pool(**fields: Any) -> tuple[Orchestrator, Any]:
    """Return a tree, and the handle of its supervisor of tasks."""
    tree = a_tree()
    return tree, tree.add_supervisor("tasks", dynamic=True, **fields)


def start_task(pool: Any, executor: str, name: str | None = None, **fields: Any) -> str:
    """Start a task; return its path."""
    kind = AsyncScripted if executor == "async" else Scripted
    path: str = pool.start_child(kind, name, executor=executor, restart="temporary", **fields)
    return path


def result_of(tree: Orchestrator, path: str) -> object:
    """Wait for the end of a task and return its result; raise `RuntimeError` with its failure."""
    tree.events.wait_for(E.AGENT_TERMINATED, path, since=0, timeout=PATIENCE)
    tree.wait_until(path, end_of(tree, path).state, PATIENCE)
    status = tree.status(path)
    if status.state is AgentState.FAILED:
        assert status.last_crash is not None
        raise RuntimeError(status.last_crash.message)
    return status.result


# E17


@pytest.mark.otp("E17")
@every_executor
def test_the_result_of_a_task_can_be_awaited_also_after_its_end_and_it_leaves_its_supervisor(executor: str) -> None:
    tree, pool = a_pool()
    with tree:
        paths = [start_task(pool, executor, execute=f"return {word}") for word in ("one", "two", "three")]
        assert [result_of(tree, path) for path in paths] == ["one", "two", "three"]
        assert [result_of(tree, path) for path in paths] == ["one", "two", "three"]
        assert tree.which_children("tasks") == []


@pytest.mark.otp("E17")
@every_executor
def test_a_task_that_fails_tells_whoever_waits_for_it_and_nobody_else_is_harmed(executor: str) -> None:
    """As with async_nolink: nothing is linked here, so the caller, the supervisor and the other tasks live on."""
    tree, pool = a_pool(max_restarts=0)
    with tree:
        other = start_task(pool, executor, "other", execute="sleep")
        path = start_task(pool, executor, "fails", execute="raise lost")
        with pytest.raises(RuntimeError, match="SensorLost: lost"):
            result_of(tree, path)
        assert tree.status(other).state is AgentState.READY
        assert tree.status("tasks").incarnation == 1
        assert types(tree, path).count(E.AGENT_STARTING) == 1


@pytest.mark.otp("E17")
@pytest.mark.parametrize("failing", [True, False])
def test_an_agent_may_await_a_task_and_share_its_failure_as_with_a_link(failing: bool) -> None:
    tree, _ = a_pool()

    async def execute(agent: AsyncAgent) -> object:
        task = await tree.aio.start_child(
            "tasks", AsyncScripted, "task", execute="raise lost" if failing else "return 7", restart="temporary"
        )
        async for event in tree.events.stream(since=0):
            if event.path == task and event.type is E.AGENT_CRASHED:
                raise RuntimeError("my task failed")
            if event.path == task and event.type is E.AGENT_TERMINATED:
                return tree.status(str(task)).result
        return None

    add(tree, "caller", execute, kind=AsyncDoes, restart="temporary")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "caller")
        tree.wait_until("caller", "failed" if failing else "completed", PATIENCE)
        assert tree.status("caller").result == (None if failing else "7")


@pytest.mark.otp("E17")
@every_executor
def test_a_task_can_be_started_and_forgotten_and_can_be_stopped_once(executor: str) -> None:
    tree, pool = a_pool()
    with tree:
        path = start_task(pool, executor, execute="block")
        wait_for_hook(tree, path)
        counts = tree.count_children("tasks")
        assert (counts.specs, counts.active, counts.workers) == (1, 1, 1)
        tree.stop_agent(path)
        with pytest.raises(NotFound):
            tree.stop_agent(path)
    assert hooks_of(tree, path) == ["setup", "execute", "on_stop", "teardown"]


@pytest.mark.otp("E17")
def test_a_task_is_never_restarted_unless_it_is_asked_for() -> None:
    tree, pool = a_pool()
    with tree:
        start_task(pool, "thread", "once", execute="raise lost")
        pool.start_child(Does, "again", restart="permanent", backoff=None,
                         params={"execute": lambda agent: agent.incarnation < 3 or agent.sleep(3600)})  # fmt: skip
        wait_for(tree, E.AGENT_READY, "tasks/again", count=3)
        assert types(tree, "tasks/once").count(E.AGENT_STARTING) == 1


@pytest.mark.otp("E17")
def test_a_task_has_5_seconds_to_stop_unless_it_is_asked_for() -> None:
    tree, pool = a_pool()
    with tree:
        for name, fields in (("usual", {}), ("brutal", {"shutdown": "brutal_kill"})):
            start_task(pool, "async", name, execute="sleep", **fields)
        entries = [tree.get_childspec(f"tasks/{name}") for name in ("usual", "brutal")]
        assert [entry.shutdown for entry in entries if isinstance(entry, AgentEntry)] == [5.0, "brutal_kill"]


@pytest.mark.otp("E17")
@every_executor
def test_one_task_too_many_is_refused_and_a_place_is_free_again_when_one_has_ended(executor: str) -> None:
    tree, pool = a_pool(max_children=2)
    with tree:
        first, _ = (start_task(pool, executor, execute="sleep") for _ in range(2))
        with pytest.raises(MaxChildren):
            start_task(pool, executor, "third", execute="sleep")
        with pytest.raises(NotFound):
            tree.status("tasks/third")
        tree.stop_agent(first)
        assert result_of(tree, start_task(pool, executor, "third", execute="return 3")) == "3"


@pytest.mark.otp("E17")
def test_many_tasks_at_once_have_their_results_in_order() -> None:
    """As async_stream: so many at a time, results in the order of what was asked for."""
    tree, pool = a_pool()
    with tree, ThreadPoolExecutor(4) as threads:

        def run(number: int) -> object:
            return result_of(tree, start_task(pool, "async", execute=f"return {number}"))

        assert list(threads.map(run, range(40))) == [str(number) for number in range(40)]
        assert tree.count_children("tasks").specs == 0


@pytest.mark.otp("E17")
def test_several_supervisors_of_tasks_are_told_apart_by_their_names() -> None:
    tree = a_tree()
    one, two = (tree.add_supervisor(name, dynamic=True) for name in ("one", "two"))
    with tree:
        for pool in (one, two):
            pool.start_child(Scripted, "a", execute="sleep")
        assert [status.path for status in tree.which_children("one")] == ["one/a"]
        tree.stop_agent("one/a")
        assert tree.status("two/a").state is AgentState.READY


# E18: the hand-over of work to a process. The fork server keeps one child forked in advance, which waits for work.


@pytest.mark.otp("E18")
@pytest.mark.slow
def test_a_process_that_waits_for_work_ends_when_its_orchestrator_dies_before_it_hands_any_over(tmp_path: Path) -> None:
    write(
        tmp_path / "app.py",
        """
        import json
        import sys

        import psutil

        from orchestree import Orchestrator
        from orchestree_testing.process_agents import Sleeper

        tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))
        tree.register_agent(Sleeper, "a", executor="process")

        def spare_of(server, agent):
            for _ in range(100):
                for child in server.children():
                    if child.pid != tree.status("a").pid:
                        return child
                tree.restart_agent("a")  # what comes next from the server comes after its fork
            raise AssertionError("no child was forked in advance")

        @tree.on("orchestrator_started")
        def say(event):
            tree.wait_until("a", "ready", 20)
            agent = psutil.Process(tree.status("a").pid)
            server = agent.parent()
            spare = spare_of(server, agent)
            print(json.dumps([spare.pid, tree.status("a").pid, server.pid]), flush=True)

        tree.simple_join()
        """,
    )
    with start_program("app.py", cwd=tmp_path, LOGURU_AUTOINIT="False") as program:
        assert program.stdout is not None
        pids = json.loads(program.stdout.readline())
        assert len(set(pids)) == 3
        program.kill()
        wait_until_gone(*pids)


# E19

ENDS: dict[str, tuple[str, str | None]] = {
    "return 1": ("completed", None),
    "shutdown": ("completed", None),
    "exit 0": ("completed", None),
    "exit 3": ("failed", "builtins.SystemExit"),
    "raise lost": ("failed", "orchestree_testing.agents.SensorLost"),
    "cancel": ("failed", "asyncio.exceptions.CancelledError"),
    "interrupt": ("failed", "builtins.KeyboardInterrupt"),
}


@pytest.mark.otp("E19")
@every_executor
def test_only_a_failing_task_is_logged_as_an_error_with_its_exception_and_traceback(executor: str) -> None:
    records: list[Any] = []
    number = logger.add(lambda message: records.append(message.record), level="WARNING", format="{message}")
    tree, pool = a_pool()
    try:
        with tree:
            for index, (execute, (state, exception)) in enumerate(ENDS.items()):
                path = start_task(pool, executor, str(index), execute=execute)
                end = tree.events.wait_for(E.AGENT_TERMINATED, path, since=0, timeout=PATIENCE)
                assert end_of(tree, path).state == state, execute
                assert level_of(end) == ("ERROR" if state == "failed" else "INFO")
                crashes = [event.data for event in tree.history(path, E.AGENT_CRASHED)]
                assert len(crashes) == (state == "failed")
                for crash in crashes:
                    assert isinstance(crash, AgentCrashed)
                    assert crash.report.exception_types[0] == exception
                    assert crash.report.traceback.startswith("Traceback (most recent call last)")
    finally:
        logger.remove(number)
    failed = {f"tasks/{index}" for index, (state, _) in enumerate(ENDS.values()) if state == "failed"}
    assert {record["extra"]["path"] for record in records} - {""} == failed
    assert all("Traceback" in record["message"] for record in records if "CRASHED" in record["message"])


# E20


@pytest.mark.otp("E20")
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_name_has_one_holder(dynamic: bool) -> None:
    tree = a_tree()
    pool = tree.add_supervisor("s", dynamic=dynamic)
    with tree:
        pool.start_child(Scripted, "a", execute="sleep")
        with pytest.raises(AlreadyStarted, match="'s/a' is ready"):
            pool.start_child(Scripted, "a", execute="sleep")
        assert tree.status("s/a").incarnation == 1
        if not dynamic:
            tree.stop_agent("s/a")
            with pytest.raises(AlreadyPresent):
                pool.start_child(Scripted, "a", execute="sleep")


@pytest.mark.otp("E20")
@pytest.mark.parametrize("round_", range(3))
def test_of_many_that_want_a_name_at_once_one_gets_it(round_: int) -> None:
    tree, pool = a_pool()
    barrier = threading.Barrier(8)

    def want(number: int) -> bool:
        barrier.wait(PATIENCE)
        try:
            pool.start_child(AsyncScripted, "a", execute="sleep")
        except AlreadyStarted:
            return False
        return True

    with tree, ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(want, range(8))) == 1
        assert tree.count_children("tasks").specs == 1


@pytest.mark.otp("E20")
@every_executor
@pytest.mark.parametrize("execute", ["return 1", "raise lost"])
def test_the_name_of_a_holder_that_has_died_is_free_at_once(execute: str, executor: str) -> None:
    tree, pool = a_pool()
    with tree:
        for count in range(1, 4):
            path = start_task(pool, executor, "a", execute=execute)
            wait_for(tree, E.AGENT_TERMINATED, path, count=count)
        assert start_task(pool, executor, "a", execute="sleep") == "tasks/a"
        assert tree.status("tasks/a").state is AgentState.READY


@pytest.mark.otp("E20")
@every_executor
def test_a_look_up_tells_the_living_from_the_dead(executor: str) -> None:
    tree, pool = a_pool()
    with tree:
        path = start_task(pool, executor, "a", execute="sleep")
        assert [status.path for status in tree.which_children("tasks")] == [path]
        assert (tree.status(path).pid is not None) == (executor == "process")
        tree.stop_agent(path)
        assert tree.which_children("tasks") == []
        assert (tree.status(path).state, tree.status(path).pid) == (AgentState.STOPPED, None)
        with pytest.raises(NotFound):
            tree.get_childspec(path)
        with pytest.raises(NotFound):
            tree.status("tasks/never")


@pytest.mark.otp("E20")
def test_a_start_that_fails_takes_no_name() -> None:
    tree, pool = a_pool()
    with tree:
        with pytest.raises(StartError):
            pool.start_child(Scripted, "a", setup="raise lost")
        assert pool.start_child(Scripted, "a", execute="sleep") == "tasks/a"


# E21


@pytest.mark.otp("E21")
@pytest.mark.slow
def test_when_a_process_dies_its_name_goes_with_it() -> None:
    tree, pool = a_pool()
    with tree:
        path = start_task(pool, "process", "a", execute="sleep")
        pid = tree.status(path).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(tree, E.AGENT_TERMINATED, path)
        assert start_task(pool, "process", "a", execute="sleep") == path
        assert tree.status(path).pid != pid


@pytest.mark.otp("E21")
@pytest.mark.slow
def test_when_the_fork_server_that_all_processes_are_linked_to_dies_they_die_and_come_back() -> None:
    """It takes the place of the registry's partition, with which its registered processes end."""
    tree = a_tree()
    names = ["a", "b", "c"]
    for name in names:
        add_scripted(tree, "process", name, execute="sleep", backoff=None)
    add_scripted(tree, "thread", "other", execute="sleep")
    with tree:
        pids = [status.pid for status in tree.which_children() if status.pid is not None]
        server = psutil.Process(pids[0]).parent()
        assert server is not None
        server.kill()
        wait_until_gone(server.pid, *pids)
        for name in names:
            wait_for(tree, E.AGENT_READY, name, count=2)
        causes = [event.data.report.cause for event in tree.history(type=E.AGENT_CRASHED)
                  if isinstance(event.data, AgentCrashed)]  # fmt: skip
        assert causes == ["lost"] * 3
        assert tree.status("other").incarnation == 1
        for name in names:
            tree.wait_until(name, "ready", PATIENCE)
        assert not {status.pid for status in tree.which_children()} & set(pids)


@pytest.mark.otp("E21")
def test_when_a_supervisor_ends_for_good_all_names_below_it_go() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("s", dynamic=True, restart="temporary")
    with tree:
        for name in "ab":
            pool.start_child(Scripted, name, execute="sleep")
        tree.stop_agent("s")
        for path in ("s/a", "s/b", "s"):
            with pytest.raises(NotFound):
                tree.get_childspec(path)
        add(tree, "s", crash, restart="temporary")
        assert wait_for(tree, E.AGENT_CRASHED, "s").path == "s"
