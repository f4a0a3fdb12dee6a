"""How one run goes through its hooks and how its end is classified, the same in every executor.

Nothing that a user's hook does leaves `run_hooks` and `run_hooks_async` as an exception.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from types import TracebackType
from typing import Literal, TypedDict, Unpack

from .agent import Agent
from .async_agent import AsyncAgent
from .base import BaseAgent
from .current import current_run
from .ends import (
    IGNORE,
    IGNORED,
    NORMAL,
    SHUTDOWN,
    Cause,
    CrashReport,
    ExitReason,
    Phase,
    Shutdown,
    abnormal,
)
from .executor import FollowMetrics, KeepLine, Launch, RunEnded, RunId
from .metrics import RunMetrics
from .pulse import Pulse
from .secrets import NO_SECRETS, Masker

Emit = Callable[[str, Mapping[str, object]], None]


def _into_the_void(name: str, data: Mapping[str, object]) -> None:
    """Take the place of `Life.emit` after the end: another agent may have the run's name by then."""


class Life:
    """What the runtime keeps about one run. As a context manager it records what its block raises.

    Attributes:
        stop: set: the run was asked to stop.
        enough: set: no further round begins, because of a stop or because the run is to be recycled.
        pulse: its progress; may be replaced before the run begins.
        killed: a cancellation of the task is our own doing.
        executing: ``execute()`` runs, so ``on_stop()`` may.
        context: for ``on_stop()``, which belongs to the run as much as ``execute()`` does.
        keep_line: takes a copy of what the agent logs; None if nobody wants it.
        masker: returns what hides its secrets.
        metrics: its own metrics.
    """

    stop: threading.Event | asyncio.Event
    enough: threading.Event | asyncio.Event

    def __init__(self, run: RunId, emit: Emit, metrics: RunMetrics) -> None:
        """Begin with nothing to report."""
        self.run = run
        self.emit = emit
        self.started = time.monotonic()
        self.pulse = Pulse()
        self.phase: Phase = "setup"
        self.executing = False
        self.killed = False
        self.reason: ExitReason = NORMAL
        self.result: object = None
        self.failure: tuple[BaseException, Phase] | None = None
        self.notes: list[str] = []
        self.context: Context = copy_context()
        self.keep_line: KeepLine | None = None
        self.masker: Callable[[], Masker] = lambda: NO_SECRETS
        self.metrics = metrics

    def begin_round(self) -> bool:
        """Note progress; return whether another round is to begin."""
        self.pulse.beat()
        return not self.enough.is_set()

    def ask_stop(self) -> None:
        """Have the run see that it was asked to stop."""
        self.stop.set()
        self.enough.set()

    def __enter__(self) -> None:
        """Begin a part of the run that may fail."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[True]:
        """Record the exception, if there is one; none leaves the block."""
        if error is not None:
            self._record(error)
        return True

    def _record(self, error: BaseException) -> None:
        if (wanted := _wanted_end(error, killed=self.killed)) is not None:
            self.reason = wanted if self.reason == NORMAL else self.reason
        elif self.failure is None:
            self.failure = (error, self.phase)
        else:
            self.note(self.phase, error)

    def note(self, hook: str, error: BaseException) -> None:
        """Keep a failure that must not hide the first one."""
        self.notes.append(f"{hook}: {describe(error)}")

    def ended(self) -> RunEnded:
        """Return how the run ended, and let go of the exception. What it still wants to say nobody hears."""
        self.emit = _into_the_void
        self.metrics.end()
        failure, self.failure = self.failure, None
        now = time.monotonic()
        known = Known(
            uptime_s=now - self.started,
            notes=tuple(self.notes),
            progress=self.pulse.text,
            silent_s=max(0.0, now - self.pulse.last),
        )
        if failure is not None:
            error, phase = failure
            return failed_run(self.run, error, phase, **known)
        report = None
        if self.notes:
            report = CrashReport(cause=self.reason.cause, message=self.notes[0], **known)
        return RunEnded(run=self.run, reason=self.reason, report=report, result=self.result)


class SyncLife(Life):
    """The run of an `Agent`. The lock makes a stop either come before `execute` or find it running."""

    def __init__(self, run: RunId, emit: Emit, metrics: RunMetrics) -> None:
        """Begin with nothing to report."""
        super().__init__(run, emit, metrics)
        self.stop: threading.Event = threading.Event()
        self.enough: threading.Event = threading.Event()
        self.lock = threading.Lock()
        self.stopper: threading.Thread | None = None

    def begin_execute(self) -> bool:
        """Return whether ``execute()`` is to run."""
        with self.lock:
            self.context = copy_context()
            self.executing = not self.stop.is_set()
            return self.executing

    def end_execute(self) -> None:
        """Return when ``on_stop()`` has returned, if it was called."""
        with self.lock:
            self.executing = False
        if self.stopper is not None:
            self.stopper.join()


class AsyncLife(Life):
    """The run of an `AsyncAgent`. Only its loop touches it, so it needs no lock."""

    def __init__(self, run: RunId, emit: Emit, metrics: RunMetrics) -> None:
        """Begin with nothing to report."""
        super().__init__(run, emit, metrics)
        self.stop: asyncio.Event = asyncio.Event()
        self.enough: asyncio.Event = asyncio.Event()
        self.stopper: asyncio.Task[None] | None = None

    def begin_execute(self) -> bool:
        """Return whether ``execute()`` is to run."""
        self.context = copy_context()
        self.executing = not self.stop.is_set()
        return self.executing

    async def end_execute(self) -> None:
        """Return when ``on_stop()`` has returned, if it was called."""
        self.executing = False
        if self.stopper is not None:
            await self.stopper

    def _record(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None:
            task.uncancel()  # else timeouts and task groups in teardown() would take it for theirs
        super()._record(error)


def make_agent(
    launch: Launch, emit: Emit, keep_line: KeepLine | None = None, follow_metrics: FollowMetrics | None = None
) -> BaseAgent:
    """Return a fresh, bound instance; ``__init__`` is called by `run_hooks`, as the beginning of ``setup``.

    Raises:
        Exception: whatever ``__new__`` raises; for one, an abstract class cannot be made.
    """
    agent = launch.agent.__new__(launch.agent)
    metrics = RunMetrics(launch.run, launch.metrics_series, follow_metrics)
    life = (AsyncLife if isinstance(agent, AsyncAgent) else SyncLife)(launch.run, emit, metrics)
    life.keep_line = keep_line
    life.masker = launch.masker
    agent._bind(launch, life)
    return agent


def run_hooks(agent: Agent, ready: Callable[[], None]) -> RunEnded:
    """Run the agent in the calling thread from ``__init__`` to ``teardown()``; never raises.

    `ready` is called after ``setup()`` and before ``execute()``, unless the run ends before.
    """
    life = agent._orchestree
    life.started = time.monotonic()  # it may have been made in advance
    current_run.set(life.run)
    with life:
        agent.__init__()  # type: ignore[misc]
        if agent.setup() is IGNORE:
            life.reason = IGNORED
        elif life.begin_execute():
            life.pulse.beat()
            ready()
            life.phase = "execute"
            life.result = agent.execute()
    life.end_execute()
    life.phase = "teardown"
    with life:
        agent.teardown()
    return life.ended()


async def run_hooks_async(agent: AsyncAgent, ready: Callable[[], None]) -> RunEnded:
    """Do what `run_hooks` does, in the calling task."""
    life = agent._orchestree
    life.started = time.monotonic()  # it may have been made in advance
    current_run.set(life.run)
    with life:
        agent.__init__()  # type: ignore[misc]
        if await agent.setup() is IGNORE:
            life.reason = IGNORED
        elif life.begin_execute():
            life.pulse.beat()
            ready()
            life.phase = "execute"
            life.result = await agent.execute()
    with life:
        await life.end_execute()
    life.phase = "teardown"
    with life:
        await agent.teardown()
    return life.ended()


def request_stop(agent: Agent) -> None:
    """Wake the agent's sleep and run ``on_stop()`` beside ``execute()``. Any thread; the first call acts.

    A stop that comes before ``setup()`` has returned skips ``execute()``, and with it ``on_stop()``.
    """
    life = agent._orchestree
    with life.lock:
        first = not life.stop.is_set()
        life.ask_stop()
        if not (first and life.executing and _overrides_on_stop(agent, Agent)):
            return
        life.stopper = threading.Thread(
            target=life.context.run,
            args=(_on_stop, agent),
            name=f"orchestree:{agent.path}:stop",
            daemon=True,
        )
        try:
            life.stopper.start()
        except RuntimeError as error:  # no more threads
            life.stopper = None
            life.note("on_stop", error)


def request_stop_async(agent: AsyncAgent) -> None:
    """Do what `request_stop` does; only in the agent's loop, where ``on_stop()`` runs as a task."""
    life = agent._orchestree
    first = not life.stop.is_set()
    life.ask_stop()
    if first and life.executing and _overrides_on_stop(agent, AsyncAgent):
        loop = asyncio.get_running_loop()
        life.stopper = loop.create_task(_on_stop_async(agent), context=life.context)


