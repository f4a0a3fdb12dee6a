"""Numbers and flags as every specification takes them, and what a wrong one is told."""

from __future__ import annotations

import pytest

from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError

pytestmark = pytest.mark.policy

NOT_SECONDS = (True, False, "5", None, float("nan"), float("inf"), float("-inf"), -0.001, [1])


@pytest.mark.parametrize(("value", "seconds"), [(0, 0.0), (0.0, 0.0), (3, 3.0), (2.5, 2.5), (1e9, 1e9)])
def test_seconds_are_finite_numbers_from_0_on_and_come_back_as_float(value: float, seconds: float) -> None:
    found = checks.seconds("delay", value)
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize("value", NOT_SECONDS)
def test_anything_else_is_no_number_of_seconds(value: object) -> None:
    with pytest.raises(SpecError) as refused:
        checks.seconds("delay", value)
    assert str(refused.value) == f"delay={value!r}: must be a finite number of seconds, 0 or more"


@pytest.mark.parametrize("value", [*NOT_SECONDS, 0, 0.0])
def test_where_0_seconds_make_no_sense_they_are_refused_too(value: object) -> None:
    with pytest.raises(SpecError) as refused:
        checks.seconds("delay", value, allow_zero=False)
    assert str(refused.value) == f"delay={value!r}: must be a finite number of seconds, above 0"


def test_any_time_above_0_is_enough_where_0_is_not() -> None:
    assert checks.seconds("delay", 1e-9, allow_zero=False) == 1e-9
    assert checks.seconds("delay", 1, allow_zero=False) == 1.0


def test_a_count_is_a_whole_number_from_its_least_on() -> None:
    assert [checks.count("size", value) for value in (0, 1, 10**9)] == [0, 1, 10**9]
    assert checks.count("size", 2, least=2) == 2


@pytest.mark.parametrize("value", [-1, 1.0, True, False, "1", None])
def test_anything_else_is_no_count(value: object) -> None:
    with pytest.raises(SpecError) as refused:
        checks.count("size", value)
    assert str(refused.value) == f"size={value!r}: must be a whole number, 0 or more"


def test_a_count_below_its_least_is_refused_with_that_bound() -> None:
    with pytest.raises(SpecError) as refused:
        checks.count("size", 1, least=2)
    assert str(refused.value) == "size=1: must be a whole number, 2 or more"


def test_a_flag_is_a_bool() -> None:
    assert checks.flag("on", True) is True
    assert checks.flag("on", False) is False


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_anything_else_is_no_flag(value: object) -> None:
    with pytest.raises(SpecError) as refused:
        checks.flag("on", value)
    assert str(refused.value) == f"on={value!r}: must be True or False"
