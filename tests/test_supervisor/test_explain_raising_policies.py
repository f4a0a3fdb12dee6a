"""`explain` warns of a backoff that raises: at which failure, what, and that the core parks the child then."""

from __future__ import annotations

import pytest
from explained import SOON, explained, looping, named, root, warned
from tenacity import RetryCallState, stop_after_attempt, wait_fixed, wait_none
from virtual import supervisor

from orchestree.strategies.backoff import AgentFailure, Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.simulation.explained.lints import Warned
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy

NAME = "backoff-that-raises"


def raises_at_fourth(state: RetryCallState) -> float:
    if state.attempt_number >= 4:
        raise KeyError("rate")
    return 1.0


def by_cause_of_the_crash(state: RetryCallState) -> float:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, AgentFailure)
    return 9.0 if error.failure.message else 8.0  # type: ignore[union-attr]  # what a user may write


def problem(*children: ChildEntry, **fields: object) -> str:
    return warned(explain(root(*children, **fields)), NAME).problem


def test_a_wait_that_raises_is_warned_of_with_the_failure_and_the_exception() -> None:
    assert warned(explain(looping("it", backoff=Backoff(wait=raises_at_fourth))), NAME) == Warned(
        name=NAME,
        path="it",
        problem="its `wait` or `stop` raises at the 4th failure in a row, and so it parks: KeyError: 'rate'",
        advice="a `wait` that answers with seconds, and a `stop` with true or false, after every failure",
    )


def test_a_stop_that_raises_and_a_wait_that_is_no_number_are_warned_of() -> None:
    def broken(state: RetryCallState) -> bool:
        return state.attempt_number / 0 > 1

    assert problem(looping("it", backoff=Backoff(stop=broken))).endswith(": ZeroDivisionError: division by zero")
    endless = Backoff(wait=lambda _: float("nan"))
    assert problem(looping("it", backoff=endless)).endswith(": ValueError: wait answered nan")


def test_policies_that_answer_are_not_warned_of() -> None:
    for backoff in (None, Backoff(), SOON, Backoff(wait=wait_fixed(1), stop=stop_after_attempt(4))):
        assert (NAME, "it") not in named(explain(looping("it", backoff=backoff)))


def test_one_that_raises_in_setup_only_is_warned_of() -> None:
    def at_first_in_setup(state: RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, AgentFailure)
        assert error.failure is not None
        return {"execute": 1.0}[error.failure.phase]

    told = problem(looping("it", backoff=Backoff(wait=at_first_in_setup)))
    assert (
        told == "its `wait` or `stop` raises at the 1st failure in setup() in a row, and so it parks: KeyError: 'setup'"
    )


def test_one_that_forgets_that_a_permanent_agent_may_end_without_a_crash_is_warned_of() -> None:
    backoff = Backoff(wait=by_cause_of_the_crash)
    assert named(explain(looping("it", backoff=backoff))) == []
    found = warned(explain(looping("it", backoff=backoff, restart="permanent")), NAME)
    assert found.problem.startswith("its `wait` or `stop` raises at the 1st normal end in a row")
    assert found.advice.endswith("; after an end that is no crash, `outcome.exception().failure` is None")


def test_of_a_supervisor_it_is_asked_when_it_gives_up() -> None:
    tree = supervisor("in", looping("it"), backoff=Backoff(wait=by_cause_of_the_crash))
    found = warned(explain(root(tree)), NAME)
    assert found.path == "in"
    assert found.problem.startswith("its `wait` or `stop` raises at the 1st failure in a row, and so it parks: Attri")
    for well in (
        supervisor("in", looping("it"), backoff=SOON),
        supervisor("in", looping("it"), backoff=Backoff(wait=by_cause_of_the_crash), restart="temporary"),
    ):
        assert named(explain(root(well))) == []


def test_one_that_raises_only_after_the_window_is_exhausted_is_warned_of_too() -> None:
    def raises_late(state: RetryCallState) -> float:
        return 0.0 if state.attempt_number < 20 else 1 / 0

    found = explain(root(looping("it", backoff=Backoff(wait=raises_late))))
    assert named(found) == [("exhaustible-window", ""), (NAME, "it")]
    assert "at the 20th failure" in warned(found, NAME).problem


def test_a_rule_that_comes_first_spares_the_policy() -> None:
    backoff = Backoff(wait=raises_at_fourth, rules=(Rule(action="park"),))
    assert named(explain(looping("it", backoff=backoff))) == []


def test_an_exception_of_many_lines_is_told_in_one() -> None:
    def verbose(state: RetryCallState) -> float:
        raise RuntimeError("one\n\n  two\n" + "and so on " * 100)

    told = problem(looping("it", backoff=Backoff(wait=verbose)))
    assert "\n" not in told
    assert ": RuntimeError: one two and so on " in told
    assert len(told) < 300
    parked = explained("it", looping("it", backoff=Backoff(wait=verbose))).fails.longest.parked
    assert parked is not None
    assert parked.why.startswith("its backoff policy raised RuntimeError: one")


def test_agents_with_one_policy_are_told_together() -> None:
    wait = Backoff(wait=raises_at_fourth, jitter=0.0)
    found = explain(
        root(*(looping(name, backoff=wait) for name in "abc"), looping("d", backoff=Backoff(wait=wait_none())))
    )
    assert [path for name, path in named(found) if name == NAME] == ["a", "b", "c"]
