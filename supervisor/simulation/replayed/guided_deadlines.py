"""Deadlines of a core that is replayed: those whose firing no event shows can be fired without the others. Pure."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable
from typing import NamedTuple, assert_never

from orchestree.supervisor.deadlines import Deadline, Deadlines


class _Set(NamedTuple):
    """A deadline, and when it was set; no two are equal."""

    at: float
    serial: int
    deadline: Deadline
    since: float


class Firing(enum.Enum):
    """Which deadlines are taken out."""

    ALL_DUE = "all due"
    SILENT = "silent"
    TOLD = "told"


class GuidedDeadlines(Deadlines):
    """Deadlines of three kinds: silent ones, those that lead to an event, and of these the unsure ones.

    What led to an event is fired when its event comes: the loop of a live run was late by whatever it was late by.
    Of the silent ones nobody knows, so they are fired when they are due. What these set was therefore due later in the
    live run, nobody knows when: it is unsure, and fired where the log tells that it has fired, and only there.

    Attributes:
        firing: what `pop_due` takes out.
        is_unsure: whether what is set now was set in the live run at a moment that no event shows.
    """

    __slots__ = ("_clock", "_set", "_told", "_unsure", "firing", "is_unsure")

    def __init__(self, clock: Callable[[], float], told: Callable[[], Deadline | None]) -> None:
        """Start empty.

        Args:
            clock: says what time it is for the core.
            told: says which deadline the event tells, at which the log stands; None if it need not tell any.
        """
        super().__init__()
        self.firing = Firing.ALL_DUE
        self.is_unsure = False
        self._clock = clock
        self._told = told
        self._unsure: set[Deadline] = set()
        self._set: dict[bool, list[_Set]] = {True: [], False: []}

    def add(self, at: float, action: Callable[[], None], *, silent: bool = False) -> Deadline:
        """Set a deadline."""
        if self.is_unsure and not silent:
            deadline = Deadline(at, action)
            self._unsure.add(deadline)
            return deadline
        deadline = super().add(at, action, silent=silent)
        heapq.heappush(self._set[silent], _Set(at, self._serial, deadline, self._clock()))
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Forget a deadline."""
        if deadline in self._unsure:
            self._unsure.discard(deadline)
            deadline.cancelled = True
        else:
            super().cancel(deadline)

    def pop_due(self, now: float) -> Deadline | None:
        """Take out the next deadline that is due at `now`, or that the log tells."""
        deadline = self._next_of(now)
        self.cancel(deadline)
        self.is_unsure = deadline is not None and deadline.silent
        return deadline

    def _next_of(self, now: float) -> Deadline | None:
        match self.firing:
            case Firing.SILENT:
                found = self._next(silent=True)
                return found.deadline if found is not None and found.at <= now else None
            case Firing.TOLD:
                return self.told()
            case Firing.ALL_DUE:
                return self.told() or super().pop_due(now)
            case _:
                assert_never(self.firing)

    def told(self) -> Deadline | None:
        """Return the deadline that must have fired now, as the log tells, though it need not be due."""
        deadline = self._told()
        if deadline is None or deadline.cancelled or not (deadline.silent or deadline in self._unsure):
            return None
        return deadline

    def silent(self, moment: float, *, also_then: bool) -> float | None:
        """Return when the next silent one is due if that is before `moment`, or `also_then` if it was set before."""
        found = self._next(silent=True)
        if found is None or found.at > moment or (found.at == moment and (not also_then or found.since == moment)):
            return None
        return found.at

    def telling(self) -> Deadline | None:
        """Return the next one that leads to an event."""
        found = self._next(silent=False)
        return None if found is None else found.deadline

    def pass_over(self, deadline: Deadline) -> None:
        """Have `telling` not return its answer again: it leads to no event. It fires with the others."""
        assert self._set[False][0].deadline is deadline
        heapq.heappop(self._set[False])

    def _next(self, *, silent: bool) -> _Set | None:
        known = self._set[silent]
        while known and known[0].deadline.cancelled:
            heapq.heappop(known)
        return known[0] if known else None
