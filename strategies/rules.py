"""Rules: what to do after certain ends, whatever the backoff would say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

from .errors import SpecError, did_you_mean

Action = Literal["restart", "park", "escalate"]
CAUSES: Final = ("exception", "exit", "signal", "oom", "watchdog", "memory", "start_failed", "start_timeout", "lost")


class Failure(Protocol):
    """What rules look at; `orchestree.agents.CrashReport` is one."""

    @property
    def cause(self) -> str: ...  # noqa: D102
    @property
    def phase(self) -> str: ...  # noqa: D102
    @property
    def message(self) -> str: ...  # noqa: D102
    @property
    def exception_types(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def exit_code(self) -> int | None: ...  # noqa: D102
    @property
    def signal(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do after ends that match every given field; the first rule that matches decides.

    Attributes:
        action: ``"restart"`` (go on to `stop`, window and delay), ``"park"`` or ``"escalate"``.
        cause: one of `CAUSES`.
        exception: an exception class, or its name with or without module; subclasses match too.
        exit_code: of a process, or of ``sys.exit(code)`` in any agent.
        signal: name such as ``"SIGSEGV"``.
        phase: ``setup``, ``execute`` or ``teardown``.
    """

    action: Action
    cause: str | None = None
    exception: type[BaseException] | str | None = None
    exit_code: int | None = None
    signal: str | None = None
    phase: str | None = None

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            SpecError: there is no such action, cause or phase.
        """
        for name, value, known in (
            ("action", self.action, ("restart", "park", "escalate")),
            ("cause", self.cause, (None, *CAUSES)),
            ("phase", self.phase, (None, "setup", "execute", "teardown")),
        ):
            if value not in known:
                words = [word for word in known if word]
                hint = did_you_mean(str(value), words)
                raise SpecError(f"rule: {name}={value!r}: must be one of {', '.join(words)}{hint}")
        if self.exit_code is not None and (isinstance(self.exit_code, bool) or not isinstance(self.exit_code, int)):
            raise SpecError(f"rule: exit_code={self.exit_code!r}: must be a whole number")
        if self.signal is not None and (not isinstance(self.signal, str) or not self.signal.startswith("SIG")):
            raise SpecError(f"rule: signal={self.signal!r}: must be the name of a signal, such as 'SIGSEGV'")
        if not isinstance(self.exception, (type, str, type(None))):
            raise SpecError(f"rule: exception={self.exception!r}: must be an exception class, or its name")

    def matches(self, failure: Failure) -> bool:
        """Return whether every field that is given fits `failure`."""
        return (
            self.cause in (None, failure.cause)
            and self.exit_code in (None, failure.exit_code)
            and self.signal in (None, failure.signal)
            and self.phase in (None, failure.phase)
            and (self.exception is None or self._names_exception(failure.exception_types))
        )

    def _names_exception(self, types: tuple[str, ...]) -> bool:
        wanted = self.exception
        if isinstance(wanted, type):
            return f"{wanted.__module__}.{wanted.__qualname__}" in types
        return any(name == wanted or name.rpartition(".")[2] == wanted for name in types)


BUILT_IN_RULES: Final = (
    Rule(action="park", exit_code=78),  # EX_CONFIG of sysexits.h: trying again cannot help
    Rule(action="restart", exit_code=75),  # EX_TEMPFAIL
)
"""Come after a policy's own rules; each is about one exit code and nothing else."""

BUILT_IN_ACTIONS: Final = MappingProxyType({rule.exit_code: rule.action for rule in BUILT_IN_RULES})
"""What they say, by the exit code."""
