"""One run from `make_agent` to its end: what the hooks may rely on, without any executor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

import pytest

from orchestree.agents.agent import Agent, LoopingAgent, PeriodicAgent
from orchestree.agents.async_agent import AsyncAgent, LoopingAsyncAgent, PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.current import current_run
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, Phase, abnormal
from orchestree.agents.executor import Launch, RunEnded, RunId
from orchestree.agents.lifecycle import (
    describe,
    exception_types,
    failed_run,
    kill_async,
    make_agent,
    request_recycle,
    request_stop,
    request_stop_async,
    run_hooks,
    run_hooks_async,
)
from orchestree.agents.pulse import Pulse

pytestmark = pytest.mark.portable

RUN = RunId("branch/leaf", 4)


def made(agent: type[BaseAgent], emit: Callable[[str, Mapping[str, object]], None] | None = None) -> Any:
    launch = Launch(run=RUN, agent=agent, config=agent.Config(), params={"a": 1})
    return make_agent(launch, emit or (lambda name, data: None))


def run(agent: Agent, ready: Callable[[], None] = lambda: None) -> RunEnded:
    return copy_context().run(run_hooks, agent, ready)


class Idle(Agent):
    def execute(self) -> object:
        return None


class AsyncIdle(AsyncAgent):
    async def execute(self) -> object:
        return None


def test_everything_is_bound_before_the_agents_own_init_runs() -> None:
    class Early(Idle):
        def __init__(self) -> None:
            self.seen = (self.name, self.path, self.incarnation, dict(self.params), self.should_stop)
            self.emit("early", x=1)

    sent: list[tuple[str, Mapping[str, object]]] = []
    agent = made(Early, lambda name, data: sent.append((name, data)))
    assert run(agent).reason == NORMAL
    assert agent.seen == ("leaf", "branch/leaf", 4, {"a": 1}, False)
    assert sent == [("early", {"x": 1})]


def test_params_are_read_only_and_messages_may_carry_a_name() -> None:
    sent: list[Mapping[str, object]] = []
    agent = made(Idle, lambda name, data: sent.append(data))
    with pytest.raises(TypeError):
        agent.params["a"] = 2
    agent.emit("found", name="x")
    assert sent == [{"name": "x"}]


def test_the_logger_is_bound_to_path_and_incarnation() -> None:
    agent = made(Idle)
    lines: list[Any] = []
    sink = agent.logger.add(lambda message: lines.append(message.record["extra"]))
    agent.logger.info("hello")
    agent.logger.remove(sink)
    assert lines == [{"path": "branch/leaf", "incarnation": 4}]


def test_a_failing_init_is_a_failed_start() -> None:
    class Broken(Idle):
        def __init__(self) -> None:
            raise OSError("no disk")

    ended = run(made(Broken))
    assert ended.reason == abnormal(Cause.START_FAILED)
    assert ended.report is not None
    assert ended.report.message == "OSError: no disk"


def test_a_run_is_the_current_one_while_its_hooks_run() -> None:
    class Curious(Idle):
        def execute(self) -> object:
            return current_run.get()

    assert run(made(Curious)).result == RUN
    assert current_run.get() is None


def test_a_stop_before_the_run_skips_execute_and_on_stop_but_not_the_rest() -> None:
    class Traced(Agent):
        def setup(self) -> None:
            self.emit("setup")

        def execute(self) -> None:
            self.emit("execute")

        def teardown(self) -> None:
            self.emit("teardown")

        def on_stop(self) -> None:
            self.emit("on_stop")

    sent: list[str] = []
    agent = made(Traced, lambda name, data: sent.append(name))
    request_stop(agent)
    assert run(agent).reason == NORMAL
    assert sent == ["setup", "teardown"]
    request_stop(agent)
    assert sent == ["setup", "teardown"]


def test_teardown_waits_for_on_stop() -> None:
    class Slow(Agent):
        def __init__(self) -> None:
            self.go, self.trace = threading.Event(), list[str]()

        def execute(self) -> None:
            request_stop(self)
            self.trace.append("execute returns")
            self.go.set()

        def on_stop(self) -> None:
            self.go.wait(10)
            self.trace.append("on_stop returns")

        def teardown(self) -> None:
            self.trace.append("teardown")

    agent = made(Slow)
    run(agent)
    assert agent.trace == ["execute returns", "on_stop returns", "teardown"]


def test_stopping_an_agent_without_on_stop_starts_no_thread() -> None:
    class Stopped(Agent):
        def execute(self) -> object:
            before = set(threading.enumerate())
            request_stop(self)
            return set(threading.enumerate()) <= before

    assert run(made(Stopped)).result is True


def test_the_traceback_is_made_only_when_it_is_asked_for() -> None:
    class Crashing(Agent):
        def execute(self) -> None:
            raise ValueError("x") from KeyError("y")

    ended = run(made(Crashing))
    assert ended.report is not None
    assert ended.report.traceback == ""
    assert ended.details is not None
    assert "KeyError: 'y'" in ended.details()
    assert "ValueError: x" in ended.details()


@pytest.mark.parametrize(
    ("error", "phase", "cause", "code"),
    [
        (ValueError("x"), "setup", Cause.START_FAILED, None),
        (ValueError("x"), "execute", Cause.EXCEPTION, None),
        (SystemExit(5), "setup", Cause.START_FAILED, 5),
        (SystemExit(5), "execute", Cause.EXIT, 5),
        (SystemExit("text"), "teardown", Cause.EXIT, 1),
        (SystemExit([]), "execute", Cause.EXIT, 1),
        (KeyboardInterrupt(), "execute", Cause.EXCEPTION, None),
        (GeneratorExit(), "execute", Cause.EXCEPTION, None),
    ],
)
def test_each_exception_has_one_cause(error: BaseException, phase: Phase, cause: Cause, code: int | None) -> None:
    ended = failed_run(RUN, error, phase)
    assert ended.reason == abnormal(cause)
    assert ended.report is not None
    assert (ended.report.cause, ended.report.phase, ended.report.exit_code) == (cause, phase, code)


def test_a_description_is_one_line_of_bounded_length() -> None:
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert describe(ValueError()) == "ValueError"
    assert len(describe(ValueError("x" * 10_000))) < 600


def test_exception_types_are_qualified_and_most_derived_first() -> None:
    assert exception_types(KeyError("x")) == (
        "builtins.KeyError",
        "builtins.LookupError",
        "builtins.Exception",
        "builtins.BaseException",
    )


def test_a_kill_is_no_failure_and_leaves_teardown_a_clean_task() -> None:
    class Hanging(AsyncAgent):
        async def execute(self) -> None:
            await asyncio.Event().wait()

        async def teardown(self) -> None:
            task = asyncio.current_task()
            self.emit(f"{task.cancelling() if task else None} to come")

    async def scenario(sent: list[str]) -> RunEnded:
        agent = made(Hanging, lambda name, data: sent.append(name))
        ended: list[RunEnded] = []

        async def live() -> None:
            ended.append(await run_hooks_async(agent, ready.set))

        ready = asyncio.Event()
        task = asyncio.get_running_loop().create_task(live())
        await ready.wait()
        kill_async(agent, task)
        await task
        return ended[0]

    sent: list[str] = []
    ended = asyncio.run(scenario(sent))
    assert (ended.reason, ended.report, sent) == (SHUTDOWN, None, ["0 to come"])


def test_a_kill_also_ends_an_on_stop_that_hangs() -> None:
    class Hanging(AsyncAgent):
        async def execute(self) -> None:
            await asyncio.Event().wait()

        async def on_stop(self) -> None:
            await asyncio.Event().wait()

    async def scenario() -> RunEnded:
        agent = made(Hanging)
        ended: list[RunEnded] = []

        async def live() -> None:
            ended.append(await run_hooks_async(agent, ready.set))

        ready = asyncio.Event()
        task = asyncio.get_running_loop().create_task(live())
        await ready.wait()
        request_stop_async(agent)
        await asyncio.sleep(0)
        kill_async(agent, task)
        await asyncio.wait_for(task, 10)
        return ended[0]

    assert asyncio.run(scenario()).reason == SHUTDOWN


def test_on_stop_runs_once_as_a_task_however_often_a_stop_is_asked_for() -> None:
    class Counting(AsyncAgent):
        stops = 0

        async def execute(self) -> object:
            for _ in range(3):
                request_stop_async(self)
            await asyncio.sleep(0)
            return self.stops

        async def on_stop(self) -> None:
            self.stops += 1

    async def scenario() -> RunEnded:
        return await run_hooks_async(made(Counting), lambda: None)

    assert asyncio.run(scenario()).result == 1


def test_an_async_sleep_ends_at_its_time_or_at_the_stop() -> None:
    class Sleeper(AsyncAgent):
        async def execute(self) -> object:
            first = await self.sleep(0.0)
            request_stop_async(self)
            return [first, await self.sleep(3600.0)]

    async def scenario() -> RunEnded:
        return await run_hooks_async(made(Sleeper), lambda: None)

    assert asyncio.run(scenario()).result == [False, True]


def test_heartbeat_and_progress_are_progress_and_progress_has_words() -> None:
    agent = made(Idle)
    pulse = agent._orchestree.pulse
    pulse.last = 0.0
    agent.heartbeat()
    beaten = pulse.last
    assert 0.0 < beaten <= time.monotonic()
    assert pulse.text == ""
    pulse.last = 0.0
    agent.progress("half")
    assert pulse.last >= beaten
    assert pulse.text == "half"


class Beats(Pulse):
    """Keeps every beat: the moment that was given, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: list[float | None] = []

    def beat(self, at: float | None = None) -> None:
        self.beats.append(at)
        super().beat(at)


