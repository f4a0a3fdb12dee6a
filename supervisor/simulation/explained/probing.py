"""What comes of it when one child fails again and again, or all at one moment: asked of the real core. Pure.

A `Prober` runs short simulations, each of a tree that holds nothing but what it is about and the supervisors above.
It computes no policy: what it says is read off their logs, but for the order in which failures come fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from orchestree.agents.ends import Cause
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.spec import AgentEntry, SupervisorEntry

from .courses import Course, Probe, moved_to
from .flapping import MOST_FAILURES, FailureKind, Flapping
from .parts import LONGEST, SHORTEST, Parts
from .places import backoff_of, place_of
from .rhythms import fastest_failures, most_failures
from .shared_failures import Shared, all_fail_once, all_stay_down

_UNTOUCHED_WINDOW: Final = 5000
"""Whether one child can exhaust a window that stands so many restarts is not looked at."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What happens with the longest and with the shortest delays that jitter allows."""

    longest: Course
    shortest: Course


@dataclass(frozen=True, slots=True)
class Restarts:
    """How many restarts are decided in the worst minute because one child fails, and nobody else.

    Attributes:
        most: number of them.
        is_bound: no rhythm of its failures makes more; else this is the most that was seen in those that were tried.
    """

    most: int
    is_bound: bool


@dataclass(frozen=True, slots=True)
class Exhausted:
    """How one child ends its supervisor.

    Attributes:
        kind: of its failures.
        bursts: how often it fails at once, before each time that it is ready for `stable_after` seconds; a single one
            means that it always fails at once.
        stable_after_s: of its policy.
        failure: by which failure.
        after_s: seconds since the first.
    """

    kind: FailureKind
    bursts: tuple[int, ...]
    stable_after_s: float
    failure: int
    after_s: float


class Prober:
    """Simulates parts of one tree; what has the same policies in the same place is simulated once.

    The hook that may change the reason of an end is asked; it sees the report, and not whose it is.

    Attributes:
        parts: of the tree.
        entries: of the tree, by path, in registration order.
    """

    def __init__(self, blueprint: Blueprint, randomness: Callable[[], object]) -> None:
        """Simulate nothing yet.

        Args:
            blueprint: of the whole tree.
            randomness: the state of the generator that a policy may draw from; it changes when one does.
        """
        self.parts = Parts(blueprint)
        self.entries = self.parts.entries
        self._default = blueprint.settings.backoff
        self._flapping = Flapping(self.parts, randomness)
        self._probes: dict[Hashable, Probe] = {}
        self._exhausted: dict[Hashable, Exhausted | None] = {}
        self._restarts: dict[Hashable, Restarts] = {}
        self._shared: dict[tuple[str, bool], Shared] = {}

    def forecast(self, path: str, kind: FailureKind = "execute") -> Forecast:
        """Return what comes of it when the child at `path` fails at once each time."""
        return Forecast(self.course(path, LONGEST, kind), self.course(path, SHORTEST, kind))

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

    def ends_supervisor(self, path: str) -> bool:
        """Return whether the child at `path` alone can end its supervisor by failing, whatever the cause is then."""
        courses = [self.course(path, draw, kind) for draw in (LONGEST, SHORTEST) for kind in self._kinds(path)]
        return any(course.supervisor_ends is not None for course in courses) or self.exhausts(path) is not None

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
        if parent.max_restarts >= _UNTOUCHED_WINDOW:
            return None
        free = self._probe(path, SHORTEST, "execute", wide=True)
        bursts = fastest_failures(
            free.delays_s,
            goes_on=free.course.goes_on,
            stable_after=stable_after,
            within=parent.max_seconds,
            failures=parent.max_restarts + 1,
        )
        if bursts is None:
            return None
        return _exhausted(self._flapping.in_bursts(path, bursts, stable_after), "execute", bursts, stable_after)

    def _most_restarts(self, path: str) -> Restarts:
        parent = self._parent(path)
        courses = [self.course(path, draw, kind) for draw in (LONGEST, SHORTEST) for kind in self._kinds(path)]
        seen = max(course.restarts_per_minute for course in courses)
        is_at_root = "/" not in path
        if any(course.is_sample for course in courses) or (not is_at_root and self.ends_supervisor(path)):
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
