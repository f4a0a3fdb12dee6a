"""The words that `explain` has for a policy: each default, and each thing that can be asked for."""

from __future__ import annotations

import math

import pytest
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.phrases import short_duration
from orchestree.supervisor.simulation.explained.policy_words import (
    PolicyWords,
    words_for_agent,
    words_for_supervisor,
)

pytestmark = pytest.mark.policy

PLAIN = supervisor("plain")
ELABORATE = Backoff(
    wait=wait_fixed(3),
    jitter=0.5,
    stop=stop_after_attempt(5),
    on_give_up="escalate",
    stable_after=90.0,
    rules=(
        Rule(action="park", phase="setup"),
        Rule(action="restart", exception=ValueError, exit_code=3),
        Rule(action="escalate"),
    ),
)
ELABORATE_WAIT = (
    "wait_fixed(wait_fixed=3), up to 50% shorter; anew after 1m 30s ready, "
    "given up on (escalate) by stop_after_attempt(max_attempt_number=5)"
)
ELABORATE_RULES = ("phase setup: parks", "exception ValueError, exit code 3: restarts", "anything: ends its supervisor")


def test_an_agent_about_which_nothing_was_said_has_the_defaults() -> None:
    assert words_for_agent(agent("a"), PLAIN, Backoff()) == PolicyWords(
        restart="transient: comes back after a failure",
        strategy="one_for_one",
        backoff="at once, then from 0.25s doubled up to 30s, up to 25% shorter; anew after 30s ready",
        rules=(),
        shutdown="5s",
        start_timeout="1m",
    )


def test_everything_that_was_said_about_an_agent_is_there() -> None:
    entry = agent(
        "a", restart="permanent", strategy="one_for_all", shutdown="brutal_kill", watchdog=90.0, significant=False
    )
    assert words_for_agent(entry, PLAIN, ELABORATE) == PolicyWords(
        restart="permanent: comes back after every end",
        strategy="one_for_all (its own)",
        backoff=ELABORATE_WAIT,
        has_stop=True,
        rules=ELABORATE_RULES,
        shutdown="by a kill at once",
        start_timeout="1m",
        watchdog="1m 30s",
    )


def test_an_agent_without_limits_or_a_backoff_is_said_to_have_none() -> None:
    entry = agent("a", restart="temporary", shutdown="infinity", start_timeout=None)
    words = words_for_agent(entry, supervisor("s", strategy="rest_for_one"), None)
    assert (words.restart, words.strategy) == ("temporary: never comes back", "rest_for_one")
    assert (words.backoff, words.has_stop, words.rules) == ("none: at once, always", False, ())
    assert (words.shutdown, words.start_timeout) == ("without a limit", None)


def test_a_strategy_that_is_its_supervisors_too_is_not_said_to_be_its_own() -> None:
    parent = supervisor("s", strategy="one_for_all")
    assert words_for_agent(agent("a", strategy="one_for_all"), parent, None).strategy == "one_for_all"


def test_a_significant_agent_is_said_to_be_one() -> None:
    parent = supervisor("s", agent("a", significant=True), auto_shutdown="any_significant")
    assert words_for_agent(agent("a", significant=True), parent, None).significant


def test_a_supervisor_has_a_window_and_a_policy_of_its_own() -> None:
    inner = supervisor(
        "s",
        agent("a", significant=True),
        auto_shutdown="any_significant",
        restart="transient",
        strategy="rest_for_one",
        significant=True,
        max_restarts=3,
        max_seconds=60,
        shutdown=7,
    )
    assert words_for_supervisor(inner, ELABORATE, is_root=False) == PolicyWords(
        restart="transient: comes back after a failure",
        strategy="rest_for_one",
        backoff=ELABORATE_WAIT,
        has_stop=True,
        rules=ELABORATE_RULES,
        shutdown="7s",
        window="at most 3 restarts in 1m",
        auto_shutdown="any_significant",
        significant=True,
    )


def test_the_root_is_restarted_by_nobody() -> None:
    assert words_for_supervisor(supervisor(""), ELABORATE, is_root=True) == PolicyWords(
        restart=None,
        strategy="one_for_one",
        backoff=None,
        rules=(),
        shutdown="without a limit",
        window="at most 10 restarts in 10s",
    )


def test_a_backoff_without_jitter_or_stop_says_nothing_of_them() -> None:
    exact = words_for_agent(agent("a"), PLAIN, Backoff(wait=wait_fixed(3), jitter=0.0))
    assert (exact.backoff, exact.has_stop) == ("wait_fixed(wait_fixed=3); anew after 30s ready", False)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0s"),
        (0.0123, "0.012s"),
        (0.1, "0.1s"),
        (0.1875, "0.19s"),
        (42.0, "42s"),
        (59.99, "59.99s"),
        (59.996, "1m"),
        (60.0, "1m"),
        (200.4, "3m 20s"),
        (3599.7, "1h"),
        (18060.0, "5h 1m"),
        (86400.0, "1d"),
        (183600.0, "2d 3h"),
        (1e11, "1157407d 9h"),
        (1e300, "1e+300s"),
        (math.inf, "for ever"),
    ],
)
def test_seconds_have_at_most_two_units(number: float, text: str) -> None:
    assert short_duration(number) == text
