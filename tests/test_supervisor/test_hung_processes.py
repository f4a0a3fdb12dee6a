"""Watchdogs and start timeouts of real process agents: what hangs leaves its stacks and is replaced, nobody else is."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pytest
from orchestree_testing import hanging_agents as hanging
from orchestree_testing.process_agents import hang_with_a_thread, hold_the_lock, ignore_signals_and_hang
from orchestree_testing.process_harness import is_alive, wait_until_gone
from orchestree_testing.trees import FAST, PATIENCE, a_tree, types, wait_for

from orchestree.agents.ends import CrashReport, abnormal
from orchestree.supervisor import AgentCrashed, AgentHung, AgentRestarting, Event, EventType, Orchestrator
from orchestree.supervisor.events import AgentStopping

E = EventType
LIMIT: Final = 0.3
"""The watchdog of those that hang, and their start timeout."""
PATIENT: Final = 1.0
"""A watchdog long enough for a machine that is busy; whoever is watched by it acts much more often."""
NEIGHBOUR: Final = "neighbour"
STOPPED: Final = "a signal had stopped the process, so there are no stacks"
numbered: Final = count(1)

HUNG: Final = [
    E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_HUNG, E.AGENT_STOPPING, E.AGENT_CRASHED,
    E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY,
]  # fmt: skip
NOT_READY: Final = [
    E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_STOPPING, E.AGENT_CRASHED, E.AGENT_RESTARTING, E.AGENT_STARTING,
    E.AGENT_READY,
]  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Orchestrator]:
    """A tree that runs, as a fork server takes its time to start."""
    tree = a_tree()
    tree.register_agent(hanging.Rounds, NEIGHBOUR, executor="process", watchdog=10 * PATIENT)
    with tree:
        yield tree


@pytest.fixture
def tree(shared: Orchestrator) -> Iterator[Orchestrator]:
    """That tree; one other agent of it goes on whatever a test does."""
    yield shared
    assert shared.status(NEIGHBOUR).incarnation == 1
    for status in shared.which_children():
        if status.path != NEIGHBOUR:
            shared.stop_agent(status.path, timeout=PATIENCE)


def start(tree: Orchestrator, kind: Any, hang: Any = None, **fields: Any) -> str:
    """Register a process agent that comes back at once; return its path."""
    name = f"agent-{next(numbered)}"
    params = {"hang": hang} if hang is not None else {}
    tree.register_agent(kind, name, executor="process", params=params, **{**FAST, **fields})
    return name


def after_hanging(tree: Orchestrator, path: str, expected: list[EventType] = HUNG) -> tuple[CrashReport, dict[E, Any]]:
    """Return the report of an agent that hung once and is back, and the data of its first event of each type."""
    wait_for(tree, E.AGENT_READY, path, count=sum(type is E.AGENT_READY for type in expected))
    found = [type for type in types(tree, path) if type is not E.AGENT_MESSAGE]
    assert found[: len(expected)] == expected
    told = {type: wait_for(tree, type, path).data for type in set(expected)}
    crashed, restarting = told[E.AGENT_CRASHED], told[E.AGENT_RESTARTING]
    assert isinstance(crashed, AgentCrashed)
    assert isinstance(restarting, AgentRestarting)
    assert (restarting.cause, restarting.attempt) == ("failure", 1)
    report = crashed.report
    assert crashed.reason == abnormal(report.cause)
    assert report.pid is not None
    wait_until_gone(report.pid)
    assert tree.status(path).pid not in (None, report.pid)
    return report, told


def expect_hung(told: dict[E, Any], doing: str = hanging.DOING) -> AgentHung:
    """Check what was said of an agent when it was found hung, and return it."""
    hung, stopping = told[E.AGENT_HUNG], told[E.AGENT_STOPPING]
    assert isinstance(hung, AgentHung)
    assert isinstance(stopping, AgentStopping)
    assert stopping.cause == "watchdog"
    assert (hung.doing, hung.watchdog_s) == (doing, LIMIT)
    assert hung.silent_s >= 0.99 * LIMIT
    return hung


def is_alive_after(event: Event, since: Event, seconds: float) -> bool:
    """Whether the event is a message by which an agent says that it lives, so long after another event."""
    data: Any = event.data
    return bool(data.name == "alive" and data.data["at"] >= since.monotonic + seconds)


def expect_it_goes_on(tree: Orchestrator, path: str, seconds: float) -> None:
    """Return when the agent's first incarnation has told that it is alive so long after it became ready."""
    ready = wait_for(tree, E.AGENT_READY, path)
    event = tree.events.wait_for(
        [E.AGENT_MESSAGE, E.AGENT_CRASHED],
        path,
        where=lambda event: event.type is E.AGENT_CRASHED or is_alive_after(event, ready, seconds),
        since=0,
        timeout=PATIENCE,
    )
    assert (event.type, event.incarnation) == (E.AGENT_MESSAGE, 1)
    assert E.AGENT_HUNG not in types(tree, path)


