"""The decisions about ended children that a replay goes through, each with what the core decided it from. Pure.

The inputs are read off the nodes of the core before it decides, the outcome off what it then says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from orchestree.agents.ends import CrashReport, ExitReason
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.restart import Restart
from orchestree.strategies.rules import BUILT_IN_RULES, Rule
from orchestree.supervisor.decision import Again, Decision, Finish, GiveUp, Park, comes_back
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentRestarting,
    AgentTerminated,
    Event,
    RestartCause,
    StopCause,
    SupervisorTerminated,
)
from orchestree.supervisor.inputs import Emit
from orchestree.supervisor.outcome import crashed
from orchestree.supervisor.states import RUNNING_STATES, AgentState
from orchestree.supervisor.streaks import current_streak, stable_after
from orchestree.supervisor.tree import AgentNode, AnyNode
from orchestree.supervisor.world import World

from .logged_policy import LoggedBackoff
from .outcomes import decided, taken_along

Outcome = Literal["restarted", "parked", "finished", "escalated"]

_TELL_IT: Final = (crashed, AgentRestarting, AgentParked)
"""What is said first of an end about which something was decided; what follows is the outcome."""

START_ASKED: Final = "its start failed, and whoever had asked for that was told"

_OUTCOMES: Final[Mapping[type[Decision], Outcome]] = MappingProxyType(
    {Again: "restarted", Park: "parked", Finish: "finished", GiveUp: "escalated"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a decision about a child is made from, as it was just before. Moments are monotonic seconds.

    Attributes:
        restart: its restart type.
        strategy: who is taken along by its failure.
        backoff: its policy, in words; None: at once, always.
        jitter: of its policy; None if the log does not say it.
        rules: that its policy looks at, in order, the built-in ones last; None if the log does not say them.
        not_said: names of those fields of its policy that the log does not say: what they decided is taken from it.
        failures: in a row, this end not included.
        failing_since: when the first of those was; None if there is none.
        stable_after: seconds of being ready after which they no longer count.
        ready_s: seconds for which it had been ready; None if it was not.
        supervisor: path of its supervisor, whose window counts the restarts:
        restarts: counted in the window just before,
        max_restarts: of how many there may be
        max_seconds: within so many seconds.
        asked: for what it had been asked to stop, or given up on; None if it ended by itself.
    """

    restart: str
    strategy: str
    backoff: str | None
    jitter: float | None
    rules: tuple[Rule, ...] | None
    not_said: tuple[str, ...]
    failures: int
    failing_since: float | None
    stable_after: float
    ready_s: float | None
    supervisor: str
    restarts: int
    max_restarts: int
    max_seconds: float
    asked: StopCause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDecided:
    """What was decided about one end of a child.

    Attributes:
        number: of the event that tells the end.
        time: of it, wall seconds.
        monotonic: of it.
        path: of the child.
        incarnation: that ended.
        reason: how it ended.
        report: what is known about that, if it was a crash.
        inputs: of the decision.
        rule: of its policy that fits the crash; None if none does, or its rules are not known.
        draw: for the jitter, in [0, 1); None if it made no difference, or is not known.
        outcome: ``restarted`` after `delay` seconds, ``parked``, ``finished`` (its restart type wants it so) or
            ``escalated``: its supervisor ended.
        why: in words, if the core has said it, or if it was not for the restart type that it is ``finished``.
        group: paths of those that were stopped with it by the strategy, in start order.
        offender: the child that made it give up, if it is a supervisor that did.
    """

    number: int
    time: float
    monotonic: float
    path: str
    incarnation: int
    reason: ExitReason
    report: CrashReport | None
    inputs: Inputs
    rule: Rule | None
    draw: float | None
    outcome: Outcome
    delay: float | None = None
    why: str = ""
    group: tuple[str, ...] = ()
    offender: str | None = None


