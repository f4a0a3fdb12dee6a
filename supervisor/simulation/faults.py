"""What can go wrong in a simulated tree, as values. Pure.

A fault names an agent, or a supervisor and with it all agents below. What happens at moments (`Crash`, `Hang`,
`Complete`) skips whoever does not run then; what holds for a while (`Down`, `SlowStart`, `IgnoreStop`) is in force
from `at` on, before `until`. All times are seconds since the tree was started.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from orchestree.agents.ends import Cause, CrashReport, ExitReason, Phase, abnormal
from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.supervisor.entry_fields import check_name

from .crash_names import check_exception, check_signal, types_of

CrashCause = Literal["exception", "exit", "signal", "oom", "lost"]
CRASH_CAUSES: Final[tuple[CrashCause, ...]] = get_args(CrashCause)
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

POSSIBLE: Final = MappingProxyType({"signal": ("process",), "oom": ("process",), "lost": ("process", "async")})
"""Executors that a cause can happen to, where not all can."""

_FIELDS: Final = (("exception", "exception", "RuntimeError"), ("exit_code", "exit", 1), ("signal", "signal", "SIGKILL"))
"""Fields that only one cause has, and their defaults."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Base of what happens at moments. Say `at`, `every` or `after`.

    Attributes:
        path: of an agent or a supervisor; ``""`` is the whole tree.
        at: the first moment; with `after`: not before this. None: with `every` after the first interval, else from 0.
        every: then again and again, so many seconds apart.
        after: instead of at set times: so many seconds after each time that the agent becomes ready.
        until: not at this moment or later.
        times: at most so often, for each agent; None for no limit.
        about: `every` or `after` is only the mean of times that are drawn (exponentially, from the seed).

    Raises:
        SpecError: a value breaks a rule, or two do not go together.
    """

    path: str
    _: KW_ONLY
    at: float | None = None
    every: float | None = None
    after: float | None = None
    until: float = math.inf
    times: int | None = None
    about: bool = False

    def __post_init__(self) -> None:
        """Check what a user has written."""
        _check_path(self.path)
        for name, value in (("at", self.at), ("every", self.every), ("after", self.after)):
            if value is not None:
                checks.seconds(name, value, allow_zero=name != "every")
        if self.times is not None:
            checks.count("times", self.times, least=1)
        checks.flag("about", self.about)
        _check_until(self.until, self.at)
        if self.after is not None and self.every is not None:
            raise SpecError(f"after={self.after!r}, every={self.every!r}: only one of them")
        if self.after is None and self.every is None:
            if self.at is None:
                raise SpecError(f"{type(self).__name__}({self.path!r}): say when: at, every or after")
            if self.about or self.times is not None or self.until != math.inf:
                raise SpecError("times, about and until need every or after")


@dataclass(frozen=True, slots=True)
class Crash(Moments):
    """A run ends abnormally.

    Attributes:
        phase: ``execute``; ``setup``: the start that runs, or else the next one, fails; ``teardown``: what is raised
            when the run ends next.
        cause: ``exception exit signal oom lost``; the last three only where the executor knows them.
        exception: name of the class, for `Rule`: of a builtin, or ``module.Class``; with ``cause="exception"``.
        exit_code: 1 to 255, with ``cause="exit"``.
        signal: name of one, with ``cause="signal"``.
    """

    _: KW_ONLY
    phase: Phase = "execute"
    cause: CrashCause = "exception"
    exception: str = "RuntimeError"
    exit_code: int = 1
    signal: str = "SIGKILL"

    def __post_init__(self) -> None:
        """Check what a user has written."""
        Moments.__post_init__(self)
        for name, value, known in (("cause", self.cause, CRASH_CAUSES), ("phase", self.phase, PHASES)):
            if value not in known:
                raise SpecError(f"{name}={value!r}: must be one of {', '.join(known)}{did_you_mean(str(value), known)}")
        if checks.count("exit_code", self.exit_code, least=1) > 255:
            raise SpecError(f"exit_code={self.exit_code!r}: must be at most 255")
        check_signal(self.signal)
        check_exception(self.exception)
        for name, cause, default in _FIELDS:
            if self.cause != cause and (value := getattr(self, name)) != default:
                raise SpecError(f"{name}={value!r}: needs cause={cause!r}, not {self.cause!r}")

    def ending(self, *, in_setup: bool) -> tuple[ExitReason, CrashReport]:
        """Return how a run ends by this, which is being set up or not."""
        phase: Phase = "setup" if in_setup else "teardown" if self.phase == "teardown" else "execute"
        cause = Cause.START_FAILED if in_setup and self.cause in ("exception", "exit") else Cause(self.cause)
        report = CrashReport(
            cause=cause,
            message=self._message(),
            phase=phase,
            exception_types=types_of(self.exception) if self.cause == "exception" else (),
            exit_code=self.exit_code if self.cause == "exit" else None,
            signal={"signal": self.signal, "oom": "SIGKILL"}.get(self.cause),
        )
        return abnormal(cause), report

    def _message(self) -> str:
        return {
            "exception": f"{self.exception.rpartition('.')[2]}: simulated",
            "exit": f"exited with code {self.exit_code}",
            "signal": f"killed by {self.signal}",
            "oom": "killed by SIGKILL: out of memory",
            "lost": "lost: nobody knows what became of it",
        }[self.cause]


@dataclass(frozen=True, slots=True)
class Hang(Moments):
    """A run stops making progress and hears nothing any more, for `lasts` seconds.

    A process is killed for that, and a thread is wedged until it is over. A coroutine is taken to wait in an ``await``
    that does not return, which a cancellation ends; one that blocks its event loop is not simulated.
    """

    _: KW_ONLY
    lasts: float = math.inf

    def __post_init__(self) -> None:
        """Check what a user has written."""
        Moments.__post_init__(self)
        if self.lasts != math.inf:
            checks.seconds("lasts", self.lasts, allow_zero=False)


@dataclass(frozen=True, slots=True)
class Complete(Moments):
    """A run ends normally, by itself."""


@dataclass(frozen=True, slots=True)
class Spell:
    """Base of what holds for a while.

    Attributes:
        path: of an agent or a supervisor; ``""`` is the whole tree.
        at: from when on.
        until: not at this moment or later.

    Raises:
        SpecError: a value breaks a rule.
    """

    path: str
    _: KW_ONLY
    at: float = 0.0
    until: float = math.inf

    def __post_init__(self) -> None:
        """Check what a user has written."""
        _check_path(self.path)
        checks.seconds("at", self.at)
        _check_until(self.until, self.at)


@dataclass(frozen=True, slots=True)
class Down(Spell):
    """What the agent needs is down: its run crashes when that begins, and each start fails until it is over."""


@dataclass(frozen=True, slots=True)
class SlowStart(Spell):
    """Starts take `takes` seconds (``math.inf``: they never get ready), and hear of a stop only when that is over.

    When its time is up a process is killed, a coroutine cancelled, and a thread wedged until ``setup()`` returns.
    """

    _: KW_ONLY
    takes: float

    def __post_init__(self) -> None:
        """Check what a user has written."""
        Spell.__post_init__(self)
        if self.takes != math.inf:
            checks.seconds("takes", self.takes)


@dataclass(frozen=True, slots=True)
class IgnoreStop(Spell):
    """Who is asked to stop goes on: a process until it is killed, a coroutine until it is cancelled.

    A thread goes on until this is over, and is wedged meanwhile.
    """


Occurrence = Crash | Hang | Complete
"""What happens at moments."""

Fault = Occurrence | Down | SlowStart | IgnoreStop


def cannot_happen(fault: Fault, executor: str) -> str | None:
    """Return why `fault` cannot happen to an agent of this executor; None if it can."""
    if isinstance(fault, Crash) and executor not in POSSIBLE.get(fault.cause, (executor,)):
        possible = " and ".join(POSSIBLE[fault.cause])
        return f"executor={executor!r}, and cause={fault.cause!r} happens to {possible} agents only"
    return None


def check_fault(fault: object) -> None:
    """Raise `SpecError` unless `fault` is one."""
    if not isinstance(fault, Fault):
        raise SpecError(f"{fault!r}: must be a fault, or a line such as 'worker: crash every 7s'")


def _check_path(path: object) -> None:
    if not isinstance(path, str):
        raise SpecError(f"path={path!r}: must be a string such as 'ingest/collector'")
    try:
        for name in path.split("/") if path else ():
            check_name(name)
    except SpecError:
        raise SpecError(f"path={path!r}: must be names with slashes between them, such as 'ingest/collector'") from None


def _check_until(until: float, at: float | None) -> None:
    if until != math.inf:
        checks.seconds("until", until, allow_zero=False)
    if at is not None and until <= at:
        raise SpecError(f"until={until!r}: must be later than at={at!r}")
