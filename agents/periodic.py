"""The grid on which the rounds of periodic agents lie. Pure."""

from __future__ import annotations

import math


def next_round(started: float, interval: float, done: int, now: float) -> int:
    """Return the number of the next round; round *n* is due at ``started + n * interval``.

    It is the first one after round `done` that is not overdue at `now` (due exactly now is in time), so that
    rounds never drift, bunch up or overlap. The rounds between the two were missed.
    """
    return max(done + 1, math.ceil((now - started) / interval))
