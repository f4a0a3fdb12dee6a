"""The restart window: more than `max_restarts` within `max_seconds` ends a supervisor. Pure: time comes in."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque


class RestartWindow:
    """Counts the restarts of one supervisor's children, in O(1) per restart (amortised).

    Holds the stamps of the last `max_seconds` only, at most ``max_restarts + 1``. Differs from OTP, which cuts its
    clock to whole seconds: here the bound is exact and inclusive, so restarts exactly `max_seconds` apart still
    count together.
    Source: OTP supervisor.erl, add_restart/3.
    """

    __slots__ = ("_stamps", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        """Start empty; both bounds are as `SupervisorEntry` checked them (whole number >= 0, seconds > 0)."""
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._stamps: deque[float] = deque()

    def resized(self, max_restarts: int, max_seconds: float) -> RestartWindow:
        """Return a window with other bounds and the same stamps. Source: OTP supervisor.erl, code_change/3."""
        window = RestartWindow(max_restarts, max_seconds)
        window._stamps.extend(self._stamps)
        return window

    def add(self, now: float) -> bool:
        """Record a restart decided at `now` (monotonic, never decreasing); False if it is one too many.

        The stamp is set even when the answer is False.
        """
        stamps = self._stamps
        stamps.append(now)
        while now - stamps[0] > self.max_seconds or len(stamps) > self.max_restarts + 1:
            stamps.popleft()
        return len(stamps) <= self.max_restarts

    def count(self, now: float) -> int:
        """Return how many recorded restarts lie within the window at `now`. Any thread, also while one is recorded."""
        stamps = list(self._stamps)
        return len(stamps) - bisect_left(stamps, True, key=lambda stamp: now - stamp <= self.max_seconds)
