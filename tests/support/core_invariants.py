"""What must hold for every single child at any time: lives, states, times, one event for every decision."""

from __future__ import annotations

from core_child import PENDING, RUNNING, Answer, Child, Decision, Said
from core_ledger import Ledger

from orchestree.agents.ends import ExitKind
from orchestree.agents.executor import RunEnded, RunId, RunProgress, RunReady
from orchestree.strategies.restart import Restart
from orchestree.supervisor import events as ev
from orchestree.supervisor.inputs import (
    AskRunToStop,
    KillRun,
    LookAtRun,
    Reconfigure,
    RegisterChild,
    RestartChild,
    StartChild,
    StartRun,
    StopChild,
    StopTree,
    Tick,
    TreeEnded,
    UnregisterChild,
)
from orchestree.supervisor.order import start_order
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.stopping import GRACE_S

MOVES = (ev.AgentWaiting, ev.AgentQueued, ev.AgentStarting, ev.AgentRestarting)
WORDS = {StartChild: "start", StopChild: "stop", RestartChild: "restart", UnregisterChild: "unregister"}


def data_of(effect: Answer) -> ev.EventData | None:
    """Return what an event says; None if `effect` is no event."""
    return effect.data if isinstance(effect, Said) else None


def paths(entry: ChildEntry, parent: str, kind: type[ChildEntry]) -> list[str]:
    """Return the paths of what is of `kind` in `entry`, registered at `parent`, in start order."""
    path = f"{parent}/{entry.name}" if parent else entry.name
    below = entry.children if isinstance(entry, SupervisorEntry) else ()
    own = [path] if isinstance(entry, kind) else []
    return own + [each for child in start_order(below) for each in paths(child, path, kind)]


class Silent:
    """A rule that looks at nothing; others override what they need."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None: ...

    def settle(self, ledger: Ledger, decision: Decision) -> None: ...


class Incarnations(Silent):
    """Never two live unfenced incarnations; numbers go up by one; what is said is also done, once."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        if child is None:
            return
        match effect:
            case StartRun(run):
                self._starts(ledger, child, run)
            case AskRunToStop(run) | KillRun(run):
                assert run in ledger.living, f"{run} is to stop, but it has ended"
            case Said(_, incarnation, ev.AgentStarting()):
                before = [run.incarnation for run in ledger.living if run.path == child.path]
                expected = max([child.incarnation, *before]) + 1
                assert incarnation == expected, f"{child} starts as {incarnation} and not as {expected}"
                assert StartRun(RunId(child.path, incarnation)) in decision.effects, "said, but not started"
            case Said(_, incarnation, ev.AgentStopping()):
                run = RunId(child.path, incarnation)
                ways = (AskRunToStop(run), KillRun(run), KillRun(run, hung=True))
                is_done = any(way in decision.effects for way in ways)
                assert is_done, "said, but neither asked nor killed"
            case Said(_, incarnation, ev.AgentReady()):
                assert decision.told == RunReady(RunId(child.path, incarnation)), "nobody said that it is ready"
                assert child.phase == "starting", f"{child} becomes ready"
            case Said(_, incarnation, ev.AgentWedged()):
                assert RunId(child.path, incarnation) in ledger.living, "wedged, but its run has ended"
                assert child.phase == "stopping", f"{child} is wedged"

    @staticmethod
    def _starts(ledger: Ledger, child: Child, run: RunId) -> None:
        assert child.phase == "starting", f"a run of {child} starts without a word"
        assert run.incarnation == child.incarnation, f"{run} is not the one that was announced"
        assert isinstance(child.entry, AgentEntry)
        for other, owner in ledger.living.items():
            is_fenced = owner is not child or other in child.fenced
            assert other.path != run.path or is_fenced, f"{run} starts while {other} lives"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        said = [e for e in decision.effects if isinstance(e, Said)]
        started = [e.run for e in decision.effects if isinstance(e, StartRun)]
        asked = [e.run for e in decision.effects if isinstance(e, AskRunToStop)]
        starting = [RunId(e.path, e.incarnation) for e in said if isinstance(e.data, ev.AgentStarting)]
        stopping = [RunId(e.path, e.incarnation) for e in said if isinstance(e.data, ev.AgentStopping)]
        assert starting == started, f"{starting} start, and {started} are started"
        # Nobody asks a run that can be killed and has no time to stop in.
        assert [run for run in stopping if run in asked] == asked, f"{stopping} stop, and {asked} are asked"