# Hung:


def test_one_that_waits_for_ever_is_killed_with_the_stacks_of_its_threads_and_comes_back(tree: Orchestrator) -> None:
    path = start(tree, hanging.Hangs, hang_with_a_thread, watchdog=LIMIT)
    report, told = after_hanging(tree, path)
    hung = expect_hung(told)
    assert (report.cause, report.phase, report.signal) == ("watchdog", "execute", "SIGABRT")
    assert report.message == f"no progress for {round(hung.silent_s, 2):g} s (watchdog 0.3 s)"
    assert "in hang_with_a_thread" in report.stacks
    assert "in wait_for_ever" in report.stacks
    assert "in wait" in report.stacks  # the other thread
    assert (report.progress, report.output, report.notes) == (hanging.DOING, hanging.LINES, ())
    assert report.silent_s is not None
    assert report.silent_s >= hung.silent_s
    assert report.uptime_s >= LIMIT
    assert report.max_memory is not None
    assert report.decision == "restart"
    assert (tree.status(path).last_crash or report).stacks == report.stacks


def test_one_that_computes_in_c_and_holds_the_interpreter_lock_is_found_and_shows_where(tree: Orchestrator) -> None:
    report, told = after_hanging(tree, start(tree, hanging.Hangs, hold_the_lock, watchdog=LIMIT))
    expect_hung(told)
    assert (report.cause, report.signal) == ("watchdog", "SIGABRT")
    assert "in hold_the_lock" in report.stacks
    assert (report.progress, report.output) == (hanging.DOING, hanging.LINES)


def test_one_that_ignores_sigabrt_has_no_stacks_and_is_replaced_all_the_same(tree: Orchestrator) -> None:
    report, told = after_hanging(tree, start(tree, hanging.Hangs, ignore_signals_and_hang, watchdog=LIMIT))
    expect_hung(told)
    assert (report.cause, report.signal, report.stacks) == ("watchdog", "SIGKILL", "")
    assert (report.progress, report.output, report.notes) == (hanging.DOING, hanging.LINES, ())


def test_one_that_a_signal_has_stopped_is_replaced_and_the_report_says_why_there_are_no_stacks(
    tree: Orchestrator,
) -> None:
    report, told = after_hanging(tree, start(tree, hanging.Hangs, hanging.stop_itself, watchdog=LIMIT))
    expect_hung(told)
    assert (report.cause, report.signal, report.stacks, report.notes) == ("watchdog", "SIGKILL", "", (STOPPED,))
    assert (report.progress, report.output) == (hanging.DOING, hanging.LINES)


def test_one_that_somebody_else_has_stopped_is_hung_as_well(tree: Orchestrator) -> None:
    path = start(tree, hanging.Beats, watchdog=LIMIT)
    tree.events.wait_for(E.AGENT_MESSAGE, path, since=0, timeout=PATIENCE)
    os.kill(tree.status(path).pid or 0, signal.SIGSTOP)
    report, told = after_hanging(tree, path)
    expect_hung(told, doing="")
    assert (report.cause, report.signal, report.stacks, report.notes) == ("watchdog", "SIGKILL", "", (STOPPED,))


@pytest.mark.parametrize(
    ("kind", "function"), [(hanging.BlocksItsLoop, "wait_for_ever"), (hanging.AwaitsForEver, "run_forever")]
)
def test_an_async_agent_that_blocks_its_loop_or_awaits_for_ever_shows_where_the_loop_is(
    tree: Orchestrator, kind: Any, function: str
) -> None:
    report, told = after_hanging(tree, start(tree, kind, watchdog=LIMIT))
    expect_hung(told)
    assert (report.cause, report.signal) == ("watchdog", "SIGABRT")
    assert f"in {function}" in report.stacks
    assert (report.progress, report.output) == (hanging.DOING, hanging.LINES)


@pytest.mark.parametrize("shutdown", ["brutal_kill", "infinity", 60.0])
def test_a_hung_process_has_its_stacks_and_no_time_whatever_its_shutdown_is(tree: Orchestrator, shutdown: Any) -> None:
    path = start(tree, hanging.Hangs, hang_with_a_thread, watchdog=LIMIT, shutdown=shutdown)
    report, _ = after_hanging(tree, path)
    assert (report.cause, report.signal) == ("watchdog", "SIGABRT")
    assert "in hang_with_a_thread" in report.stacks


def test_one_that_hangs_in_teardown_is_hung_as_well(tree: Orchestrator) -> None:
    report, told = after_hanging(tree, start(tree, hanging.HangsInTeardown, watchdog=LIMIT))
    expect_hung(told)
    assert (report.cause, report.signal) == ("watchdog", "SIGABRT")
    assert "in teardown" in report.stacks


