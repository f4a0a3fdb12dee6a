"""What only threads and coroutines do: where they run, what they share, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from orchestree_testing.agents import AsyncLooper, AsyncScripted, Looper, Scripted
from orchestree_testing.host import DEADLINE_S, RecordingHost

from orchestree.agents.agent import Agent, PeriodicAgent
from orchestree.agents.async_agent import AsyncAgent, PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.current import current_host
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, abnormal
from orchestree.agents.executor import Executor, Launch, RunEnded, RunId, RunMessage, RunProgress, RunReady
from orchestree.agents.executors import coroutine
from orchestree.agents.executors.coroutine import CoroutineExecutor
from orchestree.agents.executors.thread import ThreadExecutor

pytestmark = pytest.mark.portable

LOST = abnormal(Cause.LOST)


@pytest.fixture
def host() -> Iterator[RecordingHost]:
    made = RecordingHost()
    yield made
    made.loop.close()


@pytest.fixture
def executor(host: RecordingHost) -> Iterator[CoroutineExecutor]:
    made = CoroutineExecutor(host)
    yield made
    made.close()


def start(executor: Executor, agent: type[BaseAgent], path: str = "a", **fields: Any) -> RunId:
    run = RunId(path, 1)
    executor.start(Launch(run=run, agent=agent, config=agent.Config(**fields), params={}))
    return run


def open_gate(executor: CoroutineExecutor, run: RunId) -> None:
    """Let an agent that swallows its cancellation end."""
    agent = executor._runs[run].agent
    assert isinstance(agent, AsyncScripted)
    executor._post(lambda _: agent.gate.set(), run)


def loop_thread() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "orchestree-agents"]


def test_a_thread_agent_runs_in_a_daemon_thread_named_after_its_run(host: RecordingHost) -> None:
    run = start(ThreadExecutor(host), Scripted, "x/y", execute="describe")
    data = host.wait_message(run, "described").data
    assert (data["thread"], data["daemon"]) == ("orchestree:x/y#1", True)
    host.wait(RunEnded, run)


@pytest.mark.parametrize("executor_class", [ThreadExecutor, CoroutineExecutor])
def test_hooks_see_the_host_of_their_executor(host: RecordingHost, executor_class: type[Executor]) -> None:
    seen: dict[str, object] = {}

    class Curious(Scripted):
        def execute(self) -> object:
            seen["execute"] = current_host.get()
            return super().execute()

        def on_stop(self) -> None:
            seen["on_stop"] = current_host.get()
            super().on_stop()

    class AsyncCurious(AsyncScripted):
        async def execute(self) -> object:
            seen["execute"] = current_host.get()
            return await super().execute()

        async def on_stop(self) -> None:
            seen["on_stop"] = current_host.get()
            await super().on_stop()

    made = executor_class(host)
    run = start(made, Curious if executor_class is ThreadExecutor else AsyncCurious, execute="block")
    host.wait_message(run, "execute")
    made.ask_stop(run)
    host.wait(RunEnded, run)
    made.close()
    assert seen == {"execute": host, "on_stop": host}


def test_the_own_loop_is_made_by_the_first_start_and_ends_with_close(host: RecordingHost) -> None:
    made = CoroutineExecutor(host)
    made.ask_stop(RunId("nobody", 1))
    assert loop_thread() == []
    host.wait(RunEnded, start(made, AsyncScripted))
    (thread,) = loop_thread()
    assert thread.daemon
    made.close()
    assert loop_thread() == []


def test_close_leaves_a_stubborn_task_to_the_loop_which_ends_after_it(
    host: RecordingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutine, "CLOSE_S", 0.0)
    made = CoroutineExecutor(host)
    run = start(made, AsyncScripted, execute="swallow")
    host.wait_message(run, "execute")
    made.close()
    host.wait_message(run, "swallowed")
    assert host.of(RunEnded, run) == []
    (thread,) = loop_thread()
    open_gate(made, run)
    host.wait(RunEnded, run)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("family", [(ThreadExecutor, Scripted), (CoroutineExecutor, AsyncScripted)])
def test_nothing_refers_to_an_agent_whose_run_is_over(host: RecordingHost, family: tuple[Any, Any]) -> None:
    executor_class, base = family
    instances: list[weakref.ref[BaseAgent]] = []

    class Watched(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            instances.append(weakref.ref(self))

    made = executor_class(host)
    host.wait(RunEnded, start(made, Watched))
    made.close()
    for thread in threading.enumerate():
        if thread.name == "orchestree:a#1":
            thread.join(DEADLINE_S)
    gc.collect()
    assert [instance() for instance in instances] == [None]


def test_a_given_loop_runs_the_agents_and_is_left_running(host: RecordingHost) -> None:
    async def scenario() -> None:
        host.agents_loop = asyncio.get_running_loop()
        made = CoroutineExecutor(host)
        run = start(made, AsyncScripted, execute="describe")
        lasting = start(made, AsyncScripted, "b", execute="never")
        await asyncio.to_thread(host.wait, RunEnded, run)
        await asyncio.to_thread(made.close)
        await asyncio.to_thread(host.wait, RunEnded, lasting)

    asyncio.run(scenario())
    data = host.wait_message(RunId("a", 1), "described").data
    assert data["thread"] == threading.current_thread().name
    assert host.wait(RunEnded, RunId("b", 1)).reason == SHUTDOWN


def test_runs_on_a_given_loop_that_was_closed_are_lost(host: RecordingHost) -> None:
    host.agents_loop = asyncio.new_event_loop()
    made = CoroutineExecutor(host)
    early = start(made, AsyncScripted)
    host.agents_loop.close()
    made.ask_stop(early)
    assert host.wait(RunEnded, early).reason == LOST
    late = start(made, AsyncScripted, "b")
    assert host.wait(RunEnded, late).reason == LOST


class LoopStopper(AsyncAgent):
    async def execute(self) -> None:
        asyncio.get_running_loop().stop()


class Exiter(AsyncAgent):
    async def execute(self) -> None:
        async def leave() -> None:
            raise SystemExit(3)

        self.task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([self.task])
        self.task.exception()


@pytest.mark.parametrize("rude", [LoopStopper, Exiter])
def test_an_agent_that_stops_the_loop_or_exits_in_a_task_ends_no_other(
    host: RecordingHost, executor: CoroutineExecutor, rude: type[AsyncAgent]
) -> None:
    steady = start(executor, AsyncScripted, "steady", execute="block")
    host.wait(RunReady, steady)
    assert host.wait(RunEnded, start(executor, rude, "rude")).reason == NORMAL
    executor.ask_stop(steady)
    assert host.wait(RunEnded, steady).reason == NORMAL


class LoopBreaker(AsyncAgent):
    async def execute(self) -> None:
        loop: Any = asyncio.get_running_loop()

        def fail() -> None:
            del loop._run_once
            raise OSError("no selector")

        loop._run_once = fail
        await asyncio.Event().wait()


def test_when_the_loop_breaks_its_runs_are_lost_and_the_next_start_has_a_new_one(
    host: RecordingHost, executor: CoroutineExecutor
) -> None:
    runs = [start(executor, AsyncScripted, "steady", execute="block")]
    host.wait(RunReady, runs[0])
    runs.append(start(executor, LoopBreaker, "breaker"))
    for run in runs:
        ended = host.wait(RunEnded, run)
        assert ended.reason == LOST
        assert ended.report is not None
        assert ended.report.message == "the event loop failed: OSError: no selector"
    assert host.wait(RunEnded, start(executor, AsyncScripted, "next")).reason == NORMAL


def test_a_task_that_swallows_its_cancellation_is_not_reported_as_ended(
    host: RecordingHost, executor: CoroutineExecutor
) -> None:
    run = start(executor, AsyncScripted, execute="swallow")
    host.wait_message(run, "execute")
    for _ in range(2):
        executor.kill(run)
    host.wait_message(run, "swallowed")
    marker = start(executor, AsyncScripted, "marker")
    host.wait(RunEnded, marker)
    assert host.of(RunEnded, run) == []
    executor.ask_stop(run)  # too late for on_stop(), which a kill skips
    open_gate(executor, run)
    host.wait(RunEnded, run)


def test_a_run_that_is_killed_right_after_its_start_is_reported(
    host: RecordingHost, executor: CoroutineExecutor
) -> None:
    runs = [start(executor, AsyncScripted, f"n{number}", execute="never") for number in range(100)]
    for run in runs:
        executor.kill(run)
    assert {host.wait(RunEnded, run).reason for run in runs} <= {SHUTDOWN, NORMAL}


def test_crashes_and_restarts_across_threads_lose_no_post(host: RecordingHost, executor: CoroutineExecutor) -> None:
    def next_one(number: int) -> None:
        launch = Launch(run=RunId("flapping", number), agent=AsyncScripted, config=AsyncScripted.Config(), params={})
        executor.start(launch)
        host.wait(RunEnded, launch.run)

    for number in range(1000):
        next_one(number)


ABANDON = """
import asyncio, time
from orchestree_testing.agents import AsyncLooper, AsyncScripted, Looper, Scripted
from orchestree_testing.host import RecordingHost
from orchestree.agents.executor import Launch, RunId
from orchestree.agents.executors import coroutine
from orchestree.agents.executors.coroutine import CoroutineExecutor
from orchestree.agents.executors.thread import ThreadExecutor

