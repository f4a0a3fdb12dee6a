"""What must hold between siblings: who starts after whom, who stops before whom, and who gets a worker slot."""

from __future__ import annotations

from core_child import Answer, Child, Decision, Said
from core_invariants import Silent, data_of
from core_ledger import Ledger

from orchestree.agents.executor import RunId
from orchestree.strategies.restart import Strategy
from orchestree.supervisor import events as ev
from orchestree.supervisor.inputs import KillRun
from orchestree.supervisor.spec import SupervisorEntry

MET = ("ready", "completed")
NOT_DUE = ("completed", "stopped", "parked", "failed")


def blockers(child: Child, *, if_in_doubt: bool = False) -> list[str]:
    """Return the names that `child` has to wait for.

    The log does not say when a supervisor begins to stop, nor what became of one that was stopped: such a one
    counts as met `if_in_doubt`.
    """
    assert child.parent is not None
    assert isinstance(child.parent.entry, SupervisorEntry)

    def is_met(other: Child) -> bool:
        if other.is_agent:
            return other.phase in MET and other.wedged is None
        if other.terminating and other.runs:
            return False
        in_doubt = other.phase == "terminated" or (other.phase == "ready" and is_doubtful(other))
        return if_in_doubt if in_doubt else other.phase in MET

    found = []
    if child.parent.entry.strategy is Strategy.REST_FOR_ONE:
        earlier = [sibling for sibling in child.parent.sequence if sibling.key < child.key]
        if earlier and not is_met(earlier[-1]) and earlier[-1].phase not in NOT_DUE and not earlier[-1].wedged:
            in_doubt = earlier[-1].phase == "terminated" and if_in_doubt
            found += [] if in_doubt else [earlier[-1].name]
    for name in child.entry.depends_on:
        other = child.parent.find(name)
        if other is None or not is_met(other):
            found.append(name)
    return list(dict.fromkeys(found))


def is_doubtful(supervisor: Child) -> bool:
    """Return whether a supervisor that is up may have begun to stop without a word in the log."""
    return any(node.asked or node.terminating or node.gives_up for node in (supervisor, *supervisor.ancestors()))


class StartOrder(Silent):
    """Nobody starts before what it depends on; under REST_FOR_ONE one after the other; else in start order."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or child.parent is None:
            return
        if isinstance(data, ev.AgentStarting | ev.SupervisorStarted | ev.AgentQueued):
            waits_for = blockers(child, if_in_doubt=True)
            # One that is queued may lose its dependency in the same decision that says that it queues.
            assert not waits_for or isinstance(data, ev.AgentQueued), f"{child} starts, but waits for {waits_for}"
        if isinstance(data, ev.AgentWaiting):
            assert set(data.waiting_for), f"{child} waits for nobody"
            family = [*child.parent.sequence, *child.parent.departed.values()]
            known = {sibling.name for sibling in family} | set(child.entry.depends_on)
            assert set(data.waiting_for) <= known

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        for child in ledger.agents():
            if child.phase == "waiting" and not child.hurried and not child.is_swept:
                assert blockers(child), f"{child} waits, and could start"
        if ledger.max_workers is None:
            for effect in decision.effects:
                data = data_of(effect)
                if isinstance(data, ev.SupervisorStarted) and isinstance(effect, Said):
                    self._starts_side_by_side(ledger, decision, effect.path)

    @staticmethod
    def _starts_side_by_side(ledger: Ledger, decision: Decision, path: str) -> None:
        supervisor = ledger.children.get(path)
        if supervisor is None:
            return
        starts = [e.path for e in decision.effects if isinstance(e, Said) and isinstance(e.data, ev.AgentStarting)]
        free = [child for child in supervisor.sequence if not child.entry.depends_on]
        keys = [child.key for path in starts for child in free if child.path == path]
        assert keys == sorted(keys), f"the children of {supervisor} start in the wrong order"


class StopOrder(Silent):
    """Siblings stop one by one, in reverse start order, unless they are killed by somebody's deadline."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        if not isinstance(effect, Said) or not isinstance(effect.data, ev.AgentStopping) or child is None:
            return
        assert child.parent is not None
        cause, family = effect.data.cause, child.parent.sequence
        if cause not in (ev.StopCause.GROUP, ev.StopCause.SUPERVISOR):
            return
        if any(isinstance(e, KillRun) and e.run == (effect.path, effect.incarnation) for e in decision.effects):
            return
        if child.parent.is_dynamic or child.start_is_over(ledger.now) or child.is_hung:
            return
        busy = [s for s in family if s.runs and s.phase == "stopping" and s.stop_cause in ("group", "supervisor")]
        busy = [s for s in busy if not s.is_late]
        assert not busy, f"{child} is asked to stop while {busy} still stop"
        later = [s for s in family if s.key > child.key and s.runs]
        if cause is ev.StopCause.GROUP:
            # What an operator stops is no member of the group.
            later = [s for s in later if s.asked and not s.held]
        assert not later, f"{child} stops before {later}"
        if cause is ev.StopCause.SUPERVISOR and not child.parent.terminating:
            self._supervisor_in_turn(child.parent)

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        for supervisor in ledger.supervisors():
            if supervisor.is_dynamic and supervisor.terminating:
                left = [
                    child for child in supervisor.sequence if child.is_agent and child.phase in ("starting", "ready")
                ]
                assert not left, f"{left} have not been asked to stop together with the others"

    @staticmethod
    def _supervisor_in_turn(supervisor: Child) -> None:
        """Look at a supervisor that is seen to stop for the first time: whoever comes after it has ended."""
        parent = supervisor.parent
        if parent is None or parent.is_dynamic or supervisor.gives_up or supervisor.held or not supervisor.asked:
            return
        later = [s for s in parent.sequence if s.key > supervisor.key and s.runs and s.asked]
        assert not later, f"{supervisor} stops before {later}"


