"""What comes of it when one child fails again and again, or all at one moment: asked of the real core. Pure.

A `Prober` runs short simulations, each of a tree that holds nothing but what it is about and the supervisors above.
It computes no policy: what it says is read off their logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Final, Literal

from orchestree.agents.agent import Agent
from orchestree.agents.ends import Cause
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.events import SupervisorTerminated
from orchestree.supervisor.inputs import StopTree
from orchestree.supervisor.outcome import crashed
from orchestree.supervisor.simulation.blueprint import Blueprint, walk_entries
from orchestree.supervisor.simulation.faults import Complete, Crash, Down, IgnoreStop
from orchestree.supervisor.simulation.simulator import Said, Simulator
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode

from .courses import Course, as_of, course_of
from .places import alone, backoff_of, place_of

LONGEST: Final = 0.0
"""Draw of the longest delay that jitter allows."""
SHORTEST: Final = math.nextafter(1.0, 0.0)
"""Draw of the shortest."""
MOST_FAILURES: Final = 1000
"""After so many a simulation takes it that it goes on like that."""
SHARED_FAILURE_S: Final = 600.0
"""Seconds for which what all children need stays down."""
_SHARED_FAILURE_EVENTS: Final = 20_000
"""After so many it is looked at no longer."""
_HORIZON_S: Final = 100 * 365 * 86400.0
_STUB: Final = "stub"

How = Literal["execute", "setup", "complete"]
"""It fails after it has become ready, it fails in ``setup()``, or it ends normally."""


class Stub(Agent):
    """Stands for what a supervisor is there for, where only the supervisor matters."""

    def execute(self) -> None:
        """Never called."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What happens with the longest and with the shortest delays that jitter allows."""

    longest: Course
    shortest: Course


@dataclass(frozen=True, slots=True)
class Shared:
    """What comes of a failure of all agents below a supervisor.

    Attributes:
        watched_s: seconds that were simulated, less in a large tree in which nothing ends.
        failures: of all of them together, until the supervisor ended, or in all.
        ends_after_s: seconds until the supervisor ended by its own decision; None if it did not.
        why: it did, in one word of the core's; empty if it did not.
        tree_ends: whether the root did, too.
    """

    watched_s: float
    failures: int
    ends_after_s: float | None
    why: str
    tree_ends: bool


@dataclass(frozen=True, slots=True)
class Exhausted:
    """How one child ends its supervisor: failing each `uptime_s` after it is ready; by which failure, how soon."""

    uptime_s: float
    failure: int
    after_s: float


