"""What `explain` says of failures that all below a supervisor share: exact numbers for small trees."""

from __future__ import annotations

import pytest
from explained import SOON, looping, supervised
from tenacity import wait_fixed
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.simulation.explained.shared_failures import Shared
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy

EACH_MINUTE = Backoff(wait=wait_fixed(60), jitter=0.0, stable_after=1000.0)


def shared(path: str, *children: ChildEntry, **fields: object) -> tuple[Shared | None, Shared | None]:
    """Return what happens when all below the supervisor at `path` fail once, and when they stay down."""
    found = supervised(path, *children, **fields)
    return found.all_fail, found.all_stay_down


def test_children_that_are_given_up_on_fail_no_more_in_the_ten_minutes_that_are_looked_at() -> None:
    once, lasting = shared("", looping("a", backoff=SOON), looping("b", backoff=SOON))
    assert once == Shared(watched_s=0.0, failures=2, ends_after_s=None, why="", tree_ends=False)
    assert lasting == Shared(watched_s=600.0, failures=4, ends_after_s=None, why="", tree_ends=False)


def test_a_root_that_stands_one_round_of_failures_may_be_ended_by_the_next() -> None:
    once, lasting = shared("", looping("a", backoff=None), looping("b", backoff=None), max_restarts=2)
    assert once is not None
    assert (once.failures, once.ends_after_s, once.tree_ends) == (2, None, False)
    assert lasting == Shared(watched_s=600.0, failures=3, ends_after_s=0.0, why="max_restarts", tree_ends=True)


def test_a_supervisor_that_ends_does_not_end_the_tree_if_that_stands_it() -> None:
    pool = supervisor(
        "pool",
        looping("a", backoff=EACH_MINUTE),
        looping("b", backoff=EACH_MINUTE),
        max_restarts=2,
        max_seconds=100.0,
        backoff=SOON,
    )
    once, lasting = shared("pool", pool)
    assert once is not None
    assert (once.failures, once.ends_after_s, once.tree_ends) == (2, None, False)
    assert lasting is not None
    assert (lasting.failures, lasting.ends_after_s, lasting.why, lasting.tree_ends) == (3, 60.0, "max_restarts", False)


def test_failures_are_counted_over_the_whole_ten_minutes() -> None:
    _, lasting = shared("", looping("a", backoff=EACH_MINUTE))
    # At 0 s and each minute up to the tenth.
    assert lasting == Shared(watched_s=600.0, failures=11, ends_after_s=None, why="", tree_ends=False)


def test_a_supervisor_without_agents_has_no_failure_to_share() -> None:
    assert shared("", supervisor("empty", backoff=SOON)) == (None, None)
