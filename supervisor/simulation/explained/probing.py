"""What comes of it when one child fails again and again, or all at one moment: asked of the real core. Pure.

A `Prober` runs short simulations, each of a tree that holds nothing but what it is about and the supervisors above.
It computes no policy: what it says is read off their logs, but for the order in which failures come fastest.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

from orchestree.agents.ends import Cause
from orchestree.strategies.restart import Restart
from orchestree.supervisor.phrases import POLICY_RAISED
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.spec import AgentEntry, SupervisorEntry

from .answers import Exhausted, Forecast, Raised, Restarts
from .courses import Course, Probe, moved_to
from .flapping import MOST_FAILURES, FailureKind, Flapping, Randomness
from .parts import LONGEST, SHORTEST, Parts
from .places import backoff_of, place_of
from .rhythms import fastest_failures, most_failures
from .shared_failures import Shared, all_fail_once, all_stay_down

WIDEST_WINDOW: Final = 10_000
"""Whether one child can exhaust a window that stands more restarts is not tried out, as that takes seconds."""
MOST_TRIED: Final = 2 * WIDEST_WINDOW
"""Restarts that are tried out for all windows of a tree together, the first ones first."""


class Prober:
    """Simulates parts of one tree; what has the same policies in the same place is simulated once.

    The hook that may change the reason of an end is asked; it sees the report, and not whose it is.

    Attributes:
        parts: of the tree.
        entries: of the tree, by path, in registration order.
    """

    def __init__(self, blueprint: Blueprint, randomness: Randomness) -> None:
        """Simulate nothing yet.

        Args:
            blueprint: of the whole tree.
            randomness: that a policy may draw from.
        """
        self.parts = Parts(blueprint)
        self.entries = self.parts.entries
        self._default = blueprint.settings.backoff
        self._flapping = Flapping(self.parts, randomness)
        self._probes: dict[Hashable, Probe] = {}
        self._exhausted: dict[Hashable, Exhausted | None] = {}
        self._exhausting: dict[Hashable, Forecast] = {}
        self._untried: set[Hashable] = set()
        self._tries_left = MOST_TRIED
        self._restarts: dict[Hashable, Restarts] = {}
        self._shared: dict[tuple[str, bool], Shared] = {}

    def forecast(self, path: str, kind: FailureKind = "execute") -> Forecast:
        """Return what comes of it when the child at `path` fails at once each time."""
        longest, shortest = self.course(path, LONGEST, kind), self.course(path, SHORTEST, kind)
        end = self.exhausts(path)
        if end is None or len(end.bursts) > 1 or end.failure <= shortest.failures:
            return Forecast(longest, shortest)
        # It exhausts the window like that, by more failures than are looked at else.
        key = (self._place(path), kind)
        if key not in self._exhausting:
            courses = (self._flapping.so_often(path, draw, kind, end.failure) for draw in (LONGEST, SHORTEST))
            self._exhausting[key] = Forecast(*courses)
        found = self._exhausting[key]
        return Forecast(moved_to(found.longest, path), moved_to(found.shortest, path))

    def course(self, path: str, draw: float, kind: FailureKind = "execute", *, uptime: float = 0.0) -> Course:
        """Return what comes of it when the child at `path` fails again and again.

        Args:
            path: of an agent, or of a supervisor, whose failure is that it gives up.
            draw: of each delay, see `LONGEST`.
            kind: of its failures.
            uptime: seconds from being ready to the failure.
        """
        return moved_to(self._probe(path, draw, kind, uptime).course, path)

    def all_fail(self, path: str, *, lasting: bool) -> Shared:
        """Return what happens when all agents below the supervisor at `path` fail, once or for some time."""
        if (path, lasting) not in self._shared:
            self._shared[path, lasting] = (all_stay_down if lasting else all_fail_once)(self.parts, path)
        return self._shared[path, lasting]

    def exhausts(self, path: str) -> Exhausted | None:
        """Return how the child at `path` alone exhausts its supervisor's window; None if it cannot in any rhythm.

        That is a promise for failures that its policy takes as those which were tried, and for policies that go by
        the number of failures in a row.
        """
        key = self._place(path)
        if key not in self._exhausted:
            self._exhausted[key] = self._exhausts(path)
        return self._exhausted[key]

    def may_exhaust(self, path: str) -> bool:
        """Return whether that is not known: failures fit into the window, more than are tried out."""
        return self.exhausts(path) is None and self._place(path) in self._untried

    def ends_supervisor(self, path: str) -> bool:
        """Return whether the child at `path` alone can end its supervisor by failing, whatever the cause is then."""
        courses = [self.course(path, draw, kind) for draw in (LONGEST, SHORTEST) for kind in self._kinds(path)]
        return any(course.supervisor_ends is not None for course in courses) or self.exhausts(path) is not None

    def raises(self, path: str) -> Raised | None:
        """Return when the backoff of the child at `path` first raises; None if it answers to all that was tried."""
        entry = self.entries[path]
        is_agent = isinstance(entry, AgentEntry)
        kinds: list[FailureKind] = [*self._kinds(path)] if is_agent else []
        if entry.restart is Restart.PERMANENT and (is_agent or self._is_parked(path)):
            kinds.append("complete")
        found = [
            Raised(kind, parked.failure, parked.why.removeprefix(POLICY_RAISED))
            for kind in kinds
            if (parked := self._probe(path, SHORTEST, kind, wide=True).course.parked) is not None
            and parked.why.startswith(POLICY_RAISED)
        ]
        return min(found, key=lambda one: one.failure, default=None)

    def restarts(self, path: str) -> Restarts:
        """Return how often the child at `path` can be restarted in a minute because it fails."""
        key = self._place(path)
        if key not in self._restarts:
            self._restarts[key] = self._most_restarts(path)
        return self._restarts[key]

    def _probe(self, path: str, draw: float, kind: FailureKind, uptime: float = 0.0, *, wide: bool = False) -> Probe:
        """Return the course of that; `wide`: no supervisor above gives up because of too many restarts."""
        if wide and (narrow := self._probe(path, draw, kind, uptime)).course.supervisor_ends is None:
            return narrow  # nobody above gave up
        key = (self._place(path), draw, kind, uptime, wide)
        if key not in self._probes:
            self._probes[key] = self._flapping.at_once(path, draw, kind, uptime, wide)
        return self._probes[key]

    def _is_parked(self, path: str) -> bool:
        return self._probe(path, SHORTEST, "execute", wide=True).course.parked is not None

    def _place(self, path: str) -> Hashable:
        return place_of(self.entries, path, self._default)

    def _kinds(self, path: str) -> tuple[FailureKind, ...]:
        """Return the kinds of failures that are taken in different ways."""
        is_agent = isinstance(self.entries[path], AgentEntry)
        differs = is_agent and self.course(path, LONGEST) != self.course(path, LONGEST, "setup")
        return ("execute", "setup") if differs else ("execute",)

    def _stable_after(self, path: str) -> float:
        backoff = backoff_of(self.entries[path], self._default)
        return backoff.stable_after if backoff is not None else 0.0

    def _exhausts(self, path: str) -> Exhausted | None:
        parent = self._parent(path)
        stable_after = self._stable_after(path)
        for kind in self._kinds(path):
            if found := _exhausted(self.course(path, SHORTEST, kind), kind, (MOST_FAILURES,), stable_after):
                return found
        free = self._probe(path, SHORTEST, "execute", wide=True)
        bursts = fastest_failures(
            free.delays_s,
            goes_on=free.course.goes_on,
            stable_after=stable_after,
            within=parent.max_seconds,
            failures=min(parent.max_restarts, WIDEST_WINDOW) + 1,
        )
        if bursts is None:
            return None
        if parent.max_restarts > min(WIDEST_WINDOW, self._tries_left):
            self._untried.add(self._place(path))
            return None
        self._tries_left -= parent.max_restarts
        return _exhausted(self._flapping.in_bursts(path, bursts, stable_after), "execute", bursts, stable_after)

    def _most_restarts(self, path: str) -> Restarts:
        parent = self._parent(path)
        courses = [self.course(path, draw, kind) for draw in (LONGEST, SHORTEST) for kind in self._kinds(path)]
        seen = max(course.restarts_per_minute for course in courses)
        comes_back_with_it = "/" in path and (self.ends_supervisor(path) or self.may_exhaust(path))
        if any(course.is_sample for course in courses) or comes_back_with_it:
            return Restarts(seen, is_bound=False)
        # In `max_seconds` there are no more than `max_restarts`, or the supervisor ends.
        most = parent.max_restarts * math.ceil(60.0 / parent.max_seconds)
        for kind in self._kinds(path):
            free = self._probe(path, SHORTEST, kind, wide=True)
            found = most_failures(
                free.delays_s,
                goes_on=free.course.goes_on,
                stable_after=self._stable_after(path),
                within=60.0,
                enough=MOST_FAILURES,
            )
            seen = max(seen, found if found < MOST_FAILURES else most)
        return Restarts(min(seen, most), is_bound=True)

    def _parent(self, path: str) -> SupervisorEntry:
        parent = self.entries[path.rpartition("/")[0]]
        assert isinstance(parent, SupervisorEntry)
        return parent


def _exhausted(course: Course, kind: FailureKind, bursts: tuple[int, ...], stable_after_s: float) -> Exhausted | None:
    end = course.supervisor_ends
    if end is None or end.why != Cause.MAX_RESTARTS:
        return None
    return Exhausted(kind, bursts, stable_after_s, end.failure, end.after_s)
