"""What is written below the line of a crash."""

from __future__ import annotations

import pytest

from orchestree.agents.ends import Cause, CrashReport
from orchestree.supervisor.crash_text import details

pytestmark = pytest.mark.policy


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert details(CrashReport(cause=Cause.LOST, message="gone", silent_s=3.0)) == []


def test_all_that_is_known_is_said_the_most_important_first() -> None:
    report = CrashReport(
        cause=Cause.EXCEPTION,
        message="ValueError: x",
        traceback="Traceback (most recent call last):\nValueError: x\n",
        stacks="Fatal Python error: Aborted\n\nCurrent thread",
        progress="frame 7",
        silent_s=0.25,
        max_memory=33_030_144,
        pid=77,
        output=("one", "two"),
    )
    assert details(report) == [
        "it was doing: frame 7; last progress 0.25 s before its end",
        "peak memory 31.5 MiB, pid 77",
        "Traceback (most recent call last):",
        "ValueError: x",
        "Fatal Python error: Aborted",
        "",
        "Current thread",
        "its last 2 lines of output:",
        "  | one",
        "  | two",
    ]


def test_one_line_of_output_and_no_sign_of_progress_read_well_too() -> None:
    report = CrashReport(cause=Cause.EXIT, message="exited with code 3", progress="frame 7", output=("one",))
    assert details(report) == ["it was doing: frame 7", "its last line of output:", "  | one"]
