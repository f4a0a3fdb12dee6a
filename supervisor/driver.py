"""The driver: one event loop in one thread that owns the tree, carries out what the core decides, and times it.

It decides nothing itself. It waits on file descriptors, wake-ups and the core's deadlines; nothing here polls.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from orchestree.agents.current import current_host
from orchestree.agents.ends import CrashReport
from orchestree.agents.executor import KeepLine, KeepMetrics, RunEnded, RunId, RunMessage, RunReport
from orchestree.agents.inbox import Inbox
from orchestree.agents.lifecycle import failed_run
from orchestree.strategies.errors import NotRunning, OrchestreeError

from .announcer import Announcer
from .clock import Clock
from .core import Core
from .cpu_book import CpuBook
from .events import AgentRegistered, Event, EventData, LeakFound, ServiceFailed
from .executor_set import ExecutorSet
from .inputs import Effect, Emit, Input, Refused, RunEffect, StartRun, Tick, TreeEnded
from .masking import RunMasks
from .message_gate import MessageGate
from .runs import call
from .states import NOT_DUE_STATES
from .status import Snapshot
from .tree import AgentNode, Node
from .waiter import Waiter, set_exception, set_result
from .world import World

TELL_AFTER_S: Final = 0.001
"""Events and snapshots follow a decision by this much, so that what it started gets the interpreter first and a
storm is told in batches. Nothing is held back while somebody waits for an operation."""


class Driver:
    """Runs one core. Executors call `report`; the orchestrator calls `submit`, `emit_soon` and reads the attributes.

    Attributes:
        loop: the event loop of the supervision thread.
        agents_loop: the loop that coroutine agents run on; None for one in a thread of its own.
        keep_line: takes what agents log and print, see `Host`.
        keep_metrics: keeps what agents count, see `Host`.
        cpu: what the processes of ended runs have used.
        ended: done when the tree has ended and everything was given back; cannot be cancelled.
        exit_code: of the tree; None while it runs.
        snapshots: by path, for readers in any thread.
    """

    def __init__(
        self,
        core: Core,
        publish: Callable[[Event], None],
        *,
        agents_loop: asyncio.AbstractEventLoop | None = None,
        keep_line: KeepLine | None = None,
        keep_metrics: KeepMetrics | None = None,
        on_lag: Callable[[float], None] | None = None,
        classify: Callable[[RunEnded], RunEnded] | None = None,
        on_ended: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        run: str = "",
        last_seq: int = 0,
    ) -> None:
        """Make the loop; `start` makes the thread.

        Args:
            core: whose decisions are carried out; from now on only the supervision thread touches it.
            publish: takes each event, in order; must not block.
            agents_loop: see the attribute.
            keep_line: see the attribute; None if nobody asks for what agents log and print.
            keep_metrics: see the attribute; None if nobody asks for what agents count.
            on_lag: takes, in the supervision thread after each wake-up, the seconds from that to its turn; must
                neither block nor raise.
            classify: may change the reason of an end before the core sees it; must not block or raise.
            on_ended: called at the very end, in the supervision thread.
            clock: None stands for those of the machine.
            run: id of the run that the events are of.
            last_seq: number after which those of the events begin.
        """
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._callback_failed)
        self.agents_loop = agents_loop
        self.keep_line = keep_line
        self.keep_metrics = keep_metrics
        self.cpu = CpuBook()
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()
        self.exit_code: int | None = None
        self.snapshots: dict[str, Snapshot] = {}
        self._core = core
        self._clock = clock or Clock()
        self._announcer = Announcer(publish, self._complete_crash, self._clock, run, last_seq)
        self._classify = classify
        self._telling: asyncio.TimerHandle | None = None
        self._on_ended = on_ended
        self._inbox = Inbox(self.loop, on_lag)
        self._executors = ExecutorSet(self)
        self._waiters: list[Waiter] = []
        self._promised: dict[Future[None], None] = {}
        """Every future handed out that is not done; none is left behind at the end."""
        self._timer: asyncio.TimerHandle | None = None
        self._gate = MessageGate()
        self._masks = RunMasks()
        for node in core.world.nodes.values():
            if isinstance(node, AgentNode):
                node.entry.masker()  # made by now, but for what `before_start` has added; not in the other thread
        self._thread = threading.Thread(target=self._main, name="orchestree-supervisor", daemon=True)

    # Any thread:

    @property
    def is_inside(self) -> bool:
        """Whether the caller is a hook of an agent of this tree, or the supervision thread: neither may wait for it."""
        return current_host.get() is self or self.is_supervision

    @property
    def is_supervision(self) -> bool:
        """Whether the caller is the supervision thread."""
        return threading.current_thread() is self._thread

    @property
    def world(self) -> World:
        """The tree, for readers that look up single things in it. It changes meanwhile."""
        return self._core.world

    def refuse_to_block(self, call: str) -> None:
        """Raise `OrchestreeError` if waiting here would stop the loop whose agents the tree may have to wait for."""
        if self.agents_loop is not None and asyncio._get_running_loop() is self.agents_loop and not self.is_inside:
            raise OrchestreeError(f"{call} would block the loop that agents run on: await orchestrator.aio.{call}")

    def start(self) -> None:
        """Start the supervision thread."""
        self._thread.start()

    def call(self, action: Callable[[], None]) -> Future[None]:
        """Have `action` called in the supervision thread; the future has what it raised."""

        def act(waiter: Waiter) -> None:
            try:
                action()
            except BaseException as error:
                set_exception(waiter.done, error)
            set_result(waiter.done)

        return self._promise(act, Waiter(lambda world: True))

    def submit(
        self,
        event: Input,
        until: Callable[[World], bool] | None = None,
        *,
        before: Callable[[World], object] | None = None,
    ) -> Future[None]:
        """Hand `event` to the core; the future is done when `until` holds (None: at once), or has the refusal.

        `before` is called with the tree that the core is about to decide on; nothing happens in between.
        """

        def begin(waiter: Waiter) -> None:
            if before is not None:
                before(self.world)
            self._handle(event)
            self._begin_wait(waiter)

        return self._promise(begin, Waiter(until or (lambda world: True)))

    def when(self, until: Callable[[World], bool]) -> Future[None]:
        """Return a future that is done when `until` holds of the tree; whoever gives up waiting cancels it."""
        return self._promise(self._begin_wait, Waiter(until))

    def report(self, report: RunReport) -> None:
        """Take in what an executor has to say (see `Host`)."""
        if not isinstance(report, RunMessage):
            hidden = self._masks.hide(report)
            self._inbox.post(lambda: self._take_report(hidden))
        elif self._gate.enter():
            message = self._masks.hide_in_message(report)
            self._inbox.post(lambda: self._take_message(message))

    def emit_soon(self, data: EventData, path: str = "") -> None:
        """Publish an event that is no decision of the core: a failed handler, a failed service."""
        self._inbox.post(lambda: self._say(data, path))

    def probe(self) -> None:
        """Have the loop tell how long it takes to turn (`on_lag`), as soon as it does."""
        if not self._inbox.closed:  # nobody would ever take it out
            self._inbox.post(_do_nothing)

    def last_beat(self, run: RunId) -> float | None:
        """Return when a run made progress last, see `Executor.last_beat`; None if there is no such run."""
        return self._executors.last_beat(self.world.nodes.get(run.path), run)

    def prepare(self) -> None:
        """Have the executors get ready for all agents. Supervision thread, before anything starts.

        Raises:
            SpecError: one of them can never run.
        """
        self._executors.prepare(self._core.world.nodes.values())

    def shut(self) -> None:
        """End the supervision thread of a tree that never started."""
        if self._thread.ident is None:
            self.loop.close()
        else:
            self._inbox.post(self.loop.stop)

    # Supervision thread:

    def _main(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self._executors.close()
            self.loop.close()
            self._inbox.closed = True
            for done in list(self._promised):
                set_exception(done, NotRunning("the orchestrator has ended"))
            if self.exit_code is not None:
                with suppress(Exception):
                    self._on_ended()
            self.ended.set_result(None)

    def _promise(self, act: Callable[[Waiter], None], waiter: Waiter) -> Future[None]:
        """Have `act` called in the supervision thread; what it raises is raised by the future."""

        def action() -> None:
            try:
                act(waiter)
            except BaseException as error:
                set_exception(waiter.done, error)
                if not isinstance(error, OrchestreeError):  # no mistake of the caller: a bug of ours
                    raise

        self._promised[waiter.done] = None
        waiter.done.add_done_callback(lambda done: self._promised.pop(done, None))
        self._inbox.post(action)
        if self._inbox.closed:
            set_exception(waiter.done, NotRunning("the orchestrator has ended"))
        return waiter.done

    def _begin_wait(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)
        self._tell()

    def _take_report(self, report: RunReport) -> None:
        if isinstance(report, RunEnded):
            if report.cpu_s and report.run.path in self.world.nodes:
                self.cpu.enter(report.run, report.cpu_s)
            if self._classify is not None:
                report = self._classify(report)
            self._announcer.expect(report)
            if report.survivors:
                self._say(LeakFound(report.survivors), report.run.path)
        self._handle(report)

    def _take_message(self, message: RunMessage) -> None:
        self._handle(message)
        if dropped := self._gate.leave():
            self._announcer.show_gap(dropped)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say that something raised which must not; supervision goes on with the next thing."""
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else str(context.get("message"))
        self._say(ServiceFailed("supervision", text))

    def _say(self, data: EventData, path: str = "") -> None:
        if self.exit_code is None:  # nothing comes after ORCHESTRATOR_STOPPED
            self._announcer.say(data, path)

    def _tick(self) -> None:
        self._timer = None
        self._handle(Tick())

    def _handle(self, event: Input) -> None:
        """Have the core decide, start and stop runs first, then tell everybody."""
        now = self._clock.monotonic()
        try:
            effects = self._core.handle(event, now)
        except BaseException as error:
            self._carry_out(self._core.world.take(), now)  # known to the core as done
            if isinstance(error, Exception):
                raise
            raise RuntimeError(f"{type(error).__name__} was raised") from error  # the loop would end by some of these
        self._carry_out(effects, now)

    def _carry_out(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            match effect:
                case Emit() if effect.kind is AgentRegistered:
                    self._make_known(effect.path, now)
                case Emit() | TreeEnded():
                    pass
                case Refused(error):
                    raise error
                case _:
                    self._execute(effect, effect.run)
        for effect in effects:
            if isinstance(effect, Emit):
                self._announcer.take(effect, now)
            elif isinstance(effect, TreeEnded):
                self.exit_code = effect.exit_code
                self.loop.stop()
        self._set_timer()
        if self._waiters or self.exit_code is not None:
            self._tell()
        elif self._telling is None:
            self._telling = self.loop.call_later(TELL_AFTER_S, self._tell)

    def _execute(self, effect: RunEffect, run: RunId) -> None:
        """Have the executor act. One that breaks its promise not to raise hurts nobody but the run it was to start."""
        try:
            entry = self._agent(run.path).entry
            if isinstance(effect, StartRun):
                self._masks.begin(run, entry)
            series = self.keep_metrics.series if self.keep_metrics is not None else 0
            call(self._executors[entry.executor], effect, entry, series)
        except Exception as error:
            self.emit_soon(ServiceFailed("executor", self._masks.of(run)(traceback.format_exc())), run.path)
            if isinstance(effect, StartRun):
                self.report(failed_run(run, error))

    def _tell(self) -> None:
        """Show readers what was decided, publish it, and wake those who wait for it."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        now, touched = self._clock.monotonic(), self._core.world.touched
        for node in touched:
            self._take_snapshot(node, now)
            if isinstance(node, AgentNode) and node.entry.standby and node.state in NOT_DUE_STATES:
                self._executors[node.entry.executor].stand_down(node.path)
        touched.clear()
        self._announcer.flush()
        if self._waiters:
            self._look_at_waiters()

    def _agent(self, path: str) -> AgentNode:
        node = self._core.world.nodes[path]
        assert isinstance(node, AgentNode)
        return node

    def _complete_crash(self, path: str, report: object, completed: CrashReport) -> None:
        node = self._core.world.find(path)
        # Another agent may have the name by now.
        if isinstance(node, AgentNode) and node.last_crash is report:
            node.last_crash = completed
            self._take_snapshot(node, self._clock.monotonic())

    def _take_snapshot(self, node: Node, now: float) -> None:
        world = self._core.world
        if world.is_known(node):
            self.snapshots[node.path] = Snapshot.of(node, now, departed=world.nodes.get(node.path) is not node)
        elif world.find(node.path) is None:  # else another one has the path by now
            self.snapshots.pop(node.path, None)
            self._forget(node.path)

    def _make_known(self, path: str, now: float) -> None:
        """Show an agent to readers before its first run can do anything, and forget what another has left there."""
        self._forget(path)
        if (node := self._core.world.nodes.get(path)) is not None:
            self._take_snapshot(node, now)

    def _forget(self, path: str) -> None:
        """Let go of what the runs of an agent have used and counted."""
        self.cpu.forget(path)
        if self.keep_metrics is not None:
            self.keep_metrics.forget(path)

    def _set_timer(self) -> None:
        deadline = self._core.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self.loop.call_at(deadline, self._tick)

    def _look_at_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.holds(self._core.world):
                set_result(waiter.done)
            elif not waiter.done.cancelled():
                self._waiters.append(waiter)


def _do_nothing() -> None:
    """Only be done."""
