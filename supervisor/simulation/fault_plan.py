"""Which faults are to happen when, and what they have done. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from orchestree.agents.ends import NORMAL
from orchestree.strategies.errors import NotFound, SpecError, did_you_mean
from orchestree.supervisor.tree import AnyNode

from .blueprint import is_at_or_below, who_comes_later
from .fault_lines import line_of
from .faults import Complete, Crash, Down, Fault, Hang, IgnoreStop, Moments, Occurrence, SlowStart, cannot_happen
from .pretended_run import Habits, Run
from .run_model import Executors, Reports


class FaultPlan:
    """Leaves faults on the agenda of `executors`, and has them happen."""

    def __init__(self, executors: Executors, draw: Callable[[], float], nodes: Mapping[str, AnyNode]) -> None:
        """Plan nothing yet.

        Args:
            executors: of the runs that faults happen to.
            draw: gives numbers in [0, 1) for faults whose times are drawn.
            nodes: of the tree, by path; only for errors.
        """
        self._executors = executors
        self._nodes = nodes
        self._draw = draw

    def plan(self, *faults: Fault) -> None:
        """Have faults happen to all agents that they name; their times count from now.

        Raises:
            NotFound: one names nobody. SpecError: one can happen to none of those that it names. None is planned then.
        """
        named = [(fault, self._named(fault)) for fault in faults]
        for fault, agents in named:
            for path, habits in agents.items():
                if isinstance(fault, Moments):
                    self._plan_moments(fault, path, habits)
                else:
                    self._plan_spell(fault, path, habits)

    def strike(self, fault: Occurrence, path: str) -> Reports | None:
        """Have `fault` happen to the agent at `path` now; return what it reports, None if that did nothing.

        Raises:
            NotFound: there is no such agent. SpecError: it cannot happen to it.
        """
        if self._named(replace(fault, path=path)).keys() != {path}:
            raise NotFound(f"{path!r}: is a supervisor; a fault strikes one agent")
        return self._strike(fault, path, self._executors.live.get(path))

    def _named(self, fault: Fault) -> dict[str, Habits]:
        """Return the agents that `fault` names and can happen to; a supervisor's name spares those that it cannot."""
        known = self._executors.habits
        if fault.path in known:
            named = {fault.path: known[fault.path]}
        else:
            named = {path: habits for path, habits in known.items() if is_at_or_below(path, fault.path)}
        if not named:
            later = who_comes_later(((path, node.entry) for path, node in self._nodes.items()), fault.path)
            there = dict.fromkeys([*known, *(path.rpartition("/")[0] for path in known)])
            hint = did_you_mean(fault.path, there)
            raise NotFound(f"{line_of(fault)!r}: there is no agent at or below {fault.path or '/'!r}{hint}{later}")
        possible = {path: habits for path, habits in named.items() if not cannot_happen(fault, habits.entry.executor)}
        if not possible and isinstance(fault, Crash):
            path, habits = next(iter(named.items()))
            can = replace(fault, path=path, cause="exception", signal="SIGKILL")
            raise SpecError(
                f"{line_of(fault)!r}: cannot happen to {path!r}: {cannot_happen(fault, habits.entry.executor)}; "
                f"what can is, for example, {line_of(can)!r}"
            )
        return possible

    def _plan_moments(self, fault: Occurrence, path: str, habits: Habits) -> None:
        executors, begin, end = self._executors, self._executors.now, self._executors.now + fault.until
        moments = self._moments(fault, begin)
        left = math.inf if fault.times is None else fault.times

        def strike(run: Run | None) -> Reports:
            nonlocal left
            laid = habits.fails_in_setup
            if left <= 0 or (laid and any(one is fault for one in laid)):
                return []  # what it laid for the next start lies there still
            reports = self._strike(fault, path, run)
            left -= reports is not None
            return reports or []

        def strike_next() -> Reports:
            reports = strike(executors.live.get(path))
            plan_next()
            return reports

        def plan_next() -> None:
            if left > 0 and (moment := next(moments, end)) < end:
                executors.later(moment, strike_next)

        def on_ready(run: Run) -> None:
            moment = executors.now + self._interval(fault, fault.after or 0.0)
            if left > 0 and begin + (fault.at or 0.0) <= moment < end:
                executors.later(moment, lambda: strike(run))

        if fault.after is not None:
            habits.on_ready.append(on_ready)
            if (run := executors.live.get(path)) is not None and run.ready_at == begin:
                on_ready(run)  # it has just become ready
        elif isinstance(fault, Crash) and fault.phase == "setup" and fault.at == 0.0 and path not in executors.live:
            next(moments)
            strike_next()  # now, as the start that comes at this moment comes first otherwise
        else:
            plan_next()

    def _moments(self, fault: Occurrence, begin: float) -> Iterator[float]:
        """Yield when `fault` happens, if it does at set times."""
        first = begin + (fault.at or 0.0)
        if fault.every is None:
            yield first
        elif not fault.about:
            for number in itertools.count(1 if fault.at is None else 0):
                yield first + number * fault.every
        else:
            moment = first if fault.at is not None else first + self._interval(fault, fault.every)
            while True:
                yield moment
                moment += self._interval(fault, fault.every)

    def _interval(self, fault: Occurrence, mean: float) -> float:
        return -mean * math.log(1.0 - self._draw()) if fault.about else mean

    def _plan_spell(self, fault: Down | SlowStart | IgnoreStop, path: str, habits: Habits) -> None:
        now = self._executors.now
        spell = replace(fault, at=now + fault.at, until=now + fault.until)
        match spell:
            case Down():
                habits.down.append(spell)
                self._executors.later(spell.at, lambda: self._break_down(fault, path))
            case SlowStart():
                habits.slow.append(spell)
            case IgnoreStop():
                habits.stubborn.append(spell)
            case _:
                assert_never(spell)

    def _break_down(self, fault: Fault, path: str) -> Reports:
        run = self._executors.live.get(path)
        if run is None:
            return []
        self._executors.strikes(fault, path)
        return self._executors.break_down(run)

    def _strike(self, fault: Occurrence, path: str, run: Run | None) -> Reports | None:
        """Have `fault` happen to `run` of the agent at `path`; return what is to be reported, None if it cannot."""
        executors = self._executors
        match fault:
            case Crash(phase="setup") if run is None or not run.alive or run.ready:
                executors.habits[path].fails_in_setup.append(fault)
                return []
            case Crash(phase="teardown"):
                executors.habits[path].fails_in_teardown = fault
                return []
            case _ if run is None or not run.alive:
                return None
            case Crash():
                reports = executors.crash(run, fault)
            case Hang(lasts=lasts):
                reports = executors.hang(run, lasts)
            case Complete():
                reports = executors.end(run, NORMAL)
            case _:
                assert_never(fault)
        executors.strikes(fault, path)
        return reports