class Slots(Silent):
    """Never more runs than `max_workers`; nobody queues while a slot is free; the first in start order is next."""

    def __init__(self) -> None:
        self.holders: set[Child] = set()
        self.shares: set[Child] = set()
        """Those that wait for a member of their own group, which may keep their slot for them."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        if ledger.max_workers is None or child is None or not child.is_agent:
            return
        data = data_of(effect)
        if isinstance(data, ev.AgentStarting):
            self._is_next(ledger, child, data)
            self.holders.add(child)
            self.shares.discard(child)
        elif isinstance(data, ev.AgentWaiting | ev.AgentQueued | ev.AgentParked | ev.AgentTerminated):
            if isinstance(data, ev.AgentWaiting) and (child.phase == "backoff" or child in self.shares):
                self.shares.add(child)
            else:
                self.shares.discard(child)
            self.holders.discard(child)

    @staticmethod
    def _is_next(ledger: Ledger, child: Child, data: ev.AgentStarting) -> None:
        if child.phase != "queued" or data.chosen or child.is_swept:
            return
        first = next(agent for agent in ledger.agents() if agent.phase == "queued" and not agent.is_swept)
        assert first is child, f"{child} gets the slot that {first} waits for"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        if ledger.max_workers is None:
            assert not [agent for agent in ledger.agents() if agent.phase == "queued"]
            return
        assert len(ledger.living) <= ledger.max_workers, f"{len(ledger.living)} run"
        self.holders = {child for child in self.holders if ledger.children.get(child.path) is child}
        self.holders = {child for child in self.holders if RunId(child.path, child.incarnation) not in child.fenced}
        # A run that was given up on keeps its slot, beside the one that its agent has or waits for.
        left = sum(
            run.incarnation != owner.incarnation or owner not in self.holders for run, owner in ledger.living.items()
        )
        used = len(self.holders) + left
        assert used <= ledger.max_workers, f"{used} slots are used: {self.holders}"
        queued = [agent for agent in ledger.agents() if agent.phase == "queued" and not agent.is_swept]
        kept = sum(child.phase == "waiting" for child in self.shares if ledger.children.get(child.path) is child)
        assert not queued or used + kept >= ledger.max_workers, f"{queued} wait, and only {used} slots are used"
