"""`supervised`: a tree under virtual time that a test does things to, and looks at.

The core that decides is the real one. Nothing here knows a policy: what happens is the simulator's matter, what it
means that of the invariants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from orchestree.agents.ends import Phase
from orchestree.strategies import checks
from orchestree.strategies.errors import NotFound, NotRunning, SpecError, did_you_mean
from orchestree.supervisor.entry_fields import named_path
from orchestree.supervisor.events import (
    AgentRestarting,
    AgentStarting,
    Event,
    SupervisorRestarting,
    SupervisorStarted,
)
from orchestree.supervisor.inputs import Input
from orchestree.supervisor.phrases import duration
from orchestree.supervisor.predicting import seeded_simulator
from orchestree.supervisor.simulation.asked_faults import fault_of
from orchestree.supervisor.simulation.blueprint import who_comes_later
from orchestree.supervisor.simulation.faults import Complete, Crash, Fault, Hang, cannot_happen
from orchestree.supervisor.simulation.result import EventLog, Simulation, result_of
from orchestree.supervisor.simulation.shown.timeline import timeline
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import RUNNING_STATES
from orchestree.supervisor.status import Status, status_of
from orchestree.supervisor.tree import AgentNode, AnyNode, SupervisorNode

from .causes import CauseOfCrash, crash_of
from .checking import check_invariants, findings_of
from .operating import Operated, Order
from .report import CheckFailed, Finding, report_of
from .schedule import Schedule, later

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator

    from .invariants import Invariant


MOST_CHECKS: Final = 20
"""So often one check asks its invariants; where somebody is down at any time it would go on for ever."""


def supervised(
    tree: Orchestrator | ChildEntry | Iterable[ChildEntry], /, seed: int = 0, *, max_events: int = 100_000
) -> SupervisedTree:
    """Return `tree` under virtual time, which starts with the first thing asked in a ``with`` block and ends with that.

    The specifications and the core are the real ones. A run becomes ready at once, goes on for ever and stops when
    asked, unless a fault says so. No agent is made, nothing runs, so a tree of real agents can be put in as it is, and
    the same tree as often as you like. Equal seeds and equal steps give equal logs. The pytest fixture `supervised` is
    this very function; both can be used under Hypothesis's ``@given``.

    Args:
        tree: an orchestrator that has not been started, or entries, for a tree with the default configuration in
            ``DAEMON`` mode.
        seed: of jitter, and of faults whose times are drawn.
        max_events: the clock refuses to go on when so many events have happened.

    Raises:
        SpecError: the tree breaks a rule.
    """
    checks.count("max_events", max_events, least=1)
    return SupervisedTree(seeded_simulator(tree, seed, max_events), seed)


class SupervisedTree(Operated):
    """A tree under virtual time, made by `supervised`. Not thread-safe.

    What acts raises `NotRunning` before and after the ``with`` block; what reads works after it, too.

    Attributes:
        seed: that everything random comes from.
        faults: all that were asked for, in order; their times count from the start of the tree.
        orders: what the test asked for as an operator, in order.
    """

    def __init__(self, simulator: Simulator, seed: int) -> None:
        """Wait for ``with``."""
        super().__init__(simulator)
        self.seed = seed
        self.faults: list[Fault] = []
        self._built = simulator
        self._is_started = False
        self._asked: list[Fault] = []
        """What `faults` was handed in as: the same in number and order, their times counted from then."""
        self._is_open = False
        self._was_open = False

    def __enter__(self) -> Self:
        """Start the tree, with the first thing that is asked of it; see `run`.

        Raises:
            NotRunning: it was started before.
        """
        if self._was_open:
            raise NotRunning("a supervised tree starts once: call supervised() again")
        self._is_open = self._was_open = True
        return self

    def __exit__(self, *error: object) -> None:
        """End it; there is nothing to clean up."""
        self._start()
        self._is_open = False

    def __repr__(self) -> str:
        """Return where it is."""
        where = f"at {duration(self.now)}" if self._is_open else "closed" if self._was_open else "not started"
        return f"<supervised tree, {where}>"

    # What happens to it

    def crash(
        self,
        path: str,
        cause: CauseOfCrash = "exception",
        *,
        exit_code: int | None = None,
        signal: str | None = None,
        phase: Phase = "execute",
    ) -> None:
        """End the run of an agent abnormally, now; of a supervisor: the runs of all agents below.

        One that may be down already at that moment is no mistake for ``strike("worker: crash at 0s")``, which skips it.

        Args:
            path: of who crashes; ``""`` or ``"/"`` for all.
            cause: ``exception exit signal oom lost`` or the `Cause` of that name; an exception, the class of one or
                the name of a builtin one; a signal such as ``signal.SIGKILL`` or its name.
            exit_code: that it exits with (1 to 255).
            signal: name of the signal that ends it, such as ``"SIGSEGV"``.
            phase: ``setup``: the start that runs, or else the next one, fails; ``teardown``: what is raised when the
                run ends next.

        Raises:
            NotRunning: it does not run. NotFound: there is no such path. SpecError: this cannot happen to it.
        """
        self._strike_now("crash", crash_of(named_path(path), cause, exit_code, signal, phase))

    def hang(self, path: str, lasts: float = math.inf) -> None:
        """Have a run make no progress and hear nothing for `lasts` seconds, from now on. Errors: as `crash`."""
        self._strike_now("hang", Hang(named_path(path), at=0.0, lasts=lasts))

    def complete(self, path: str) -> None:
        """End a run normally, now. Errors: as `crash`."""
        self._strike_now("complete", Complete(named_path(path), at=0.0))

    def strike(self, fault: Fault | str) -> None:
        """Have a fault happen whose times count from now: what is ``at=0`` happens at once, the rest in its time.

        Args:
            fault: a value, or a line such as ``"db: down from 0s to 20m"``. What happens at moments skips whoever does
                not run then.

        Raises:
            NotFound: it names nobody. SpecError: it is no fault, or cannot happen to whom it names.
        """
        self._check_open("strike()")
        parsed = fault_of(fault)
        self._start()
        self._plan(parsed)
        self._go_on(self.now)

    def run(self, schedule: Schedule | Iterable[Fault | str]) -> None:
        """Have a whole schedule happen, its times counted from now, and let its duration pass.

        Faults or lines in a list happen until all are over, see `Schedule`. If nothing was asked of the tree before, it
        starts with the schedule, as in `simulate`: what is down from 0 s fails the first start.

        Errors: as `strike`; none of the faults is planned then.
        """
        self._check_open("run()")
        if not isinstance(schedule, Schedule):
            if isinstance(schedule, (str, Fault)) or not isinstance(schedule, Iterable):
                example = "run(['worker: crash every 7s to 1m'])"
                raise SpecError(f"run({schedule!r}): must be a Schedule or a list of faults, such as {example}")
            schedule = Schedule(schedule)
        self._plan(*schedule)
        self._go_on(self.now + schedule.duration)

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; on the way everything happens in its turn.

        Raises:
            SpecError: `max_events` events have happened.
            CheckFailed: so many, and time stands still: restarts without a delay.
        """
        self.advance_to(self.now + checks.seconds("seconds", seconds))

    def advance_to(self, moment: float) -> None:
        """Let virtual time pass up to `moment`, seconds since the start; nothing happens if that is over.

        Errors: as `advance`.
        """
        self._check_open("advance()")
        self._go_on(checks.seconds("moment", moment))

    def check(self, *invariants: Invariant) -> None:
        """Check what must hold of all that has happened so far.

        When an invariant has moved the clock on, all are asked again about what came of that, until it stands still
        (or 20 times), so their order does not matter.

        Args:
            invariants: such as `never_two_live` or ``recovers_within(60)``, or a function of your own: it gets this
                tree, may move the clock on, and returns or yields a text for each thing that is wrong.

        Raises:
            CheckFailed: an `AssertionError`; says what is wrong, the faults that led to it, and the timeline.
            SpecError: one of them is no invariant.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        self._check_open("check()")
        check_invariants(invariants)
        found: list[Finding] = []
        for _ in range(MOST_CHECKS):
            before, found = self.now, findings_of(self, invariants)
            if self.now == before:
                break
        if found:
            raise CheckFailed(report_of(self, found), found, self.faults)

    # What came of it

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._built.now

    @property
    def exit_code(self) -> int | None:
        """Exit code of the tree; None until it has ended."""
        return self._simulator.exit_code

    @property
    def events(self) -> Sequence[Event]:
        """All events so far, oldest first; it grows with what happens."""
        return EventLog(self._simulator.log)

    @property
    def simulation(self) -> Simulation:
        """What came of it so far, as `simulate` returns it: states, crashes, time down, who parked, who gave up."""
        shown = {id(asked): fault for asked, fault in zip(self._asked, self.faults, strict=True)}
        found = result_of(self._simulator, tuple(self.faults), self.seed, self.now)
        struck = tuple(one._replace(fault=shown[id(one.fault)]) for one in found.struck)
        return replace(found, struck=struck)

    @property
    def simulator(self) -> Simulator:
        """What runs it, for invariants that look deeper."""
        return self._simulator

    def status(self, path: str) -> Status:
        """Return the status of an agent or supervisor, as ``Orchestrator.status``. Raises `NotFound`."""
        return status_of(self._node(path), self.now)

    def starts(self, path: str) -> int:
        """Return how many runs an agent had, or how often a supervisor was started. Raises `NotFound`."""
        path = self._node(path).path
        said = (one.emit for one in self._simulator.log)
        return sum(emit.path == path and emit.kind in (AgentStarting, SupervisorStarted) for emit in said)

    def restarts(self, path: str) -> int:
        """Return how many restarts were decided, whatever for. Raises `NotFound`."""
        return self.status(path).restarts_total

    def timeline(self) -> str:
        """Return what came of it as a text chart, as ``orchestree simulate`` prints it."""
        return timeline(self.simulation)

    # Inside

    @property
    def _simulator(self) -> Simulator:
        """What runs the tree, which is started."""
        self._start()
        return self._built

    def _start(self) -> None:
        if self._is_open and not self._is_started:
            self._is_started = True
            self._built.start()

    def _check_open(self, call: str) -> None:
        if not self._is_open:
            how = "its with block is over" if self._was_open else "start it with `with supervised(...) as t:`"
            raise NotRunning(f"{call}: the supervised tree does not run: {how}")

    def _node(self, path: str) -> AnyNode:
        world = self._simulator.core.world
        node = world.find(named_path(path)) if isinstance(path, str) else None
        if not isinstance(node, (AgentNode, SupervisorNode)):
            hint, later = did_you_mean(str(path), world.nodes), self._who_comes_later(str(path))
            raise NotFound(f"{path!r}: no such agent or supervisor{hint}{later}")
        return node

    def _agents(self, path: str) -> list[AgentNode]:
        node = self._node(path)
        if isinstance(node, AgentNode):
            return [node]
        below = f"{path}/" if path else ""
        nodes = self._simulator.core.world.nodes.values()
        return [one for one in nodes if isinstance(one, AgentNode) and one.path.startswith(below)]

    def _who_comes_later(self, path: str) -> str:
        nodes = self._simulator.core.world.nodes
        return who_comes_later(((where, node.entry) for where, node in nodes.items()), path)

    def _strike_now(self, call: str, fault: Crash | Hang | Complete) -> None:
        self._check_open(f"{call}({fault.path!r})")
        agents = self._agents(fault.path)
        possible = [agent for agent in agents if not cannot_happen(fault, agent.entry.executor)]
        if agents and not possible:
            why = cannot_happen(fault, agents[0].entry.executor)
            raise SpecError(f"{call}({fault.path!r}): cannot happen to {agents[0].path!r}: {why}")
        self._note(fault)  # before a hook of the tree may raise: then it has been struck all the same
        struck = [self._simulator.strike(fault, agent.path) for agent in possible]
        if not any(struck):
            del self._asked[-1], self.faults[-1]
            raise NotRunning(f"{call}({fault.path!r}): {self._why_not(fault.path, agents)}")

    def _why_not(self, path: str, agents: Sequence[AgentNode]) -> str:
        if len(agents) != 1 or agents[0].path != path:
            return f"no agent below it runs{'' if agents else self._who_comes_later(path)}"
        status = status_of(agents[0], self.now)
        if status.state in RUNNING_STATES:
            return f"its run has ended, it is {status.state}"
        again = "" if status.next_restart_s is None else f", starts again in {duration(status.next_restart_s)}"
        waits = f", for {', '.join(status.waiting_for)}" if status.waiting_for else ""
        return f"it does not run, it is in state {status.state}{again}{waits}"

    def _plan(self, *faults: Fault) -> None:
        asked = [replace(fault) for fault in faults]  # each one of its own: what it has done is told by it
        self._built.plan(*asked)
        for fault in asked:
            self._note(fault)

    def _note(self, fault: Fault) -> None:
        self._asked.append(fault)
        self.faults.append(later(fault, self.now))

    def _order(self, name: str, path: str, asked: Input) -> None:
        self._check_open(f"{name}({path!r})")
        self._simulator.tell(asked)
        self.orders.append(Order(self.now, name, path))

    def _go_on(self, moment: float) -> None:
        __tracebackhide__ = True
        simulator = self._simulator
        simulator.advance_to(moment)
        if simulator.is_exhausted:
            most, log = simulator.max_events, simulator.log
            latest = log[len(log) // 2 :]
            is_storm = any(said.emit.kind in (AgentRestarting, SupervisorRestarting) for said in latest)
            if is_storm and latest[0].now == self.now:
                text = f"nothing but restarts at {duration(self.now)}: {most} events, and no delay between them"
                found = [Finding("supervised", text)]
                raise CheckFailed(report_of(self, found), found, self.faults)
            raise SpecError(f"{most} events have happened by {duration(self.now)}: give supervised() more max_events")
