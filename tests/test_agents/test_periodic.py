"""The grid of periodic agents, under virtual time."""

from __future__ import annotations

import pytest

from orchestree.agents.periodic import next_round

pytestmark = pytest.mark.portable


@pytest.mark.parametrize(
    ("done", "now", "coming"),
    [
        (0, 100.0, 1),  # an instant round
        (0, 100.9, 1),
        (0, 101.0, 1),  # due exactly now: in time
        (0, 101.1, 2),  # overdue: missed
        (0, 105.5, 6),
        (7, 107.2, 8),
        (7, 106.9, 8),  # woken a little early: the same round never comes twice
    ],
)
def test_the_next_round_is_the_first_that_is_not_overdue(done: int, now: float, coming: int) -> None:
    assert next_round(started=100.0, interval=1.0, done=done, now=now) == coming


def test_rounds_do_not_drift_however_long_each_takes() -> None:
    started, interval, now, done = 3.0, 0.1, 3.0, 0
    for _ in range(100_000):
        now += 0.07  # the round, and waking up late
        done = next_round(started, interval, done, now)
        now = started + done * interval
    assert done == 100_000
    assert now == started + 100_000 * interval
