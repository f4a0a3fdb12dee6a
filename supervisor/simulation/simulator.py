"""One tree under virtual time: the real core, runs that pretend, faults, and a clock that jumps. Pure.

It decides nothing: what is done about a failure is the core's answer alone. What happens at one moment happens in one
order (first what the core had set a deadline for), so that equal blueprints, faults and draws give equal logs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from orchestree.agents.executor import RunEnded
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import AgentRegistered, AgentRestarting
from orchestree.supervisor.inputs import Emit, Input, Refused, StartTree, Tick, TreeEnded
from orchestree.supervisor.outcome import crashed
from orchestree.supervisor.spec import SupervisorEntry
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.tree import AgentNode, Node, SupervisorNode

from .blueprint import Blueprint
from .fault_plan import FaultPlan
from .faults import Fault, Occurrence as Occurrence
from .limits import DEFAULT_MAX_EVENTS
from .pretended_run import Struck
from .run_model import Executors

_new_tuple = tuple.__new__  # half the time of a call of the class; a day of crashes makes a million of them


class Said(NamedTuple):
    """An event that was decided, and when; its number is its place in the log, from 1."""

    now: float
    emit: Emit


class StateChange(NamedTuple):
    """From `at` on it is in `state`."""

    at: float
    state: AgentState


class Simulator:
    """Runs one tree. Not thread-safe.

    Attributes:
        core: decides.
        executors: what pretends to run.
        log: everything that the core said, in order.
        states: for each path, the states that it had, oldest first; what lasted no time is left out.
        crashes: for each agent, when it crashed, oldest first.
        restarts: how many restarts of each agent were decided, whatever for.
        supervisors: the entry of each, also of those that have left the tree.
        max_events: once so many events and moments without any (of faults, of looks at runs) have passed, the
            simulation stands still for good (`is_exhausted`).
        exit_code: of the tree; None until it has ended.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        draw: Callable[[], float],
        max_events: int = DEFAULT_MAX_EVENTS,
        within: AbstractContextManager[object] | None = None,
    ) -> None:
        """Build the tree; nothing has happened yet.

        Args:
            blueprint: of the tree; ``settings.draw`` is where its jitter comes from.
            draw: numbers in [0, 1) for faults whose times are drawn.
            max_events: see the attribute.
            within: entered anew around each step, for what policies and hooks of the tree find around them.

        Raises:
            SpecError: the tree breaks a rule.
        """
        self.core = Core(blueprint.root, blueprint.settings)
        self.executors = Executors()
        self.log: list[Said] = []
        self.states: dict[str, list[StateChange]] = {}
        self.crashes: defaultdict[str, list[float]] = defaultdict(list)
        self.restarts: defaultdict[str, int] = defaultdict(int)
        self.supervisors: dict[str, SupervisorEntry] = {}
        self.max_events = max_events
        self.is_exhausted = False
        self.exit_code: int | None = None
        self._plan = FaultPlan(self.executors, draw, self.core.world.nodes)
        self._classify = blueprint.classify
        self._within = within or nullcontext()
        self._silent_moments = 0
        for node in self.core.world.nodes.values():
            if isinstance(node, AgentNode):
                self._know(node)

    @property
    def now(self) -> float:
        """Virtual seconds since the tree was built."""
        return self.executors.now

    @property
    def struck(self) -> list[Struck]:
        """What faults have done, in order."""
        return self.executors.struck

    @property
    def has_ended(self) -> bool:
        """Whether nothing will ever happen any more."""
        return self.exit_code is not None or self.is_exhausted

    def start(self) -> None:
        """Start the tree."""
        self.tell(StartTree())

    def tell(self, event: Input) -> None:
        """Have the core decide on `event`, and on all that the runs answer to that at once.

        Raises:
            OrchestreeError: it was a mistake; nothing has changed.
        """
        with self._within:
            self._handle([event])

    def advance_to(self, moment: float) -> None:
        """Move the clock to `moment`; on the way everything happens in its turn.

        Infinity: until nothing more will happen by itself, which may be never.
        """
        with self._within:
            self._advance_to(moment)

    def _advance_to(self, moment: float) -> None:
        executors, log = self.executors, self.log
        while not self.has_ended:
            deadline, happens = self.core.next_deadline(), executors.next_moment()
            soonest = happens if deadline is None or happens < deadline else deadline
            if soonest > moment or soonest == math.inf:
                break
            events = len(log)
            if events + self._silent_moments >= self.max_events:
                self.is_exhausted = True
                return
            if soonest > executors.now:
                executors.now = soonest
            if soonest == deadline:
                self._handle([Tick()])
            else:
                self._handle(executors.take_next())
            if len(log) == events:
                self._silent_moments += 1
        if not self.is_exhausted and moment < math.inf:
            executors.now = max(executors.now, moment)

    def plan(self, *faults: Fault) -> None:
        """Have faults happen to all agents that they name; their times count from now.

        Raises:
            NotFound: one names nobody. SpecError: one can happen to none of those that it names. None is planned then.
        """
        self._plan.plan(*faults)

    def strike(self, fault: Occurrence, path: str) -> bool:
        """Have `fault` happen to the agent at `path` now, whatever its times are; return whether that did anything.

        Raises:
            NotFound: there is no such agent. SpecError: it cannot happen to it.
        """
        with self._within:
            reports = self._plan.strike(fault, path)
            self._handle(reports or [])
        return reports is not None

    def _handle(self, happened: Iterable[Input]) -> None:
        """Have the core decide on what has happened, and on all that the runs answer to that at once."""
        log, executors, handle, now = self.log, self.executors, self.core.handle, self.executors.now
        todo = [*happened]
        for told in todo:
            if len(log) >= self.max_events:
                self.is_exhausted = True
                break
            if self._classify is not None and isinstance(told, RunEnded):
                told = self._classify(told)
            for effect in handle(told, now):
                if isinstance(effect, Emit):
                    log.append(_new_tuple(Said, (now, effect)))
                    kind = effect.kind
                    if kind is crashed:
                        self.crashes[effect.path].append(now)
                    elif kind is AgentRestarting:
                        self.restarts[effect.path] += 1
                    elif kind is AgentRegistered:
                        self._know(self.core.world.nodes[effect.path])
                elif isinstance(effect, TreeEnded):
                    self.exit_code = effect.exit_code
                elif isinstance(effect, Refused):
                    raise effect.error
                else:
                    todo += executors.carry_out(effect)
        self._note_states(now)

    def _know(self, node: object) -> None:
        assert isinstance(node, AgentNode)
        self.executors.know(node.path, node.entry, can_kill=node.can_kill)

    def _note_states(self, now: float) -> None:
        touched = self.core.world.touched
        for node in touched:
            changes = self.states.get(node.path)
            if changes is None:
                changes = self._see(node)
            if changes and changes[-1].at == now:
                changes.pop()
            if not changes or changes[-1].state is not node.state:
                changes.append(StateChange(now, node.state))
        touched.clear()

    def _see(self, node: Node) -> list[StateChange]:
        """Note what stands at a path for the first time, and return its states, which are still to come."""
        if isinstance(node, SupervisorNode):
            self.supervisors[node.path] = node.entry
        changes = self.states[node.path] = []
        return changes
