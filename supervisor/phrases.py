"""Numbers, durations and lists as people write them. Pure."""

from __future__ import annotations

import math
from typing import Final

MOST_NAMES: Final = 5
"""Longer lists of names are cut."""
_MOST_OF_ERROR: Final = 500
_AEONS: Final = 1e12
"""Seconds that nobody counts in days."""
POLICY_RAISED: Final = "its backoff policy raised "
"""So begins why a child is parked whose `wait` or `stop` raises; the exception follows."""


def duration(seconds: float) -> str:
    """Return about ``0.19 s``, ``42 s``, ``3 min 20 s``, ``5 h 1 min`` or ``2 d 3 h``, as in a sentence."""
    if seconds >= _AEONS:
        return f"{seconds:.3g} s"
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    return " ".join(f"{count} {unit}" for unit, count in _largest_units(round(seconds)).items())


def short_duration(seconds: float) -> str:
    """Return about ``0.19s``, ``42.5s``, ``3m 20s``, ``5h 1m`` or ``2d 3h``: for values of a policy, which stand close.

    Exact ones: `durations.in_words`.
    """
    if seconds == math.inf:
        return "for ever"
    if seconds >= _AEONS:
        return f"{seconds:.3g}s"
    if seconds < 59.995:  # else two digits would make it 60s
        return f"{seconds:.2g}s" if 0.001 <= seconds < 0.1 else f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    return " ".join(f"{count}{unit[0]}" for unit, count in _largest_units(round(seconds)).items())


def _largest_units(seconds: int) -> dict[str, int]:
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // below
            return {unit: seconds // size} | ({smaller: rest} if rest else {})
    return {"s": seconds}


def error_in_one_line(error: BaseException) -> str:
    """Return ``KeyError: 'rate'``, at most 500 printable characters, whatever its ``__str__`` does."""
    try:
        text = str.__getitem__(str(error), slice(_MOST_OF_ERROR))
    except BaseException:
        text = "(its text cannot be made)"
    told = f"{type(error).__name__}: {text}"[:_MOST_OF_ERROR]
    return " ".join("".join(char if char.isprintable() else " " for char in told).split()).removesuffix(":")


def listed(names: tuple[str, ...]) -> str:
    """Return the names, or the first of them and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def counted(number: int, noun: str) -> str:
    """Return ``1 agent``, ``2 agents``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_a_row(failures: int) -> str:
    """Return ``1 failure``, ``1,000 failures in a row``."""
    return "1 failure" if failures == 1 else f"{failures:,} failures in a row"


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th`` and so on."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def at_the_soonest(seconds: float) -> str:
    """Return ``2.81s at the soonest``, for the time after which something happens with the shortest delays."""
    return f"{short_duration(seconds)} at the soonest" if seconds else "0s"


def printable(text: str) -> str:
    r"""Return one line in which nothing is left that a terminal obeys: such characters are shown as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
