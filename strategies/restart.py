"""Restart types, strategies and automatic shutdown: OTP's words as enums. Pure values.

"Restart" says whether a child comes back; "strategy" says which siblings go along with it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeVar

from .errors import SpecError, did_you_mean


class Restart(StrEnum):
    """Whether a child comes back after it ended by itself. Source: OTP supervisor.erl, do_restart/3."""

    PERMANENT = "permanent"
    """After every end."""
    TRANSIENT = "transient"
    """After an abnormal end; a normal end is completion."""
    TEMPORARY = "temporary"
    """Never; its specification is dropped when it ends."""

    def applies(self, *, abnormal: bool) -> bool:
        """Return whether an end of this kind calls for a restart."""
        return self is _PERMANENT or (self is _TRANSIENT and abnormal)


class Strategy(StrEnum):
    """Who is restarted when a child has to be. "After" refers to the start order."""

    ONE_FOR_ONE = "one_for_one"
    """Only the child itself."""
    ONE_FOR_ALL = "one_for_all"
    """All children of the supervisor."""
    REST_FOR_ONE = "rest_for_one"
    """The child and those after it."""
    DEPENDENTS = "dependents"
    """The child and those that depend on it, directly or through others."""


# In Python 3.11 to look a member up in its class takes as long as to call a function; each crash asks for these.
_PERMANENT: Final = Restart.PERMANENT
_TRANSIENT: Final = Restart.TRANSIENT
ONE_FOR_ONE: Final = Strategy.ONE_FOR_ONE
REST_FOR_ONE: Final = Strategy.REST_FOR_ONE


class AutoShutdown(StrEnum):
    """When a supervisor ends because significant children have ended. Source: OTP, EEP 56."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


RestartName = Literal["permanent", "transient", "temporary"]
StrategyName = Literal["one_for_one", "one_for_all", "rest_for_one", "dependents"]
AutoShutdownName = Literal["never", "any_significant", "all_significant"]

_E = TypeVar("_E", bound=StrEnum)


def parse_enum(kind: type[_E], value: object, field: str) -> _E:
    """Return the member that `value` (a member or its lower-case name) stands for.

    Raises:
        SpecError: it stands for none; the message names the field, the value and the choices.
    """
    if isinstance(value, kind):
        return value
    names = [member.value for member in kind]
    if isinstance(value, str) and value in names:
        return kind(value)
    hint = did_you_mean(value.lower(), names) if isinstance(value, str) else ""
    raise SpecError(f"{field}={value!r}: must be one of {', '.join(names)}{hint}")
