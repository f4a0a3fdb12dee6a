"""The heap of deadlines."""

from __future__ import annotations

import pytest

from orchestree.supervisor.deadlines import Deadlines

pytestmark = pytest.mark.policy


def nothing() -> None:
    """Do nothing."""


def fire(deadlines: Deadlines, now: float) -> int:
    """Fire all that is due; return how many that were."""
    count = 0
    while (deadline := deadlines.pop_due(now)) is not None:
        deadline.action()
        count += 1
    return count


def test_an_empty_heap_has_no_soonest_moment() -> None:
    assert Deadlines().soonest() is None
    assert Deadlines().pop_due(1e9) is None


def test_deadlines_fire_in_order_and_equal_ones_in_the_order_they_were_set() -> None:
    deadlines, fired = Deadlines(), list[str]()
    for at, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        deadlines.add(at, lambda name=name: fired.append(name))  # type: ignore[misc]
    assert deadlines.soonest() == 1.0
    assert fire(deadlines, 2.0) == 4
    assert fired == ["a", "b", "c", "d"]


def test_a_deadline_is_due_at_its_very_moment_and_not_before() -> None:
    deadlines = Deadlines()
    deadlines.add(1.5, nothing)
    assert fire(deadlines, 1.4999) == 0
    assert fire(deadlines, 1.5) == 1
    assert fire(deadlines, 99.0) == 0


def test_a_cancelled_deadline_never_fires_and_is_not_the_soonest() -> None:
    deadlines = Deadlines()
    first = deadlines.add(1.0, nothing)
    deadlines.add(2.0, nothing)
    deadlines.cancel(first)
    deadlines.cancel(first)
    deadlines.cancel(None)
    assert deadlines.soonest() == 2.0
    assert fire(deadlines, 5.0) == 1


def test_cancelling_one_that_has_fired_is_fine() -> None:
    deadlines = Deadlines()
    deadlines.add(1.0, nothing)
    fired = deadlines.pop_due(1.0)
    assert fired is not None
    assert fired.cancelled is True
    deadlines.cancel(fired)
    assert deadlines.soonest() is None


def test_many_cancelled_deadlines_do_not_pile_up() -> None:
    deadlines = Deadlines()
    kept = deadlines.add(0.5, nothing)
    for _ in range(10_000):
        deadlines.cancel(deadlines.add(1.0, nothing))
    assert len(deadlines._heap) < 200
    assert deadlines.soonest() == kept.at


def test_cancelled_deadlines_are_swept_out_when_they_are_more_than_64_and_more_than_half() -> None:
    few, many = Deadlines(), Deadlines()
    for deadlines, size, kept in ((few, 100, 64), (many, 200, 100)):
        late = [deadlines.add(1.0 + number, nothing) for number in range(size)]
        for deadline in late[-kept:]:
            deadlines.cancel(deadline)
        assert len(deadlines._heap) == size
        deadlines.cancel(late[0])
        assert len(deadlines._heap) == size - kept - 1
        assert fire(deadlines, 1e9) == size - kept - 1


def test_a_cancelled_deadline_that_came_first_is_counted_no_more_when_it_is_gone() -> None:
    deadlines = Deadlines()
    late = [deadlines.add(100.0 + number, nothing) for number in range(200)]
    for number in range(100):
        deadlines.cancel(deadlines.add(float(number), nothing))
        assert deadlines.soonest() == 100.0
        if number % 2 == 0:
            deadlines.cancel(late[-1 - number])
    assert len(deadlines._heap) == 200
    for number in range(1, 100, 2):
        deadlines.cancel(late[-1 - number])
    assert len(deadlines._heap) == 200
    deadlines.cancel(late[1])
    assert len(deadlines._heap) == 99
