"""When a run made progress last, and what it says it is doing: what a watchdog looks at."""

from __future__ import annotations

import time


class Pulse:
    """The latest progress of one run. Any thread of the run's process; a look at it never blocks.

    Attributes:
        last: monotonic seconds of the latest progress; in the future while the run waits until then on purpose.
        text: what `say` was told last; empty at first.
    """

    def __init__(self) -> None:
        """Begin with progress made now and nothing said."""
        self.last = time.monotonic()
        self.text = ""

    def beat(self, at: float | None = None) -> None:
        """Note progress at `at` (monotonic seconds; None: now). An earlier moment than the latest changes nothing."""
        moment = time.monotonic() if at is None else at
        if moment > self.last:
            self.last = moment

    def say(self, text: str) -> None:
        """Note in a few words what the run is doing; no progress by itself."""
        self.text = text
