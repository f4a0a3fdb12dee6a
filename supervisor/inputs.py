"""Everything that can be told to the core, and everything that it can answer. Pure data.

What executors report (`RunReady`, `RunEnded`, `RunMessage`, `RunProgress`, `RunMemory`) goes in as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestree.agents.executor import RunId, RunReport
from orchestree.strategies.errors import OrchestreeError

from .events import EventData
from .spec import ChildEntry


@dataclass(frozen=True, slots=True)
class StartTree:
    """Start the root supervisor. Said once, first."""


@dataclass(frozen=True, slots=True)
class StopTree:
    """Stop everything in reverse start order; `timeout_s` (None: no limit) is a deadline for the whole tree."""

    cause: str = "command"
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that `Core.next_deadline` named has come."""


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start an agent or a supervisor that does not run (OTP: restart_child).

    With `announced` whoever hands it in has made the ``COMMAND`` event already, which says who asked.
    """

    path: str
    announced: bool = False


@dataclass(frozen=True, slots=True)
class StopChild:
    """Stop an agent or a supervisor and keep it down (OTP: terminate_child). `announced`: see `StartChild`."""

    path: str
    announced: bool = False


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Stop and start at once, out of any state. `announced`: see `StartChild`."""

    path: str
    announced: bool = False


@dataclass(frozen=True, slots=True)
class RegisterChild:
    """Add a child to the supervisor at `parent` and start it.

    With `must_start` an agent whose first start fails leaves the tree again, uncounted (OTP: start_child).
    """

    parent: str
    entry: ChildEntry
    must_start: bool = False


@dataclass(frozen=True, slots=True)
class UnregisterChild:
    """Remove a child that does not run (OTP: delete_child)."""

    path: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Change policy fields of a child that goes on as it is."""

    path: str
    fields: Mapping[str, object]


Operation = StartChild | StopChild | RestartChild | RegisterChild | UnregisterChild | Reconfigure
Input = StartTree | StopTree | Tick | Operation | RunReport


@dataclass(frozen=True, slots=True)
class StartRun:
    """Have the executor start this incarnation."""

    run: RunId


@dataclass(frozen=True, slots=True)
class AskRunToStop:
    """Have the executor ask the run to stop."""

    run: RunId


@dataclass(frozen=True, slots=True)
class KillRun:
    """Have the executor end the run at once, as far as it can; `hung`: it shows no progress."""

    run: RunId
    hung: bool = False


@dataclass(frozen=True, slots=True)
class LookAtRun:
    """Have the executor report `RunProgress`."""

    run: RunId


@dataclass(frozen=True, slots=True)
class MeasureRun:
    """Have the executor report `RunMemory`."""

    run: RunId


@dataclass(frozen=True, slots=True)
class RecycleRun:
    """Have the executor ask the run to end between two rounds."""

    run: RunId


RunEffect = StartRun | AskRunToStop | KillRun | LookAtRun | MeasureRun | RecycleRun
"""What an executor is to do."""


class Emit(NamedTuple):
    """Publish an event; the driver numbers and stamps it.

    Its data is made when somebody looks, which is after what was decided has been done: the making of all the data
    took longer than the deciding. A tuple for the same reason.
    """

    path: str
    incarnation: int
    kind: Callable[..., EventData]
    arguments: tuple[object, ...]

    __match_args__ = ("path", "incarnation", "data")  # type: ignore[misc]

    @property
    def data(self) -> EventData:
        """What the event says; equal each time, but not the same object."""
        return self.kind(*self.arguments)


@dataclass(frozen=True, slots=True)
class Refused:
    """The operation was a mistake of the caller; nothing changed."""

    error: OrchestreeError


@dataclass(frozen=True, slots=True)
class TreeEnded:
    """The root has ended; nothing will ever start again."""

    exit_code: int


Effect = RunEffect | Emit | Refused | TreeEnded
