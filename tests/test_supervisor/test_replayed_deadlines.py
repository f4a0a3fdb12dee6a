"""Deadlines of a core that is replayed: silent ones fire when they are due, the others with their event."""

from __future__ import annotations

import pytest

from orchestree.supervisor.simulation.replayed.guided_deadlines import GuidedDeadlines

pytestmark = pytest.mark.policy


class Clock:
    """What time it is, and the deadlines that have fired, by name."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fired: list[str] = []
        self.deadlines = GuidedDeadlines(lambda: self.now)

    def add(self, name: str, at: float, *, silent: bool = False) -> None:
        self.deadlines.add(at, lambda: self.fired.append(name), silent=silent)

    def fire(self, now: float, *, only_silent: bool = False, rough_too: bool = True) -> str:
        """Fire what is due; return the names, in order."""
        self.now, self.fired = now, []
        self.deadlines.only_silent, self.deadlines.rough_too = only_silent, rough_too
        while (deadline := self.deadlines.pop_due(now)) is not None:
            deadline.action()
        self.deadlines.only_silent = False
        return " ".join(self.fired)


def test_all_that_is_due_fires_in_its_order() -> None:
    clock = Clock()
    for name, at in (("c", 3.0), ("a", 1.0), ("later", 4.5), ("b", 1.0)):
        clock.add(name, at, silent=name == "a")
    assert clock.fire(4.0) == "a b c"
    assert clock.deadlines.soonest() == 4.5


def test_only_silent_ones_fire_by_themselves() -> None:
    clock = Clock()
    clock.add("tells", 1.0)
    clock.add("silent", 2.0, silent=True)
    clock.add("later", 3.0, silent=True)
    assert clock.deadlines.telling() == 1.0
    assert clock.fire(2.0, only_silent=True) == "silent"
    assert clock.fire(2.0, only_silent=True) == ""
    assert clock.fire(2.5) == "tells"
    assert clock.deadlines.telling() is None


def test_a_cancelled_one_is_no_next_one() -> None:
    clock = Clock()
    for silent in (True, False):
        clock.add("later", 2.0, silent=silent)
        clock.deadlines.cancel(clock.deadlines.add(1.0, lambda: None, silent=silent))
    assert (clock.deadlines.silent(9.0, also_then=False), clock.deadlines.telling()) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("moment", "also_then", "due"),
    [(4.9, True, None), (5.0, False, None), (5.0, True, 5.0), (5.1, False, 5.0), (5.1, True, 5.0)],
)
def test_one_that_is_due_at_the_moment_of_an_event_is_due_before_it_or_with_it(
    moment: float, also_then: bool, due: float | None
) -> None:
    clock = Clock()
    clock.add("tells", 1.0)
    clock.add("silent", 5.0, silent=True)
    assert clock.deadlines.silent(moment, also_then=also_then) == due


def test_one_that_was_set_at_the_moment_for_which_it_is_due_comes_after_the_event() -> None:
    clock = Clock()
    clock.now = 5.0
    clock.add("silent", 5.0, silent=True)
    assert clock.deadlines.silent(5.0, also_then=True) is None
    assert clock.deadlines.silent(5.1, also_then=False) == 5.0


def test_what_a_silent_one_has_set_may_be_put_off_for_once_while_the_rest_fires() -> None:
    clock = Clock()
    clock.deadlines.add(1.0, lambda: clock.add("rough", 2.0), silent=True)
    clock.fire(1.0, only_silent=True)
    clock.add("known", 2.0)
    assert clock.fire(2.5, rough_too=False) == "known"
    soonest = clock.deadlines.soonest()
    assert soonest is not None
    assert 2.5 < soonest < 2.5 + 1e-12
    assert clock.fire(3.0) == "rough"
    assert clock.deadlines.soonest() is None


def test_what_anything_else_has_set_is_never_put_off() -> None:
    clock = Clock()
    clock.deadlines.add(1.0, lambda: clock.add("set by one that tells", 2.0))
    clock.deadlines.add(1.0, lambda: clock.add("silent", 2.0, silent=True), silent=True)
    clock.fire(1.0, only_silent=True)
    clock.fire(1.0)
    assert clock.fire(2.0, rough_too=False) == "silent set by one that tells"


def test_one_that_was_put_off_can_still_be_cancelled() -> None:
    clock = Clock()
    found = []
    clock.deadlines.add(1.0, lambda: found.append(clock.deadlines.add(2.0, lambda: None)), silent=True)
    clock.fire(1.0, only_silent=True)
    clock.fire(2.5, rough_too=False)
    clock.deadlines.cancel(found[0])
    assert clock.deadlines.soonest() is None
    assert clock.fire(9.0) == ""
