"""What every executor promises, run against each of them.

A skip names the row of the table "What carries over to Python" of the OTP comparison that says "no".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from typing import Any

import pytest
from orchestree_testing import agents
from orchestree_testing.host import RecordingHost

from orchestree.agents.agent import LoopingAgent
from orchestree.agents.async_agent import LoopingAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, abnormal
from orchestree.agents.executor import Executor, Launch, RunEnded, RunId, RunMessage, RunReady
from orchestree.agents.executors import executor_class

pytestmark = pytest.mark.portable

KINDS = {
    "thread": ("thread", ""),
    "async": ("async", "Async"),
    "process": ("process", ""),
    "async in a process": ("process", "Async"),
}
AVAILABLE = [kind for kind in KINDS if "process" not in kind or find_spec("orchestree.agents.executors.process")]
EXCEPTION, EXIT, START_FAILED = abnormal(Cause.EXCEPTION), abnormal(Cause.EXIT), abnormal(Cause.START_FAILED)


class Bench:
    """One executor with a host; every run gets a path of its own, every call is made where it ought to be."""

    def __init__(self, kind: str, host: RecordingHost) -> None:
        self.kind = kind
        name, self.family = KINDS[kind]
        self.host = host
        self.executor: Executor = executor_class(name)(host)
        self._numbers = count(1)

    def start(self, agent: str | type[BaseAgent] = "Scripted", run: RunId | None = None, /, **fields: Any) -> RunId:
        made = getattr(agents, self.family + agent) if isinstance(agent, str) else agent
        run = run or RunId(f"branch/agent-{next(self._numbers)}", 1)
        launch = Launch(run=run, agent=made, config=made.Config(**fields), params={"colour": "blue"})
        self.executor.check(launch)
        self.host.call(lambda: self.executor.prepare([launch]))
        self.host.call(lambda: self.executor.start(launch))
        return run

    def start_in(self, hook: str, **fields: str) -> RunId:
        """Start a scripted agent and return when `hook` runs."""
        run = self.start(**fields)
        self.host.wait_message(run, hook)
        return run

    def ask_stop(self, run: RunId) -> None:
        self.host.call(lambda: self.executor.ask_stop(run))

    def kill(self, run: RunId) -> None:
        self.host.call(lambda: self.executor.kill(run))

    def close(self) -> None:
        self.host.call(self.executor.close)

    def end_of(self, run: RunId) -> RunEnded:
        return self.host.wait(RunEnded, run)

    def report_of(self, run: RunId) -> CrashReport:
        report = self.end_of(run).report
        assert report is not None
        return report


@pytest.fixture(scope="module", params=AVAILABLE)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with RecordingHost().supervising() as host:
        made = Bench(request.param, host)
        yield made
        made.close()


@pytest.fixture
def own_bench(bench: Bench) -> Iterator[Bench]:
    """For tests that close the executor."""
    with RecordingHost().supervising() as host:
        made = Bench(bench.kind, host)
        yield made
        made.close()


def test_the_hooks_run_in_order_and_the_run_is_ready_before_it_ends(bench: Bench) -> None:
    run = bench.start()
    assert bench.host.trace(run) == ["setup", "execute", "teardown"]
    kinds = [type(report) for report in bench.host.reports if report.run == run]
    assert [kind for kind in kinds if kind is not RunMessage] == [RunReady, RunEnded]


def test_a_run_is_ready_when_setup_has_returned_and_not_before(bench: Bench) -> None:
    run = bench.start_in("setup", setup="sleep")
    assert bench.host.of(RunReady, run) == []
    other = bench.start(execute="sleep")
    bench.host.wait(RunReady, other)
    for each in (run, other):
        bench.ask_stop(each)
        bench.end_of(each)


def test_a_return_is_a_normal_end_with_its_result(bench: Bench) -> None:
    ended = bench.end_of(bench.start(execute="return harvest"))
    assert (ended.reason, ended.result, ended.report) == (NORMAL, "harvest", None)


def test_an_agent_that_answers_ignore_is_not_executed_but_torn_down(bench: Bench) -> None:
    run = bench.start(setup="ignore")
    assert bench.end_of(run).reason == IGNORED
    assert bench.end_of(run).report is None
    assert bench.host.of(RunReady, run) == []
    assert bench.host.trace(run) == ["setup", "teardown"]


def test_an_exception_is_an_abnormal_end_with_a_full_report(bench: Bench) -> None:
    run = bench.start(execute="raise sensor-7")
    ended, report = bench.end_of(run), bench.report_of(run)
    assert ended.reason == EXCEPTION
    assert (report.cause, report.phase) == (Cause.EXCEPTION, "execute")
    assert report.message == "SensorLost: sensor-7"
    assert report.exception_types[:3] == (
        "orchestree_testing.agents.SensorLost",
        "builtins.LookupError",
        "builtins.Exception",
    )
    assert report.uptime_s >= 0
    text = ended.details() if ended.details else report.traceback
    assert "in act" in text
    assert text.rstrip().endswith("SensorLost: sensor-7")


@pytest.mark.parametrize("action", ["interrupt", "cancel"])
def test_an_interrupt_or_a_cancellation_that_nobody_asked_for_is_an_exception(bench: Bench, action: str) -> None:
    run = bench.start(execute=action)
    assert bench.end_of(run).reason == EXCEPTION
    assert bench.host.trace(run)[-1] == "teardown"


def test_an_exception_without_a_text_is_reported_all_the_same(bench: Bench) -> None:
    run = bench.start(execute="raise-unspeakable")
    assert bench.end_of(run).reason == EXCEPTION
    assert bench.report_of(run).message.startswith("UnspeakableError")


@pytest.mark.parametrize("action", ["exit", "exit 0"])
def test_leaving_with_exit_code_0_is_a_normal_end(bench: Bench, action: str) -> None:
    run = bench.start(execute=action)
    assert bench.end_of(run).reason == NORMAL
    assert bench.host.trace(run)[-1] == "teardown"


@pytest.mark.parametrize(("action", "code"), [("exit 3", 3), ("exit disk-full", 1)])
def test_leaving_with_another_exit_code_or_a_text_is_an_abnormal_end(bench: Bench, action: str, code: int) -> None:
    run = bench.start(execute=action)
    assert bench.end_of(run).reason == EXIT
    report = bench.report_of(run)
    assert (report.cause, report.exit_code) == (Cause.EXIT, code)
    assert action.split()[1] in report.message
    assert bench.host.trace(run)[-1] == "teardown"


@pytest.mark.parametrize("hook", ["setup", "execute", "teardown"])
def test_raising_shutdown_is_an_end_by_the_agents_own_wish_and_no_failure(bench: Bench, hook: str) -> None:
    ended = bench.end_of(bench.start(**{hook: "shutdown"}))
    assert (ended.reason, ended.report) == (SHUTDOWN, None)


@pytest.mark.parametrize(("action", "code"), [("raise no-port", None), ("exit 78", 78), ("interrupt", None)])
def test_a_failing_setup_is_a_failed_start_that_is_torn_down(bench: Bench, action: str, code: int | None) -> None:
    run = bench.start(setup=action)
    assert bench.end_of(run).reason == START_FAILED
    report = bench.report_of(run)
    assert (report.cause, report.phase, report.exit_code) == (Cause.START_FAILED, "setup", code)
    assert bench.host.of(RunReady, run) == []
    assert bench.host.trace(run) == ["setup", "teardown"]


def test_an_agent_that_cannot_be_made_is_a_failed_start(bench: Bench) -> None:
    abstract = LoopingAsyncAgent if bench.family else LoopingAgent
    run = bench.start(abstract)
    assert bench.end_of(run).reason == START_FAILED
    assert "abstract" in bench.report_of(run).message


@pytest.mark.parametrize("execute", ["", "shutdown", "exit 0"])
def test_a_teardown_that_fails_alone_is_the_failure(bench: Bench, execute: str) -> None:
    run = bench.start(execute=execute, teardown="raise leak")
    assert bench.end_of(run).reason == EXCEPTION
    report = bench.report_of(run)
    assert (report.phase, report.message, report.notes) == ("teardown", "SensorLost: leak", ())


@pytest.mark.parametrize(("hook", "reason"), [("setup", START_FAILED), ("execute", EXCEPTION)])
def test_a_teardown_that_fails_too_is_a_note(bench: Bench, hook: str, reason: object) -> None:
    run = bench.start(**{hook: "raise first"}, teardown="raise second")
    assert bench.end_of(run).reason == reason
    report = bench.report_of(run)
    assert (report.phase, report.message) == (hook, "SensorLost: first")
    assert report.notes == ("teardown: SensorLost: second",)


def test_a_sleeping_agent_wakes_when_it_is_asked_to_stop(bench: Bench) -> None:
    run = bench.start_in("execute", execute="sleep")
    bench.ask_stop(run)
    ended = bench.end_of(run)
    assert (ended.reason, ended.result) == (NORMAL, True)


def test_on_stop_runs_once_beside_execute_and_can_unblock_it(bench: Bench) -> None:
    run = bench.start_in("execute", execute="block")
    for _ in range(3):
        bench.ask_stop(run)
    assert bench.end_of(run).reason == NORMAL
    assert bench.host.trace(run) == ["setup", "execute", "on_stop", "teardown"]


def test_on_stop_belongs_to_the_run(bench: Bench) -> None:
    run = bench.start_in("execute", execute="block", on_stop="describe")
    bench.ask_stop(run)
    data = bench.host.wait_message(run, "described").data
    assert data["current_run"] == (run.path, run.incarnation)
    assert data["should_stop"] is True
    bench.end_of(run)


def test_a_failing_on_stop_is_a_note_and_nothing_more(bench: Bench) -> None:
    run = bench.start_in("execute", execute="block", on_stop="raise stuck")
    bench.ask_stop(run)
    assert bench.end_of(run).reason.kind is ExitKind.NORMAL
    assert bench.report_of(run).notes == ("on_stop: SensorLost: stuck",)


def test_a_stop_during_setup_skips_execute(bench: Bench) -> None:
    run = bench.start_in("setup", setup="sleep")
    bench.ask_stop(run)
    assert bench.end_of(run).reason == NORMAL
    assert bench.host.trace(run) == ["setup", "teardown"]


def test_a_stop_right_after_the_start_ends_the_run(bench: Bench) -> None:
    run = bench.start(execute="block")
    bench.ask_stop(run)
    assert bench.end_of(run).reason.kind is not ExitKind.ABNORMAL


def test_a_run_that_does_not_stop_can_be_killed(bench: Bench) -> None:
    if bench.kind == "thread":
        pytest.skip("T02 brutal_kill: T no (a thread cannot be killed)")
    run = bench.start_in("execute", execute="never")
    bench.kill(run)
    assert bench.end_of(run).reason == (abnormal(Cause.SIGNAL) if bench.executor.can_kill else SHUTDOWN)


def test_kill_asks_a_run_that_cannot_be_killed_to_stop(bench: Bench) -> None:
    if bench.executor.can_kill:
        pytest.skip("T02 brutal_kill: P yes (asking is for those that cannot be killed)")
    run = bench.start_in("execute", execute="sleep")
    bench.kill(run)
    assert bench.end_of(run).reason.kind is not ExitKind.ABNORMAL
    assert bench.host.trace(run)[-1] == "teardown"


def test_what_happens_to_one_run_leaves_the_others_alone(bench: Bench) -> None:
    steady = [bench.start_in("execute", execute="block") for _ in range(3)]
    for action in ("raise x", "exit 3", "interrupt", "cancel", "raise-unspeakable", "shutdown"):
        bench.end_of(bench.start(execute=action))
        bench.end_of(bench.start(setup=action))
    for run in steady:
        assert bench.host.of(RunEnded, run) == []
        bench.ask_stop(run)
        assert bench.end_of(run).reason == NORMAL


def test_unknown_and_ended_runs_are_ignored(bench: Bench) -> None:
    ended = bench.start()
    bench.end_of(ended)
    for run in (ended, RunId("nobody", 1)):
        bench.ask_stop(run)
        bench.kill(run)
    last = bench.start()
    bench.end_of(last)
    assert len(bench.host.of(RunEnded, ended)) == 1
    assert not [report for report in bench.host.reports if report.run.path == "nobody"]


def test_an_older_incarnation_is_another_run_and_another_instance(bench: Bench) -> None:
    old, new = RunId("twice", 1), RunId("twice", 2)
    bench.end_of(bench.start("Scripted", old, execute="describe"))
    bench.start("Scripted", new, execute="block")
    bench.host.wait(RunReady, new)
    bench.ask_stop(old)
    bench.kill(old)
    assert bench.host.of(RunEnded, new) == []
    bench.ask_stop(new)
    assert bench.end_of(new).reason.kind is not ExitKind.ABNORMAL


def test_an_agent_knows_who_it_is_and_what_it_was_given(bench: Bench) -> None:
    run = bench.start(execute="describe")
    data = bench.host.wait_message(run, "described").data
    assert (data["path"], data["name"], data["incarnation"]) == (run.path, run.path.split("/")[1], 1)
    assert data["params"] == {"colour": "blue"}
    assert data["should_stop"] is False
    assert data["current_run"] == (run.path, run.incarnation)
    bench.end_of(run)


def test_a_looping_agent_does_its_rounds_until_one_answers_false(bench: Bench) -> None:
    run = bench.start("Looper", rounds=3)
    assert bench.end_of(run).reason == NORMAL
    assert bench.host.trace(run) == ["round 1", "round 2", "round 3"]


def test_a_looping_agent_ends_when_it_is_asked_to_stop(bench: Bench) -> None:
    run = bench.start("Looper", rounds=10**9)
    bench.host.wait_message(run, "round 2")
    bench.ask_stop(run)
    assert bench.end_of(run).reason == NORMAL


def test_a_periodic_agent_skips_and_counts_the_rounds_that_it_missed(bench: Bench) -> None:
    run = bench.start("Ticker")
    data = bench.host.wait_message(run, "ticked").data
    assert data["ticks"] == 2
    assert isinstance(overruns := data["overruns"], int)
    assert overruns >= 1
    assert bench.end_of(run).reason == NORMAL


def test_many_runs_start_and_end_side_by_side(bench: Bench) -> None:
    runs = [bench.start(execute="return done") for _ in range(20)]
    assert {bench.end_of(run).result for run in runs} == {"done"}


def test_close_asks_for_the_end_of_what_still_runs(own_bench: Bench) -> None:
    runs = [own_bench.start_in("execute", execute="sleep") for _ in range(3)]
    own_bench.close()
    for run in runs:
        own_bench.end_of(run)


def test_close_without_a_start_and_twice_does_nothing(own_bench: Bench) -> None:
    own_bench.close()
    own_bench.close()


def test_no_report_is_made_of_a_run_that_ended(bench: Bench) -> None:
    run = bench.start(execute="raise x")
    ended = bench.end_of(run)
    assert bench.host.reports.index(ended) == max(
        index for index, report in enumerate(bench.host.reports) if report.run == run
    )


def test_the_latest_beat_of_a_run_can_be_read_from_any_thread_while_it_runs(bench: Bench) -> None:
    before = time.monotonic()
    run = bench.start_in("execute", execute="sleep")
    beat = bench.executor.last_beat(run)
    assert beat is not None
    assert beat >= before
    assert bench.executor.last_beat(RunId(run.path, 2)) is None
    bench.ask_stop(run)
    bench.end_of(run)
    assert bench.executor.last_beat(run) is None
