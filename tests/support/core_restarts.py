"""What must hold for restarts: who comes back, after how long, how often, and with whom."""

from __future__ import annotations

from core_child import Answer, Child, Decision, Said
from core_invariants import Silent, data_of
from core_ledger import Ledger
from core_order import blockers
from core_policies import policy_of

from orchestree.agents.ends import IGNORED, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason
from orchestree.agents.executor import RunId
from orchestree.strategies.restart import AutoShutdown, Restart
from orchestree.supervisor import events as ev
from orchestree.supervisor.inputs import Reconfigure
from orchestree.supervisor.spec import INHERIT, SupervisorEntry

Moves = ev.AgentStarting | ev.AgentWaiting | ev.AgentQueued


def failures_with(ledger: Ledger, child: Child) -> tuple[int, float]:
    """Return how many failures in a row a failure of `child` now makes, and the seconds since the first."""
    is_stable = child.ready_since is not None and ledger.now - child.ready_since >= ledger.policy(child).stable_after
    failures = 0 if is_stable else child.failures
    return failures + 1, ledger.now - child.failing_since if failures else 0.0


def exceeds(ledger: Ledger, supervisor: Child, *, if_in_doubt: bool) -> bool:
    """Return whether one more restart now is one too many; stamps that may have been forgotten count `if_in_doubt`."""
    assert isinstance(supervisor.entry, SupervisorEntry)
    entry = supervisor.entry
    stamps = supervisor.stamps[0 if if_in_doubt else supervisor.old_stamps :]
    return sum(ledger.now - stamp <= entry.max_seconds for stamp in stamps) + 1 > entry.max_restarts


def must_not_fail(ledger: Ledger, child: Child) -> bool:
    """Return whether a failure of `child` now is the failure of a call: of `start_child`, or of a strict `start`."""
    is_first = child.starts == 1 and child.ready_since is None
    return child.must_start or (ledger.must_all_start and is_first and child.is_agent)


def outcome(ledger: Ledger, child: Child, reason: ExitReason, report: CrashReport | None) -> str:
    """Return what the contract says of a child that ended by itself: one order for every end."""
    assert child.parent is not None
    is_abnormal = reason.kind is ExitKind.ABNORMAL
    if is_abnormal and must_not_fail(ledger, child):
        return "failed"
    restart = child.entry.restart
    if reason == IGNORED or restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and not is_abnormal):
        is_completed = reason == SHUTDOWN if not child.is_agent else not is_abnormal
        return "completed" if is_completed else "failed"
    answer = ledger.policy(child).answer(report if is_abnormal else None, *failures_with(ledger, child))
    if answer != "restart":
        return {"park": "parked", "escalate": "escalated"}[answer]
    verdicts = {exceeds(ledger, child.parent, if_in_doubt=doubt) for doubt in (False, True)}
    return "doubtful" if len(verdicts) == 2 else "max_restarts" if True in verdicts else "backoff"


def is_settled_from_above(child: Child) -> bool:
    """Return whether something above `child` is to stop, or may be stopping already: the log does not tell when."""
    return any(above.asked or above.terminating or above.gives_up for above in child.ancestors())


