"""How the ends of processes are told apart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.process_harness import Harness, is_alive, wait_until_gone
from orchestree_testing.used_agents import BURNT_S, burn_in_a_child

from orchestree.agents.agent import Agent
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunReady
from orchestree.agents.process.endings import LOST, Evidence, classify
from orchestree.agents.process.wire import End

pytestmark = pytest.mark.portable


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def call(harness: Harness, function: Callable[[Agent], object], **options: object) -> RunEnded:
    return harness.run(agents.Caller, function.__name__, params={"call": function, **options})


def report_of(ended: RunEnded) -> CrashReport:
    assert ended.report is not None
    return ended.report


def test_a_killed_process_is_an_abnormal_end_by_its_signal(harness: Harness) -> None:
    run, pid = harness.start_ready(agents.Sleeper, "killed from outside")
    os.kill(pid, signal.SIGKILL)
    ended, report = harness.ended(run), report_of(harness.ended(run))
    assert ended.reason == abnormal(Cause.SIGNAL)
    assert (report.signal, report.message) == ("SIGKILL", "killed by SIGKILL (possibly out of memory)")
    assert (report.pid, report.exit_code, report.phase) == (pid, None, "execute")
    assert report.uptime_s > 0


@pytest.mark.parametrize(
    ("function", "name"), [(agents.crash, "SIGSEGV"), (agents.die_of_a_nameless_signal, "signal 37")]
)
def test_a_process_that_crashes_is_an_abnormal_end_by_its_signal(
    harness: Harness, function: Callable[[Agent], object], name: str
) -> None:
    ended = call(harness, function)
    assert ended.reason == abnormal(Cause.SIGNAL)
    assert report_of(ended).signal == name


@pytest.mark.parametrize(("function", "code"), [(agents.exit_with_3, 3), (agents.leave_with_7, 7)])
def test_a_non_zero_exit_is_an_abnormal_end_with_its_code(
    harness: Harness, function: Callable[[Agent], object], code: int
) -> None:
    ended = call(harness, function)
    assert ended.reason == abnormal(Cause.EXIT)
    assert report_of(ended).exit_code == code


def test_an_exit_with_code_0_is_a_normal_end(harness: Harness) -> None:
    ended = call(harness, agents.leave_with_0)
    assert (ended.reason, ended.report) == (NORMAL, None)


def test_the_phase_of_a_process_that_never_became_ready_is_setup(harness: Harness) -> None:
    class Crasher(agents.Sleeper):
        def setup(self) -> None:
            os.abort()  # a signal to the process as a whole may strike another thread of it, while this one goes on

    report = report_of(harness.run(Crasher, "crasher"))
    assert (report.phase, report.signal) == ("setup", "SIGABRT")


def test_a_stop_wakes_both_families_of_agents(harness: Harness) -> None:
    for agent in (agents.Sleeper, agents.AsyncSleeper):
        run, _ = harness.start_ready(agent, agent.__name__)
        harness.stop(run)
        assert harness.ended(run).result == "asked to stop"


def test_a_stop_that_comes_before_the_process_is_there_is_not_lost(harness: Harness) -> None:
    launch = harness.launch(agents.Sleeper, "stopped at once")

    def start_and_stop() -> None:
        harness.inner.start(launch)
        harness.inner.ask_stop(launch.run)

    harness.host.call(start_and_stop)
    assert harness.ended(launch.run).reason == NORMAL


def test_kill_ends_a_process_that_does_not_handle_sigterm_at_once(harness: Harness) -> None:
    run, pid = harness.start_ready(agents.Sleeper, "killed")
    harness.kill(run)
    assert report_of(harness.ended(run)).signal == "SIGTERM"
    wait_until_gone(pid)


def test_kill_reaches_a_process_that_is_not_there_yet(harness: Harness) -> None:
    launch = harness.launch(agents.Sleeper, "killed at once")

    def start_and_kill() -> None:
        harness.inner.start(launch)
        harness.inner.kill(launch.run)

    harness.host.call(start_and_kill)
    assert report_of(harness.ended(launch.run)).signal == "SIGKILL"


def test_kill_and_stop_of_an_unknown_run_are_ignored(harness: Harness) -> None:
    run = RunId("nobody", 1)
    harness.kill(run)
    harness.stop(run)
    assert not harness.host.of(RunEnded, run)


def test_a_result_of_any_size_arrives(harness: Harness) -> None:
    value = {"bytes": b"x" * 5_000_000, "settings": agents.Settings}
    assert harness.run(agents.Returner, "large", params={"value": value}).result == value


def test_a_result_that_cannot_be_pickled_is_noted_and_fails_nothing(harness: Harness) -> None:
    ended = call(harness, agents.make_something_unpicklable)
    assert (ended.reason, ended.result) == (NORMAL, None)
    assert report_of(ended).notes == ("result: TypeError: cannot pickle 'generator' object",)


def test_a_result_that_cannot_be_unpickled_is_noted_and_fails_nothing(harness: Harness) -> None:
    ended = harness.run(agents.Caller, "unreadable", params={"call": lambda agent: agents.Unreadable()})
    assert (ended.reason, ended.result) == (NORMAL, None)
    assert report_of(ended).notes == ("result: LookupError: no such drawer",)


def test_params_that_cannot_be_unpickled_are_a_failed_start(harness: Harness) -> None:
    ended = harness.run(agents.Returner, "unreadable params", params={"value": agents.Unreadable()})
    assert ended.reason == abnormal(Cause.START_FAILED)
    assert report_of(ended).message == "LookupError: no such drawer"


def test_a_process_that_does_not_exit_after_its_last_hook_is_killed_and_keeps_its_end(harness: Harness) -> None:
    ended = harness.run(agents.Caller, "lingers", params={"call": agents.leave_a_thread_behind}, shutdown_s=0.05)
    assert (ended.reason, ended.result) == (NORMAL, "done")
    assert report_of(ended).notes == ("it did not exit after its last hook and was killed",)


def test_messages_are_reported_before_the_end(harness: Harness) -> None:
    run = harness.start(agents.Caller, "talker", params={"call": agents.emit_and_die})
    harness.ended(run)
    of_the_run = [report for report in harness.host.reports if report.run == run]
    assert isinstance(of_the_run[-1], RunEnded)
    numbers = [report.data["number"] for report in harness.host.of(RunMessage, run)]
    assert numbers == list(range(100))


def test_a_grandchild_in_a_session_of_its_own_is_gone_when_the_end_is_reported(harness: Harness) -> None:
    params = {"call": agents.start_a_grandchild, "own session": True, "die": True}
    run = harness.start(agents.Caller, "holder", params=params)
    pid = harness.host.wait_message(run, "grandchild").data["pid"]
    assert isinstance(pid, int)
    assert report_of(harness.ended(run)).signal == "SIGKILL"
    assert not is_alive(pid)


@pytest.mark.parametrize("function", [agents.start_a_grandchild, agents.start_a_program])
def test_what_an_agent_leaves_in_its_process_group_ends_with_it(
    harness: Harness, function: Callable[[Agent], object]
) -> None:
    pid = call(harness, function).result
    assert isinstance(pid, int)
    wait_until_gone(pid)


def test_a_start_that_fails_in_the_orchestrator_is_a_failed_start(harness: Harness) -> None:
    launch = harness.launch(agents.Returner, "cannot be sent", params={"value": (letter for letter in "abc")})
    harness.host.call(lambda: harness.inner.start(launch))
    ended = harness.ended(launch.run)
    assert ended.reason == abnormal(Cause.START_FAILED)
    assert "generator" in report_of(ended).message


def test_many_processes_start_at_once(harness: Harness) -> None:
    launches = [harness.launch(agents.Sleeper, f"many-{number}") for number in range(40)]
    for launch in launches:
        harness.host.loop.call_soon_threadsafe(harness.inner.start, launch)
    for launch in launches:
        harness.host.wait(RunReady, launch.run)
    for launch in launches:
        harness.kill(launch.run)
    for launch in launches:
        assert report_of(harness.ended(launch.run)).signal == "SIGTERM"


def evidence(end: End | None, status: int | None, *, cut_off: bool = False) -> Evidence:
    return Evidence(run=RunId("a", 1), pid=7, ready=True, end=end, status=status, cut_off=cut_off, uptime_s=1.0)


def test_a_bad_exit_after_good_last_words_is_a_failure() -> None:
    end = End(SHUTDOWN, None, b"N.")
    assert classify(evidence(end, 3 << 8)).reason == abnormal(Cause.EXIT)
    assert classify(evidence(end, signal.SIGSEGV)).reason == abnormal(Cause.SIGNAL)
    assert classify(evidence(end, 0)).reason == SHUTDOWN


def test_a_bad_exit_never_hides_the_failure_before_it() -> None:
    report = CrashReport(cause=Cause.EXCEPTION, message="ValueError")
    ended = classify(evidence(End(abnormal(Cause.EXCEPTION), report, b"N."), signal.SIGSEGV))
    assert ended.reason == abnormal(Cause.EXCEPTION)
    assert report_of(ended).notes == ("then killed by SIGSEGV",)


def test_a_process_without_a_status_is_lost_unless_it_had_said_its_last_words() -> None:
    assert report_of(classify(evidence(None, None))).message == LOST
    assert classify(evidence(None, None)).reason == abnormal(Cause.LOST)
    assert classify(evidence(End(NORMAL, None, b"N."), None)).reason == NORMAL


def test_exit_functions_that_an_agent_registers_are_called(harness: Harness, tmp_path: Path) -> None:
    params = {"call": agents.leave_a_word_at_exit, "file": tmp_path / "word"}
    assert harness.run(agents.Caller, "registers", params=params).reason == NORMAL
    assert (tmp_path / "word").read_text() == "bye"


def test_nothing_is_imported_between_the_fork_and_the_agent(harness: Harness) -> None:
    assert harness.run(agents.Caller, "imports", params={"call": agents.latest_import}).result == agents.__name__


def test_an_end_says_how_much_processor_time_the_process_and_its_children_took(harness: Harness) -> None:
    ended = call(harness, burn_in_a_child)
    assert BURNT_S <= ended.cpu_s < 100 * BURNT_S


def test_an_end_without_a_fork_server_to_say_so_has_no_processor_time() -> None:
    known = Evidence(
        run=RunId("a", 1), pid=7, ready=True, end=None, status=None, cut_off=False, uptime_s=1.0, cpu_s=0.0
    )
    assert classify(known).cpu_s == 0.0
    assert classify(replace(known, status=0, cpu_s=2.5)).cpu_s == 2.5
    said = End(NORMAL, None, b"")
    assert classify(replace(known, end=said, status=0, cpu_s=2.5)).cpu_s == 2.5
