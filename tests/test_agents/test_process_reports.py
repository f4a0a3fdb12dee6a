"""What the report of a process agent says beyond the exception: stacks, output, memory, and who killed it."""

from __future__ import annotations

import itertools
import os
import queue
import signal
from collections.abc import Iterator

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.process_harness import Harness

from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.agents.executor import RunEnded, RunId
from orchestree.agents.process.endings import Evidence, classify
from orchestree.agents.process.output import LINE, LINES, Printed

NUMBERS = itertools.count()


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def report_of(ended: RunEnded) -> CrashReport:
    assert ended.report is not None
    return ended.report


def crash(harness: Harness, call: object) -> CrashReport:
    return report_of(harness.run(agents.Caller, f"crashing-{next(NUMBERS)}", params={"call": call}))


def start_hanging(harness: Harness, call: object) -> RunId:
    run = harness.start(agents.Caller, params={"call": call})
    harness.host.wait_message(run, "hanging")
    return run


def test_a_segmentation_fault_leaves_the_stacks_of_all_threads(harness: Harness) -> None:
    report = crash(harness, agents.fault_beside_a_thread)
    assert (report.cause, report.signal, report.message) == (Cause.SIGNAL, "SIGSEGV", "killed by SIGSEGV")
    assert report.stacks.startswith("Fatal Python error: Segmentation fault")
    assert "in fault_beside_a_thread" in report.stacks
    assert "in wait_for_ever" in report.stacks
    assert "Extension modules" not in report.stacks
    assert "orchestree/agents/" not in report.stacks  # what the runtime does is of no interest


def test_an_abort_leaves_the_stacks(harness: Harness) -> None:
    report = crash(harness, agents.abort)
    assert report.signal == "SIGABRT"
    assert "in abort" in report.stacks


def test_the_stacks_belong_to_one_incarnation(harness: Harness) -> None:
    assert crash(harness, agents.abort).stacks
    assert crash(harness, agents.raise_error).stacks == ""


def test_the_last_lines_of_both_streams_are_kept_also_of_a_process_that_is_killed(harness: Harness) -> None:
    report = crash(harness, agents.print_and_die)
    assert report.signal == "SIGKILL"
    assert sorted(report.output) == ["from the C level", "half a line", "to stderr", "to stdout"]


def test_only_the_last_lines_are_kept_and_long_ones_are_cut(harness: Harness) -> None:
    report = crash(harness, agents.print_a_lot)
    assert len(report.output) == LINES
    assert report.output[-2] == "line 9998"
    assert report.output[-1] == "x" * LINE


def test_what_agents_print_arrives_on_the_streams_of_the_program(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    crash(harness, agents.print_and_die)
    harness.host.call(harness.inner.close)  # by then everything has been passed on
    out, err = capfd.readouterr()
    assert "to stdout\n" in out
    assert "to stderr\n" in err


def test_an_end_that_is_no_failure_has_no_report_however_much_was_printed(harness: Harness) -> None:
    assert harness.run(agents.Caller, params={"call": agents.print_something}).report is None


def test_the_peak_of_its_memory_is_reported(harness: Harness) -> None:
    before = crash(harness, agents.raise_error).max_memory
    report = crash(harness, agents.take_memory_and_raise)
    assert before is not None
    assert report.max_memory is not None
    assert agents.MUCH * 0.9 < report.max_memory - before < agents.MUCH * 1.5


def test_a_hung_process_that_is_killed_leaves_the_stacks_of_all_threads(harness: Harness) -> None:
    run = start_hanging(harness, agents.hang_with_a_thread)
    harness.kill(run, hung=True)
    report = report_of(harness.ended(run))
    assert report.signal == "SIGABRT"
    assert "in hang_with_a_thread" in report.stacks
    assert "in wait_for_ever" in report.stacks


def test_a_hung_process_that_holds_the_interpreter_lock_leaves_its_stack(harness: Harness) -> None:
    run = start_hanging(harness, agents.hold_the_lock)
    harness.kill(run, hung=True)
    assert "in hold_the_lock" in report_of(harness.ended(run)).stacks


def test_a_hung_process_that_ignores_sigabrt_is_killed_all_the_same(harness: Harness) -> None:
    run = start_hanging(harness, agents.ignore_signals_and_hang)
    harness.kill(run, hung=True)
    assert report_of(harness.ended(run)).signal == "SIGKILL"


def test_a_stopped_process_is_killed_at_once_and_the_report_says_why_it_has_no_stacks(
    harness: Harness, warnings: queue.SimpleQueue[str]
) -> None:
    run, pid = harness.start_ready(agents.Sleeper)
    os.kill(pid, signal.SIGSTOP)
    assert warnings.get(timeout=DEADLINE_S) == "agent: a signal has stopped it"
    harness.kill(run, hung=True)
    report = report_of(harness.ended(run))
    assert (report.signal, report.stacks) == ("SIGKILL", "")
    assert report.notes == ("a signal had stopped the process, so there are no stacks",)


def test_a_stopped_process_that_goes_on_is_not_stopped_any_more(
    harness: Harness, warnings: queue.SimpleQueue[str]
) -> None:
    run, pid = harness.start_ready(agents.Sleeper)
    os.kill(pid, signal.SIGSTOP)
    assert warnings.get(timeout=DEADLINE_S) == "agent: a signal has stopped it"
    os.kill(pid, signal.SIGCONT)
    assert warnings.get(timeout=DEADLINE_S) == "agent: it goes on"
    harness.kill(run, hung=True)
    assert report_of(harness.ended(run)).notes == ()


def evidence(status: int, **known: object) -> Evidence:
    fields: dict[str, object] = {
        "run": ("agent", 1),
        "pid": 7,
        "ready": True,
        "end": None,
        "status": status,
        "cut_off": False,
        "uptime_s": 1.0,
    }
    return Evidence(**{**fields, **known})  # type: ignore[arg-type]


def test_a_foreign_sigkill_beside_a_grown_counter_is_oom_else_perhaps() -> None:
    oom = classify(evidence(signal.SIGKILL, may_be_oom=True, is_oom=True))
    assert oom.reason == abnormal(Cause.OOM)
    assert report_of(oom).message == "killed by SIGKILL: out of memory"
    perhaps = classify(evidence(signal.SIGKILL, may_be_oom=True))
    assert perhaps.reason == abnormal(Cause.SIGNAL)
    assert report_of(perhaps).message == "killed by SIGKILL (possibly out of memory)"
    ours = classify(evidence(signal.SIGKILL))
    assert report_of(ours).message == "killed by SIGKILL"


def test_a_line_that_comes_in_several_pieces_is_one_line() -> None:
    (out, write), (err, other) = os.pipe(), os.pipe()
    printed = Printed(out, err)
    for piece in (b"first\n" + b"x" * 60_000, b"x" * 60_000, b"x" * 60_000 + b"\nla", b"st"):
        os.write(write, piece)
        printed.read(out)
    printed.read_rest()
    assert printed.last_lines() == ("first", "x" * LINE, "last")
    for descriptor in (out, write, err, other):
        os.close(descriptor)
