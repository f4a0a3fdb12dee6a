"""What a test says of a crash, as a fault of the simulation."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from signal import Signals
from types import MappingProxyType
from typing import Final

from orchestree.agents.ends import CrashReport, ExitReason, Phase
from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.supervisor.simulation.faults import CRASH_CAUSES, Crash

CauseOfCrash = str | Signals | type[BaseException] | BaseException
"""``exception exit signal oom lost`` (or the `Cause` of that name), the exception that is raised or the name of a
builtin one, or a signal or its name."""

INSTEAD: Final = MappingProxyType({"start_failed": "crash(path, phase='setup')", "watchdog": "hang(path)"})
"""What brings about the causes that are no crash of their own."""


@dataclass(frozen=True, slots=True)
class Raised(Crash):
    """A crash by an exception of which the test has the class.

    Attributes:
        types: qualified names of the class and its bases, for `Rule`.
        text: of the exception.
    """

    _: KW_ONLY
    types: tuple[str, ...] = ()
    text: str = ""

    def ending(self, *, in_setup: bool) -> tuple[ExitReason, CrashReport]:
        """Return how a run ends by this, which is being set up or not."""
        reason, report = Crash.ending(self, in_setup=in_setup)
        message = f"{self.types[0].rpartition('.')[2]}: {self.text}".removesuffix(": ")
        return reason, replace(report, message=message, exception_types=self.types)


def crash_of(path: str, cause: CauseOfCrash, exit_code: int | None, signal: str | None, phase: Phase) -> Crash:
    """Return the crash that happens at once.

    Raises:
        SpecError: it is none, or two things are said that do not go together.
    """
    said = {name: value for name, value in (("exit_code", exit_code), ("signal", signal)) if value is not None}
    if len(said) == 2:
        raise SpecError(f"exit_code={exit_code!r}, signal={signal!r}: only one of them")
    if isinstance(cause, BaseException) or (isinstance(cause, type) and issubclass(cause, BaseException)):
        if said:
            raise SpecError(f"cause={cause!r}: does not go with {', '.join(said)}")
        return _raised(path, cause, phase)
    return _named(path, cause, said, phase)


def _named(path: str, cause: str | Signals, said: Mapping[str, int | str], phase: Phase) -> Crash:
    """Return the crash whose cause the test has named."""
    name = cause.name if isinstance(cause, Signals) else str(cause)
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, BaseException) and not said:
        return Crash(path, at=0.0, phase=phase, exception=name)
    if name.startswith("SIG") and not said:
        return Crash(path, at=0.0, phase=phase, cause="signal", signal=name)
    if name in INSTEAD:
        raise SpecError(f"cause={name!r}: is no crash of its own: {INSTEAD[name]} leads to it")
    if not isinstance(cause, str) or name not in CRASH_CAUSES:
        shown = name if isinstance(cause, (str, Signals)) else cause
        hint = did_you_mean(name, CRASH_CAUSES)
        raise SpecError(
            f"cause={shown!r}: must be one of {', '.join(CRASH_CAUSES)}, or an exception or a signal, or the name of "
            f"one{hint}"
        )
    if name == "exception" and said:
        name = "exit" if "exit_code" in said else "signal"
    return Crash(path, at=0.0, phase=phase, cause=name, **said)  # type: ignore[arg-type]


def _raised(path: str, cause: BaseException | type[BaseException], phase: Phase) -> Crash:
    kind = cause if isinstance(cause, type) else type(cause)
    types = tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1])
    # A fault line can say the name of a builtin class with all its bases, and of another one only the name.
    known = next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
    return Raised(path, at=0.0, phase=phase, exception=known, types=types, text="" if cause is kind else str(cause))
