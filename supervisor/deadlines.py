"""Deadlines of the core, soonest first. Pure: nothing fires by itself, the driver asks and says when."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MOST_CANCELLED: Final = 64
"""So many cancelled ones are always left in the heap; beyond that only as many as there are others."""


@dataclass(eq=False, slots=True)
class Deadline:
    """A moment (monotonic seconds) and what to do then.

    Attributes:
        silent: what is done then need not be an event, so a log need not show when that was; see `replay`.
    """

    at: float
    action: Callable[[], None]
    silent: bool = False
    cancelled: bool = False


class Deadlines:
    """A heap of deadlines that can be cancelled in O(1); cancelled ones never outnumber the others for long.

    Equal moments keep the order in which they were set.
    """

    __slots__ = ("_cancelled", "_heap", "_serial")

    def __init__(self) -> None:
        """Start empty."""
        self._heap: list[tuple[float, int, Deadline]] = []
        self._serial = 0
        self._cancelled = 0

    def add(self, at: float, action: Callable[[], None], *, silent: bool = False) -> Deadline:
        """Set a deadline; see `Deadline`."""
        self._serial += 1
        deadline = Deadline(at, action, silent)
        heapq.heappush(self._heap, (at, self._serial, deadline))
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Forget a deadline; None and deadlines that have fired are fine."""
        if deadline is None or deadline.cancelled:
            return
        deadline.cancelled = True
        self._cancelled += 1
        if self._cancelled > _MOST_CANCELLED and self._cancelled > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if not entry[2].cancelled]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def soonest(self) -> float | None:
        """Return the moment of the next deadline."""
        while self._heap:
            at, _, deadline = self._heap[0]
            if not deadline.cancelled:
                return at
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return None

    def pop_due(self, now: float) -> Deadline | None:
        """Take out the next deadline that is due at `now`."""
        soonest = self.soonest()
        if soonest is None or soonest > now:
            return None
        _, _, deadline = heapq.heappop(self._heap)
        deadline.cancelled = True
        return deadline
