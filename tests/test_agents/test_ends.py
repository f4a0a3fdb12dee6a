"""How a run ended, as values."""

from __future__ import annotations

import dataclasses

import pytest

from orchestree.agents.ends import IGNORE, IGNORED, NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal

pytestmark = pytest.mark.policy


def test_an_end_that_is_its_own_cause_is_one_word() -> None:
    assert [str(reason) for reason in (NORMAL, SHUTDOWN)] == ["normal", "shutdown"]


def test_an_end_with_another_cause_names_both() -> None:
    assert str(IGNORED) == "normal (ignore)"
    assert str(ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)) == "shutdown (max_restarts)"
    assert str(abnormal(Cause.OOM)) == "abnormal (oom)"


def test_a_failure_is_abnormal_whatever_brought_it_about() -> None:
    assert abnormal(Cause.SIGNAL) == ExitReason(ExitKind.ABNORMAL, Cause.SIGNAL)


def test_kinds_and_causes_are_those_of_the_contract() -> None:
    assert [kind.value for kind in ExitKind] == ["normal", "shutdown", "abnormal"]
    causes = "normal ignore shutdown max_restarts escalated exception exit signal oom watchdog memory"
    assert " ".join(Cause) == f"{causes} start_failed start_timeout lost"


def test_a_report_says_nothing_that_is_not_known() -> None:
    report = CrashReport(cause=Cause.LOST, message="no news")
    assert {field.name for field in dataclasses.fields(report) if getattr(report, field.name)} == {
        "cause",
        "message",
        "phase",
        "occurrence",
    }


def test_a_report_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CrashReport(cause=Cause.LOST, message="no news").message = "x"  # type: ignore[misc]


def test_ignore_survives_a_journey_through_its_name() -> None:
    assert type(IGNORE)("IGNORE") is IGNORE
