"""Deadlines of a core that is replayed: silent ones fire when they are due, the others with their event.

What a silent one has set is unsure: it fires where the log tells it.
"""

from __future__ import annotations

import pytest

from orchestree.supervisor.deadlines import Deadline
from orchestree.supervisor.simulation.replayed.guided_deadlines import Firing, GuidedDeadlines

pytestmark = pytest.mark.policy


class Clock:
    """What time it is, which deadline the log tells, and those that have fired, by name."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fired: list[str] = []
        self.told: Deadline | None = None
        self.deadlines = GuidedDeadlines(lambda: self.now, lambda: self.told)

    def add(self, name: str, at: float, *, silent: bool = False) -> Deadline:
        return self.deadlines.add(at, lambda: self.fired.append(name), silent=silent)

    def fire(self, now: float, firing: Firing = Firing.ALL_DUE) -> str:
        """Fire what is due; return the names, in order."""
        self.now, self.fired = now, []
        self.deadlines.firing = firing
        while (deadline := self.deadlines.pop_due(now)) is not None:
            deadline.action()
        self.deadlines.firing = Firing.ALL_DUE
        return " ".join(self.fired)


def test_all_that_is_due_fires_in_its_order() -> None:
    clock = Clock()
    for name, at in (("c", 3.0), ("a", 1.0), ("later", 4.5), ("b", 1.0)):
        clock.add(name, at, silent=name == "a")
    assert clock.fire(4.0) == "a b c"
    assert clock.deadlines.soonest() == 4.5


def test_only_silent_ones_fire_by_themselves() -> None:
    clock = Clock()
    tells = clock.add("tells", 1.0)
    clock.add("silent", 2.0, silent=True)
    clock.add("later", 3.0, silent=True)
    assert clock.deadlines.telling() is tells
    assert clock.fire(2.0, Firing.SILENT) == "silent"
    assert clock.fire(2.0, Firing.SILENT) == ""
    assert clock.fire(2.5) == "tells"
    assert clock.deadlines.telling() is None


def test_a_cancelled_one_is_no_next_one() -> None:
    clock = Clock()
    later = {silent: clock.add("later", 2.0, silent=silent) for silent in (True, False)}
    for silent in (True, False):
        clock.deadlines.cancel(clock.add("sooner", 1.0, silent=silent))
    assert clock.deadlines.silent(9.0, also_then=False) == 2.0
    assert clock.deadlines.telling() is later[False]


def test_one_that_leads_to_nothing_is_passed_over_and_fires_with_the_others() -> None:
    clock = Clock()
    nothing, tells = clock.add("nothing", 1.0), clock.add("tells", 2.0)
    assert clock.deadlines.telling() is nothing
    clock.deadlines.pass_over(nothing)
    assert clock.deadlines.telling() is tells
    assert clock.fire(2.0) == "nothing tells"


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


def unsure(clock: Clock, *, by: Firing) -> Deadline:
    """Return what a silent one that was due at 1.0 has set for 2.0."""
    found: list[Deadline] = []
    clock.deadlines.add(1.0, lambda: found.append(clock.add("unsure", 2.0)), silent=True)
    clock.fire(1.0, by)
    return found[0]


@pytest.mark.parametrize("by", [Firing.SILENT, Firing.ALL_DUE])
def test_what_a_silent_one_has_set_fires_where_the_log_tells_it(by: Firing) -> None:
    clock = Clock()
    deadline = unsure(clock, by=by)
    assert (clock.deadlines.soonest(), clock.deadlines.telling(), clock.deadlines.told()) == (None, None, None)
    clock.add("known", 1.25)
    assert clock.fire(9.0) == "known"
    clock.add("known", 1.25)
    clock.told = deadline
    assert clock.deadlines.told() is deadline
    assert clock.fire(1.5) == "unsure known"
    assert clock.deadlines.told() is None


def test_what_comes_after_a_silent_one_is_unsure_no_more() -> None:
    clock = Clock()

    def tells() -> None:
        clock.add("set by one that tells", 2.0)

    clock.add("silent", 1.0, silent=True)
    clock.deadlines.add(1.0, tells)
    assert clock.fire(1.0) == "silent"
    clock.add("silent", 1.5, silent=True)
    clock.fire(1.5)
    clock.add("set by nobody", 2.0)
    assert clock.fire(2.0) == "set by one that tells set by nobody"


def test_what_is_set_at_a_moment_that_no_event_shows_is_unsure() -> None:
    clock = Clock()
    clock.deadlines.is_unsure = True
    clock.add("unsure", 1.0)
    clock.add("silent", 1.0, silent=True)
    assert clock.fire(1.0) == "silent"


def test_a_silent_one_that_the_log_tells_fires_alone_before_it_is_due() -> None:
    clock = Clock()
    clock.told = clock.add("look", 5.0, silent=True)
    clock.add("known", 1.0)
    assert clock.fire(2.0, Firing.TOLD) == "look"
    assert clock.fire(9.0) == "known"


def test_one_that_is_sure_is_never_fired_before_it_is_due() -> None:
    clock = Clock()
    clock.told = clock.add("known", 5.0)
    assert clock.fire(2.0, Firing.TOLD) == clock.fire(2.0) == ""


def test_an_unsure_one_can_be_cancelled() -> None:
    clock = Clock()
    clock.told = unsure(clock, by=Firing.SILENT)
    clock.deadlines.cancel(clock.told)
    assert clock.deadlines.told() is None
    assert clock.fire(9.0) == ""
