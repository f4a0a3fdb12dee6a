"""What long paths are called where there is little room."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from orchestree.supervisor.simulation.shown.labels import labels

pytestmark = pytest.mark.policy

WORDS = st.sampled_from(["a", "b", "region-east", "datacenter-main", "consumer-payments-incoming-1", "x" * 40])
PATHS = st.lists(st.lists(WORDS, min_size=1, max_size=5).map("/".join), unique=True, max_size=12)


@given(PATHS, st.integers(8, 60))
def test_no_two_paths_are_called_the_same_and_none_is_called_longer_than_there_is_room(
    paths: list[str], longest: int
) -> None:
    called = labels(paths, longest)
    assert called.keys() == set(paths)
    assert len(set(called.values())) == len(paths)
    assert all(len(label) <= longest for label in called.values())


def test_paths_that_differ_in_two_places_are_told_apart_by_a_number() -> None:
    paths = [f"region-{name}/datacenter-main/consumer-payments-{number}" for name in "ab" for number in (1, 2)]
    assert list(labels(paths, 26).values()) == [
        "region-a/datacenter-ma..",
        "region-b/datacenter-ma..",
        "region-a/datacenter-ma..~2",
        "region-b/datacenter-ma..~2",
    ]
