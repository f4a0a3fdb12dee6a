"""`LiveChaos`: the faults of a simulation, done to a tree that really runs, under a budget.

What is done, to whom and when is what a simulation of the very tree says, so it is known before anything starts. Only
what can be done to a process from outside can be: a signal that ends it, or one that has it stand still for a while.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from orchestree.strategies import checks
from orchestree.strategies.errors import NotRunning, SpecError
from orchestree.supervisor.events import EventType
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.asked_faults import faults_of
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.fault_lines import line_of
from orchestree.supervisor.simulation.faults import Crash, Fault, Hang

from .checking import takes_one
from .live_run import Course, LiveFault, LiveRun

DEFAULT_BUDGET: Final = 20
_HARMLESS: Final = frozenset(
    {"SIGCHLD", "SIGCONT", "SIGPIPE", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH", "SIGXFSZ"}
)
"""Signals that end no agent: it stands still, goes on, or ignores them."""
_POSSIBLE: Final = "what can: 'PATH: crash with SIGKILL at 3s' and 'PATH: hang at 3s for 2s' of process agents"


class LiveChaos:
    """Faults for a tree that has not been started yet. Nothing happens before `run`.

        chaos = LiveChaos(orchestrator, ["worker: crash with SIGKILL about every 2s"], until=10, seed=7, budget=5)
        with orchestrator:
            live = chaos.run()
        print(live)
        print(live.comparison)

    The plan is what `simulate` says for the same tree, faults and seed: the same arguments, the same plan. There is no
    faster time: the tree's own delays are real seconds, and at another pace another policy would be put to the test.

    Attributes:
        plan: what will be done, in order, at most `budget` faults, each ``at`` one moment, in whole milliseconds since
            the start of the tree (rounded up); who does not run then is spared.
        simulation: of the tree with exactly this plan; to look at it is a dry run.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        faults: Iterable[Fault | str],
        *,
        until: float | str,
        seed: int = 0,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        """Plan everything.

        Args:
            orchestrator: that has not been started; you start and stop it yourself.
            faults: `Crash` by a signal and `Hang` of process agents, or lines that say such. One that names a
                supervisor is for the process agents below it.
            until: seconds since the start of the tree, or a text such as ``"1m"``.
            seed: of faults whose times are drawn, and of the simulation's jitter.
            budget: at most so many faults in all.

        Raises:
            SpecError: a fault cannot be brought about from outside; the tree runs already; a value breaks a rule.
            NotFound: a fault names nobody in the tree.
        """
        checks.count("budget", budget, least=1)
        if not isinstance(orchestrator, Orchestrator):
            raise SpecError(f"orchestrator={orchestrator!r}: must be an Orchestrator that has not been started")
        blueprint = orchestrator.blueprint()
        wanted = [one for fault in faults_of(faults) for one in _possible(fault, blueprint)]
        struck = simulate(orchestrator, wanted, until=until, seed=seed).struck[:budget]
        self.plan = tuple(_pinned(each.fault, each.path, each.now) for each in struck)
        self.simulation = simulate(orchestrator, self.plan, until=until, seed=seed)
        self._orchestrator = orchestrator
        self._has_run = False

    def run(self, check: Callable[[Orchestrator], bool] | None = None) -> LiveRun:
        """Carry out the plan on the running tree, in this thread, and return when it is over.

        That is at `until`, or sooner: as soon as an agent was parked, failed or wedged, a supervisor gave up, the tree
        stops, or the check says so. Whatever happens, no process is left standing still.

        Args:
            check: is asked before each fault whether the tree is still well.

        Raises:
            NotRunning: the tree does not run, or not since recently; or the plan has been carried out.
            SpecError: `check` is no such function. Exception: what `check` raises.
        """
        if check is not None and not takes_one(check):
            raise SpecError(
                f"check={check!r}: must be a function that takes the orchestrator and returns whether all is well"
            )
        if self._has_run:
            raise NotRunning("this plan has been carried out: make a new LiveChaos() for a new orchestrator")
        recent = self._orchestrator.events.recent() if self._orchestrator.is_running else []
        started = next((event for event in recent if event.type is EventType.ORCHESTRATOR_STARTED), None)
        if started is None:
            raise NotRunning("start the orchestrator just before: with orchestrator: chaos.run()")
        self._has_run = True
        return Course(self._orchestrator, started, check).go(self.plan, self.simulation)


def _possible(fault: Fault, blueprint: Blueprint) -> Iterator[LiveFault]:
    """Yield the fault for each process agent that it names, in registration order."""
    if (why := _impossible(fault)) is not None:
        raise SpecError(f"{line_of(fault)!r}: {why}; {_POSSIBLE}")
    assert isinstance(fault, LiveFault)
    agents = blueprint.agents(fault.path)
    hurt = [path for path, entry in agents.items() if entry.executor == "process"]
    if not hurt:
        raise SpecError(f"{line_of(fault)!r}: no process agent there, and others share our process; {_POSSIBLE}")
    yield from (replace(fault, path=path) for path in hurt)


def _impossible(fault: Fault) -> str | None:
    """Return why nobody can bring it about from outside; None if that is possible."""
    match fault:
        case Hang():
            return None
        case Crash(cause="signal", phase="execute", signal=name):
            return None if name in signal.Signals.__members__.keys() - _HARMLESS else f"{name} ends no process"
        case Crash(cause="signal"):
            return f"nobody outside knows when its {fault.phase} runs"
        case _:
            return "cannot be brought about from outside"


def _pinned(fault: Fault, path: str, moment: float) -> LiveFault:
    """Return the fault that does at this moment what `fault` would have done."""
    assert isinstance(fault, LiveFault)
    at = math.ceil(moment * 1000) / 1000
    return replace(fault, path=path, at=at, every=None, after=None, until=math.inf, times=None, about=False)