def kill_async(agent: AsyncAgent, task: asyncio.Task[None], *, at_once: bool = False) -> None:
    """Cancel the agent's task, in its loop: its hooks see ``CancelledError``, its end is ``shutdown``.

    `at_once`: without another step; only of a task that has taken its first.
    """
    life = agent._orchestree
    life.killed = True
    life.ask_stop()
    # One turn later: a task that is cancelled before its first step never takes one, and would not report.
    if at_once:
        task.cancel()
    else:
        asyncio.get_running_loop().call_soon(task.cancel)
    if life.stopper is not None:
        life.stopper.cancel()


def request_recycle(agent: BaseAgent) -> None:
    """Have the agent end between two rounds, if it has rounds; a round that runs goes on undisturbed.

    ``should_stop`` stays false and ``on_stop()`` is not called: the end is a normal one. Any thread; of an
    `AsyncAgent` only its loop.
    """
    agent._orchestree.enough.set()


class Known(TypedDict, total=False):
    """What is in a `CrashReport` however the run ended."""

    uptime_s: float
    notes: tuple[str, ...]
    progress: str
    silent_s: float


def failed_run(run: RunId, error: BaseException, phase: Phase = "setup", **known: Unpack[Known]) -> RunEnded:
    """Return the abnormal end that `error` means; the traceback is formatted when ``details`` is called."""
    code = _exit_code(error) if isinstance(error, SystemExit) else None
    cause = Cause.EXCEPTION if code is None else Cause.EXIT
    report = CrashReport(
        cause=Cause.START_FAILED if phase == "setup" else cause,
        message=describe(error),
        phase=phase,
        exception_types=exception_types(error),
        exit_code=code,
        **known,
    )
    return RunEnded(
        run=run,
        reason=abnormal(report.cause),
        report=report,
        details=lambda: "".join(traceback.format_exception(error)),
    )


