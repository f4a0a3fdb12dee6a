"""Checks of numbers and texts that several specifications share. Pure; each failure is one `SpecError`."""

from __future__ import annotations

import sys

from .errors import SpecError


def seconds(field: str, value: object, *, allow_zero: bool = True) -> float:
    """Return `value` as finite seconds, at least 0 (or above 0)."""
    rule = "must be a finite number of seconds, " + ("0 or more" if allow_zero else "above 0")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise SpecError(f"{field}={value!r}: {rule}")  # no number, or one that no float can hold
    if value < 0 or (value == 0 and not allow_zero):
        raise SpecError(f"{field}={value!r}: {rule}")
    return float(value)


def count(field: str, value: object, *, least: int = 0) -> int:
    """Return `value` as a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SpecError(f"{field}={value!r}: must be a whole number, {least} or more")
    return value


def flag(field: str, value: object) -> bool:
    """Return `value` if it is a bool."""
    if not isinstance(value, bool):
        raise SpecError(f"{field}={value!r}: must be True or False")
    return value


def share(field: str, value: object) -> float:
    """Return `value` as a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SpecError(f"{field}={value!r}: must be a number from 0 to 1")
    return float(value)
