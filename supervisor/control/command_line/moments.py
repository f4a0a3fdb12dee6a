"""Moments as people write them: ``10m`` ago, an ISO time, or the number of an event."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def seconds_in(text: str) -> float | None:
    """Return the seconds of ``10m``, ``1h30m`` or ``1.5h``; None if it is no duration."""
    if not text or _PART.sub("", text):
        return None
    return sum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(text))


def moment(text: str, now: float) -> float:
    """Return the wall time (seconds since 1970) of an ISO time, or of so long before `now`: ``10m``, ``10m ago``.

    Raises:
        ValueError: it is neither; the message says what is possible.
    """
    ago = seconds_in(text.removesuffix(" ago"))
    if ago is not None:
        return now - ago
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither so long ago (10m, 1h30m ago) nor a time (2026-11-22T14:58:01)") from None
    return found.timestamp()  # without a zone it is local time