class Held(Silent):
    """Nothing of an agent that is parked, stopped by an operator or in something that is down moves by itself."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or data is None:
            return
        if isinstance(data, (*MOVES, ev.SupervisorStarted, ev.SupervisorRestarting)):
            assert not child.held, f"{child} was to stay down: {data}"
        if isinstance(data, (ev.AgentWaiting, ev.AgentQueued, ev.AgentStarting, ev.SupervisorStarted)):
            for above in child.ancestors():
                assert above.phase in ("starting", "ready"), f"{child} moves in {above}"
            # What is further up may be stopping something else first: it does not know of that yet.
            assert child.parent is None or not child.parent.terminating, f"{child} moves in {child.parent}"
        if isinstance(data, ev.AgentRestarting | ev.SupervisorRestarting):
            is_asked = data.cause is ev.RestartCause.COMMAND
            assert is_asked or child.entry.restart is not Restart.TEMPORARY, f"{child} is temporary"
            assert child.parent is not None
            is_up = child.parent.runs and not child.parent.terminating
            assert is_up, f"{child} is to come back in {child.parent}, which ends or has ended"


class States(Silent):
    """The log alone says in which state an agent is; checked against what the core shows to readers."""

    def __init__(self, observe: dict[str, str]) -> None:
        """Compare with `observe`, which the harness fills after each decision: a state for each path."""
        self.observed = observe

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        # What is parked leaves a dynamic supervisor when that begins to stop, of which there may be no word.
        going = {child.path for child in ledger.children.values() if self._may_be_gone(child)}
        assert self.observed.keys() ^ ledger.children.keys() <= going, "who is there?"
        for child in ledger.children.values():
            if child.path not in self.observed:
                continue
            state = self.observed[child.path]
            assert state in self.expected(child), f"{child.path or 'root'} is {state}, the log says {child.phase}"

    @staticmethod
    def _may_be_gone(child: Child) -> bool:
        family = (child, *child.ancestors())
        return any(node.phase == "parked" and node.parent is not None and node.parent.is_dynamic for node in family)

    @staticmethod
    def expected(child: Child) -> tuple[str, ...]:
        """Return the states that a child may be in, by what the log says."""
        if not child.is_agent:
            also = {"terminated": ("completed", "failed", "stopped", "parked"), "registered": ("stopped",)}
            # Supervisors do not say that they wait or begin to stop.
            silent = "stopping" if child.phase in RUNNING else "" if child.held else "waiting"
            return (child.phase, *also.get(child.phase, ()), silent)
        if child.wedged is None:
            return (child.phase,)
        return ("wedged",)


class OneEventEach(Silent):
    """Every decision is exactly one event; a stale report or a refused operation changes nothing."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        if isinstance(effect, Said) and isinstance(effect.data, ev.AgentCrashed):
            rest = decision.effects[next(i for i, e in enumerate(decision.effects) if e is effect) + 1 :]
            following = next((data_of(e) for e in rest if isinstance(e, Said) and e.path == effect.path), None)
            ends = (ev.AgentRestarting, ev.AgentParked, ev.AgentTerminated)
            assert isinstance(following, ends), f"{effect.path} crashed, and then {following}"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        told, effects = decision.told, decision.effects
        if decision.is_refused:
            assert len(effects) == 1, "refused, and yet something was done"
            return
        match told:
            case RunReady(run):
                ready = [e for e in effects if isinstance(data_of(e), ev.AgentReady)]
                assert len(ready) <= 1
                assert ready or not effects, "a report that changes nothing has no effect"
                node = ledger.children.get(run.path)
                was_due = run in ledger.living and node is not None and node.phase == "starting"
                assert not was_due or node is None or node.incarnation != run.incarnation, f"{run} is ready"
            case RunEnded():
                assert ledger.ended is not None or not effects, f"{told.run} was no run any more"
                self._one_end(decision, told)
            case StartChild(path) | StopChild(path) | RestartChild(path) | UnregisterChild(path):
                said = [(e.path, e.data) for e in effects if isinstance(e, Said) and isinstance(e.data, ev.Command)]
                assert said == [(path, ev.Command(WORDS[type(told)]))], f"{told} is {said}"
                assert isinstance(data_of(effects[0]), ev.Command), "it is said before what follows from it"
            case Reconfigure(path, fields):
                self._policy(ledger, decision, path, set(fields))
            case RegisterChild(parent, entry):
                agents = [e.path for e in effects if isinstance(e, Said) and isinstance(e.data, ev.AgentRegistered)]
                supervisors = [e.path for e in effects if isinstance(e, Said) and isinstance(e.data, ev.Command)]
                assert agents == paths(entry, parent, AgentEntry)
                assert supervisors == paths(entry, parent, SupervisorEntry)
        changed = any(isinstance(data_of(e), ev.PolicyChanged) for e in effects)
        assert not changed or isinstance(told, Reconfigure), "the policy changed by itself"
        commands = isinstance(told, RegisterChild | StartChild | StopChild | RestartChild | UnregisterChild)
        assert commands or not any(isinstance(data_of(e), ev.Command) for e in effects)

    @staticmethod
    def _policy(ledger: Ledger, decision: Decision, path: str, fields: set[str]) -> None:
        """What changed is said once, and first; nothing is stopped for it."""
        said = [data for e in decision.effects if isinstance(data := data_of(e), ev.PolicyChanged)]
        assert len(said) <= 1
        assert said or not decision.effects, "something happened, but no policy changed"
        if said:
            assert data_of(decision.effects[0]) == said[0]
            assert {change.field for change in said[0].changes} <= fields
            stopped = [e for e in decision.effects if isinstance(e, AskRunToStop)]
            assert not stopped, f"{stopped} for a new policy"

    @staticmethod
    def _one_end(decision: Decision, told: RunEnded) -> None:
        """The end of a run is one event of its agent, or two if it crashed; then its next life may begin."""
        own = [data_of(e) for e in decision.effects if isinstance(e, Said) and e.path == told.run.path]
        crashes = sum(isinstance(data, ev.AgentCrashed) for data in own)
        restarts = sum(isinstance(data, ev.AgentRestarting) for data in own)
        ends = sum(isinstance(data, ev.AgentParked | ev.AgentTerminated) for data in own)
        assert max(crashes, restarts, ends) <= 1, f"{told.run} ended more than once: {own}"
        if crashes and told.reason.kind is not ExitKind.ABNORMAL:
            causes = [data.reason.cause for data in own if isinstance(data, ev.AgentCrashed)]
            assert causes in (["start_timeout"], ["watchdog"]), "it did not crash"


