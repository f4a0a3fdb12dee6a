"""What a test says of a crash, as a fault of the simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace

from orchestree.agents.ends import CrashReport, ExitReason, Phase
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.simulation.faults import CRASH_CAUSES, Crash, CrashCause

CauseOfCrash = CrashCause | type[BaseException] | BaseException
"""``exception exit signal oom lost``, or the exception that is raised."""


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
        message = f"{self.exception.rpartition('.')[2]}: {self.text}".removesuffix(": ")
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
    if not isinstance(cause, str):
        raise SpecError(f"cause={cause!r}: must be one of {', '.join(CRASH_CAUSES)}, or an exception")
    return _made(path, cause, said, phase)


def _made(path: str, cause: CrashCause, said: Mapping[str, int | str], phase: Phase) -> Crash:
    for name, needed in (("exit_code", "exit"), ("signal", "signal")):
        if name in said and cause == "exception":
            return Crash(path, at=0.0, phase=phase, cause=needed, **said)  # type: ignore[arg-type]
    return Crash(path, at=0.0, phase=phase, cause=cause, **said)  # type: ignore[arg-type]


def _raised(path: str, cause: BaseException | type[BaseException], phase: Phase) -> Crash:
    kind = cause if isinstance(cause, type) else type(cause)
    types = tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1])
    # The name must be one that a fault line can say: a local class has none, it goes by its last part.
    name = kind.__name__ if kind.__module__ == "builtins" or "<" in types[0] else types[0]
    return Raised(path, at=0.0, phase=phase, exception=name, types=types, text="" if cause is kind else str(cause))
