"""What time it is. Supervision goes by `monotonic` alone; `wall` only labels events."""

from __future__ import annotations

import time


class Clock:
    """The clocks of the machine. Any thread."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never steps, and never runs backwards."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970; may step, in both directions, whenever somebody sets the clock."""
        return time.time()
