"""Which partition a key belongs to."""

from __future__ import annotations

from collections import Counter

import pytest
from virtual import refused

from orchestree.strategies.errors import NotFound, SpecError
from orchestree.supervisor.partitions import partition_of

pytestmark = pytest.mark.policy


def test_whole_numbers_go_round() -> None:
    assert [partition_of(key, 3) for key in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [partition_of(key, 3) for key in (-1, -2, -3, 10**30)] == [1, 2, 0, 1]


def test_texts_and_bytes_are_hashed_the_same_in_every_process() -> None:
    assert [partition_of(key, 1000) for key in ("", "a", "sensor-b", "ä")] == [
        partition_of(key.encode(), 1000) for key in ("", "a", "sensor-b", "ä")
    ]
    assert [partition_of(key, 1000) for key in ("a", "b", "sensor-b")] == [343, 333, 49]


def test_a_text_that_is_no_proper_unicode_has_a_partition_too() -> None:
    assert partition_of("\udc80", 1000) == partition_of(b"\xed\xb2\x80", 1000)


def test_many_keys_are_spread_evenly() -> None:
    counts = Counter(partition_of(f"key-{number}", 8) for number in range(8_000))
    assert set(counts) == set(range(8))
    assert max(counts.values()) - min(counts.values()) < 200


def test_with_one_partition_every_key_is_in_it() -> None:
    assert {partition_of(key, 1) for key in (0, 5, "x", b"y")} == {0}


def test_without_any_partition_nothing_is_found() -> None:
    for key in (0, "x"):
        error = refused(lambda key=key: partition_of(key, 0))  # type: ignore[misc]
        assert (type(error), str(error)) == (NotFound, f"key={key!r}: no partition is in use")


@pytest.mark.parametrize("key", [True, None, 1.5, ("a",)])
def test_other_keys_are_refused(key: object) -> None:
    error = refused(lambda: partition_of(key, 0))  # type: ignore[arg-type]
    assert (type(error), str(error)) == (SpecError, f"key={key!r}: must be int, str or bytes")
