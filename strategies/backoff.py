"""How long a failing child waits before it comes back, and when it is given up on. Pure.

Any tenacity wait and stop object is a policy here. They are called with a `RetryCallState` that is filled by
hand, so tenacity's loop, its clock and its sleep are never used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from types import BuiltinFunctionType, FunctionType
from typing import Final, Literal, NamedTuple

from tenacity import Future, RetryCallState, wait_chain, wait_exponential, wait_none

from . import checks
from .errors import SpecError
from .rules import BUILT_IN_ACTIONS, Action, Failure, Rule

GiveUp = Literal["park", "escalate"]
WaitPolicy = Callable[[RetryCallState], float]
StopPolicy = Callable[[RetryCallState], bool]

_ENDLESS: Final = 1e15  # seconds; tenacity's own default for the longest wait is longer

_new_tuple: Final = tuple.__new__  # half the time of a call of the class; each crash makes some


class Streak(NamedTuple):
    """Failures in a row of one child, without `stable_after` seconds of being ready in between.

    Attributes:
        failures: how many; 0 after a stable run.
        since: when the first of them happened, monotonic seconds.
        waited_s: seconds of delay that the streak has cost so far.
    """

    failures: int = 0
    since: float = 0.0
    waited_s: float = 0.0

    def failed(self, now: float) -> Streak:
        """Return the streak with one more failure at `now`."""
        return _new_tuple(Streak, (self.failures + 1, self.since if self.failures else now, self.waited_s))

    def waits(self, delay: float) -> Streak:
        """Return the streak with `delay` more seconds of waiting."""
        return Streak(self.failures, self.since, self.waited_s + delay) if delay else self


DEFAULT_WAIT: Final[WaitPolicy] = wait_chain(wait_none(), wait_exponential(multiplier=0.125, max=30))
"""0 for the first failure of a streak, then 0.25 s, 0.5 s, 1 s ... up to 30 s."""


class AgentFailure(Exception):
    """Stands for the failure of a child in a `RetryCallState`; `failure` is its report."""

    def __init__(self, failure: Failure | None) -> None:
        """Carry the report, None for an end that was no failure of the child's own."""
        super().__init__(failure.message if failure else "ended")
        self.failure = failure


class _FailedTry(RetryCallState):
    """What tenacity's policies look at, filled from a streak."""

    retry_object = None  # type: ignore[assignment]  # only tenacity's own loop reads it
    fn = None
    args = ()
    next_action = None
    upcoming_sleep = 0.0

    def __init__(self, streak: Streak, failure: Failure | None, now: float) -> None:
        """Set what tenacity's own constructor sets, but by our clock, and the outcome only when it is asked for."""
        self.start_time = streak.since
        self.kwargs = {}
        self.attempt_number = streak.failures
        self.outcome_timestamp = now
        self.idle_for = streak.waited_s
        self._failure = failure

    @property
    def outcome(self) -> Future:  # type: ignore[override]
        """The failure of the agent as the exception of a call."""
        outcome = Future(self.attempt_number)
        outcome.set_exception(AgentFailure(self._failure))
        return outcome


class Verdict(NamedTuple):
    """What a policy says to a failure: whether that was the last try, and else the seconds to wait for the next."""

    gives_up: bool
    delay: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """When and whether a child that ended comes back.

    Use when a restart may need time to help (nearly always). Not when every restart has to be immediate:
    that is ``backoff=None``, OTP's behaviour.

    Attributes:
        wait: any tenacity wait object; its answer is in seconds.
        stop: any tenacity stop object; None never gives up. ``stop_after_attempt(5)`` gives up at the 5th failure.
        jitter: share, 0 to 1: each delay is multiplied by a factor drawn from ``[1 - jitter, 1]``.
        stable_after: seconds of being ready after which the streak of failures starts anew.
        on_give_up: ``"park"`` the child, or ``"escalate"``: its supervisor ends, as if the window were exceeded.
        rules: looked at before `stop`, see `Rule`.
    """

    wait: WaitPolicy = DEFAULT_WAIT
    stop: StopPolicy | None = None
    jitter: float = 0.25
    stable_after: float = 30.0
    on_give_up: GiveUp = "park"
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            SpecError: naming the field, its value and the rule.
        """
        for name, policy in (("wait", self.wait), ("stop", self.stop)):
            if (policy is None and name == "stop") or (callable(policy) and not isinstance(policy, type)):
                continue
            raise SpecError(f"backoff: {name}={policy!r}: must be a tenacity {name} object")
        checks.share("backoff: jitter", self.jitter)
        checks.seconds("backoff: stable_after", self.stable_after)
        if self.on_give_up not in ("park", "escalate"):
            raise SpecError(f"backoff: on_give_up={self.on_give_up!r}: must be park or escalate")
        if not isinstance(self.rules, Iterable):
            raise SpecError(f"backoff: rules={self.rules!r}: must be a tuple of Rule")
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise SpecError(f"backoff: rules: {rule!r}: must be a Rule")

    def __str__(self) -> str:
        """Return one line without addresses: what differs from the default, policies by the names of their classes."""
        shown = [
            f"{field.name}={_name(value) if field.name in ('wait', 'stop') else repr(value)}"
            for field in fields(self)
            if (value := getattr(self, field.name)) is not field.default
            and (field.name in ("wait", "stop") or value != field.default)
        ]
        kind = type(self)
        name = "Backoff" if kind is Backoff else f"{kind.__module__}.{kind.__qualname__}"
        return f"{name}({', '.join(shown)})"

    def action_for(self, failure: Failure | None) -> Action | None:
        """Return what the first matching rule says, the built-in ones last; None if no rule matches."""
        if failure is None:
            return None
        for rule in self.rules:
            if rule.matches(failure):
                return rule.action
        return BUILT_IN_ACTIONS.get(failure.exit_code)

    def verdict(self, streak: Streak, failure: Failure | None, now: float, draw: float) -> Verdict:
        """Ask `wait` and then `stop`, once each, about a failure that is the last one of `streak`.

        Args:
            streak: failures in a row, this one included.
            failure: its report, None for an end that was no failure.
            now: monotonic seconds.
            draw: in [0, 1), places the delay within the jitter.

        Raises:
            ValueError: `wait` answered no finite number.
            Exception: whatever `wait` or `stop` raises.
        """
        state = _FailedTry(streak, failure, now)
        wait = float(self.wait(state))
        if not math.isfinite(wait):
            raise ValueError(f"wait answered {wait}")
        gives_up = False
        if self.stop is not None:
            state.upcoming_sleep = wait
            gives_up = bool(self.stop(state))
        return _new_tuple(Verdict, (gives_up, max(0.0, wait) * (1.0 - self.jitter * draw)))


def _name(policy: object) -> str:
    """Return the name of a policy: of tenacity's with the numbers that it was made with, as exact as they are.

    What is not tenacity's is never asked anything: its text is wanted in the middle of decisions, and nobody knows what
    the numbers in it are.
    """
    kind = type(policy)
    if kind.__module__.partition(".")[0] != "tenacity":
        named = policy if isinstance(policy, FunctionType | BuiltinFunctionType) else kind
        return f"{named.__module__}.{named.__qualname__}"
    known = getattr(policy, "__dict__", {})
    numbers = {key: value for key, value in known.items() if isinstance(value, (int, float)) and abs(value) < _ENDLESS}
    shown = ", ".join(
        f"{key}={f'{value:g}' if float(f'{value:g}') == value else repr(value)}" for key, value in numbers.items()
    )
    return f"{kind.__qualname__}({shown})" if shown else kind.__qualname__