host = RecordingHost()
host.loop.close()
for executor, agent, action in [
    (ThreadExecutor(host), Scripted, "never"),
    (CoroutineExecutor(host), AsyncScripted, "swallow"),
]:
    run = RunId(agent.__name__, 1)
    config = agent.Config(execute=action, on_stop="never")
    executor.start(Launch(run=run, agent=agent, config=config, params={}))
    host.wait_message(run, "execute")
    executor.kill(run)
    executor.close()
print("leaving", flush=True)
"""


@pytest.mark.slow
def test_abandoned_runs_do_not_keep_the_interpreter_from_exiting() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ABANDON],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_a_flood_of_messages_keeps_its_order(host: RecordingHost, executor: CoroutineExecutor) -> None:
    class Flood(AsyncAgent):
        async def execute(self) -> None:
            for number in range(1000):
                self.emit("n", number=number)

    run = start(executor, Flood)
    host.wait(RunEnded, run)
    assert [message.data["number"] for message in host.of(RunMessage, run)] == list(range(1000))


class Patient(PeriodicAgent):
    """Its second round is due in an hour."""

    class Config:
        interval = 3600.0

    def runner(self) -> None:
        self.emit("round", stop=self.should_stop)

    def on_stop(self) -> None:
        self.emit("on_stop")


class AsyncPatient(PeriodicAsyncAgent):
    """What `Patient` is."""

    class Config:
        interval = 3600.0

    async def runner(self) -> None:
        self.emit("round", stop=self.should_stop)

    async def on_stop(self) -> None:
        self.emit("on_stop")


class Tells(Agent):
    """Says what it does, and then waits for ever."""

    def execute(self) -> object:
        self.progress("file 7")
        self.emit("told", at=self._orchestree.pulse.last)
        return self.sleep(3600.0)


class AsyncTells(AsyncAgent):
    """Says what it does, and then goes on waiting."""

    async def execute(self) -> object:
        self.progress("file 7")
        self.emit("told", at=self._orchestree.pulse.last)
        return await self.sleep(3600.0)


@pytest.fixture(params=[ThreadExecutor, CoroutineExecutor])
def either(host: RecordingHost, request: pytest.FixtureRequest) -> Iterator[Executor]:
    made: Executor = request.param(host)
    yield made
    made.close()


def of_kind(executor: Executor, thread: type[BaseAgent], task: type[BaseAgent]) -> type[BaseAgent]:
    return thread if isinstance(executor, ThreadExecutor) else task


def test_a_look_reports_the_latest_progress_also_of_what_hangs(host: RecordingHost, either: Executor) -> None:
    run = start(either, of_kind(either, Tells, AsyncTells))
    at = host.wait_message(run, "told").data["at"]
    either.look(run)
    assert host.wait(RunProgress, run) == RunProgress(run, at, "file 7")  # type: ignore[arg-type]


def test_one_that_is_recycled_while_it_waits_for_its_next_round_ends_at_once_and_normally(
    host: RecordingHost, either: Executor
) -> None:
    run = start(either, of_kind(either, Patient, AsyncPatient))
    host.wait_message(run, "round")
    either.recycle(run)
    assert host.wait(RunEnded, run).reason == NORMAL
    assert [(message.name, message.data) for message in host.of(RunMessage, run)] == [("round", {"stop": False})]


def test_one_that_is_recycled_ends_before_its_next_round(host: RecordingHost, either: Executor) -> None:
    run = start(either, of_kind(either, Looper, AsyncLooper), rounds=10**9)
    host.wait_message(run, "round 2")
    either.recycle(run)
    assert host.wait(RunEnded, run).reason == NORMAL


def test_one_without_rounds_is_not_recycled(host: RecordingHost, either: Executor) -> None:
    run = start(either, of_kind(either, Scripted, AsyncScripted), execute="block")
    host.wait_message(run, "execute")
    either.recycle(run)
    either.ask_stop(run)
    host.wait(RunEnded, run)
    assert host.trace(run) == ["setup", "execute", "on_stop", "teardown"]


def test_nobody_is_looked_at_measured_or_recycled_when_there_is_no_such_run(
    host: RecordingHost, either: Executor
) -> None:
    run = RunId("nobody", 1)
    either.look(run)
    either.measure(run)
    either.recycle(run)
    assert host.reports == []
