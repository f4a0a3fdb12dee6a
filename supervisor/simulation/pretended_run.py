"""A run that only pretends, what is to become of the runs of its agent, and what has been done to them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestree.agents.ends import CrashReport, ExitReason
from orchestree.agents.executor import RunId
from orchestree.supervisor.spec import AgentEntry

from .faults import Crash, Down, Fault, IgnoreStop, SlowStart


class Struck(NamedTuple):
    """At `now` a fault did something to the agent at `path`; of a `Down`: it ended the run."""

    now: float
    fault: Fault
    path: str


@dataclass(eq=False, slots=True)
class Run:
    """One incarnation that pretends to run.

    Attributes:
        is_set_up: whether ``setup()`` has returned: before that it hears nothing.
        ready: whether it has said so: it was set up, and not asked to stop before.
        ready_at: when it became ready; None if it is not.
        silent_since: since when it hangs; None while it makes progress.
        hangs_until: when it goes on.
        asked: whether it was asked to stop.
        looked_at: when it was asked for its progress and, being well, has not answered yet.
        alive: whether it has not ended.
    """

    id: RunId
    started: float
    is_set_up: bool = False
    ready: bool = False
    ready_at: float | None = None
    silent_since: float | None = None
    hangs_until: float = 0.0
    asked: bool = False
    looked_at: float | None = None
    alive: bool = True


class Ending(NamedTuple):
    """How runs end by `crash`: equal ends are one object, which a long log needs."""

    crash: Crash
    reason: ExitReason
    report: CrashReport


@dataclass(eq=False, slots=True)
class Habits:
    """What the faults have to say about one agent, over all its runs.

    Attributes:
        fails_in_setup: crashes that wait for its next starts, first to last.
        fails_in_teardown: crash that waits for the next end of a run.
        on_ready: called with each run that becomes ready.
    """

    entry: AgentEntry
    can_kill: bool
    down: list[Down] = field(default_factory=list)
    slow: list[SlowStart] = field(default_factory=list)
    stubborn: list[IgnoreStop] = field(default_factory=list)
    fails_in_setup: list[Crash] = field(default_factory=list)
    fails_in_teardown: Crash | None = None
    on_ready: list[Callable[[Run], None]] = field(default_factory=list)
