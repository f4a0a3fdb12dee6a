"""Restart types and the names that users write for enums."""

from __future__ import annotations

import pytest

from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown, Restart, Strategy, parse_enum

pytestmark = pytest.mark.policy


@pytest.mark.parametrize(
    ("restart", "after_normal", "after_failure"),
    [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, False, True), (Restart.TEMPORARY, False, False)],
)
def test_each_restart_type_says_which_ends_bring_a_child_back(
    restart: Restart, after_normal: bool, after_failure: bool
) -> None:
    assert restart.applies(abnormal=False) is after_normal
    assert restart.applies(abnormal=True) is after_failure


@pytest.mark.parametrize("kind", [Restart, Strategy, AutoShutdown])
def test_an_enum_is_accepted_as_a_member_and_as_its_lower_case_name(
    kind: type[Restart] | type[Strategy] | type[AutoShutdown],
) -> None:
    for member in kind:
        assert parse_enum(kind, member, "field") is member
        assert parse_enum(kind, member.value, "field") is member
        assert member.value == member.name.lower()


@pytest.mark.parametrize("value", ["TRANSIENT", "transiant", "", 1, None, True])
def test_any_other_value_is_refused_with_the_field_and_the_choices(value: object) -> None:
    with pytest.raises(SpecError, match=r"restart=.*: must be one of permanent, transient, temporary"):
        parse_enum(Restart, value, "restart")


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(SpecError, match="did you mean 'rest_for_one'"):
        parse_enum(Strategy, "Rest_For_One", "strategy")


def test_what_is_refused_is_told_the_choices_and_the_nearest_of_them_whatever_its_case() -> None:
    choices = "must be one of permanent, transient, temporary"
    for value, suggestion in (("TRANSIENT", " (did you mean 'transient'?)"), ("zzz", ""), (1, ""), (None, "")):
        with pytest.raises(SpecError) as refused:
            parse_enum(Restart, value, "restart")
        assert str(refused.value) == f"restart={value!r}: {choices}{suggestion}"
