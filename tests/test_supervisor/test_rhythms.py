"""The fastest rhythm of failures, against all rhythms that there are: for few failures every one can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

import pytest

from orchestree.supervisor.simulation.explained.rhythms import fastest_failures, most_failures

pytestmark = pytest.mark.policy

MOST: Final = 6


class Case(NamedTuple):
    """A policy, and the seconds in which the failures have to be."""

    delays: tuple[float, ...]
    goes_on: bool
    stable_after: float
    within: float


CASES: Final = [
    Case(*values)
    for values in product(
        [(0.0, 0.25, 1.0), (1.0, 0.0), (3.0, 0.25, 0.25), (0.5,), (0.25, 2.0, 0.0, 0.0)],
        [False, True],
        [0.0, 0.5, 2.0],
        [0.0, 1.0, 2.5, 4.0],
    )
]


def all_moments(case: Case, failures: int) -> Iterator[float]:
    """Yield when the last of so many failures comes, for every rhythm in which they fit."""

    def after(failure: int, place: int, now: float) -> Iterator[float]:
        if now > case.within:
            return
        if failure == failures:
            yield now
            return
        ready = now + case.delays[place]
        if place + 1 < len(case.delays):
            yield from after(failure + 1, place + 1, ready)
        elif case.goes_on:
            yield from after(failure + 1, place, ready)
        yield from after(failure + 1, 0, ready + case.stable_after)

    for first in range(len(case.delays)):
        yield from after(1, first, 0.0)


def lasts(case: Case, bursts: tuple[int, ...], failures: int) -> float:
    """Return the seconds from the first to the last of the last `failures` in these bursts."""
    now, moments = 0.0, []
    for number, burst in enumerate(bursts):
        now += case.stable_after if number else 0.0
        for place in range(burst):
            moments.append(now)
            now += case.delays[min(place, len(case.delays) - 1)]
    return moments[-1] - moments[-failures]


def test_no_rhythm_has_more_failures_than_are_said() -> None:
    for case in CASES:
        fits = [failures for failures in range(1, MOST + 1) if any(True for _ in all_moments(case, failures))]
        assert most_failures(**case._asdict(), enough=MOST) == max(fits), case


def test_no_rhythm_is_faster_than_the_bursts_that_are_named() -> None:
    for case, failures in product(CASES, range(1, MOST + 1)):
        bursts = fastest_failures(**case._asdict(), failures=failures)
        soonest = min(all_moments(case, failures), default=None)
        if bursts is None or soonest is None:
            assert bursts is None and soonest is None, case  # noqa: PT018 - both or none
        else:
            assert lasts(case, bursts, failures) == soonest, case
            assert case.goes_on or max(bursts) <= len(case.delays), case


def test_failures_that_end_just_when_the_time_is_over_are_counted_however_sums_are_rounded() -> None:
    # 0.1 s three times is a little more than 0.3 s in floats.
    assert most_failures((0.1,), goes_on=True, stable_after=9.0, within=0.3, enough=50) == 4
    assert most_failures((0.1,), goes_on=True, stable_after=9.0, within=0.299, enough=50) == 3
    assert most_failures((0.0,), goes_on=False, stable_after=0.1, within=0.3, enough=50) == 4
