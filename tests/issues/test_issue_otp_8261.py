"""erlang/otp 8261: before each restart the whole list of past restarts was walked, twice.

Here a restart looks at a bounded number of stamps, however many there are, and the bound stays exact.
"""

from __future__ import annotations

from typing import Self

import pytest
from checked import CheckedTree
from virtual import agent

from orchestree.strategies.window import RestartWindow

LOOKS = 4
"""How often one restart may look at a stamp: its own and the oldest, with something to spare."""


class Stamp(float):
    """A moment that counts how often it, or another, is looked at."""

    looks = 0

    def __sub__(self, other: float) -> Self:
        Stamp.looks += 1
        return type(self)(float.__sub__(self, other))

    def __rsub__(self, other: float) -> Self:
        Stamp.looks += 1
        return type(self)(float.__rsub__(self, other))

    def __lt__(self, other: float) -> bool:
        Stamp.looks += 1
        return float.__lt__(self, other)

    def __le__(self, other: float) -> bool:
        Stamp.looks += 1
        return float.__le__(self, other)

    def __gt__(self, other: float) -> bool:
        Stamp.looks += 1
        return float.__gt__(self, other)

    def __ge__(self, other: float) -> bool:
        Stamp.looks += 1
        return float.__ge__(self, other)


@pytest.mark.parametrize(("limit", "seconds"), [(1_000_000, 1e9), (5_000, 4_999.5), (5_000, 10.0)])
def test_a_restart_looks_at_few_stamps_however_many_there_are(limit: int, seconds: float) -> None:
    window = RestartWindow(limit, seconds)
    Stamp.looks = 0
    assert all(window.add(Stamp(moment)) for moment in range(20_000))
    assert Stamp.looks <= LOOKS * 20_000


def test_restarts_that_have_left_the_window_make_room_at_their_very_moment() -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b"), max_restarts=3, max_seconds=10.0)
    for moment in (0.0, 1.0, 2.0, 10.5, 11.5, 12.5):
        tree.advance(moment - tree.now)
        tree.crash("a")
    assert tree.states() == {"a": "ready", "b": "ready"}
    tree.advance(8.0)
    tree.crash("a")
    assert tree.exit_code == 70, "10.5 is exactly 10 s before 20.5"