class Outcomes(Silent):
    """What follows an end is what the contract's order says: restart type, rules, stop, window, delay."""

    def __init__(self) -> None:
        self.ended: tuple[Child, str] | None = None
        """A supervisor that has just ended by itself, and what is to become of it."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if self.ended is not None:
            is_back = isinstance(data, ev.SupervisorRestarting) and child is self.ended[0]
            self._is_said(ledger, "backoff" if is_back else "")
        if child is not None and child is ledger.leaving and isinstance(data, ev.SupervisorRestarting):
            ledger.leaving = None
        ledger.let_go()
        if child is not None and child.parent is None and isinstance(data, ev.SupervisorTerminated):
            assert data.reason.cause.value == (child.gives_up or "shutdown"), f"the root ended for {data.reason}"
        if child is None or child.parent is None or data is None:
            return
        ended = ledger.ended
        if isinstance(data, ev.SupervisorTerminated):
            self._supervisor_ended(ledger, child, data)
        elif isinstance(data, ev.AgentCrashed):
            self._check(ledger, child, data.reason, data.report, decision)
        elif isinstance(data, ev.AgentRestarting | ev.AgentParked | ev.AgentTerminated) and ended is not None:
            is_own = ended.run == RunId(child.path, child.incarnation) and not ledger.was_wedged
            if is_own and ended.reason.kind is not ExitKind.ABNORMAL:
                self._check(ledger, child, ended.reason, None, decision)

    def _check(
        self, ledger: Ledger, child: Child, reason: ExitReason, report: CrashReport | None, decision: Decision
    ) -> None:
        assert child.parent is not None
        timed_out = child.stop_cause in ("start_timeout", "watchdog") and child.phase == "stopping"
        if not timed_out and (child.asked or child.wedged or child.phase == "stopping"):
            return
        own = [data_of(e) for e in decision.effects if isinstance(e, Said) and e.path == child.path]
        end = next(d for d in own if isinstance(d, ev.AgentRestarting | ev.AgentParked | ev.AgentTerminated))
        if timed_out and report is None:
            return
        expected = outcome(ledger, child, reason, report)
        match end:
            case ev.AgentRestarting(ev.RestartCause.FAILURE):
                found = "backoff"
            case ev.AgentParked():
                found = "parked"
            case ev.AgentTerminated(_, state) if state.value != "stopped":
                found = state.value
            case _:
                found = "stopped"
        if expected == "doubtful":
            expected = "backoff" if found == "backoff" else "max_restarts"
        if found == "stopped" and expected in ("max_restarts", "escalated"):
            self._gives_up(ledger, child.parent, Cause(expected))
        elif expected == "failed" and must_not_fail(ledger, child):
            assert found == "failed", f"{child} did not start, but {end}"
        else:
            assert found == expected or is_settled_from_above(child), f"{child} {reason}: {expected}, but {end}"
            self._significant(ledger, child, found, reason)

    def _supervisor_ended(self, ledger: Ledger, child: Child, data: ev.SupervisorTerminated) -> None:
        assert child.parent is not None
        is_unsure = is_settled_from_above(child) or not child.runs
        expected_cause = child.gives_up or "shutdown"
        assert is_unsure or data.reason.cause.value == expected_cause, f"{child} ended for {data.reason}"
        assert data.reason.kind is ExitKind.SHUTDOWN
        if child.phase not in ("starting", "ready") or child.asked or child.held or not child.gives_up:
            return
        if is_unsure:
            return
        self.ended = (child, outcome(ledger, child, data.reason, None))

    def _gives_up(self, ledger: Ledger, supervisor: Child, cause: Cause) -> None:
        supervisor.gives_up = supervisor.gives_up or cause.value
        ledger.terminate(supervisor)

    def _significant(self, ledger: Ledger, child: Child, found: str, reason: ExitReason) -> None:
        parent = child.parent
        assert parent is not None
        assert isinstance(parent.entry, SupervisorEntry)
        auto = parent.entry.auto_shutdown
        if found == "backoff" or reason == IGNORED or not child.entry.significant or auto is AutoShutdown.NEVER:
            return
        others = [s for s in parent.sequence if s is not child and s.entry.significant]
        alive = [s for s in others if s.runs or s.wedged or s.waits or self._may_wait(s)]
        if auto is AutoShutdown.ANY_SIGNIFICANT or not alive:
            self._gives_up(ledger, parent, Cause.SHUTDOWN)

    @staticmethod
    def _may_wait(child: Child) -> bool:
        """Return whether `child` is a supervisor that waits, of which there is no word in the log."""
        return not child.is_agent and not child.held and child.phase in ("registered", "terminated")

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        """Nothing more is said of what ended last."""
        self._is_said(ledger, "")
        ledger.let_go()

    def _is_said(self, ledger: Ledger, found: str) -> None:
        """Supervisors do not say that they park or stay down: it must be what the order says of them."""
        if self.ended is None:
            return
        (child, expected), self.ended = self.ended, None
        assert child.parent is not None
        if expected == "doubtful":
            expected = found or "max_restarts"
        assert (found == "backoff") == (expected == "backoff"), f"{child} was to be {expected}, and not {found}"
        if expected in ("max_restarts", "escalated"):
            child.phase = "stopped"
            self._gives_up(ledger, child.parent, Cause(expected))
        elif expected != "backoff":
            child.phase = expected
            child.held = child.held or expected == "parked"
            child.was_up = child.was_up or expected == "completed"
            self._significant(ledger, child, expected, SHUTDOWN)


class Windows(Silent):
    """No more restarts within the window than it allows; a supervisor that says it exceeded it has done so."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or not isinstance(data, ev.AgentRestarting | ev.SupervisorRestarting):
            return
        if data.cause is ev.RestartCause.FAILURE:
            assert child.parent is not None
            assert not exceeds(ledger, child.parent, if_in_doubt=False), (
                f"{child} is one restart too many for {child.parent}"
            )