class Watchdogs(Silent):
    """Who is found hung was ready and silent for as long as its watchdog says, and is ended in the same decision."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or not isinstance(data, ev.AgentHung):
            return
        assert isinstance(child.entry, AgentEntry)
        assert isinstance(decision.told, RunProgress), "nobody has looked"
        assert child.phase == "ready", f"{child} is hung"
        assert child.ready_since is not None
        limit = child.entry.watchdog
        assert data.watchdog_s == limit
        assert data.silent_s >= data.watchdog_s
        assert ledger.now >= child.ready_since + data.watchdog_s, f"{child} has time"
        run = RunId(child.path, child.incarnation)
        stops = [e for e in decision.effects if e in (AskRunToStop(run), KillRun(run, hung=True))]
        assert len(stops) == 1 or child.entry.shutdown == "brutal_kill", f"{run} is hung, and {stops}"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        looked = [e.run for e in decision.effects if isinstance(e, LookAtRun)]
        assert not looked or isinstance(decision.told, Tick), "looks without a deadline"
        for run in looked:
            assert ledger.living[run].phase == "ready", f"{run} is looked at"


class Times(Silent):
    """Start and stop deadlines fire when they are due and not before; a wedge comes `GRACE_S` after the kill."""

    def __init__(self) -> None:
        self.killed: dict[RunId, float] = {}
        self.tree_deadline = False

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        if isinstance(effect, StartRun):
            self.killed.pop(effect.run, None)  # a new agent of the same name may count from 1 again
        if isinstance(effect, KillRun) and child is not None:
            self.killed[effect.run] = ledger.now
            self._may_kill(ledger, child)
        if isinstance(effect, Said) and isinstance(effect.data, ev.AgentWedged):
            killed = self.killed[RunId(effect.path, effect.incarnation)]
            assert ledger.now >= killed + GRACE_S, f"{child} is wedged too early"
        if isinstance(effect, Said) and child is not None and isinstance(effect.data, ev.AgentStopping):
            timed_out = effect.data.cause is ev.StopCause.START_TIMEOUT
            limit = getattr(child.entry, "start_timeout", None)
            assert not timed_out or (limit is not None and ledger.now >= child.since + limit), f"{child} has time"

    def _may_kill(self, ledger: Ledger, child: Child) -> None:
        is_bounded = any(above.entry.shutdown != "infinity" for above in child.ancestors() if above.parent)
        if self.tree_deadline or is_bounded or child.is_late:
            return
        limit = child.entry.shutdown
        if isinstance(limit, float):
            assert ledger.now >= child.since + limit, f"{child} is killed too early"
        assert limit != "infinity", f"{child} has all the time in the world"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        told = decision.told
        self.tree_deadline = self.tree_deadline or (isinstance(told, StopTree) and told.timeout_s is not None)
        if not isinstance(told, Tick):
            return
        for child in ledger.agents():
            assert isinstance(child.entry, AgentEntry)
            if child.phase == "starting" and child.entry.start_timeout is not None:
                assert ledger.now < child.since + child.entry.start_timeout, f"{child} should be ready by now"
            run = RunId(child.path, child.incarnation)
            if child.phase == "stopping" and child.wedged is None and run not in self.killed:
                limit = 0.0 if child.entry.shutdown == "brutal_kill" else child.entry.shutdown
                assert isinstance(limit, str) or ledger.now < child.since + limit, f"{child} should be killed by now"
            elif child.phase == "stopping" and child.wedged is None and child.entry.executor != "process":
                assert ledger.now < self.killed[run] + GRACE_S, f"{child} should be wedged by now"


class Ends(Silent):
    """The end of the whole: said once, last, with the right code; and when nothing is left that could run."""

    def __init__(self) -> None:
        self.was_empty = self.was_unsure = False
        self.left_waiting: tuple[str, ...] = ()
        self.has_ended = False

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        # Only what a wedged run left behind is still put in order.
        assert not self.has_ended or isinstance(data, ev.AgentTerminated), f"{effect} after the end"
        if isinstance(data, ev.AllAgentsTerminated):
            busy = [agent for agent in ledger.agents() if self._is_active(agent)]
            assert not busy, f"all have ended? {busy}"
            self.left_waiting = data.left_waiting
        if isinstance(data, ev.SupervisorTerminated) and child is not None:
            for below in child.sequence:
                assert not below.runs, f"{child} ends before {below}"
                assert below.phase not in PENDING or below.wedged, f"{child} ends, and {below} is still to come"
        if isinstance(data, ev.OrchestratorStopped):
            self._names_the_unhealthy(ledger, data.unhealthy)
            gave_up = ledger.root.gives_up in ("max_restarts", "escalated")
            is_bad = bool(data.unhealthy) or data.cause == "start_failed"
            assert data.exit_code == (70 if gave_up else int(is_bad)), f"the code is {data.exit_code}"
        self.has_ended = self.has_ended or isinstance(effect, TreeEnded)

    def _names_the_unhealthy(self, ledger: Ledger, said: tuple[str, ...]) -> None:
        agents = ledger.agents()
        bad = {agent.path for agent in agents if agent.wedged or agent.phase in ("parked", "failed")}
        gone = {gone.path for s in ledger.supervisors() for gone in s.departed.values() if gone.phase == "failed"}
        assert bad | gone <= {*said, *self.left_waiting}, f"unhealthy are {bad | gone}, said was {said}"
        fine = {agent.path for agent in agents} - bad - gone - {*self.left_waiting}
        assert not fine & {*said}, f"{fine & {*said}} are fine"

    @staticmethod
    def _is_active(agent: Child) -> bool:
        return agent.wedged is None and agent.phase in ("queued", "backoff", *RUNNING)

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        said = [e for e in decision.effects if isinstance(data_of(e), ev.AllAgentsTerminated)]
        assert len(said) <= 1
        ends = [e for e in decision.effects if isinstance(e, TreeEnded)]
        stopped = [e for e in decision.effects if isinstance(data_of(e), ev.OrchestratorStopped)]
        assert len(ends) == len(stopped) <= 1
        is_up = ledger.root.phase in ("starting", "ready") and not ledger.root.terminating
        is_empty = is_up and not any(self._is_active(agent) for agent in ledger.agents())
        is_empty = is_empty and not any(s.phase == "backoff" or s.terminating for s in ledger.supervisors())
        is_unsure = self._is_unsure(ledger)
        if is_empty and not self.was_empty and not is_unsure and not self.was_unsure:
            assert said, "nothing can run any more, and nobody says so"
        self.was_empty, self.was_unsure = is_empty, is_unsure

    @staticmethod
    def _is_unsure(ledger: Ledger) -> bool:
        """Return whether the log leaves open what is active: wedged runs, supervisors that stop or wait, groups."""
        wedged = any(agent.wedged for agent in ledger.agents())
        silent = any((s.runs and s.asked) or s.phase == "backoff" for s in ledger.supervisors())
        return wedged or silent or any(c.is_swept and c.phase != "queued" for c in ledger.children.values())
