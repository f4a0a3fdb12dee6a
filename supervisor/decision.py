"""The restart decision: what follows when a child has ended by itself. Pure; one screen; one order for every end.

Restart type, then rules, then the policy's `stop`, then the window, then the delay. Who else is taken along is the
strategy's matter (`groups.py`) and changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestree.agents.ends import Cause, CrashReport, ExitKind, ExitReason
from orchestree.strategies.backoff import Backoff, Streak
from orchestree.strategies.restart import Restart
from orchestree.strategies.window import RestartWindow

from .phrases import POLICY_RAISED, error_in_one_line


@dataclass(frozen=True, slots=True)
class Finish:
    """It is not restarted: that is how its restart type wants it."""


class Again(NamedTuple):
    """It comes back after `delay` seconds, for which `draw` was drawn; the window has its stamp."""

    delay: float
    draw: float


@dataclass(frozen=True, slots=True)
class Park:
    """It is given up on, alone; its siblings go on. No stamp."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Its supervisor ends, with this cause."""

    cause: Cause


_new_tuple: Final = tuple.__new__  # half the time of a call of the class
# As in `states.py`: a look-up in the class takes as long as a call.
ABNORMAL: Final = ExitKind.ABNORMAL
_IGNORE: Final = Cause.IGNORE

Decision = Finish | Again | Park | GiveUp
AT_ONCE: Final = Again(0.0, 0.0)


def comes_back(reason: ExitReason, restart: Restart) -> bool:
    """Return whether the restart type wants the child back; one that said it is not needed (IGNORE) never is."""
    return reason.cause is not _IGNORE and restart.applies(abnormal=reason.kind is ABNORMAL)


def decide(
    reason: ExitReason,
    report: CrashReport | None,
    *,
    restart: Restart,
    backoff: Backoff | None,
    streak: Streak,
    window: RestartWindow,
    now: float,
    draw: float,
    hopeless: str = "",
) -> Decision:
    """Decide what follows the end of a child that nobody asked to stop.

    Args:
        reason: how it ended.
        report: of the failure; None if it was none.
        restart: its restart type.
        backoff: its policy; None is OTP's: at once, always, without rules.
        streak: its failures in a row, this end included.
        window: of its supervisor; stamped if the answer is `Again` or `GiveUp` for ``max_restarts``.
        now: monotonic seconds.
        draw: in [0, 1), for the jitter.
        hopeless: why another try would end the same way, one line; empty if nobody knows. It parks then.

    Source: OTP supervisor.erl, do_restart/3 and restart/2. Differs: rules, parking and delays.
    """
    if not comes_back(reason, restart):
        return Finish()
    if hopeless:
        return Park(hopeless)
    if backoff is None:
        return AT_ONCE if window.add(now) else GiveUp(Cause.MAX_RESTARTS)
    action = backoff.action_for(report)
    if action == "park":
        return Park(f"a rule says so: {report.message}" if report else "a rule says so")
    if action == "escalate":
        return GiveUp(Cause.ESCALATED)
    try:
        verdict = backoff.verdict(streak, report, now, draw)
    except KeyboardInterrupt:  # who looks ahead in the main thread wants to break that off
        raise
    except BaseException as error:  # a user's policy; without one there is no right moment to try again
        return Park(POLICY_RAISED + error_in_one_line(error))
    if verdict.gives_up and backoff.on_give_up == "escalate":
        return GiveUp(Cause.ESCALATED)
    if verdict.gives_up:
        return Park(f"failed {streak.failures} times in a row" if streak.failures > 1 else "failed")
    return _new_tuple(Again, (verdict.delay, draw)) if window.add(now) else GiveUp(Cause.MAX_RESTARTS)
