"""Moments as people write them: ``10m`` ago, a time of day, or an ISO time."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from orchestree.supervisor.simulation.durations import seconds_in


def moment(text: str, now: float) -> float:
    """Return the wall time (seconds since 1970) of an ISO time, or of so long before `now`: ``10m``, ``10m ago``.

    A time of day (``03:12``) is the latest one that has passed. Without a zone it is local time.

    Raises:
        ValueError: it is neither; the message says what is possible.
    """
    ago = seconds_in(text.removesuffix(" ago"))
    if ago is not None:
        return now - ago
    try:
        if text[2:3] == ":":
            today = datetime.fromtimestamp(now)
            found = datetime.combine(today, time.fromisoformat(text))
            return (found if found <= today else found - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(
            f"{text!r} is neither so long ago (10m, 1h30m ago) nor a time (03:12, 2026-11-22T14:58:01)"
        ) from None
