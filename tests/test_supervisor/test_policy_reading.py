"""Policy that events say as text is read back as it was, or not at all where the text does not say all of it."""

from __future__ import annotations

import pytest
from tenacity import (
    RetryCallState,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_before_delay,
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
)
from virtual import agent

from orchestree import Backoff, Rule
from orchestree.agents.ends import Cause, CrashReport
from orchestree.strategies.backoff import Streak, WaitPolicy
from orchestree.supervisor.plain import LEFT_OUT
from orchestree.supervisor.policy_text import policy_of
from orchestree.supervisor.simulation.replayed.policy_reading import backoff_of, said_of, value_of

pytestmark = pytest.mark.policy


def own_wait(state: RetryCallState) -> float:
    return 1.0


def called_as_one_of_tenacitys(state: RetryCallState) -> float:
    return 1.0


called_as_one_of_tenacitys.__qualname__ = "wait_none"


class OwnBackoff(Backoff):
    """Decides as its class says, whatever it says of itself."""

    def __str__(self) -> str:
        return "Backoff()"


class Odd(type):
    def __repr__(cls) -> str:
        return f"<({cls.__name__}, 'odd>"


class OddError(Exception, metaclass=Odd):
    """An exception whose class shows itself in its own way."""


def crash_of(kind: str) -> CrashReport:
    return CrashReport(cause=Cause.EXCEPTION, message="", exception_types=(kind, "builtins.Exception"))


SAID = [
    Backoff(),
    Backoff(wait=wait_fixed(0.1234567), stop=stop_after_attempt(4), jitter=0.0, stable_after=7.5),
    Backoff(wait=wait_none(), on_give_up="escalate", stop=stop_after_delay(60)),
    Backoff(wait=wait_incrementing(start=1, increment=2, max=9), stop=stop_before_delay(3.5)),
    Backoff(wait=wait_incrementing(start=1, increment=2)),
    Backoff(wait=wait_exponential(multiplier=0.5, max=40, exp_base=3, min=0.25)),
    Backoff(wait=wait_exponential()),
    Backoff(rules=(Rule(action="park", exception="KeyError"), Rule(action="escalate", exit_code=3, phase="setup"))),
]
NOT_SAID = [
    Backoff(wait=own_wait),
    Backoff(wait=called_as_one_of_tenacitys),
    Backoff(wait=lambda state: 1.0),
    Backoff(stop=lambda state: True),
    Backoff(wait=wait_random(0, 1)),
    Backoff(wait=wait_fixed(1) + wait_random(0, 1)),
    Backoff(wait=wait_chain(wait_fixed(1), wait_fixed(2))),
    Backoff(stop=stop_any(stop_after_attempt(2), stop_after_delay(3))),
    Backoff(wait=wait_exponential(exp_base=1e16)),
    Backoff(wait=wait_fixed(1e16)),
    OwnBackoff(),
]


@pytest.mark.parametrize("backoff", SAID, ids=str)
def test_a_backoff_of_which_the_text_says_all_is_the_same(backoff: Backoff) -> None:
    read = backoff_of(str(backoff))
    assert read is not None
    streak = Streak()
    for failure in range(1, 8):
        streak = streak.failed(failure * 2.0)
        asked = (streak, None, failure * 2.0, 0.25)
        assert read.verdict(*asked) == backoff.verdict(*asked)
        streak = streak.waits(0.5)


@pytest.mark.parametrize("backoff", NOT_SAID, ids=str)
def test_a_backoff_of_which_the_text_does_not_say_all_is_not_read(backoff: Backoff) -> None:
    (text,) = policy_of(agent("a", backoff=backoff)).values()
    assert backoff_of(text) is None


def test_of_a_backoff_with_code_in_it_all_else_is_read() -> None:
    rules = (Rule(action="park", exception="a), jitter=0.5, ("), Rule(action="escalate", exit_code=3))
    backoff = Backoff(
        own_wait, stop_any(stop_after_attempt(2)), jitter=0.1, stable_after=7.0, on_give_up="escalate", rules=rules
    )
    assert said_of(str(backoff)) == {"jitter": 0.1, "stable_after": 7.0, "on_give_up": "escalate", "rules": rules}


@pytest.mark.parametrize("wait", [own_wait, lambda state: 1.0, wait_random(0, 1), wait_exponential_jitter(jitter=2)])
def test_what_its_text_leaves_out_is_the_default(wait: WaitPolicy) -> None:
    said = said_of(str(Backoff(wait=wait)))
    assert said == {"stop": None, "jitter": 0.25, "stable_after": 30.0, "on_give_up": "park", "rules": ()}


def test_rules_that_cannot_be_read_are_not_said_and_all_else_is() -> None:
    said = said_of(str(Backoff(jitter=0.5, rules=(Rule(action="park", exception=OddError),))))
    assert "rules" not in said
    assert said["jitter"] == 0.5


def test_of_text_that_was_cut_what_is_left_out_is_not_known() -> None:
    text = str(Backoff(jitter=0.5, stable_after=7.0, rules=(Rule(action="park", exit_code=3),)))
    assert said_of(text[:-20] + LEFT_OUT) == {"jitter": 0.5, "stable_after": 7.0}
    assert said_of("Backoff(jitter=0.5, stable_after=7" + LEFT_OUT) == {"jitter": 0.5}
    assert said_of("Backoff(jitter=0.5, stable" + LEFT_OUT) == {"jitter": 0.5}


def test_of_a_class_of_a_users_only_that_is_said_which_its_code_does_not_decide() -> None:
    text = f"shop.{Backoff(jitter=0.5, stable_after=7.0, rules=(Rule(action='park'),))}"
    assert said_of(text) == {"stable_after": 7.0}


def test_a_class_of_an_exception_is_that_one_alone() -> None:
    (rule,) = said_of(str(Backoff(rules=(Rule(action="park", exception=TimeoutError),))))["rules"]
    assert rule.matches(crash_of("builtins.TimeoutError"))
    assert not rule.matches(crash_of("shop.TimeoutError"))


@pytest.mark.parametrize(
    "text", ["", "None", "Backoff", "Backoff(", "Backoff(wait=exit())", "Backoff(jitter=7)", "Backoff(x=1)", "(" * 9999]
)
def test_other_text_is_no_backoff_and_nothing_is_called(text: str) -> None:
    assert backoff_of(text) is None


def test_other_values_are_read_as_they_are_and_words_stay_words() -> None:
    texts = ("None", "1.5", "'infinity'", "('a', 'b')", "True", "one_for_all", "__import__('os')")
    read = (None, 1.5, "infinity", ("a", "b"), True, "one_for_all", "__import__('os')")
    assert tuple(value_of(text) for text in texts) == read


def test_what_a_users_code_gets_is_not_said() -> None:
    entry = agent("a", params={"password": "hunter2"}, shutdown=1.0, watchdog=3.0)
    assert policy_of(entry) == {"shutdown": "1.0", "watchdog": "3.0"}
