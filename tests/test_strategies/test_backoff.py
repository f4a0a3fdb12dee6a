"""Delays, giving up and rules: tenacity's objects as restart policy, with exact numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import tenacity
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, stop_before_delay

from orchestree.agents.ends import Cause
from orchestree.strategies.backoff import AgentFailure, Backoff, Streak
from orchestree.strategies.errors import SpecError
from orchestree.strategies.rules import BUILT_IN_RULES, CAUSES, Rule

pytestmark = pytest.mark.policy


@dataclass(frozen=True)
class Failed:
    """What rules look at."""

    cause: str = "exception"
    phase: str = "execute"
    message: str = "boom"
    exception_types: tuple[str, ...] = ("builtins.FileNotFoundError", "builtins.OSError", "builtins.Exception")
    exit_code: int | None = None
    signal: str | None = None


def delays(backoff: Backoff, count: int, draw: float = 0.0) -> list[float]:
    """Return the delays of `count` failures at once."""
    streak, found = Streak(), []
    for _ in range(count):
        streak = streak.failed(0.0)
        found.append(backoff.verdict(streak, Failed(), 0.0, draw).delay)
        streak = streak.waits(found[-1])
    return found


def test_the_default_wait_is_0_then_doubles_from_a_quarter_of_a_second_up_to_30() -> None:
    assert delays(Backoff(), 11) == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_default_wait_stays_at_30_for_ever() -> None:
    assert Backoff().verdict(Streak(100_000), None, 0.0, 0.0).delay == 30.0


def test_jitter_shortens_a_delay_by_up_to_its_share() -> None:
    assert delays(Backoff(), 4, draw=1.0) == [0, 0.1875, 0.375, 0.75]
    assert delays(Backoff(jitter=0.5), 4, draw=0.5) == [0, 0.1875, 0.375, 0.75]
    assert delays(Backoff(jitter=0.0), 4, draw=0.9) == [0, 0.25, 0.5, 1]
    assert delays(Backoff(jitter=1.0), 4, draw=1.0) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_none(), [0, 0, 0, 0]),
        (tenacity.wait_fixed(3), [3, 3, 3, 3]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3, 3]),
        (tenacity.wait_incrementing(start=1, increment=2, max=5), [1, 3, 5, 5]),
        (tenacity.wait_exponential(multiplier=1, max=5), [1, 2, 4, 5]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(7)), [1, 7, 7, 7]),
        (lambda state: float(state.attempt_number * 10), [10, 20, 30, 40]),
        (lambda state: -1.0, [0, 0, 0, 0]),
    ],
)
def test_any_tenacity_wait_says_how_long(wait: tenacity.wait.wait_base, expected: list[float]) -> None:
    assert delays(Backoff(wait=wait), 4) == expected


def test_random_waits_stay_within_their_bounds() -> None:
    backoff = Backoff(wait=tenacity.wait_random(2, 3), jitter=0.0)
    assert all(2 <= delay <= 3 for delay in delays(backoff, 50))


def test_stop_after_attempt_counts_the_failure_at_hand() -> None:
    backoff = Backoff(stop=stop_after_attempt(5))
    assert [backoff.verdict(Streak(number), None, 0.0, 0.0).gives_up for number in range(1, 7)] == [False] * 4 + [
        True
    ] * 2


def test_stop_after_delay_counts_from_the_first_failure_of_the_streak() -> None:
    backoff = Backoff(stop=stop_after_delay(10))
    streak = Streak().failed(100.0)
    assert not backoff.verdict(streak, None, 109.5, 0.0).gives_up
    assert backoff.verdict(streak.failed(110.0), None, 110.0, 0.0).gives_up


def test_stop_before_delay_looks_at_the_wait_that_would_follow() -> None:
    backoff = Backoff(wait=tenacity.wait_fixed(4), stop=stop_before_delay(10))
    streak = Streak().failed(100.0)
    assert not backoff.verdict(streak, None, 105.0, 0.0).gives_up
    assert backoff.verdict(streak, None, 106.0, 0.0).gives_up


def test_combined_stops_work_as_in_tenacity() -> None:
    backoff = Backoff(stop=stop_after_attempt(3) & stop_after_delay(10))
    assert not backoff.verdict(Streak(3, 0.0), None, 5.0, 0.0).gives_up
    assert backoff.verdict(Streak(3, 0.0), None, 10.0, 0.0).gives_up


def test_without_a_stop_it_never_gives_up() -> None:
    assert not Backoff().verdict(Streak(10**6), Failed(), 1e9, 0.0).gives_up


def test_the_state_that_tenacity_sees_is_that_of_the_streak() -> None:
    seen: list[RetryCallState] = []
    sleeps: list[float] = []

    def wait(state: RetryCallState) -> float:
        seen.append(state)
        sleeps.append(state.upcoming_sleep)
        return 0.0

    backoff = Backoff(wait=wait)
    backoff.verdict(Streak(3, since=7.0, waited_s=1.5), Failed(message="no disk"), 9.0, 0.0)
    (state,) = seen
    assert (state.fn, state.args, state.kwargs, state.next_action) == (None, (), {}, None)
    assert sleeps == [0.0]
    assert (state.attempt_number, state.start_time, state.idle_for) == (3, 7.0, 1.5)
    assert state.seconds_since_start == 2.0
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, AgentFailure)
    assert error.failure == Failed(message="no disk")


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (Rule(action="park"), True),
        (Rule(action="park", cause="exception"), True),
        (Rule(action="park", cause="signal"), False),
        (Rule(action="park", phase="execute"), True),
        (Rule(action="park", phase="setup"), False),
        (Rule(action="park", exception=FileNotFoundError), True),
        (Rule(action="park", exception=OSError), True),
        (Rule(action="park", exception=ValueError), False),
        (Rule(action="park", exception="OSError"), True),
        (Rule(action="park", exception="builtins.OSError"), True),
        (Rule(action="park", exception="other.OSError"), False),
        (Rule(action="park", exit_code=1), False),
        (Rule(action="park", signal="SIGKILL"), False),
        (Rule(action="park", exception=OSError, phase="setup"), False),
    ],
)
def test_a_rule_matches_when_every_field_that_is_given_fits(rule: Rule, matches: bool) -> None:
    assert rule.matches(Failed()) is matches


def test_a_name_without_its_module_matches_however_deep_the_module_lies() -> None:
    failure = Failed(exception_types=("app.io.disk.Full", "builtins.OSError"))
    for name, matches in (("Full", True), ("app.io.disk.Full", True), ("disk.Full", False), ("io.disk.Full", False)):
        assert Rule(action="park", exception=name).matches(failure) is matches


def test_rules_match_exit_codes_and_signals() -> None:
    assert Rule(action="park", exit_code=0).matches(Failed(exit_code=0))
    assert not Rule(action="park", exit_code=0).matches(Failed(exit_code=None))
    assert Rule(action="park", signal="SIGSEGV").matches(Failed(cause="signal", signal="SIGSEGV"))


def test_the_first_rule_that_matches_decides() -> None:
    backoff = Backoff(rules=(Rule(action="escalate", phase="execute"), Rule(action="park")))
    assert backoff.action_for(Failed()) == "escalate"
    assert backoff.action_for(Failed(phase="setup")) == "park"


def test_the_built_in_rules_park_on_78_and_restart_on_75_and_come_last() -> None:
    assert [(rule.exit_code, rule.action) for rule in BUILT_IN_RULES] == [(78, "park"), (75, "restart")]
    assert Backoff().action_for(Failed(exit_code=78)) == "park"
    assert Backoff().action_for(Failed(exit_code=75)) == "restart"
    own = Backoff(rules=(Rule(action="restart", exit_code=78),))
    assert own.action_for(Failed(exit_code=78)) == "restart"


def test_an_end_without_a_failure_matches_no_rule() -> None:
    assert Backoff(rules=(Rule(action="park"),)).action_for(None) is None
    assert Backoff().action_for(Failed(exit_code=1)) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wait": 5}, "wait=5: must be a tenacity wait object"),
        ({"wait": tenacity.wait_fixed}, "must be a tenacity wait object"),
        ({"wait": None}, "wait=None: must be a tenacity wait object"),
        ({"stop": 5}, "stop=5: must be a tenacity stop object"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"jitter": 1.5}, "jitter=1.5: must be a number from 0 to 1"),
        ({"jitter": True}, "jitter=True"),
        ({"stable_after": -1}, "stable_after=-1"),
        ({"stable_after": float("nan")}, "stable_after=nan"),
        ({"on_give_up": "stop"}, "on_give_up='stop': must be park or escalate"),
        ({"rules": ("park",)}, "rules: 'park': must be a Rule"),
        ({"rules": 5}, "rules=5"),
    ],
)
def test_a_wrong_field_is_a_spec_error_that_names_it(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Backoff(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "stop"}, "action='stop': must be one of restart, park, escalate"),
        ({"action": "park", "cause": "exceptoin"}, "cause='exceptoin'.*did you mean 'exception'"),
        ({"action": "park", "phase": "start"}, "phase='start': must be one of setup, execute, teardown"),
    ],
)
def test_a_rule_with_an_unknown_word_is_a_spec_error(fields: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Rule(**fields)  # type: ignore[arg-type]


def test_rules_know_every_cause_of_a_failure() -> None:
    failures = set(Cause) - {Cause.NORMAL, Cause.IGNORE, Cause.SHUTDOWN, Cause.MAX_RESTARTS, Cause.ESCALATED}
    assert failures == set(CAUSES)


def test_a_policy_is_a_value_that_cannot_be_changed() -> None:
    backoff = Backoff(rules=[Rule(action="park")])  # type: ignore[arg-type]
    assert backoff.rules == (Rule(action="park"),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        backoff.jitter = 0.5  # type: ignore[misc]


def test_a_streak_counts_failures_from_the_first_on() -> None:
    streak = Streak().failed(5.0).waits(0.25).failed(6.0).waits(0.5)
    assert streak == Streak(failures=2, since=5.0, waited_s=0.75)


@pytest.mark.parametrize(
    ("backoff", "line"),
    [
        (Backoff(), "Backoff()"),
        (Backoff(wait=tenacity.wait_fixed(3), stop=stop_after_attempt(5)),
         "Backoff(wait=wait_fixed(wait_fixed=3), stop=stop_after_attempt(max_attempt_number=5))"),
        (Backoff(jitter=0.5, on_give_up="escalate"), "Backoff(jitter=0.5, on_give_up='escalate')"),
        (Backoff(wait=delays), f"Backoff(wait={__name__}.delays)"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_as_text_a_policy_is_what_differs_from_the_default(backoff: Backoff, line: str) -> None:
    assert str(backoff) == line


def test_a_wrong_policy_is_told_so_word_for_word() -> None:
    for fields, message in (
        ({"wait": 5}, "backoff: wait=5: must be a tenacity wait object"),
        ({"stop": 5}, "backoff: stop=5: must be a tenacity stop object"),
        ({"jitter": -0.5}, "backoff: jitter=-0.5: must be a number from 0 to 1"),
        ({"jitter": 1.5}, "backoff: jitter=1.5: must be a number from 0 to 1"),
        ({"stable_after": -1}, "backoff: stable_after=-1: must be a finite number of seconds, 0 or more"),
        ({"on_give_up": "stop"}, "backoff: on_give_up='stop': must be park or escalate"),
        ({"rules": 5}, "backoff: rules=5: must be a tuple of Rule"),
        ({"rules": ["park"]}, "backoff: rules: 'park': must be a Rule"),
    ):
        with pytest.raises(SpecError) as refused:
            Backoff(**fields)
        assert str(refused.value) == message


def test_a_wrong_word_in_a_rule_is_told_so_word_for_word() -> None:
    causes = "exception, exit, signal, oom, watchdog, memory, start_failed, start_timeout, lost"
    for fields, message in (
        ({"action": "stop"}, "rule: action='stop': must be one of restart, park, escalate"),
        ({"action": "park", "cause": "lots"}, f"rule: cause='lots': must be one of {causes} (did you mean 'lost'?)"),
        ({"action": "park", "phase": 5}, "rule: phase=5: must be one of setup, execute, teardown"),
        ({"action": None}, "rule: action=None: must be one of restart, park, escalate"),
    ):
        with pytest.raises(SpecError) as refused:
            Rule(**fields)
        assert str(refused.value) == message


def test_every_action_cause_and_phase_may_stand_in_a_rule() -> None:
    for action in ("restart", "park", "escalate"):
        for cause in (None, *CAUSES):
            for phase in (None, "setup", "execute", "teardown"):
                Rule(action=action, cause=cause, phase=phase)


def test_a_failure_is_handed_to_tenacity_as_an_exception_with_its_message() -> None:
    assert str(AgentFailure(Failed(message="no disk"))) == "no disk"
    assert str(AgentFailure(None)) == "ended"
    assert AgentFailure(None).failure is None


@pytest.mark.parametrize("answer", [float("nan"), float("inf")])
def test_a_wait_that_is_no_finite_number_is_an_error_that_says_so(answer: float) -> None:
    with pytest.raises(ValueError, match=f"^wait answered {answer}$"):
        Backoff(wait=lambda state: answer).verdict(Streak(1), None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exit_code": "3"}, "rule: exit_code='3': must be a whole number"),
        ({"exit_code": True}, "rule: exit_code=True: must be a whole number"),
        ({"signal": 9}, "rule: signal=9: must be the name of a signal, such as 'SIGSEGV'"),
        ({"signal": "KILL"}, "rule: signal='KILL': must be the name of a signal, such as 'SIGSEGV'"),
        ({"exception": 3}, "rule: exception=3: must be an exception class, or its name"),
    ],
)
def test_a_rule_that_could_never_match_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Rule(action="park", **fields)  # type: ignore[arg-type]
    assert str(error.value) == message


class Hostile:
    """A policy that must not be asked anything but how long to wait."""

    def __init__(self) -> None:
        self.token, self.huge = 48151623, 10**400

    def __eq__(self, other: object) -> bool:
        raise KeyError("__eq__")

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)

    def __call__(self, state: object) -> float:
        return 1.0


def test_of_a_policy_that_is_not_tenacitys_the_text_says_the_name_and_none_of_what_is_in_it() -> None:
    assert str(Backoff(wait=Hostile())) == f"Backoff(wait={__name__}.Hostile)"


def test_the_text_of_a_class_of_ones_own_is_not_that_of_the_class_that_it_is_named_after() -> None:
    kind = type("Backoff", (Backoff,), {"__module__": "mine"})
    assert str(kind()) == "mine.Backoff()"
