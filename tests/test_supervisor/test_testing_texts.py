"""Texts and faults of the test kit where they are just about to change: one more finding, one more fault."""

from __future__ import annotations

import re

import pytest
from virtual import agent, supervisor

from orchestree import simulate
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.events import AgentCrashed
from orchestree.supervisor.testing import CheckFailed, Schedule, SupervisedTree, recovers_within, supervised

pytestmark = pytest.mark.policy


def failure(t: SupervisedTree, findings: int = 1) -> str:
    """Return what a check says that fails with so many findings."""

    def broken(_: SupervisedTree) -> list[str]:
        return [f"number {number}" for number in range(findings)]

    with pytest.raises(CheckFailed) as caught:
        t.check(broken)
    return str(caught.value)


def faults_told(report: str) -> list[str]:
    return re.findall(r'--fault "(.*)"', report)


def test_five_findings_are_told_and_of_six_the_last_one_is_counted() -> None:
    with supervised([agent("a")]) as t:
        five, six = failure(t, 5).splitlines(), failure(t, 6).splitlines()
    assert five[5:7] == ["  broken: number 4", ""]
    assert six[5:8] == ["  broken: number 4", "  ... and 1 more", ""]


def test_forty_faults_are_told_and_of_forty_one_the_first_forty() -> None:
    def told(count: int) -> str:
        with supervised([agent("a", backoff=Backoff(jitter=0.0))]) as t:
            t.run([f"a: crash at {100 * number}s" for number in range(count)])
            return failure(t)

    forty, more = told(40), told(41)
    assert "40 faults led to it. To see that again:" in forty
    assert "41 faults led to it. To see the first 40 (all: `faults` of this error) again:" in more
    assert faults_told(forty) == faults_told(more)
    assert len(faults_told(forty)) == 40


def test_a_fault_whose_times_were_drawn_within_limits_is_told_by_its_moments_alone() -> None:
    with supervised([agent("a")], seed=3) as t:
        t.run(["a: crash 2 times about every 5s to 10m"])
        lines = faults_told(failure(t))
        assert len(lines) == 2
        assert simulate([agent("a")], lines, until=t.now, seed=3).crashes == t.simulation.crashes


def test_a_schedule_of_one_fault_is_one_line_and_of_two_has_a_line_for_each() -> None:
    assert repr(Schedule([], 5)) == "Schedule([], duration=5.0)"
    assert repr(Schedule(["a: crash at 1s"], 5)) == 'Schedule(["a: crash at 1s"], duration=5.0)'
    assert repr(Schedule(["a: crash at 1s", "b: hang at 2s"], 5)) == (
        'Schedule([\n    "a: crash at 1s",\n    "b: hang at 2s",\n], duration=5.0)'
    )


def test_a_pretty_printer_gets_the_same_text_line_by_line() -> None:
    class Printer:
        def __init__(self) -> None:
            self.said = ""

        def text(self, text: str) -> None:
            self.said += text

        def break_(self) -> None:
            self.said += "\n"

    schedule, printer = Schedule(["a: crash at 1s", "b: hang at 2s"], 5), Printer()
    schedule._repr_pretty_(printer, False)
    assert printer.said == repr(schedule)


@pytest.mark.parametrize("cause", ["ValueError", ValueError, ValueError("x"), "exception"])
def test_an_exception_is_raised_in_the_phase_that_was_said(cause: object) -> None:
    with supervised([agent("a")]) as t:
        t.crash("a", cause, phase="setup")  # type: ignore[arg-type]
        t.crash("a")
        phases = [event.data.report.phase for event in t.events if isinstance(event.data, AgentCrashed)]
    assert phases == ["execute", "setup"]


def test_an_exception_has_neither_an_exit_code_nor_a_signal() -> None:
    with supervised([agent("a")]) as t, pytest.raises(SpecError) as caught:
        t.crash("a", ValueError, exit_code=3)
    assert str(caught.value) == "cause=<class 'ValueError'>: does not go with exit_code"


def test_below_a_supervisor_too_one_that_waits_is_judged_by_the_faults_of_whom_it_waits_for() -> None:
    patient = Backoff(jitter=0.0)
    pool = supervisor("pool", agent("db", backoff=patient), agent("web", depends_on=["db"], backoff=patient))
    with supervised([pool]) as t:
        t.run(["pool/db: down from 5s to 200s", "pool/web: crash at 10s"])
        t.check(recovers_within(60))


def test_one_whose_neighbour_of_the_same_name_is_down_has_no_excuse() -> None:
    slow = Backoff(wait=lambda _: 100.0, jitter=0.0)
    pool = supervisor("pool", agent("db"), agent("web", depends_on=["db"], backoff=slow))
    with supervised([agent("db", backoff=Backoff(jitter=0.0)), pool]) as t:
        t.run(["db: down from 5s to 100s", "pool/web: crash at 10s"])
        with pytest.raises(CheckFailed, match=r"'pool/web' went down at 10 ?s"):
            t.check(recovers_within(60))


def test_an_invariant_that_gets_something_else_than_a_supervised_tree_says_what_it_needs() -> None:
    with pytest.raises(SpecError) as caught:
        list(recovers_within(60)("tree") or ())  # type: ignore[arg-type]
    assert str(caught.value) == ("'tree': must be the tree of `with supervised(...) as t`; t.check() hands it in")