class Delays(Silent):
    """Delays lie within the jitter of what the policy says to that many failures, and are kept."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or data is None:
            return
        if isinstance(data, ev.AgentParked):
            assert data.attempt == failures_with(ledger, child)[0], f"{child} parks at {data.attempt}"
        if isinstance(data, ev.AgentRestarting | ev.SupervisorRestarting):
            if data.cause is ev.RestartCause.FAILURE:
                assert data.attempt == failures_with(ledger, child)[0], f"{child} fails for the {data.attempt}. time"
                assert ledger.policy(child).allows(data.delay, data.attempt), f"{child} waits {data.delay}"
            elif data.cause is ev.RestartCause.COMMAND:
                assert data.delay == 0.0
            else:
                self._same_time(ledger, child, data)
        if isinstance(data, ev.PolicyChanged) and data.delay is not None:
            self._new_delay(ledger, decision, child, data.delay)
        is_start = isinstance(data, ev.AgentStarting | ev.SupervisorStarted)
        if is_start and child.phase == "backoff" and not child.hurried:
            assert ledger.now >= child.due_at, f"{child} starts at {ledger.now}, before {child.due_at}"

    @staticmethod
    def _new_delay(ledger: Ledger, decision: Decision, child: Child, delay: float) -> None:
        """A delay that runs is computed anew from when it began, by the new policy."""
        assert isinstance(decision.told, Reconfigure)
        assert child.phase == "backoff", f"{child} had no delay of its own"
        backoff = decision.told.fields["backoff"]
        policy = ledger.default if backoff is INHERIT else policy_of(backoff)  # type: ignore[arg-type]
        assert child.parent is not None
        longest = child.since + policy.waits(child.failures)
        earliest = max(ledger.now, longest - policy.waits(child.failures) * policy.jitter)
        latest = max(ledger.now, longest, child.parent.latest_due)
        assert earliest - 1e-9 <= ledger.now + delay <= latest + 1e-9, f"{child} waits {delay} more"

    @staticmethod
    def _same_time(ledger: Ledger, child: Child, data: ev.AgentRestarting | ev.SupervisorRestarting) -> None:
        assert child.parent is not None
        assert data.attempt == 0
        is_known = ledger.now + data.delay <= child.parent.latest_due + 1e-9
        assert data.delay == 0.0 or is_known, f"{child} waits for a time that nobody has named"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        """Whoever is overdue has somebody to wait for."""
        if decision.next_deadline is None or ledger.now < decision.next_deadline:
            for supervisor in ledger.supervisors():
                self._nobody_is_late(ledger, supervisor)

    @staticmethod
    def _nobody_is_late(ledger: Ledger, supervisor: Child) -> None:
        family = supervisor.sequence
        if any(child.phase == "stopping" or child.asked or (child.runs and not child.is_agent) for child in family):
            return
        latest = max((child.due_at for child in [*family, *supervisor.departed.values()]), default=0.0)
        late = [child for child in family if child.phase == "backoff" and not child.wedged]
        # Supervisors do not say that they wait.
        late = [child for child in late if child.is_agent or not blockers(child)]
        assert not late or ledger.now < max(latest, supervisor.latest_due), f"{late} should have started"


class Groups(Silent):
    """The right siblings stop for a failure, all of them have ended before it starts again, completed ones join."""

    def see(self, ledger: Ledger, decision: Decision, effect: Answer, child: Child | None) -> None:
        data = data_of(effect)
        if child is None or data is None:
            return
        if isinstance(data, ev.AgentStopping) and data.cause is ev.StopCause.GROUP:
            assert child.asked, f"{child} has nothing to do with any failure"
            assert child.parent is not None
            assert any(child in sibling.group for sibling in child.parent.sequence), f"{child} stops for nobody"
        if isinstance(data, ev.AgentRestarting | ev.SupervisorRestarting) and data.cause is ev.RestartCause.GROUP:
            assert child.entry.restart is not Restart.TEMPORARY
        if isinstance(data, ev.AgentStarting | ev.SupervisorStarted) and child.phase == "backoff":
            left = [sibling for sibling in child.group if sibling.runs]
            assert not left, f"{child} starts before {left} have ended"

    def settle(self, ledger: Ledger, decision: Decision) -> None:
        moved = [e.path for e in decision.effects if isinstance(e, Said) and isinstance(e.data, Moves)]
        for path in moved:
            child = ledger.children.get(path)
            if child is None or child.before != "backoff" or not child.led or child.hurried:
                continue
            if child.due_at <= ledger.now:
                self._starts_with(ledger, child, moved)

    @staticmethod
    def _starts_with(ledger: Ledger, child: Child, moved: list[str]) -> None:
        """Look at the start of the group that the failure of `child` made: who is in it, and in which order."""
        scope = child.scope()
        asleep = [s for s in scope if s.phase == "completed" and not s.held and s.since < ledger.now]
        # One that has become temporary meanwhile stays as it is.
        asleep = [s for s in asleep if s.entry.restart is not Restart.TEMPORARY]
        assert not [s for s in asleep if s.is_agent], f"{child} starts without {asleep}"
        for supervisor in asleep:
            supervisor.phase = "terminated"  # it waits now, of which there is no word in the log
        if ledger.max_workers is None:
            free = {s.path: s.key for s in scope if s.is_agent and s.before == "backoff" and not s.entry.depends_on}
            keys = [free[path] for path in moved if path in free]
            assert keys == sorted(keys), f"the group of {child} starts in the wrong order: {moved}"