def test_what_a_hung_process_has_started_goes_with_it(tree: Orchestrator) -> None:
    path = start(tree, hanging.Hangs, hanging.hang_with_a_child, watchdog=LIMIT)
    after_hanging(tree, path)
    data: Any = wait_for(tree, E.AGENT_MESSAGE, path).data
    assert data.name == "child"
    assert not is_alive(data.data["pid"])


@pytest.mark.parametrize("kind", [hanging.HangsInSetup, hanging.AsyncHangsInSetup])
def test_one_that_hangs_in_setup_crashes_by_its_start_timeout_with_stacks(tree: Orchestrator, kind: Any) -> None:
    report, told = after_hanging(tree, start(tree, kind, start_timeout=LIMIT), NOT_READY)
    assert (report.cause, report.phase, report.signal) == ("start_timeout", "setup", "SIGABRT")
    assert told[E.AGENT_STOPPING].cause == "start_timeout"
    assert "in wait_for_ever" in report.stacks
    assert "in setup" in report.stacks
    assert (report.progress, report.output) == (hanging.DOING, hanging.LINES)


@pytest.mark.slow
def test_one_that_hangs_again_and_again_is_replaced_each_time(tree: Orchestrator) -> None:
    path = start(tree, hanging.HangsAlways, watchdog=LIMIT, shutdown="brutal_kill")
    pids = set()
    for number in range(1, 6):
        event = wait_for(tree, E.AGENT_CRASHED, path, count=number)
        assert isinstance(event.data, AgentCrashed)
        report = event.data.report
        assert (event.incarnation, report.cause, report.occurrence) == (number, "watchdog", number)
        assert report.stacks.count("in wait_for_ever") == 1
        pids.add(report.pid)
    assert len(pids) == 5


# Not hung:


@pytest.mark.slow
def test_heartbeats_and_rounds_keep_process_agents_alive(tree: Orchestrator) -> None:
    kinds = (hanging.Beats, hanging.AsyncBeats, hanging.Rounds, hanging.AsyncRounds, hanging.PeriodicRounds)
    for path in [start(tree, kind, watchdog=PATIENT) for kind in kinds]:
        expect_it_goes_on(tree, path, 2.5 * PATIENT)


@pytest.mark.slow
def test_periodic_agents_whose_rounds_are_further_apart_than_their_watchdog_are_never_hung(tree: Orchestrator) -> None:
    for path in [
        start(tree, kind, watchdog=LIMIT, restart="transient") for kind in (hanging.Rarely, hanging.AsyncRarely)
    ]:
        wait_for(tree, E.AGENT_TERMINATED, path)
        assert [type for type in types(tree, path) if type is not E.AGENT_MESSAGE] == [
            E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_TERMINATED,
        ]  # fmt: skip
        assert types(tree, path).count(E.AGENT_MESSAGE) == hanging.FEW_ROUNDS


def stop_and_continue(tree: Orchestrator, path: str, warnings: queue.SimpleQueue[str]) -> None:
    """Have a signal stop the process of the agent, and another continue it as soon as supervision has seen that."""
    pid = tree.status(path).pid or 0
    for number, text in ((signal.SIGSTOP, "a signal has stopped it"), (signal.SIGCONT, "it goes on")):
        os.kill(pid, number)
        while not warnings.get(timeout=PATIENCE).endswith(f"{path}: {text}"):
            pass


@pytest.mark.slow
def test_one_that_was_stopped_and_continued_in_time_is_not_hung(
    tree: Orchestrator, warnings: queue.SimpleQueue[str]
) -> None:
    path = start(tree, hanging.Beats, watchdog=PATIENT)
    wait_for(tree, E.AGENT_READY, path)
    for _ in range(5):
        stop_and_continue(tree, path, warnings)
    expect_it_goes_on(tree, path, 2.5 * PATIENT)


@pytest.mark.slow
def test_one_that_was_stopped_and_continued_and_then_hangs_has_stacks(
    tree: Orchestrator, warnings: queue.SimpleQueue[str]
) -> None:
    path = start(tree, hanging.Hangs, hang_with_a_thread, watchdog=PATIENT)
    tree.events.wait_for(E.AGENT_MESSAGE, path, since=0, timeout=PATIENCE)
    stop_and_continue(tree, path, warnings)
    report, _ = after_hanging(tree, path)
    assert (report.cause, report.signal, report.notes) == ("watchdog", "SIGABRT", ())
    assert "in hang_with_a_thread" in report.stacks


def test_one_that_is_done_and_only_takes_its_time_to_exit_is_not_hung(tree: Orchestrator) -> None:
    since = tree.events.latest
    tree.register_agent(hanging.Lingers, "lingers", executor="process", watchdog=0.3)
    tree.events.wait_for(
        [EventType.AGENT_TERMINATED, EventType.AGENT_RESTARTING], "lingers", since=since, timeout=PATIENCE
    )
    assert tree.status("lingers").result == "done"
    assert tree.status("lingers").incarnation == 1