class Loops(LoopingAgent):
    """Is recycled in its second round."""

    rounds = 0

    def runner(self) -> None:
        self.rounds += 1
        if self.rounds == 2:
            request_recycle(self)


class AsyncLoops(LoopingAsyncAgent):
    """What `Loops` is."""

    rounds = 0

    async def runner(self) -> None:
        self.rounds += 1
        if self.rounds == 2:
            request_recycle(self)


class Ticks(PeriodicAgent):
    """Is recycled in its first round; the second one would be due in an hour."""

    class Config:
        interval = 3600.0

    def runner(self) -> None:
        request_recycle(self)


class AsyncTicks(PeriodicAsyncAgent):
    """What `Ticks` is."""

    class Config:
        interval = 3600.0

    async def runner(self) -> None:
        request_recycle(self)


def run_beating(kind: type[BaseAgent]) -> tuple[RunEnded, list[float | None], BaseAgent]:
    agent = made(kind)
    agent._orchestree.pulse = beats = Beats()

    def ready() -> None:
        beats.beats.append(-1.0)

    async def scenario() -> RunEnded:
        return await run_hooks_async(agent, ready)

    ended = asyncio.run(scenario()) if isinstance(agent, AsyncAgent) else run(agent, ready)
    return ended, beats.beats, agent


@pytest.mark.parametrize("kind", [Loops, AsyncLoops])
def test_a_looping_agent_beats_before_it_is_ready_and_before_each_round_and_ends_when_it_is_recycled(
    kind: type[BaseAgent],
) -> None:
    ended, beats, agent = run_beating(kind)
    assert beats == [None, -1.0, None, None, None]
    assert (ended.reason, agent.should_stop) == (NORMAL, False)


@pytest.mark.parametrize("kind", [Ticks, AsyncTicks])
def test_a_periodic_agent_beats_for_the_moment_at_which_its_next_round_is_due(kind: type[BaseAgent]) -> None:
    before = time.monotonic()
    ended, beats, agent = run_beating(kind)
    due = beats.pop(3)
    assert beats == [None, -1.0, None, None]
    assert due is not None
    assert before + 3600.0 <= due <= time.monotonic() + 3600.0
    assert (ended.reason, agent.should_stop) == (NORMAL, False)
