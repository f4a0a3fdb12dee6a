"""Deadlines of a core that is replayed: those whose firing no event shows can be fired without the others. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import NamedTuple

from orchestree.supervisor.deadlines import Deadline, Deadlines


class _Set(NamedTuple):
    """A deadline, and when it was set; no two are equal."""

    at: float
    serial: int
    deadline: Deadline
    since: float


class GuidedDeadlines(Deadlines):
    """Deadlines of two kinds: silent ones, and those that lead to an event.

    What led to an event is fired when its event comes: the loop of a live run was late by whatever it was late by.
    Of the others nobody knows, so they are fired when they are due.

    Attributes:
        only_silent: whether `pop_due` leaves out those that lead to an event.
        rough_too: whether it takes those of them that were set by a silent one: that fired later in the live run, by
            what the loop was late, and so do they.
    """

    __slots__ = ("_clock", "_rough", "_set", "only_silent", "rough_too")

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty; `clock` says what time it is for the core."""
        super().__init__()
        self.only_silent = False
        self.rough_too = True
        self._rough: set[Deadline] = set()
        self._clock = clock
        self._set: dict[bool, list[_Set]] = {True: [], False: []}

    def add(self, at: float, action: Callable[[], None], *, silent: bool = False) -> Deadline:
        """Set a deadline."""
        deadline = super().add(at, action, silent=silent)
        if self.only_silent and not silent:
            self._rough.add(deadline)
        heapq.heappush(self._set[silent], _Set(at, self._serial, deadline, self._clock()))
        return deadline

    def pop_due(self, now: float) -> Deadline | None:
        """Take out the next deadline that is due at `now`."""
        if not self.only_silent:
            return self._pop_due(now)
        found = self._next(silent=True)
        if found is None or found.at > now:
            return None
        self.cancel(found.deadline)
        return found.deadline

    def _pop_due(self, now: float) -> Deadline | None:
        while (deadline := super().pop_due(now)) is not None:
            if self.rough_too or deadline not in self._rough:
                self._rough.discard(deadline)
                return deadline
            self._serial += 1
            deadline.cancelled, deadline.at = False, math.nextafter(now, math.inf)
            heapq.heappush(self._heap, (deadline.at, self._serial, deadline))
        return None

    def silent(self, moment: float, *, also_then: bool) -> float | None:
        """Return when the next silent one is due if that is before `moment`, or `also_then` if it was set before."""
        found = self._next(silent=True)
        if found is None or found.at > moment or (found.at == moment and (not also_then or found.since == moment)):
            return None
        return found.at

    def telling(self) -> float | None:
        """Return when the next one is due that leads to an event."""
        found = self._next(silent=False)
        return None if found is None else found.at

    def _next(self, *, silent: bool) -> _Set | None:
        known = self._set[silent]
        while known and known[0].deadline.cancelled:
            heapq.heappop(known)
        return known[0] if known else None