class Prober:
    """Simulates parts of one tree; what has the same policies in the same place is simulated once.

    The hook that may change the reason of an end is asked; it sees the report, and not whose it is.

    Attributes:
        entries: of the tree, by path, in registration order.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        """Simulate nothing yet."""
        self.entries = dict(walk_entries(blueprint.root))
        self._blueprint = blueprint
        # What one child does is not to depend on slots, on hooks that see all of them, or on others having ended.
        self._settings = replace(
            blueprint.settings, run_mode=RunMode.DAEMON, strict_start=False, choose_next=None, max_workers=None
        )
        self._courses: dict[Hashable, Course] = {}
        self._shared: dict[tuple[str, bool], Shared] = {}

    def forecast(self, path: str, how: How = "execute") -> Forecast:
        """Return what comes of it when the child at `path` fails at once each time."""
        return Forecast(self.course(path, LONGEST, how), self.course(path, SHORTEST, how))

    def course(
        self, path: str, draw: float, how: How = "execute", *, uptime: float = 0.0, most: int = MOST_FAILURES
    ) -> Course:
        """Return what comes of it when the child at `path` fails again and again.

        Args:
            path: of an agent, or of a supervisor, whose failure is that it gives up.
            draw: of each delay, see `LONGEST`.
            how: it fails.
            uptime: seconds from being ready to the failure.
            most: after so many failures it is a good one.
        """
        key = (place_of(self.entries, path, self._settings.backoff), draw, how, uptime, most)
        if key not in self._courses:
            self._courses[key] = self._simulated(path, draw, how, uptime, most)
        return as_of(self._courses[key], path)

    def all_fail(self, path: str, *, lasting: bool) -> Shared:
        """Return what happens when all agents below the supervisor at `path` fail at one moment.

        Args:
            path: of the supervisor.
            lasting: what they need stays down, hence each start fails, for `SHARED_FAILURE_S`; else once.
        """
        if (path, lasting) not in self._shared:
            self._shared[path, lasting] = self._all_fail(path, lasting)
        return self._shared[path, lasting]

    def _all_fail(self, path: str, lasting: bool) -> Shared:
        simulator = self._simulator(path, SHORTEST, lambda entry: entry)
        begins = 1.0
        if lasting:
            simulator.plan(Down(path, at=begins))
        simulator.start()
        if lasting:
            simulator.max_events = len(simulator.log) + _SHARED_FAILURE_EVENTS + 10 * len(self.entries)
            simulator.advance_to(begins + SHARED_FAILURE_S)
        else:
            simulator.advance_to(begins)
            live = simulator.executors.live
            for agent, run in tuple(live.items()):
                if live.get(agent) is run:  # and not stopped meanwhile because of another one's failure
                    simulator.strike(Crash(agent, at=0.0), agent)
        end, watched_s = _end_of(simulator, path), simulator.now - begins
        if end is None:
            return Shared(watched_s, sum(map(len, simulator.crashes.values())), None, "", False)
        failures = sum(emit.kind is crashed for _, emit in simulator.log[: simulator.log.index(end)])
        return Shared(watched_s, failures, end.now - begins, _why(end), simulator.exit_code is not None)

    def exhausts(self, path: str) -> Exhausted | None:
        """Return how the child at `path` alone exhausts its supervisor's window by failing in the worst rhythm.

        That is at once each time; or just when it counts as healthy again, so that each restart comes at once.
        """
        parent = self.entries[path.rpartition("/")[0]]
        backoff = backoff_of(self.entries[path], self._settings.backoff)
        assert isinstance(parent, SupervisorEntry)
        rhythms = {0.0: self.course(path, SHORTEST)}
        if backoff is not None and backoff.stable_after:
            most = min(parent.max_restarts + 2, MOST_FAILURES)
            rhythms[backoff.stable_after] = self.course(path, SHORTEST, uptime=backoff.stable_after, most=most)
        for uptime_s, course in rhythms.items():
            if (end := course.supervisor_ends) is not None and end.why == Cause.MAX_RESTARTS:
                return Exhausted(uptime_s, end.failure, end.after_s)
        return None

    def stop_time(self, path: str) -> float:
        """Return the seconds that the supervisor at `path` takes to stop all below when none of them wants to.

        Infinity if one of them may take for ever. Its own `shutdown` is left out of account, and the moment that a
        thread gets to notice that its time is over.
        """
        settings = replace(self._settings, killable=("thread", "process", "async"))
        simulator = self._simulator(path, LONGEST, lambda entry: replace(entry, shutdown="infinity"), settings)
        simulator.plan(IgnoreStop(path))
        simulator.start()
        simulator.tell(StopTree())
        simulator.advance_to(_HORIZON_S)
        end = _end_of(simulator, path)
        return math.inf if end is None else end.now

    def _simulated(self, path: str, draw: float, how: How, uptime: float, most: int) -> Course:
        is_agent = isinstance(self.entries[path], AgentEntry)
        simulator = self._simulator(path, draw, _unwatched if is_agent else _gives_up_at_once)
        failing = path if is_agent else f"{path}/{_STUB}"
        match how:
            case "execute":
                simulator.plan(Crash(failing, after=uptime, times=most))
            case "complete":
                simulator.plan(Complete(failing, after=uptime, times=most))
            case "setup":
                crash = Crash(failing, phase="setup", at=0.0)
                for _ in range(most):
                    simulator.strike(crash, failing)
        simulator.start()
        simulator.advance_to(_HORIZON_S)
        return course_of(simulator, path)

    def _simulator(
        self, path: str, draw: float, last: Callable[[ChildEntry], ChildEntry], settings: Settings | None = None
    ) -> Simulator:
        settings = replace(settings or self._settings, draw=lambda: draw)
        root = alone(self._blueprint.root, path, last)
        return Simulator(replace(self._blueprint, root=root, settings=settings), lambda: 0.0)


def _unwatched(entry: ChildEntry) -> ChildEntry:
    """Return an agent without what looks at it while it runs: that would go on for ever."""
    assert isinstance(entry, AgentEntry)
    return replace(entry, watchdog=None, max_memory=None, max_age=None)


def _gives_up_at_once(entry: ChildEntry) -> ChildEntry:
    """Return a supervisor whose only child makes it give up with its first failure."""
    assert isinstance(entry, SupervisorEntry)
    stub = AgentEntry(Stub, _STUB, restart="permanent", backoff=None)
    return replace(entry, max_restarts=0, children=(stub,), dynamic=False, max_children=None)


def _end_of(simulator: Simulator, path: str) -> Said | None:
    """Return what was said when the supervisor at `path` first ended."""
    ends = (said for said in simulator.log if said.emit.kind is SupervisorTerminated and said.emit.path == path)
    return next(ends, None)


def _why(end: Said) -> str:
    data = end.emit.data
    assert isinstance(data, SupervisorTerminated)
    return data.reason.cause.value
