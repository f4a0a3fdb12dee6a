"""What an event log says about a tree: a small model of every child, derived from nothing else.

It is fed with the specification, what the core was told and what it answered, and never looks into the core.
`Rule` objects read it before it takes in each event and after each decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from core_child import Answer, Child, Decision, Said
from core_policies import Policy, policy_of

from orchestree.agents.executor import RunEnded, RunId
from orchestree.supervisor import events as ev
from orchestree.supervisor.inputs import (
    Input,
    Reconfigure,
    RegisterChild,
    StartRun,
    UnregisterChild,
)
from orchestree.supervisor.spec import INHERIT, AgentEntry, ChildEntry, SupervisorEntry


class Rule(Protocol):
    """One thing that must always hold; raises `AssertionError` when it does not."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        """Look at an effect before the ledger takes it in; `child` is whom it is about."""

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        """Look at everything when a whole decision has been taken in."""


class Ledger:
    """All children of one tree, by what the log says of them.

    Attributes:
        living: runs that the executor has, and whose they are; `past`: those that it had, newest last.
        log: time, path and data of every event.
    """

    def __init__(
        self,
        root: SupervisorEntry,
        default: Policy,
        max_workers: int | None,
        rules: Sequence[Rule],
        *,
        strict_start: bool = False,
    ) -> None:
        self.default = default
        self.must_all_start = strict_start
        """Until no first start of the static tree runs any more."""
        self.max_workers = max_workers
        self.rules = rules
        self.now = 0.0
        self.told: Input | None = None
        self.children: dict[str, Child] = {}
        self.living: dict[RunId, Child] = {}
        self.past: list[RunId] = []
        self.log: list[tuple[float, str, ev.EventData]] = []
        self.ended: RunEnded | None = None
        """The report that this decision is about, if it ended a living run."""
        self.leaving: Child | None = None
        """A supervisor that has just ended and leaves the tree unless it comes back or parks."""
        self.was_wedged = False
        """Whether that run had been given up on."""
        self.root = Child(path="", entry=root, parent=None, key=())
        self.children[""] = self.root
        self._add_children(self.root)

    def policy(self, child: Child) -> Policy:
        """Return the restart policy of `child`."""
        backoff = child.entry.backoff
        return self.default if backoff is INHERIT else policy_of(backoff)

    def agents(self) -> list[Child]:
        """Return all agents, in start order over the whole tree."""
        return sorted((child for child in self.children.values() if child.is_agent), key=lambda child: child.key)

    def supervisors(self) -> list[Child]:
        """Return all supervisors, the root too."""
        return [child for child in self.children.values() if not child.is_agent]

    def take(self, decision: Decision) -> None:
        """Take in one decision, and have every rule look at it."""
        self.now, self.told = decision.now, decision.told
        self.ended, self.was_wedged = None, False
        told = decision.told
        if isinstance(told, RunEnded) and told.run in self.living:
            self.ended = told
            self.past.append(told.run)
            child = self.living.pop(told.run)
            self.was_wedged = told.run in (child.wedged, *child.fenced)
            child.fenced.discard(told.run)
            if child.wedged == told.run:
                child.wedged = None
        if isinstance(told, RegisterChild) and not decision.is_refused:
            self.add(self.children[told.parent], told.entry)
        for effect in decision.effects:
            child_of = self._whose(effect)
            for rule in self.rules:
                rule.see(self, decision, effect, child_of)
            self._note(effect, child_of)
        if isinstance(told, RegisterChild) and not decision.is_refused:
            newcomer = self.children[self.path_of(told)]
            newcomer.must_start = told.must_start and newcomer.phase == "starting" and newcomer.is_agent
        if isinstance(told, UnregisterChild):
            self.let_go()
        if isinstance(told, UnregisterChild) and not decision.is_refused and told.path in self.children:
            self.remove(self.children[told.path])
        for agent in self.agents():
            # Whoever asked for its start is not kept waiting longer than this.
            is_starting = agent.phase in ("starting", "stopping") and agent.wedged is None
            agent.must_start = agent.must_start and is_starting
        for rule in self.rules:
            rule.settle(self, decision)
        if self.must_all_start:
            self.must_all_start = any(agent.is_in_first_start for agent in self.agents())

    def let_go(self) -> None:
        """Take the supervisor that has just ended for good out of the tree, if that is what becomes of it."""
        child, self.leaving = self.leaving, None
        if child is not None and child.phase != "parked":
            self.remove(child, remember=True)

    @staticmethod
    def path_of(told: RegisterChild) -> str:
        """Return the path of a new child."""
        return f"{told.parent}/{told.entry.name}" if told.parent else told.entry.name

    def add(self, parent: Child, entry: ChildEntry) -> None:
        """Append a child at the end of its supervisor's start order, with all below it."""
        path = f"{parent.path}/{entry.name}" if parent.path else entry.name
        child = Child(path=path, entry=entry, parent=parent, key=(*parent.key, parent.positions))
        parent.positions += 1
        parent.sequence.append(child)
        parent.departed.pop(entry.name, None)
        self.children[path] = child
        if isinstance(entry, SupervisorEntry):
            self._add_children(child)

    def remove(self, child: Child, *, remember: bool = False) -> None:
        """Take a child out of the tree, with all below it."""
        assert child.parent is not None
        child.parent.sequence.remove(child)
        if remember:
            child.parent.departed[child.name] = child
        prefix = f"{child.path}/"
        for path in [path for path in self.children if path == child.path or path.startswith(prefix)]:
            del self.children[path]

    def _add_children(self, parent: Child) -> None:
        assert isinstance(parent.entry, SupervisorEntry)
        left = list(parent.entry.children)
        while left:
            placed = {child.name for child in parent.sequence}
            entry = next(entry for entry in left if placed.issuperset(entry.depends_on))
            left.remove(entry)
            self.add(parent, entry)

    def _whose(self, effect: Answer) -> Child | None:
        path = getattr(effect, "path", None)
        run = getattr(effect, "run", None)
        return self.children.get(run.path if isinstance(run, RunId) else path or "") if path != "" else self.root

    def _note(self, effect: Answer, child: Child | None) -> None:
        if isinstance(effect, StartRun) and child is not None:
            self.living[effect.run] = child
        if not isinstance(effect, Said):
            return
        self.log.append((self.now, effect.path, effect.data))
        if child is None:
            return
        if child.is_agent:
            self._note_agent(child, effect)
        else:
            self._note_supervisor(child, effect.data)
        if isinstance(effect.data, ev.Command):
            self._note_command(child, effect.data.name)
        elif isinstance(effect.data, ev.PolicyChanged) and isinstance(self.told, Reconfigure):
            self._note_policy(child, self.told, effect.data)

    def _move(self, child: Child, phase: str) -> None:
        child.is_swept = False
        child.before, child.phase, child.since = child.phase, phase, self.now

    def _note_agent(self, child: Child, effect: Said) -> None:
        if isinstance(effect.data, ev.AgentWaiting | ev.AgentQueued | ev.AgentStarting):
            self._fence(child)
        match effect.data:
            case ev.AgentWaiting():
                self._move(child, "waiting")
            case ev.AgentQueued():
                self._move(child, "queued")
            case ev.AgentStarting():
                self._move(child, "starting")
                child.incarnation = effect.incarnation
                child.starts += 1
                child.ready_since, child.hurried, child.asked, child.is_hung = None, False, False, False
                child.group.clear()
            case ev.AgentHung():
                child.is_hung = True
            case ev.AgentReady():
                self._move(child, "ready")
                child.ready_since = self.now
                child.was_up, child.must_start = True, False
            case ev.AgentStopping(cause):
                child.is_late = child.start_is_over(self.now) or child.is_hung
                self._move(child, "stopping")
                child.stop_cause = cause.value
                child.asked = True
                if cause is ev.StopCause.SUPERVISOR and child.parent is not None:
                    self.terminate(child.parent)
            case ev.AgentWedged(cause):
                child.wedged = RunId(child.path, child.incarnation)
                child.stop_cause = cause.value
                self._is_not_awaited(child)
                self._is_replaced(child)
            case ev.AgentRestarting(cause, delay):
                self._is_down(child)
                self._restarts(child, cause, delay)
                self._is_replaced(child)
            case ev.AgentParked():
                self._is_down(child)
                self._move(child, "parked")
                child.held = True
            case ev.AgentTerminated(_, state):
                self._is_down(child)
                self._move(child, state.value)
                child.was_up = child.was_up or state.value == "completed"
                if child.leaves:
                    self.remove(child, remember=not (child.must_start and child.phase != "completed"))

    def _is_replaced(self, child: Child) -> None:
        """Note that a wedged child that is to come back does so beside its old run, if it may: that is no event."""
        assert isinstance(child.entry, AgentEntry)
        assert child.parent is not None
        is_up = child.parent.runs and not child.parent.terminating
        returns = child.stop_cause == "restart" or (child.stop_cause == "group" and not child.leaves)
        if child.wedged is None or not child.entry.replace_wedged or not is_up or child.held:
            return
        if child.phase == "backoff":
            self._fence(child)
        elif child.phase == "stopping" and returns:
            self._fence(child)
            self._move(child, "backoff")
            child.due_at, child.hurried, child.led = self.now, True, False

    @staticmethod
    def _fence(child: Child) -> None:
        """Note that a child goes on without its wedged run."""
        if child.wedged is not None:
            child.fenced.add(child.wedged)
            child.wedged = None

    def _note_supervisor(self, child: Child, data: ev.EventData) -> None:
        match data:
            case ev.SupervisorStarted():
                self._move(child, "starting")
                child.stamps.clear()
                child.old_stamps = 0
                child.group.clear()
                child.ready_since, child.terminating, child.asked, child.gives_up = None, False, False, ""
                child.hurried, child.latest_due = False, 0.0
                for below in child.sequence:
                    below.was_up = False
                    below.group.clear()
                    if not below.held:
                        below.failures = 0
            case ev.SupervisorReady():
                self._move(child, "ready")
                child.ready_since = self.now
                child.was_up = True
            case ev.SupervisorTerminated():
                self._is_down(child)
                self._move(child, "terminated")
                self.leaving = child if child.leaves else None
                child.ended_as = child.entry.restart
                child.terminating = False
                for below in list(child.sequence) if child.is_dynamic else ():
                    if not below.wedged:
                        self.remove(below, remember=True)
            case ev.SupervisorRestarting(cause, delay):
                self._restarts(child, cause, delay)
            case ev.OrchestratorStopping():
                self.terminate(child)
            case _:
                pass

    def _is_down(self, child: Child) -> None:
        """Nothing of `child` runs any more."""
        if child.ready_since is not None:
            if self.now - child.ready_since >= self.policy(child).stable_after:
                child.failures = 0
            child.ready_since = None
        self._is_not_awaited(child)

    def _is_not_awaited(self, child: Child) -> None:
        child.asked = False
        for sibling in child.parent.sequence if child.parent else ():
            sibling.group.discard(child)

    def _restarts(self, child: Child, cause: ev.RestartCause, delay: float) -> None:
        self._move(child, "backoff")
        child.due_at = self.now + delay
        child.hurried = False
        # The group of one that wedged while it started does not wait for it.
        child.led = cause is ev.RestartCause.FAILURE and child.wedged is None
        assert child.parent is not None
        child.parent.latest_due = max(child.parent.latest_due, child.due_at)
        if cause is not ev.RestartCause.FAILURE:
            return
        if child.failures == 0:
            child.failing_since = self.now
        child.failures += 1
        child.parent.stamps.append(self.now)
        child.group = {s for s in child.scope() if s is not child and s.runs and not s.held}
        for sibling in child.group:
            sibling.asked = True
        for sibling in child.scope():
            is_down = sibling.phase in ("waiting", "queued") or not (sibling.is_agent or sibling.runs or sibling.held)
            sibling.is_swept = sibling.is_swept or is_down

    def _note_command(self, child: Child, name: str) -> None:
        assert child.parent is not None
        child.led = False
        if name == "stop":
            child.held = True
            if child.phase == "registered":
                self._move(child, "stopped")
            for sibling in child.parent.sequence:
                sibling.group.discard(child)
        elif name in ("start", "restart"):
            if name == "restart" or child.phase not in ("waiting", "queued"):
                child.failures = 0
            child.held = False
        if name == "restart":
            for sibling in child.parent.sequence:
                sibling.hurried = True
        if name in ("stop", "restart") and child.runs:
            child.asked = True
            if not child.is_agent:
                self.terminate(child)

    def terminate(self, supervisor: Child) -> None:
        """Note that a supervisor brings down all its children."""
        supervisor.terminating = True
        for child in list(supervisor.sequence):
            child.asked = child.asked or child.runs
            child.group.clear()
            if supervisor.is_dynamic and child.phase == "parked":
                self.remove(child, remember=True)

    def _note_policy(self, child: Child, told: Reconfigure, data: ev.PolicyChanged) -> None:
        if isinstance(child.entry, SupervisorEntry):
            old = self.now - child.entry.max_seconds
            child.old_stamps = max(child.old_stamps, sum(stamp < old for stamp in child.stamps))
        child.entry = replace(child.entry, **told.fields)  # type: ignore[arg-type]
        if child.is_agent:
            self._is_replaced(child)
        if data.delay is not None and child.parent is not None:
            child.due_at = self.now + data.delay
            child.parent.latest_due = max(child.parent.latest_due, child.due_at)
            for sibling in child.parent.sequence:
                # Its group may start earlier now.
                sibling.hurried = sibling.hurried or sibling is not child