def describe(error: BaseException) -> str:
    """Return ``ValueError: no such sensor``: one line, whatever the exception's ``__str__`` does."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    line = text.strip().partition("\n")[0][:500]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def exception_types(error: BaseException) -> tuple[str, ...]:
    """Return the qualified names of the exception's class and its bases, most derived first; not object's."""
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__[:-1])


def _wanted_end(error: BaseException, *, killed: bool) -> ExitReason | None:
    """Return the reason of an end that is no failure, although something was raised."""
    if isinstance(error, Shutdown) or (killed and isinstance(error, asyncio.CancelledError)):
        return SHUTDOWN
    if isinstance(error, SystemExit) and _exit_code(error) == 0:
        return NORMAL
    return None


def _exit_code(error: SystemExit) -> int:
    """Return the code that a process would exit with: texts and other objects mean 1."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _overrides_on_stop(agent: BaseAgent, family: type[Agent] | type[AsyncAgent]) -> bool:
    """Return False for the empty hook: stopping a thousand agents must not start a thousand idle threads."""
    hook: object = getattr(agent, "on_stop", None)
    return getattr(hook, "__func__", None) is not family.on_stop


def _on_stop(agent: Agent) -> None:
    try:
        agent.on_stop()
    except BaseException as error:
        agent._orchestree.note("on_stop", error)


async def _on_stop_async(agent: AsyncAgent) -> None:
    try:
        await agent.on_stop()
    except BaseException as error:
        agent._orchestree.note("on_stop", error)
