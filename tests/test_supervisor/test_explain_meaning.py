"""What `explain` says means what it says: ranges are ranges, and no two lines contradict each other."""

from __future__ import annotations

import random
import re

import pytest
from explained import SOON, beating, explained, in_stop_on_empty, looping, named, root, warned, when
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_fixed, wait_random
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.simulation.shown.explanation_text import explanation_lines
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy


def rows(head: str, path: str, *children: ChildEntry, **fields: object) -> list[str]:
    """Return the rows with this head of the agent at `path`, each on one line."""
    shown = "\n".join(explanation_lines(explain(root(*children, **fields), path)))
    found = re.findall(rf"^  {head} +(.*(?:\n {{12}}.*)*)", shown.rpartition("\n\n")[2], re.MULTILINE)
    return [re.sub(r"\s+", " ", one) for one in found]


def at_once(state: RetryCallState) -> float:
    return -3.0


@pytest.mark.slow
def test_when_the_tree_ends_is_a_range_where_jitter_is() -> None:
    store = supervisor("store", looping("it", backoff=Backoff()), max_restarts=3, max_seconds=30)
    [ends] = rows("ends", "store/it", store, max_restarts=5, max_seconds=60)
    assert ends == (
        "supervisor store ends by the 4th failure, 0.56-0.75s after the first (max_restarts); "
        "the tree by the 24th, 6.19-8.25s after the first"
    )


@pytest.mark.slow
def test_a_tree_that_ends_by_different_failures_is_told_of_the_longest_and_of_the_shortest_delays() -> None:
    inner = supervisor("inner", looping("it", backoff=None), max_restarts=0, backoff=Backoff(wait=wait_fixed(6)))
    [ends] = rows("ends", "inner/it", inner, max_restarts=2, max_seconds=9)
    assert ends == (
        "with the longest delays supervisor inner ends by the 1st failure (max_restarts); comes back with it, again "
        "and again; with the shortest supervisor inner ends by the 1st failure (max_restarts); the tree by the 3rd, "
        "9s after the first"
    )


@pytest.mark.parametrize(
    "backoff",
    [
        Backoff(wait=lambda _: random.uniform(1, 5), stop=stop_after_attempt(9)),
        Backoff(wait=wait_fixed(3) + wait_random(0, 2), stop=stop_after_delay(20)),
    ],
    ids=["function", "sum"],
)
def test_other_draws_of_one_policy_are_no_other_matter(backoff: Backoff) -> None:
    agent = explained("it", looping("it", backoff=backoff))
    assert agent.fails.longest.is_sample
    assert agent.fails_in_setup is None
    assert agent.fails.shortest.delays_s[0] == pytest.approx(0.75 * agent.fails.longest.delays_s[0])


def test_a_policy_that_draws_and_takes_failures_in_setup_otherwise_is_another_matter() -> None:
    rules = (Rule(action="park", phase="setup"),)
    agent = explained("it", looping("it", backoff=Backoff(wait=wait_random(1, 5), stop=SOON.stop, rules=rules)))
    assert agent.fails_in_setup is not None
    assert when(agent.fails_in_setup.longest.parked) == (1, 0.0)


@pytest.mark.slow
def test_a_window_that_is_exhausted_after_more_failures_than_are_looked_at_else_is_how_it_ends() -> None:
    neg = looping("neg", backoff=Backoff(wait=at_once))
    assert rows("ends", "neg", neg, max_restarts=1000) == [
        "supervisor / ends by the 1001st failure, 0s after the first (max_restarts), and with it the tree"
    ]
    [told] = rows("ends", "in/neg", supervisor("in", neg, max_restarts=1000))
    assert told.startswith("supervisor in ends by the 1001st failure, 0s after the first (max_restarts); comes back")


@pytest.mark.slow
def test_what_ends_its_tree_by_exhausting_a_window_is_not_said_to_keep_it_alive() -> None:
    neg = looping("neg", backoff=Backoff(wait=at_once))
    found = named(in_stop_on_empty(neg, backoff=None, max_restarts=1000))
    assert found == [("exhaustible-window", "")]


def test_of_a_periodic_agent_that_keeps_its_tree_alive_only_in_its_rhythm_that_is_said() -> None:
    neg = beating("neg", 2.0, backoff=Backoff(wait=at_once))
    found = warned(in_stop_on_empty(neg, backoff=None), "unreachable-give-up")
    assert found.problem == (
        "no `stop`: still restarted after 64 failures in a row, if it fails each 2s (its interval), "
        "so this stop_on_empty tree never ends"
    )


@pytest.mark.slow
def test_the_time_after_which_something_ends_at_the_soonest_is_called_that() -> None:
    found = explain(root(looping("a", backoff=Backoff()), looping("b", backoff=Backoff()), max_restarts=5))
    assert warned(found, "exhaustible-window").problem == (
        "a, b (each) alone ends it: 6th failure after 2.81s at the soonest, 5 restarts in 10s allowed"
    )
    assert "it ends by the 6th failure, after 0.19s at the soonest" in " ".join(str(found).split())


def test_a_slash_is_the_whole_tree() -> None:
    tree = root(looping("it", backoff=SOON))
    assert explain(tree, "/") == explain(tree, "") == explain(tree)


def test_its_repr_is_a_summary() -> None:
    tree = root(looping("it", backoff=None), supervisor("in", looping("other", backoff=SOON), backoff=SOON))
    assert repr(explain(tree)) == "<Explanation of the daemon tree: 2 agents, 2 supervisors; 1 warning>"
    assert repr(explain(tree, "in")) == "<Explanation of in: 1 agent, 1 supervisor; 0 warnings>"
    assert repr(explain(tree, "in/other")) == "<Explanation of in/other: 1 agent, 0 supervisors; 0 warnings>"


def test_printed_it_is_the_text_of_the_command() -> None:
    found = explain(root(looping("it", backoff=SOON)))
    assert str(found).splitlines() == list(explanation_lines(found))
    assert str(found).startswith("daemon tree: 1 agent, 1 supervisor; 0 warnings\n\n/: supervisor of 1 child\n")
