"""The small protocol between the supervision thread and whatever runs agents.

A new kind of executor (Ray, say) is one new file that implements `Executor` and one line in
`agents/executors/__init__.py`. An executor never decides anything: it starts, stops, kills and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from .ends import CrashReport, ExitReason
from .metric_data import MetricBatch, MetricsOfRun
from .run_id import RunId as RunId
from .secrets import Masker, secrets_of

if TYPE_CHECKING:
    import asyncio

    from .base import BaseAgent
    from .config import AgentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything an executor needs to start one incarnation.

    Attributes:
        shutdown_s: seconds a stopping run is granted (infinity: ``float("inf")``, brutal_kill: 0.0); executors
            use it only for ends that the core does not see, such as a process that lingers after its last word.
        standby: keep the next incarnation ready beside this one.
        mask: hides the secrets of the agent; None if whoever needs it has to make it, as in another process.
        metrics_series: most label sets that the agent's own metrics may have together; 0: nobody collects them.
    """

    run: RunId
    agent: type[BaseAgent]
    config: AgentConfig = field(repr=False)
    params: Mapping[str, object] = field(repr=False)
    shutdown_s: float = 5.0
    standby: bool = False
    mask: Masker | None = field(default=None, repr=False, compare=False)
    metrics_series: int = 0

    def masker(self) -> Masker:
        """Return what hides the secrets of the agent. May take a while if `mask` is None."""
        return Masker(secrets_of(self.config, self.params)) if self.mask is None else self.mask


@dataclass(frozen=True, slots=True)
class RunReady:
    """``setup()`` returned: the run is ready. `pid` is the process it runs in, None for the orchestrator's own."""

    run: RunId
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run is over and nothing of it is left (for a process: it has been reaped).

    Attributes:
        reason: as the executor saw it; the core turns any end of a run that was asked to stop into ``shutdown``.
        report: for every abnormal end, and for others when something failed on the way (``notes``).
        result: what ``execute()`` returned.
        classified: the hook ``classify_exit`` gave the reason.
        details: makes the traceback text; called after the restart was commanded, so that making
            it costs the restart nothing. None when `report` is already complete.
        survivors: pids of what the run has left behind and cannot be ended: a leak.
        cpu_s: seconds of processor time of its process and of what that waited for; 0.0 where that is not known.
    """

    run: RunId
    reason: ExitReason
    report: CrashReport | None = None
    result: object = None
    classified: bool = False
    details: Callable[[], str] | None = field(default=None, compare=False)
    survivors: tuple[int, ...] = ()
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunMessage:
    """``self.emit(name, **data)``: becomes an ``AGENT_MESSAGE`` event. May be dropped under a flood, and counted."""

    run: RunId
    name: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """What keeps an event loop from turning: one step of one task, or a callback.

    Attributes:
        by: the run whose task it is, or which made that task; None if it is no agent's.
        loop: which loop, as a number that no other loop of the executor has; None for one that is not the
            executor's own, so that no fresh one can take its place.
        since: monotonic seconds when it was first seen to block the loop; it may have begun before.
        stack: of the thread of the loop, as ``faulthandler`` writes it; empty if it cannot be had.
        doing: what the run said last that it was doing.
    """

    by: RunId | None
    loop: int | None
    since: float
    stack: str = ""
    doing: str = ""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The answer to `Executor.look`; also said of each run on a blocked loop, and when that turns again.

    Attributes:
        at: monotonic seconds of the latest progress; in the future while the run waits until then on purpose.
        text: what the run says it is doing (``self.progress(text)``); empty if it never did.
        blocked: what blocks the loop that the run lives on, which may be the run itself; None if nothing does.
    """

    run: RunId
    at: float
    text: str = ""
    blocked: Blocked | None = None


@dataclass(frozen=True, slots=True)
class RunMemory:
    """The answer to `Executor.measure`: `used` bytes, of the run's process and all below it."""

    run: RunId
    used: int


LineSource = Literal["log", "stdout", "stderr"]
"""Where a line comes from: a record of ``self.logger`` (of a process: of any logger), or a line that it printed."""


class KeepLine(Protocol):
    """Takes the lines of agents for whoever reads them later."""

    def __call__(self, run: RunId, source: LineSource, level: str, text: str, time: float) -> None:
        """Take a line. Any thread; never blocks or raises.

        Args:
            run: who speaks.
            source: see `LineSource`.
            level: name of a loguru level; empty for what was printed.
            text: without secrets; of a log record it may have several lines.
            time: wall seconds.
        """


