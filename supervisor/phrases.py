"""Numbers, durations and lists as people write them. Pure."""

from __future__ import annotations

from typing import Final

MOST_NAMES: Final = 5
"""Longer lists of names are cut."""


def duration(seconds: float) -> str:
    """Return ``0.25 s``, ``42 s``, ``3 min 20 s``, ``5 h 1 min`` or ``2 d 3 h``."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def listed(names: tuple[str, ...]) -> str:
    """Return the names, or the first of them and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def counted(number: int, noun: str) -> str:
    """Return ``1 agent``, ``2 agents``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th`` and so on."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
