"""How the run of an agent ended: the reason, the report, and the two words an agent may end itself with.

Pure: values only. Executors fill these in; the core reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal


class ExitKind(StrEnum):
    """What an end means for the restart policy."""

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    ABNORMAL = "abnormal"


class Cause(StrEnum):
    """What brought an end about. The first five belong to ends that are no failure of the agent's own."""

    NORMAL = "normal"
    IGNORE = "ignore"
    SHUTDOWN = "shutdown"
    MAX_RESTARTS = "max_restarts"
    ESCALATED = "escalated"
    EXCEPTION = "exception"
    EXIT = "exit"
    SIGNAL = "signal"
    OOM = "oom"
    WATCHDOG = "watchdog"
    MEMORY = "memory"
    START_FAILED = "start_failed"
    START_TIMEOUT = "start_timeout"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why a run ended: what it means for policy, and what brought it about."""

    kind: ExitKind
    cause: Cause

    def __str__(self) -> str:
        """Return ``kind`` or ``kind (cause)`` when the two differ."""
        return str(self.kind) if self.kind.value == self.cause.value else f"{self.kind} ({self.cause})"


NORMAL: Final = ExitReason(ExitKind.NORMAL, Cause.NORMAL)
IGNORED: Final = ExitReason(ExitKind.NORMAL, Cause.IGNORE)
SHUTDOWN: Final = ExitReason(ExitKind.SHUTDOWN, Cause.SHUTDOWN)


def abnormal(cause: Cause) -> ExitReason:
    """Return the reason of a failure that `cause` brought about."""
    return ExitReason(ExitKind.ABNORMAL, cause)


Phase = Literal["setup", "execute", "teardown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """What is known about the abnormal end of one incarnation.

    Attributes:
        cause: what brought the end about.
        message: one line for a person: ``ValueError: no such sensor``, ``killed by SIGKILL``.
        phase: the hook that was running, as far as known.
        exception_types: qualified names of the exception's class and its bases, most derived first; empty
            when no exception is known. Backoff rules match against it.
        traceback: the full chain as text; empty when there is none.
        exit_code: of a process that exited; None otherwise.
        signal: name such as ``SIGKILL`` of a process that a signal ended; None otherwise.
        pid: of the process the agent ran in; None when the agent shared the orchestrator's process.
        uptime_s: seconds from start to end.
        notes: further failures that this one must not hide (`teardown`, `on_stop`), one line each.
        progress: what the agent last said it was doing; empty if it never did.
        silent_s: seconds from its last sign of progress to its end; None if there was none.
        stacks: of all threads, as ``faulthandler`` writes them, when a fault or a missed watchdog ended a process; of
            the thread of its event loop when it is a coroutine agent that blocked that.
        output: the last lines (at most 50) that its process printed on stdout and stderr, oldest first.
        max_memory: bytes that its process had in memory at its peak; None when not known.
        fingerprint: equal for equal crashes of whichever incarnation; empty until the event is made.
        occurrence: how many crashes of this agent in this run of the tree had this fingerprint, this one included.
        first_seen: wall time (seconds since 1970) of the first of them; None until the event is made.
        decision: what followed: ``restart``, ``park``, ``terminate`` or ``escalate``; empty if not decided yet.
        delay_s: seconds that the restart has to wait; None unless `decision` is ``restart``.
    """

    cause: Cause
    message: str
    phase: Phase = "execute"
    exception_types: tuple[str, ...] = ()
    traceback: str = ""
    exit_code: int | None = None
    signal: str | None = None
    pid: int | None = None
    uptime_s: float = 0.0
    notes: tuple[str, ...] = ()
    progress: str = ""
    silent_s: float | None = None
    stacks: str = ""
    output: tuple[str, ...] = ()
    max_memory: int | None = None
    fingerprint: str = ""
    occurrence: int = 1
    first_seen: float | None = None
    decision: Literal["", "restart", "park", "terminate", "escalate"] = ""
    delay_s: float | None = None


class Shutdown(BaseException):
    """Raised by an agent to end itself with ``shutdown``: not a failure, a TRANSIENT agent stays down."""


class Ignore(Enum):
    """Type of `IGNORE`, the answer of a ``setup()`` that finds the agent is not needed."""

    IGNORE = "IGNORE"


IGNORE: Final = Ignore.IGNORE
