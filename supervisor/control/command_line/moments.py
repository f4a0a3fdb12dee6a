"""Moments as people write them: ``10m`` ago, a time of day, or an ISO time."""

from __future__ import annotations

import math
from datetime import datetime, time, timedelta

from orchestree.supervisor.simulation.durations import seconds_in
from orchestree.supervisor.simulation.limits import FARTHEST_S


def moment(text: str, now: float) -> float:
    """Return the wall time (seconds since 1970) of an ISO time, or of so long before `now`: ``10m``, ``10m ago``.

    A time of day (``03:12``) is the latest one that has passed. Without a zone it is local time.

    Raises:
        ValueError: it is neither; the message says what is possible. Or it is too far away for a calendar.
    """
    ago = seconds_in(text.removesuffix(" ago"))
    found = now - ago if ago is not None else _seconds(_time(text, now))
    if not abs(found) < FARTHEST_S:
        raise ValueError(f"{text!r} is too far away: the years 69 to 3871 can be told")
    return found


def _time(text: str, now: float) -> datetime:
    try:
        if text[2:3] == ":":
            today = datetime.fromtimestamp(now)
            found = datetime.combine(today, time.fromisoformat(text))
            return found if found <= today else found - timedelta(days=1)
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither so long ago (10m, 1h30m ago) nor a time (03:12, 2026-11-22T14:58:01)"
        ) from None


def _seconds(moment: datetime) -> float:
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):  # near the years 1 and 9999 the time zone leads out of the calendar
        return math.inf