def inputs_of(world: World, node: AnyNode, now: float) -> Inputs | None:
    """Return what a decision about a running child would be made from at `now`; None if there can be none."""
    parent = node.parent
    if parent is None or (node.state not in RUNNING_STATES and node.state is not AgentState.WEDGED):
        return None
    streak = current_streak(node, now)
    own = node.entry.strategy if isinstance(node, AgentNode) else None
    backoff = node.backoff
    not_said = backoff.not_said if isinstance(backoff, LoggedBackoff) else ()
    return Inputs(
        restart=node.entry.restart.value,
        strategy=(own or parent.entry.strategy).value,
        backoff=str(backoff) if backoff is not None else None,
        jitter=_jitter(backoff, not_said),
        rules=_rules(backoff, not_said),
        not_said=not_said,
        failures=streak.failures,
        failing_since=streak.since if streak.failures else None,
        stable_after=stable_after(node),
        ready_s=None if node.ready_since is None else now - node.ready_since,
        supervisor=parent.path,
        restarts=parent.window.count(now),
        max_restarts=parent.window.max_restarts,
        max_seconds=parent.window.max_seconds,
        asked=node.purpose,
    )


def _jitter(backoff: Backoff | None, not_said: tuple[str, ...]) -> float | None:
    if backoff is None:
        return 0.0
    return None if "jitter" in not_said else backoff.jitter


def _rules(backoff: Backoff | None, not_said: tuple[str, ...]) -> tuple[Rule, ...] | None:
    if backoff is None:
        return ()
    return None if "rules" in not_said else (*backoff.rules, *BUILT_IN_RULES)


def decision_in(
    event: Event, said: Sequence[Emit], place: int, inputs: Inputs | None, world: World
) -> EndDecided | None:
    """Return the decision that an event tells of; None if it tells of none.

    Args:
        event: that tells it.
        said: all that the core has said with it.
        place: of the event in that.
        inputs: of its path, from before.
        world: after the decision.
    """
    reason = _reason(event, said[:place], inputs)
    if reason is None or inputs is None:
        return None
    report = event.data.report if isinstance(event.data, AgentCrashed) else None
    decision = decided(event.path, reason, said[place:], Restart(inputs.restart), world)
    return EndDecided(
        number=event.seq,
        time=event.time,
        monotonic=event.monotonic,
        path=event.path,
        incarnation=event.incarnation,
        reason=reason,
        report=report,
        inputs=inputs,
        rule=next((rule for rule in inputs.rules or () if report is not None and rule.matches(report)), None),
        draw=_draw(decision, inputs, world),
        outcome=_OUTCOMES[type(decision)],
        why=_why(decision, reason, inputs),
        delay=decision.delay if isinstance(decision, Again) else None,
        group=taken_along(event.path, said[place:], world) if isinstance(decision, Again) else (),
        offender=event.data.offender if isinstance(event.data, SupervisorTerminated) else None,
    )


def _reason(event: Event, before: Sequence[Emit], inputs: Inputs | None) -> ExitReason | None:
    """Return how a child ended about which something was decided with this event, and not with one before."""
    if inputs is None or any(emit.path == event.path and emit.kind in _TELL_IT for emit in before):
        return None
    match event.data:
        case AgentCrashed(reason):
            return reason
        case AgentRestarting(cause=RestartCause.FAILURE, reason=reason):
            return reason
        case AgentParked(reason=reason):
            return reason
        case AgentTerminated(reason=reason) if inputs.asked is None:
            return reason
        case SupervisorTerminated(reason, offender) if event.path and inputs.asked is None and offender is not None:
            return reason
        case _:
            return None


def _draw(decision: Decision, inputs: Inputs, world: World) -> float | None:
    """Return what was drawn; without the seed that is computed from the delay, if the log says all of the policy."""
    if not isinstance(decision, Again) or not decision.delay or not inputs.jitter:
        return None
    return None if inputs.not_said and world.settings.seed is None else decision.draw


def _why(decision: Decision, reason: ExitReason, inputs: Inputs) -> str:
    match decision:
        case Park(why):
            return why
        case GiveUp(cause):
            return str(cause)
        case Finish() if comes_back(reason, Restart(inputs.restart)):
            return START_ASKED
        case _:
            return ""