class FollowMetrics(Protocol):
    """Takes from the metrics of runs in its own process, when it likes. Any thread; never raises."""

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Take from `metrics` until `leave`; called at the run's first use of them. Never waits."""

    def leave(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Close `metrics`, take the rest and let go, as the run has ended. May wait; unknown ones are ignored."""


class KeepMetrics(FollowMetrics, Protocol):
    """Keeps the totals of the agents' own metrics over their restarts.

    Attributes:
        series: most label sets that one agent may have; at least 1.
    """

    series: int

    def apply(self, run: RunId, batch: MetricBatch) -> None:
        """Add what a run in another process has sent. Any thread; never raises or waits."""

    def forget(self, path: str) -> None:
        """Forget all that was counted under `path`: what follows is another agent's, whose incarnations begin anew.

        Called in the supervision thread when an agent was registered there, before its first start, and when it has
        left the tree; never raises or waits.
        """


RunReport = RunReady | RunEnded | RunMessage | RunProgress | RunMemory


class Host(Protocol):
    """What executors and agents may ask of the orchestrator that they belong to.

    Attributes:
        loop: the event loop of the supervision thread.
        agents_loop: the loop that coroutine agents are to run on; None: one in a thread of the executor's own.
        keep_line: takes a copy of what agents log and print; None if nobody wants that. Set before the first start.
        keep_metrics: keeps the agents' own metrics; None if nobody collects them. Set before the first start.
    """

    loop: asyncio.AbstractEventLoop
    agents_loop: asyncio.AbstractEventLoop | None
    keep_line: KeepLine | None
    keep_metrics: KeepMetrics | None

    def report(self, report: RunReport) -> None:
        """Hand in what happened. Any thread; never blocks; keeps the order per run; ignored after the end."""


class Executor(Protocol):
    """Runs agents of one kind.

    Every method but `last_beat` is called in the supervision thread, never blocks and never raises for the failure
    of an agent: that is a `RunEnded` with the cause ``start_failed`` or ``lost``. Each started run reports
    `RunEnded` exactly once, and `RunReady` at most once before it.
    """

    can_kill: ClassVar[bool]
    """False when `kill` can only ask again; a run that outlives its shutdown time is then wedged."""

    def __init__(self, host: Host) -> None:
        """Belong to `host`. Nothing outside memory happens before `prepare` or `start`."""

    @staticmethod
    def check(launch: Launch) -> None:
        """Check, in any thread, that what the agent is made of can reach the place where it will run.

        Raises:
            SpecError: naming the module and attribute, the field or the key that cannot.
        """

    def prepare(self, agents: list[Launch]) -> None:
        """Get ready to run these before any of them starts. The one call that may block.

        Raises:
            SpecError: one of them can never run here; nothing was started.
        """

    def start(self, launch: Launch) -> None:
        """Begin one incarnation; hooks run in order ``setup``, ``execute``, ``teardown``."""

    def ask_stop(self, run: RunId) -> None:
        """Set ``should_stop`` and run ``on_stop()`` once beside ``execute``. Unknown or ended runs are ignored."""

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        """End the run at once, or (`can_kill` False) cancel it as far as possible. Unknown runs are ignored.

        `hung`: it shows no progress; what it hangs in belongs into the report, if that can be found out.
        """

    def look(self, run: RunId) -> None:
        """Report `RunProgress`, soon. Unknown runs are ignored: their end is reported anyway.

        If the event loop that the run lives on is blocked, all runs on it are reported with what blocks it, and once
        more, without that, when it turns again.
        """

    def last_beat(self, run: RunId) -> float | None:
        """Return when the run made progress last, in monotonic seconds; in the future while it waits on purpose.

        None if there is no such run. Any thread; never waits or raises.
        """

    def measure(self, run: RunId) -> None:
        """Report `RunMemory`. Only called for runs in processes of their own; unknown runs are ignored."""

    def stand_down(self, path: str) -> None:
        """Give back what is kept ready for the next incarnation of an agent: none is expected."""

    def recycle(self, run: RunId) -> None:
        """Have the run end, normally, between two rounds, if it has rounds. Unknown runs are ignored.

        ``should_stop`` stays false and ``on_stop()`` is not called; a round that runs goes on undisturbed, a
        periodic agent that waits for its next round ends at once.
        """

    def close(self) -> None:
        """Give back threads, processes and descriptors. Runs still alive are killed or abandoned."""
