"""The driver alone and with executors and a core that break their promises."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from orchestree_testing.trees import (
    FAST,
    PATIENCE,
    AsyncDoes,
    Switch,
    a_tree,
    add,
    crash,
    threads_left,
    types,
    wait_for,
)

from orchestree.agents import Agent
from orchestree.agents.ends import NORMAL
from orchestree.agents.executor import KeepMetrics, Launch, RunEnded, RunId, RunMessage, RunReady
from orchestree.agents.executors.thread import ThreadExecutor
from orchestree.agents.inbox import Inbox
from orchestree.agents.metric_data import MetricBatch, MetricsOfRun
from orchestree.supervisor import AgentState, EventType, Orchestrator, SpecError
from orchestree.supervisor.core import Core
from orchestree.supervisor.cpu_book import EndedCpu
from orchestree.supervisor.driver import Driver
from orchestree.supervisor.events import LeakFound, ServiceFailed
from orchestree.supervisor.inputs import Effect, Input, RestartChild, StopChild
from orchestree.supervisor.message_gate import MAX_PENDING_MESSAGES, MessageGate
from orchestree.supervisor.world import Settings, World

E = EventType


class BrokenExecutor(ThreadExecutor):
    """Raises where it must not, for the agents whose name says so."""

    def prepare(self, agents: list[Launch]) -> None:
        if any(launch.run.path == "unpreparable" for launch in agents):
            raise SpecError("unpreparable: no such module")

    def start(self, launch: Launch) -> None:
        if launch.run.path == "bad-start" and launch.run.incarnation == 1:
            raise OSError("out of threads")
        super().start(launch)

    def ask_stop(self, run: RunId) -> None:
        super().ask_stop(run)
        if run.path == "bad-stop":
            raise OSError("cannot ask")

    def close(self) -> None:
        super().close()
        raise OSError("cannot close")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestree.supervisor.executor_set.executor_class", lambda name: BrokenExecutor)


def services(tree: Orchestrator) -> list[ServiceFailed]:
    return [event.data for event in tree.history(type=E.SERVICE_FAILED) if isinstance(event.data, ServiceFailed)]


@pytest.mark.usefixtures("broken")
def test_an_executor_that_raises_in_start_is_a_failed_start_of_that_run_only() -> None:
    tree = a_tree()
    add(tree, "bad-start", backoff=None)
    add(tree, "good")
    with tree:
        wait_for(tree, E.AGENT_READY, "bad-start")
        wait_for(tree, E.SERVICE_FAILED)
        assert tree.status("bad-start").incarnation == 2
        last_crash = tree.status("bad-start").last_crash
        assert last_crash is not None
        assert (last_crash.cause, last_crash.message) == ("start_failed", "OSError: out of threads")
        assert tree.status("good").state is AgentState.READY
        assert "out of threads" in services(tree)[0].error
    assert tree.exit_code == 0


@pytest.mark.usefixtures("broken")
def test_an_executor_that_raises_when_it_is_to_stop_a_run_does_not_stop_the_stop() -> None:
    tree = a_tree()
    add(tree, "good")
    add(tree, "bad-stop")
    with tree:
        tree.stop_agent("bad-stop")
        wait_for(tree, E.SERVICE_FAILED, "bad-stop")
        tree.start_agent("bad-stop")
    assert tree.exit_code == 0
    assert types(tree, "good")[-1] is E.AGENT_TERMINATED


@pytest.mark.usefixtures("broken")
def test_a_preparation_that_fails_has_started_nothing_and_can_be_tried_again() -> None:
    tree = a_tree()
    seen: list[EventType] = []
    tree.events.subscribe(lambda event: seen.append(event.type))
    add(tree, "a")
    add(tree, "unpreparable")
    before = threading.enumerate()
    with pytest.raises(SpecError, match="no such module"):
        tree.start()
    assert not tree.is_running
    tree.unregister_agent("unpreparable")
    with tree:
        assert tree.status("a").incarnation == 1
    assert seen[0] is E.ORCHESTRATOR_STARTED
    assert threads_left(before) == []


def test_what_looks_before_an_input_sees_the_tree_that_the_core_decides_on() -> None:
    tree = a_tree()
    add(tree, "a")
    seen: list[AgentState] = []

    def look(world: World) -> None:
        seen.append(world.nodes["a"].state)

    is_held, let_go = threading.Event(), threading.Event()

    def hold(world: World) -> bool:
        is_held.set()
        return let_go.wait(PATIENCE)

    with tree:
        tree.driver.when(hold)
        assert is_held.wait(PATIENCE)
        accepted = [tree.driver.submit(StopChild("a", True), before=look) for _ in range(2)]
        let_go.set()
        for future in accepted:
            future.result(PATIENCE)
    assert seen == [AgentState.READY, AgentState.STOPPING]


class BrokenCore(Core):
    """Raises, after it has decided, whenever it is told to restart ``a``, and at the first crash."""

    broken = False
    error: BaseException

    def handle(self, event: Input, now: float) -> list[Effect]:
        effects = super().handle(event, now)
        if isinstance(event, RestartChild) or (isinstance(event, RunEnded) and not self.broken):
            self.broken = True
            self.world.out = effects
            raise self.error
        return effects


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ZeroDivisionError("a bug of ours"), ZeroDivisionError),
        (KeyboardInterrupt("a bug of ours"), RuntimeError),
        (asyncio.CancelledError("a bug of ours"), RuntimeError),
    ],
    ids=["error", "interrupt", "cancelled"],
)
def test_a_bug_in_the_core_is_shown_and_the_tree_lives(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[Exception]
) -> None:
    monkeypatch.setattr("orchestree.supervisor.orchestrator.Core", BrokenCore)
    monkeypatch.setattr(BrokenCore, "error", error, raising=False)
    tree = a_tree()
    switch = Switch()
    add(tree, "a", **switch.hooks(), backoff=None)
    with tree:
        switch.throw()
        wait_for(tree, E.SERVICE_FAILED)
        wait_for(tree, E.AGENT_READY, "a", count=2)
        with pytest.raises(raised):
            tree.restart_agent("a", PATIENCE)
        wait_for(tree, E.SERVICE_FAILED, count=2)
        assert all("a bug of ours" in failed.error for failed in services(tree))
        tree.stop_agent("a", PATIENCE)
    assert tree.exit_code == 0


def test_what_comes_after_the_end_is_ignored() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        pass
    latest, driver = tree.events.latest, tree.driver
    run = RunId("a", 1)
    for report in (RunReady(run), RunMessage(run, "late", {}), RunEnded(run=run, reason=NORMAL)):
        driver.report(report)
    driver.emit_soon(ServiceFailed("late", "late"))
    assert tree.events.latest == latest
    assert tree.history()[-1].type is E.ORCHESTRATOR_STOPPED


def test_reports_of_an_old_incarnation_are_ignored() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        tree.restart_agent("a")
        old = RunId("a", 1)
        for report in (RunReady(old), RunMessage(old, "late", {}), RunEnded(run=old, reason=NORMAL)):
            tree.driver.report(report)
        tree.restart_agent("a")
        assert tree.history("a", E.AGENT_MESSAGE) == []
        assert tree.status("a").incarnation == 3


def test_the_gate_lets_in_a_bounded_number_and_counts_the_rest_once() -> None:
    gate = MessageGate()
    assert all(gate.enter() for _ in range(MAX_PENDING_MESSAGES))
    assert not gate.enter()
    assert gate.leave() == 0
    assert not gate.enter()
    answers = [gate.leave() for _ in range(MAX_PENDING_MESSAGES - 1)]
    assert (sum(answers), answers[-1]) == (2, 2)
    assert gate.enter()
    assert gate.leave() == 0


@pytest.mark.slow
def test_no_post_into_a_loop_is_overlooked_however_many_threads_post() -> None:
    loop = asyncio.new_event_loop()
    inbox = Inbox(loop)
    done: list[int] = []
    per_thread = 5_000

    def act(number: int) -> None:
        done.append(number)
        if len(done) == 4 * per_thread:
            loop.stop()

    def post(first: int) -> None:
        for number in range(first, first + per_thread):
            inbox.post(lambda number=number: act(number))  # type: ignore[misc]

    threads = [threading.Thread(target=post, args=(index * per_thread,)) for index in range(4)]
    for thread in threads:
        thread.start()
    loop.call_later(PATIENCE, loop.stop)
    loop.run_forever()
    loop.close()
    assert sorted(done) == list(range(4 * per_thread))


def test_an_action_that_raises_does_not_hold_up_those_behind_it() -> None:
    loop = asyncio.new_event_loop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))
    inbox = Inbox(loop)
    inbox.post(lambda: [][0])
    inbox.post(loop.stop)
    loop.call_later(PATIENCE, loop.stop)
    loop.run_forever()
    loop.close()
    assert [type(error) for error in failures] == [IndexError]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    threads, before = threading.enumerate(), descriptors()
    yield
    gc.collect()
    assert threads_left(threads) == []
    assert descriptors() <= before


@pytest.mark.usefixtures("nothing_is_left")
def test_a_stopped_tree_leaves_no_thread_and_no_descriptor() -> None:
    for _ in range(3):
        tree = a_tree(max_workers=3)
        tree.events.subscribe(lambda event: None)
        add(tree, "a", on_stop=lambda agent: None)
        add(tree, "b", kind=AsyncDoes)
        add(tree, "c", crash, **FAST)
        with tree:
            wait_for(tree, E.AGENT_CRASHED, "c", count=5)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_tree_that_was_never_started_costs_no_thread_and_no_descriptor() -> None:
    threads = set(threading.enumerate())
    tree = a_tree()
    add(tree, "a")
    tree.status("a")
    tree.check()
    tree.events.subscribe(lambda event: None)
    assert set(threading.enumerate()) <= threads


@pytest.mark.usefixtures("nothing_is_left")
def test_a_start_that_fails_leaves_nothing_behind() -> None:
    tree = a_tree()
    add(tree, "a", depends_on=["b"])
    with pytest.raises(SpecError):
        tree.start()


@pytest.mark.usefixtures("nothing_is_left")
def test_the_thread_of_a_wedged_agent_ends_when_it_can() -> None:
    tree = a_tree()
    go_on, ended = threading.Event(), threading.Event()

    def wedge(agent: Agent) -> None:
        go_on.wait(PATIENCE)
        ended.set()

    add(tree, "a", wedge, shutdown="brutal_kill")
    before = threading.enumerate()
    with tree:
        pass
    go_on.set()
    assert ended.wait(PATIENCE)
    assert threads_left(before) == []


def test_what_a_run_has_left_behind_and_cannot_be_ended_is_an_event_before_its_end() -> None:
    tree = a_tree()
    add(tree, "leaky", lambda agent: agent.sleep(3600))
    with tree:
        before = tree.events.latest
        tree.driver.report(RunEnded(run=RunId("leaky", 1), reason=NORMAL, survivors=(12, 17)))
        tree.events.wait_for(E.AGENT_TERMINATED, "leaky", since=before, timeout=PATIENCE)
        events = tree.history(path="leaky", since=before)
        assert [event.type for event in events] == [E.LEAK_FOUND, E.AGENT_TERMINATED]
        assert events[0].data == LeakFound((12, 17))


def test_a_probe_has_the_loop_tell_how_long_it_took_to_turn() -> None:
    lags, entered, go_on = queue.SimpleQueue[float](), threading.Event(), threading.Event()
    core = Core(a_tree().config.root_entry(()), Settings())
    driver = Driver(core, lambda event: None, on_lag=lags.put)
    driver.start()
    driver.probe()
    assert lags.get(timeout=PATIENCE) >= 0.0

    def block() -> None:
        entered.set()
        assert go_on.wait(PATIENCE)

    driver.call(block)
    assert entered.wait(PATIENCE)
    driver.probe()
    began = time.monotonic()
    gc.collect()  # whatever takes a moment
    passed = time.monotonic() - began
    go_on.set()
    assert [lags.get(timeout=PATIENCE), lags.get(timeout=PATIENCE)][1] >= passed
    driver.shut()
    driver.ended.result(PATIENCE)


def test_launches_say_how_much_is_collected_of_what_agents_count(monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[Launch] = []

    class Recorder(ThreadExecutor):
        def start(self, launch: Launch) -> None:
            launches.append(launch)
            super().start(launch)

    monkeypatch.setattr("orchestree.supervisor.executor_set.executor_class", lambda name: Recorder)
    tree = a_tree()
    add(tree, "a")
    with tree:
        tree.driver.keep_metrics = cast(KeepMetrics, SimpleNamespace(series=7))
        tree.restart_agent("a", PATIENCE)
    assert [launch.metrics_series for launch in launches] == [0, 7]


def test_what_a_run_has_used_whose_agent_has_left_is_not_kept() -> None:
    with a_tree() as tree:
        tree.driver.report(RunEnded(run=RunId("nobody", 1), reason=NORMAL, cpu_s=1.0))
        tree.driver.call(lambda: None).result(PATIENCE)
        assert tree.driver.cpu.of("nobody") == EndedCpu()


class Forgetful:
    """Notes what it is to forget, and what was known of it to have started then."""

    series = 1

    def __init__(self) -> None:
        self.forgot: list[str] = []

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None: ...

    def leave(self, run: RunId, metrics: MetricsOfRun) -> None: ...

    def apply(self, run: RunId, batch: MetricBatch) -> None: ...

    def forget(self, path: str) -> None:
        self.forgot.append(path)


def test_what_agents_counted_is_forgotten_when_one_is_registered_and_when_it_has_left() -> None:
    tree = a_tree()
    add(tree, "before")
    with tree:
        tree.driver.keep_metrics = kept = Forgetful()
        add(tree, "a")
        assert kept.forgot == ["a"]
        tree.restart_agent("a")
        tree.stop_agent("a")
        assert kept.forgot == ["a"]
        tree.unregister_agent("a")
        add(tree, "b", restart="temporary")
        tree.stop_agent("b")
        assert kept.forgot == ["a", "a", "b"], "its outcome is remembered"
        add(tree, "b")
        assert kept.forgot == ["a", "a", "b", "b"]


def test_readers_see_an_agent_before_its_first_run_can_do_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Looking(ThreadExecutor):
        def start(self, launch: Launch) -> None:
            seen.append(launch.run.path in cast(Driver, self._host).snapshots)
            super().start(launch)

    monkeypatch.setattr("orchestree.supervisor.executor_set.executor_class", lambda name: Looking)
    tree = a_tree()
    add(tree, "static")
    with tree:
        add(tree, "later")
        wait_for(tree, E.AGENT_READY, "later")
    assert seen == [True, True]
