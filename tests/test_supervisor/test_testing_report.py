"""What a failed check tells a person, word for word."""

from __future__ import annotations

import re

import pytest
from virtual import agent

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.shown.timeline import timeline
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.testing import (
    CheckFailed,
    Schedule,
    SupervisedTree,
    parse_fault,
    recovers_within,
    stays_within,
    supervised,
)

pytestmark = pytest.mark.policy


def shop() -> Orchestrator:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=2, max_seconds=60)
    return Orchestrator(config, [agent("mailer"), agent("api")])


def test_a_failed_check_tells_what_is_wrong_what_led_to_it_and_what_happened() -> None:
    with supervised(shop(), seed=3) as t:
        t.run(Schedule(["mailer: crash at 1s", "mailer: crash at 2s", "mailer: crash at 10s"], 10))
        with pytest.raises(CheckFailed) as caught:
            t.check(recovers_within(30), stays_within(max_starts_per_minute=2))
        told, chart = str(caught.value).split("\n\nSimulated ", 1)
        assert t.timeline() == f"Simulated {chart}"
    why = "the root supervisor gave up at 10 s: too many restarts, the last failure was that of 'mailer'"
    assert told.splitlines() == [
        "3 things must not be so:",
        f"  recovers_within(30): 'mailer' went down at 10 s and does not come back: {why}",
        f"  recovers_within(30): 'api' went down at 10 s and does not come back: {why}",
        "  stays_within(max_starts_per_minute=2): 'mailer' was started 3 times in the minute from 0 s on",
        "",
        "3 faults led to it. To see that again:",
        "  orchestree simulate TARGET --until 10s --seed 3 \\",
        '    --fault "mailer: crash at 1s" \\',
        '    --fault "mailer: crash at 2s" \\',
        '    --fault "mailer: crash at 10s"',
    ]
    assert [finding.invariant for finding in caught.value.findings][1:] == [
        "recovers_within(30)",
        "stays_within(max_starts_per_minute=2)",
    ]
    assert len(caught.value.faults) == 3


def test_the_faults_of_the_report_lead_to_the_same_again() -> None:
    with supervised(shop(), seed=3) as t:
        t.advance(5)
        t.run(Schedule(["mailer: crash every 2s", "api: hang at 1s for 5s"], 10))
        with pytest.raises(CheckFailed) as caught:
            t.check(recovers_within(30))
        lines = re.findall(r'--fault "(.*)"', str(caught.value))
        again = simulate(shop(), [parse_fault(line) for line in lines], until=t.now, seed=3)
    assert timeline(again) == t.timeline()


def test_what_holds_from_the_beginning_fails_the_first_start_in_the_test_and_in_its_command() -> None:
    with supervised(shop()) as t:
        t.run(["mailer: down from 0s to 1s", "api: crash at 500ms", "api: crash at 500ms"])
        with pytest.raises(CheckFailed) as caught:
            t.check(always)
        assert t.events[6].data.report.phase == "setup"  # type: ignore[union-attr]
    lines = re.findall(r'--fault "(.*)"', str(caught.value))
    assert lines == ["mailer: down from 0s to 1s"]  # the tree has fallen by then
    assert simulate(shop(), lines, until=1.0).events == t.events


def test_a_tree_of_which_nothing_was_asked_is_started_all_the_same() -> None:
    with supervised(shop()) as t:
        pass
    assert (t.starts("api"), t.now) == (1, 0.0)


def always(t: SupervisedTree) -> list[str]:
    return [f"number {number}" for number in range(8)]


def test_a_long_report_is_cut() -> None:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=100)
    with supervised(Orchestrator(config, [agent("worker", backoff=None)])) as t:
        t.run(Schedule([f"worker: crash at {moment}s" for moment in range(60)], 60))
        with pytest.raises(CheckFailed) as caught:
            t.check(always)
    lines = str(caught.value).splitlines()
    assert lines[0] == "8 things must not be so:"
    assert lines[5:7] == ["  always: number 4", "  ... and 3 more"]
    assert "60 faults led to it. To see the first 40 (all: `faults` of this error) again:" in lines
    assert lines[49:51] == ['    --fault "worker: crash at 39s"', ""]
    assert len(lines) < 120
    assert len(caught.value.faults) == 60


def commands(t: SupervisedTree) -> tuple[str, list[str]]:
    """Return until when, and with which faults, the report of a failed check says to simulate."""
    with pytest.raises(CheckFailed) as caught:
        t.check(always)
    (until,) = re.findall(r"--until (\S+)", str(caught.value))
    return until, re.findall(r'--fault "(.*)"', str(caught.value))


def test_a_report_of_no_time_at_all_asks_for_the_shortest_simulation() -> None:
    with supervised([agent("worker")]) as t:
        t.crash("worker")
        assert commands(t) == ("1ms", ["worker: crash at 0s"])


class MailerDown(ConnectionError):
    pass


def test_an_exception_class_of_the_test_goes_by_its_nearest_builtin_base() -> None:
    parks = Backoff(rules=(Rule(action="park", exception=ConnectionError),))
    with supervised([agent("worker", backoff=parks)]) as t:
        t.crash("worker", MailerDown("x"))
        with pytest.raises(CheckFailed, match=r"There \S*MailerDown goes by its nearest builtin class: rules for it"):
            t.check(always)
        until, lines = commands(t)
        assert lines == ["worker: crash with ConnectionError at 0s"]
        again = simulate([agent("worker", backoff=parks)], lines, until=until)
        assert [one.path for one in again.parked] == [one.path for one in t.simulation.parked] == ["worker"]


def test_faults_whose_times_were_drawn_are_told_by_the_moments_that_they_struck() -> None:
    with supervised(shop(), seed=3) as t:
        t.advance(10)
        t.strike("mailer: crash about every 30s")
        t.advance(200)
        until, lines = commands(t)
        assert len(lines) == len(t.simulation.struck) > 2
        assert simulate(shop(), lines, until=until, seed=3).crashes == t.simulation.crashes


def test_a_report_without_faults_says_so_and_one_with_orders_names_them() -> None:
    with supervised([agent("worker")]) as t:
        t.stop_agent("worker")
        with pytest.raises(CheckFailed) as caught:
            t.check(always)
    told = str(caught.value)
    assert "\nNo fault has happened.\nThe test also asked, which a simulation cannot:\n  at 0 s: stop worker\n" in told


def test_a_failed_check_is_an_assertion_error_that_a_test_can_expect() -> None:
    assert issubclass(CheckFailed, AssertionError)
