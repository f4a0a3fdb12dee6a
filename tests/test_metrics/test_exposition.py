"""How values and families are written, and which format is asked for."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings, strategies as st
from prometheus_client.utils import floatToGoString

from orchestree.metrics.exposition import PIECE_BYTES, escaped, number, pieces, sample, wants_open_metrics
from orchestree.metrics.families import FAMILIES

OF_PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.25,*/*;q=0.1"
)
OF_PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4", False),
        (OF_PROMETHEUS_2, True),
        (OF_PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ("text/plain;q=0.9 , application/openmetrics-text ; version=1.0.0 ; q=0.5", False),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.9", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("application/openmetrics-text;q=nan", False),
        (";;;,,=,;q", False),
    ],
)
def test_open_metrics_is_for_who_prefers_it(accept: str, wanted: bool) -> None:
    assert wants_open_metrics(accept) is wanted


@given(st.floats())
@settings(max_examples=500)
def test_a_value_is_written_as_the_client_writes_it(value: float) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("value", [0.0, -0.0, 999_999.0, 1e6, 999_999.999, 123_456_789.0, 1e-7, float("inf"), 1e300])
def test_so_is_a_value_at_the_bounds(value: float) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


def test_labels_are_sorted_and_escaped() -> None:
    assert sample("x", {"b": '"\\\n', "a": "é"}, 1) == 'x{a="é",b="\\"\\\\\\n"} 1.0\n'
    assert sample("x", {}, 0.5) == "x 0.5\n"
    assert escaped("plain") == "plain"


def test_help_texts_need_no_escaping_and_are_sentences() -> None:
    for family in FAMILIES:
        assert not {"\\", "\n", '"'} & set(family.help)
        assert family.help.endswith(".") or family.help[-1].isalnum()


def test_each_family_is_in_the_table_once_and_named_by_the_rules() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.name.startswith("orchestree_")
        assert family.name.endswith("_total") is (family.kind == "counter")
        assert bool(family.buckets) is (family.kind == "histogram")
        assert list(family.buckets) == sorted(set(family.buckets))


@given(st.lists(st.integers(1, PIECE_BYTES * 2), max_size=12))
@settings(max_examples=100)
def test_pieces_are_as_large_as_they_may_be_and_lose_nothing(sizes: list[int]) -> None:
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    cut = list(pieces(parts, list(accumulate(sizes))))
    assert b"".join(cut) == b"".join(parts)
    assert all(len(piece) <= max(PIECE_BYTES, max(sizes)) for piece in cut)
    assert all(len(one) + len(other) > PIECE_BYTES for one, other in pairwise(cut))
