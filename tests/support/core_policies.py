"""Restart policies for random trees, each with what it must answer, written down independently of `Backoff`.

Seconds are multiples of powers of two, so that sums of them hit a boundary exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_fixed

from orchestree.agents.ends import CrashReport
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule

Answer = Literal["restart", "park", "escalate"]


def default_wait(failures: int) -> float:
    """Return the seconds before the next start after so many failures in a row, without jitter."""
    return 0.0 if failures == 1 else min(30.0, 0.25 * 2.0 ** (failures - 2))


def never(failures: int, seconds: float) -> bool:
    """Never give up."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A backoff and what follows from it.

    Attributes:
        waits: seconds before the next start after so many failures in a row, without jitter.
        gives_up: for failures in a row and the seconds since the first of them.
        rules: what to do after which cause.
    """

    label: str
    backoff: Backoff | None
    waits: Callable[[int], float] = default_wait
    jitter: float = 0.25
    stable_after: float = 30.0
    gives_up: Callable[[int, float], bool] = never
    on_give_up: Answer = "park"
    rules: tuple[tuple[str, Answer], ...] = ()
    is_broken: bool = False

    def answer(self, report: CrashReport | None, failures: int, seconds: float) -> Answer:
        """Return what becomes of a failure that is the last of so many within so many seconds."""
        if self.backoff is None:
            return "restart"
        for cause, action in self.rules:
            if report is not None and report.cause.value == cause and action != "restart":
                return action
        if (
            report is not None
            and report.exit_code == 78
            and all(report.cause.value != cause for cause, _ in self.rules)
        ):
            return "park"
        if self.is_broken:
            return "park"
        return self.on_give_up if self.gives_up(failures, seconds) else "restart"

    def allows(self, delay: float, failures: int) -> bool:
        """Return whether `delay` is one that may follow so many failures in a row."""
        longest = self.waits(failures)
        return longest * (1.0 - self.jitter) <= delay <= longest


def _refuse(state: RetryCallState) -> float:
    raise ZeroDivisionError("no such wait")


def _fixed(seconds: float) -> Callable[[int], float]:
    return lambda failures: seconds


POLICIES: Final = (
    Policy(label="default", backoff=Backoff()),
    Policy(label="None", backoff=None, waits=_fixed(0.0), jitter=0.0),
    Policy(label="1s", backoff=Backoff(wait=wait_fixed(1.0), jitter=0.0), waits=_fixed(1.0), jitter=0.0),
    Policy(
        label="4s, stable after 2s",
        backoff=Backoff(wait=wait_fixed(4.0), jitter=0.5, stable_after=2.0),
        waits=_fixed(4.0),
        jitter=0.5,
        stable_after=2.0,
    ),
    Policy(
        label="at once, parks at 3, stable after 1s",
        backoff=Backoff(wait=wait_fixed(0.0), stop=stop_after_attempt(3), stable_after=1.0),
        waits=_fixed(0.0),
        stable_after=1.0,
        gives_up=lambda failures, seconds: failures >= 3,
    ),
    Policy(
        label="escalates at 2",
        backoff=Backoff(stop=stop_after_attempt(2), on_give_up="escalate"),
        gives_up=lambda failures, seconds: failures >= 2,
        on_give_up="escalate",
    ),
    Policy(
        label="0.5s, parks after 2s of failing",
        backoff=Backoff(wait=wait_fixed(0.5), stop=stop_after_delay(2.0), jitter=0.0),
        waits=_fixed(0.5),
        jitter=0.0,
        gives_up=lambda failures, seconds: seconds >= 2.0,
    ),
    Policy(
        label="parks on signal, escalates on oom",
        backoff=Backoff(rules=(Rule(action="park", cause="signal"), Rule(action="escalate", cause="oom"))),
        rules=(("signal", "park"), ("oom", "escalate")),
    ),
    Policy(
        label="restarts on exit, parks at 2",
        backoff=Backoff(
            wait=wait_fixed(0.25), jitter=0.0, stop=stop_after_attempt(2), rules=(Rule(action="restart", cause="exit"),)
        ),
        waits=_fixed(0.25),
        jitter=0.0,
        gives_up=lambda failures, seconds: failures >= 2,
        rules=(("exit", "restart"),),
    ),
    Policy(label="broken", backoff=Backoff(wait=_refuse), is_broken=True),
)


def policy_of(backoff: Backoff | None) -> Policy:
    """Return what is known about one of these backoffs."""
    return next(policy for policy in POLICIES if policy.backoff is backoff)
