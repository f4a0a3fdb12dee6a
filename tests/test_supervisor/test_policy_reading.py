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
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
)
from virtual import agent

from orchestree import Backoff, Rule
from orchestree.strategies.backoff import Streak
from orchestree.supervisor.policy_text import policy_of
from orchestree.supervisor.simulation.replayed.policy_reading import backoff_of, value_of

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
