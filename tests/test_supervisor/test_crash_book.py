"""Which crashes count as the same crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from orchestree.agents.ends import Cause, CrashReport
from orchestree.supervisor import crash_book
from orchestree.supervisor.crash_book import CrashBook, fingerprint

pytestmark = pytest.mark.policy

TRACEBACK: Final = """Traceback (most recent call last):
  File "/srv/app.py", line 12, in execute
    self.read()
  File "/srv/app.py", line 7, in read
    float(text)
ValueError: could not convert string to float: '21,4'
"""
RAISED: Final = CrashReport(
    cause=Cause.EXCEPTION,
    message="ValueError: could not convert string to float: '21,4'",
    exception_types=("builtins.ValueError", "builtins.Exception"),
    traceback=TRACEBACK,
)
STACKS: Final = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait

Current thread 0x00007f2 (most recent call first):
  File "/srv/app.py", line 9 in call
  File "/srv/app.py", line 20 in execute"""
FAULT: Final = CrashReport(cause=Cause.SIGNAL, message="killed by SIGSEGV", signal="SIGSEGV", stacks=STACKS)

SAME: Final = {
    "other words": replace(RAISED, message="ValueError: '7'", traceback=TRACEBACK.replace("21,4", "7")),
    "another line": replace(RAISED, traceback=TRACEBACK.replace("line 7", "line 8")),
    "another folder": replace(RAISED, traceback=TRACEBACK.replace("/srv/", "/opt/")),
    "pid, uptime, memory, output": replace(RAISED, pid=7, uptime_s=3.0, max_memory=9, output=("x",)),
}
OTHER: Final = {
    "another line of the same function": replace(RAISED, traceback=TRACEBACK.replace("float(text)", "int(text)")),
    "another function": replace(RAISED, traceback=TRACEBACK.replace("in read", "in write")),
    "another exception": replace(RAISED, exception_types=("builtins.KeyError",)),
    "another phase": replace(RAISED, phase="teardown"),
    "another cause": replace(RAISED, cause=Cause.START_FAILED),
}


@pytest.mark.parametrize("report", SAME.values(), ids=SAME)
def test_what_differs_from_time_to_time_makes_no_other_crash(report: CrashReport) -> None:
    assert fingerprint(report) == fingerprint(RAISED)


@pytest.mark.parametrize("report", OTHER.values(), ids=OTHER)
def test_another_place_or_kind_makes_another_crash(report: CrashReport) -> None:
    assert fingerprint(report) != fingerprint(RAISED)


def test_a_fault_is_told_by_the_stack_of_the_thread_that_made_it() -> None:
    idle = replace(FAULT, stacks=STACKS.replace("in wait", "in sleep").replace("0x00007f2", "0x00007f3"))
    elsewhere = replace(FAULT, stacks=STACKS.replace("in call", "in other"))
    assert fingerprint(idle) == fingerprint(FAULT)
    assert fingerprint(elsewhere) != fingerprint(FAULT)
    assert fingerprint(replace(FAULT, signal="SIGBUS")) != fingerprint(FAULT)


def test_exit_codes_tell_crashes_apart_and_words_only_where_nothing_else_is_known() -> None:
    three = CrashReport(cause=Cause.EXIT, message="exited with code 3", exit_code=3)
    lost, other = (CrashReport(cause=Cause.LOST, message=text) for text in ("gone", "away"))
    assert fingerprint(three) == fingerprint(replace(three, message="3"))
    assert fingerprint(three) != fingerprint(replace(three, exit_code=4))
    assert fingerprint(lost) != fingerprint(other)


def test_a_fingerprint_is_short_and_the_same_in_every_process() -> None:
    assert fingerprint(RAISED) == "b15e623750c3"


def test_each_agent_has_its_own_count_from_its_first_time() -> None:
    book = CrashBook()
    entered = [
        book.enter("a", RAISED, 100.0),
        book.enter("b", RAISED, 110.0),
        book.enter("a", SAME["other words"], 120.0),
        book.enter("a", FAULT, 130.0),
        book.enter("a", RAISED, 140.0),
    ]
    assert [(report.occurrence, report.first_seen) for report in entered] == [
        (1, 100.0),
        (1, 110.0),
        (2, 100.0),
        (1, 130.0),
        (3, 100.0),
    ]
    assert {report.fingerprint for report in entered} == {fingerprint(RAISED), fingerprint(FAULT)}


def test_only_the_latest_crashes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_book, "REMEMBERED", 2)
    book = CrashBook()
    assert [book.enter(path, RAISED, 0.0).occurrence for path in "abacab"] == [1, 1, 2, 1, 3, 1]
