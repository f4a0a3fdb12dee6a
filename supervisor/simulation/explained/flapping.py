"""One child that fails again and again, simulated alone below the supervisors above it. Pure."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, Protocol

from orchestree.supervisor.simulation.faults import Complete, Crash
from orchestree.supervisor.simulation.pretended_run import Run
from orchestree.supervisor.simulation.run_model import Reports
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.spec import SupervisorEntry

from .courses import Course, Probe, probe_of
from .parts import HORIZON_S, SHORTEST, Parts
from .places import backoff_of

MOST_FAILURES: Final = 1000
"""After so many a simulation takes it that it goes on like that."""
STEADY_FAILURES: Final = 50
"""After so many with one delay a policy without a `stop` is taken to go on like that."""
_BEFORE_STEADY: Final = 14
"""So many failures a delay may take to stop growing, or else `MOST_FAILURES` are looked at."""

MANY_FAILURES: Final = 100_000
"""After so many in all courses together, which takes some seconds, the others are broken off where delays may grow."""

FailureKind = Literal["execute", "setup", "complete"]
"""It fails after it has become ready, it fails in ``setup()``, or it ends normally and comes back, being permanent.

To the policy of a supervisor that gives up the last is the same as that: there is no report of a crash.
"""


class Randomness(Protocol):
    """The generator that policies may draw from by themselves: the module `random`."""

    def getstate(self) -> tuple[Any, ...]:
        """Return its state, which is another one after something was drawn."""

    def setstate(self, state: tuple[Any, ...]) -> None:
        """Have it draw what it drew after that state."""


class Flapping:
    """Has one child of a tree fail again and again."""

    def __init__(self, parts: Parts, randomness: Randomness) -> None:
        """Simulate nothing yet; each simulation draws what comes after the present state of `randomness`."""
        self._parts = parts
        self._randomness = randomness
        self._drawn_from = randomness.getstate()
        self._failures = 0

    def so_often(self, path: str, draw: float, kind: FailureKind, failures: int) -> Course:
        """Return what comes of so many failures, each as soon as it is ready."""
        return self._simulated(path, draw, kind, 0.0, wide=False, most=failures).course

    def at_once(self, path: str, draw: float, kind: FailureKind, uptime: float, wide: bool) -> Probe:
        """Return a course that is broken off once its delays do not change any more, if nothing else can come."""
        backoff = backoff_of(self._parts.entries[path], self._parts.settings.backoff)
        parent = self._parts.entries[path.rpartition("/")[0]]
        assert isinstance(parent, SupervisorEntry)
        few = _BEFORE_STEADY + max(STEADY_FAILURES, 0 if wide else parent.max_restarts + 2)
        has_many = self._failures > MANY_FAILURES
        if few < MOST_FAILURES and (has_many or backoff is None or backoff.stop is None):
            found = self._simulated(path, draw, kind, uptime, wide, few)
            is_steady = found.course.supervisor_ends is None and len({*found.delays_s[_BEFORE_STEADY:]}) <= 1
            if has_many or is_steady or not found.course.goes_on:
                return found
        return self._simulated(path, draw, kind, uptime, wide, MOST_FAILURES)

    def _simulated(self, path: str, draw: float, kind: FailureKind, uptime: float, wide: bool, most: int) -> Probe:
        if kind == "complete":
            simulator = self._parts.of_policy(path, draw, wide=wide)
            simulator.plan(Complete(path, after=uptime, times=most))
            return self._advanced(simulator, path)
        simulator, failing = self._parts.of_child(path, draw, wide=wide)
        if kind == "setup":
            _fail_each_start(simulator, failing, most)
        else:
            simulator.plan(Crash(failing, after=uptime, times=most))
        return self._advanced(simulator, path)

    def in_bursts(self, path: str, bursts: tuple[int, ...], stable_after: float) -> Course:
        """Return what comes of it when it fails in bursts, with just the time between them that makes it stable."""
        simulator, failing = self._parts.of_child(path, SHORTEST)
        _fail_in_bursts(simulator, failing, bursts, stable_after)
        return self._advanced(simulator, path).course

    def _advanced(self, simulator: Simulator, path: str) -> Probe:
        self._randomness.setstate(self._drawn_from)  # so only policies that differ have courses that differ
        simulator.start()
        simulator.advance_to(HORIZON_S)
        probe = probe_of(simulator, path, is_sample=self._randomness.getstate() != self._drawn_from)
        self._failures += probe.course.failures
        return probe


def _fail_each_start(simulator: Simulator, path: str, times: int) -> None:
    simulator.executors.habits[path].fails_in_setup += [Crash(path, phase="setup", at=0.0)] * times


def _fail_in_bursts(simulator: Simulator, path: str, bursts: tuple[int, ...], stable_after: float) -> None:
    """Have the agent at `path` fail so often at once, be ready for `stable_after` seconds, fail again, and so on."""
    executors, crash = simulator.executors, Crash(path, at=0.0)
    pauses = [uptime for burst in bursts for uptime in (stable_after, *[0.0] * (burst - 1))]
    uptimes = iter([0.0, *pauses[1:]])

    def on_ready(run: Run) -> None:
        def strike() -> Reports:
            return executors.crash(run, crash)

        if (uptime := next(uptimes, None)) is not None:
            executors.later(_not_before(executors.now, uptime), strike)

    executors.habits[path].on_ready.append(on_ready)


def _not_before(now: float, seconds: float) -> float:
    """Return the moment from which on so many seconds have passed since `now`, however sums are rounded."""
    moment = now + seconds
    while moment - now < seconds:
        moment = math.nextafter(moment, math.inf)
    return moment
