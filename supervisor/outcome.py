"""What becomes of a child that ended by itself: decided by `decision.decide`, carried out here. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from orchestree.agents.ends import IGNORED, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.strategies.restart import AutoShutdown

from . import groups, slots
from .decision import ABNORMAL, Again, Decision, Finish, GiveUp, Park, decide
from .events import (
    AgentCrashed,
    AgentParked,
    AgentRestarting,
    OrchestratorStopping,
    RestartCause,
    SupervisorRestarting,
)
from .pending import Delay
from .states import COMPLETED, FAILED, PARKED, PENDING_STATES, RUNNING_STATES, STOPPED, STOPPING, WEDGED, AgentState
from .stopping import terminate_children
from .streaks import current_streak
from .tree import AgentNode, AnyNode, Node, SupervisorNode
from .world import World

_FAILURE: Final = RestartCause.FAILURE
_ALIVE = RUNNING_STATES | PENDING_STATES | {WEDGED}


def agent_ended(
    world: World,
    node: AgentNode,
    reason: ExitReason,
    report: CrashReport | None,
    *,
    classified: bool = False,
    hopeless: str = "",
) -> None:
    """Decide what follows when a run that nobody asked to stop has ended; see `decision.decide` for `hopeless`."""
    is_crash = reason.kind is ABNORMAL
    if is_crash:
        report = report or CrashReport(cause=reason.cause, message=reason.cause)
        node.last_crash = report
        if _must_not_fail(world, node):
            # Whoever asked for the start is told; nothing is counted, and nobody else is touched.
            world.emit(node, crashed, reason, report, classified, Finish())
            slots.release(world, node)
            world.retire(node, FAILED, reason)
            return
    decision = _decide(world, node, reason, report if is_crash else None, hopeless)
    if is_crash and report is not None:
        world.emit(node, crashed, reason, report, classified, decision)
    final = FAILED if is_crash else COMPLETED
    _carry_out(world, node, decision, final, reason, report if is_crash else None)


def crashed(reason: ExitReason, report: CrashReport, classified: bool, decision: Decision) -> AgentCrashed:
    """Return what the event says, the decision included; it is made when somebody looks (see `Emit`)."""
    match decision:
        case Again(delay, _):
            return AgentCrashed(reason, replace(report, decision="restart", delay_s=delay), classified)
        case Park():
            return AgentCrashed(reason, replace(report, decision="park"), classified)
        case GiveUp():
            return AgentCrashed(reason, replace(report, decision="escalate"), classified)
        case Finish():
            return AgentCrashed(reason, replace(report, decision="terminate"), classified)
        case _:
            assert_never(decision)


def _must_not_fail(world: World, node: AgentNode) -> bool:
    """Return whether the failed start of `node` is the failure of a call: `start_child`, or a strict `start`."""
    if node in world.must_start:
        return True
    is_first = world.first_start and node.first_run and node.ready_since is None
    if is_first and world.start_failure is None:
        world.start_failure = node.path
    return is_first and world.settings.strict_start


def given_up(world: World, node: AgentNode, cause: Cause, report: CrashReport | None) -> None:
    """Decide what follows when a run that was given up on is over, or (no `report`) cannot be ended."""
    known = report or CrashReport(cause=cause, message="")
    stacks = known.stacks or node.stacks
    told = replace(known, cause=cause, message=node.failure, uptime_s=node.age(world.now), stacks=stacks)
    if node.ready_since is None:
        told = replace(told, phase="setup")
    is_hopeless = node.watch is not None and node.watch.is_hopeless
    agent_ended(world, node, abnormal(cause), told, hopeless=node.failure if is_hopeless else "")


def supervisor_gone(world: World, node: SupervisorNode, reason: ExitReason) -> None:
    """Decide what follows when a supervisor that nobody asked to stop has ended."""
    final = COMPLETED if reason == SHUTDOWN else FAILED
    _carry_out(world, node, _decide(world, node, reason, None), final, reason, None)


def give_up(world: World, node: SupervisorNode, reason: ExitReason, offender: str) -> None:
    """End a supervisor by its own decision: its children first, in reverse start order."""
    node.ending = reason
    node.offender = offender
    if node.parent is None:
        world.stop_cause = "auto_shutdown" if reason == SHUTDOWN else reason.cause
        world.emit(node, OrchestratorStopping, world.stop_cause)
    world.set_state(node, STOPPING)
    terminate_children(world, node)


def say_restarting(
    world: World,
    node: Node,
    cause: RestartCause,
    delay: float,
    attempt: int,
    error: str | None = None,
    reason: ExitReason | None = None,
) -> None:
    """Count and announce a restart that has been decided. See `AgentRestarting`."""
    node.restarts_total += 1
    if isinstance(node, AgentNode):
        world.emit(node, AgentRestarting, cause, delay, attempt, error, reason)
    else:
        world.emit(node, SupervisorRestarting, cause, delay, attempt)


def _decide(
    world: World, node: AnyNode, reason: ExitReason, report: CrashReport | None, hopeless: str = ""
) -> Decision:
    assert node.parent is not None
    before = current_streak(node, world.now)
    streak = before.failed(world.now)
    draw = world.settings.draw() if node.backoff is not None else 0.0
    decision = decide(
        reason,
        report,
        restart=node.entry.restart,
        backoff=node.backoff,
        streak=streak,
        window=node.parent.window,
        now=world.now,
        draw=draw,
        hopeless=hopeless,
    )
    node.streak = before if isinstance(decision, Finish) else streak
    return decision


def _carry_out(
    world: World,
    node: AnyNode,
    decision: Decision,
    final: AgentState,
    reason: ExitReason,
    report: CrashReport | None,
) -> None:
    """Do what was decided for a child that ended by itself; `final` is its state if it stays down."""
    assert node.parent is not None
    end = None if final is FAILED else reason
    match decision:
        case Again():
            delay = decision.delay
            node.streak = node.streak.waits(delay)
            say_restarting(world, node, _FAILURE, delay, node.streak.failures, reason=end)
            groups.restart_with_siblings(world, node, delay)
            if node.group is not None:
                node.delay = Delay(world.now, delay, report, decision.draw)
        case Park(why):
            slots.release(world, node)
            node.held = True
            world.set_state(node, PARKED)
            if isinstance(node, AgentNode):
                world.emit(node, AgentParked, why, node.streak.failures, end)
            _significant_ended(world, node)
        case GiveUp(cause):
            slots.release(world, node)
            world.retire(node, STOPPED, reason)
            give_up(world, node.parent, ExitReason(ExitKind.SHUTDOWN, cause), node.path)
        case Finish():
            slots.release(world, node)
            world.retire(node, final, reason)
            if reason != IGNORED:
                _significant_ended(world, node)
        case _:
            assert_never(decision)


def _significant_ended(world: World, node: AnyNode) -> None:
    """End the supervisor if that is what the end of a significant child means. Source: OTP, do_auto_shutdown/2."""
    parent = node.parent
    if parent is None or not node.entry.significant or not parent.is_up:
        return
    if parent.entry.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and any(
        sibling.entry.significant and sibling.state in _ALIVE
        for sibling in parent.sequence
        if isinstance(sibling, (AgentNode, SupervisorNode))
    ):
        return
    give_up(world, parent, SHUTDOWN, node.path)
