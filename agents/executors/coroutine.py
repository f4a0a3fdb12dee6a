"""Runs each incarnation as a task of one event loop: the caller's, or an own one in a daemon thread.

The supervision thread puts what is to be done into an `Inbox`; everything else happens in the loop. Only when the
loop stands still, and somebody looks at one of its runs, the supervision thread says what it sees from outside. An own
loop that stands still although a run on it was told to end is left behind: the next start opens a fresh one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, cast

from orchestree.agents.agents_loop import STANDS_S, AgentsLoop
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.current import current_host
from orchestree.agents.ends import SHUTDOWN, Cause, CrashReport, abnormal
from orchestree.agents.executor import Blocked, Host, Launch, RunEnded, RunId, RunMessage, RunProgress, RunReady
from orchestree.agents.inbox import Inbox
from orchestree.agents.lifecycle import (
    describe,
    failed_run,
    kill_async,
    make_agent,
    request_recycle,
    request_stop_async,
    run_hooks_async,
)

CLOSE_S: Final = 1.0
"""How long `CoroutineExecutor.close` waits for the threads of its own loops, together."""

LET_OTHERS: Final = 10
"""Turns of the loop between a look and its answer, in which those that were held up take the steps that are due."""


class CoroutineExecutor:
    """See `Executor`. A task that swallows its cancellation goes on and is not reported as ended."""

    can_kill: ClassVar[bool] = False

    def __init__(self, host: Host) -> None:
        """Use ``host.agents_loop``, which somebody else runs, or (None) an own loop that the first start makes."""
        self._host = host
        self._given = host.agents_loop
        self._home: AgentsLoop | None = None
        """Where the next run starts."""
        self._opened: list[AgentsLoop] = []
        """Own loops that have not ended."""
        self._numbers = 0
        self._runs: dict[RunId, Run] = {}

    @staticmethod
    def check(launch: Launch) -> None:
        """Do nothing: everything is in reach already."""

    def prepare(self, agents: list[Launch]) -> None:
        """Do nothing: tasks need no preparation."""

    def start(self, launch: Launch) -> None:
        """Make the agent, and its task in the loop."""
        run, report = launch.run, self._host.report
        try:
            host, emit = self._host, lambda name, data: report(RunMessage(run, name, data))
            agent = make_agent(launch, emit, host.keep_line, host.keep_metrics)
            home = self._choose_home()
            self._runs[run] = Run(cast(AsyncAgent, agent), home)
            home.live.add(run)
            self._post(self._begin, run)
            if home.blocked is not None:
                self._tell_blocked(home, [run], home.blocked)
        except BaseException as error:
            self._forget(run)
            report(failed_run(run, error))

    def ask_stop(self, run: RunId) -> None:
        """Set ``should_stop`` and run ``on_stop()`` as a task."""
        self._post(self._ask, run)

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        """Cancel the task; in a loop that stands still, as the first thing that the loop does when it turns."""
        if entry := self._runs.get(run):
            entry.home.doomed.add(run)
            if entry.home.stands:
                entry.home.inbox.post_first(lambda: self._fence(run))
            else:
                self._post(self._kill, run)

    def look(self, run: RunId) -> None:
        """Have the loop report what the agent has noted. One that stands still is looked at from here."""
        if entry := self._runs.get(run):
            entry.home.asked.add(run)
            self._post(self._answer, run)
            self._check_soon(entry.home, STANDS_S)

    def last_beat(self, run: RunId) -> float | None:
        """Return what the agent has noted."""
        entry = self._runs.get(run)
        return entry.agent._orchestree.pulse.last if entry is not None else None

    def measure(self, run: RunId) -> None:
        """Do nothing: a task has no memory of its own."""

    def stand_down(self, path: str) -> None:
        """Do nothing: nothing is kept ready."""

    def recycle(self, run: RunId) -> None:
        """Have the agent's rounds end."""
        self._post(self._recycle, run)

    def close(self) -> None:
        """Cancel what is left. An own loop ends with the last task, however late, in its daemon thread."""
        homes = list(self._opened)
        if self._home is not None and self._home not in homes:
            homes.append(self._home)
        for home in homes:
            if home.check is not None:
                home.check.cancel()
            home.inbox.post(partial(self._wind_up, home))
        deadline = time.monotonic() + CLOSE_S
        for home in homes:
            if home.thread is not None:
                home.thread.join(max(0.0, deadline - time.monotonic()))

    def _choose_home(self) -> AgentsLoop:
        home = self._home
        if home is not None and home.number is not None and home.stands and home.doomed & home.live:
            # Nobody knows when it will turn, if ever: what it was told to end does not even hear of that.
            home.is_left = True
            home.inbox.post(partial(self._end_with_the_last, home))
        if home is None or home.is_left or home.inbox.closed:
            home = self._home = self._open()
        return home

    def _open(self) -> AgentsLoop:
        if self._given is not None:
            return AgentsLoop(Inbox(self._given))
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._numbers += 1
        home = AgentsLoop(Inbox(runner.get_loop()), self._numbers)
        name = "orchestree-agents" if self._numbers == 1 else f"orchestree-agents-{self._numbers}"
        home.thread = threading.Thread(target=self._serve, args=(runner, home), name=name, daemon=True)
        home.thread.start()
        self._opened.append(home)
        return home

    def _serve(self, runner: asyncio.Runner, home: AgentsLoop) -> None:
        why = "the event loop was closed"
        try:
            while not (home.is_left and not home.live):
                # Tasks that agents make can end run_forever: by SystemExit, or by loop.stop().
                with suppress(SystemExit, KeyboardInterrupt):
                    home.inbox.loop.run_forever()
        except BaseException as error:
            why = f"the event loop failed: {describe(error)}"
        home.inbox.closed = True
        self._lose_all(home, why)
        with suppress(BaseException):
            runner.close()
        with suppress(ValueError):
            self._opened.remove(home)

    def _post(self, action: Callable[[RunId], None], run: RunId) -> None:
        if entry := self._runs.get(run):
            inbox = entry.home.inbox
            inbox.post(lambda: action(run))
            if inbox.closed:
                self._lose_all(entry.home, "the event loop was closed")

    def _forget(self, run: RunId) -> bool:
        """Return whether there was such a run."""
        entry = self._runs.pop(run, None)
        if entry is not None:
            for runs in (entry.home.live, entry.home.doomed, entry.home.asked):
                runs.discard(run)
        return entry is not None

    def _lose_all(self, home: AgentsLoop, why: str) -> None:
        for run in list(home.live):
            if self._forget(run):
                report = CrashReport(cause=Cause.LOST, message=why)
                self._host.report(RunEnded(run=run, reason=abnormal(Cause.LOST), report=report))

    def _check_soon(self, home: AgentsLoop, seconds: float) -> None:
        if home.check is None:
            home.check = self._host.loop.call_later(seconds, self._check, home)

    def _check(self, home: AgentsLoop) -> None:
        home.check = None
        if not home.inbox.unread_s and home.asked:
            # It has begun to answer, and may have stopped half-way.
            home.inbox.post(_do_nothing)
            self._check_soon(home, STANDS_S)
            return
        waits = home.inbox.unread_s
        if not waits or not home.live:
            return
        if waits < STANDS_S:
            self._check_soon(home, STANDS_S - waits)
            return
        known, seen = home.blocked, self._see(home)
        is_new = known is None or (known.by, known.since) != (seen.by, seen.since)
        home.blocked = seen
        # Those that nobody looks at are told as well, but not again and again: there may be many.
        self._tell_blocked(home, list(home.live if is_new else home.asked), seen)
        home.asked.clear()

    def _tell_blocked(self, home: AgentsLoop, runs: list[RunId], blocked: Blocked) -> None:
        for run in runs:
            self._tell(run, blocked)
        # In this order: it may have begun to turn meanwhile, and what is said last must be that it turns.
        home.is_told = True
        home.inbox.post(partial(self._turns, home))

    def _see(self, home: AgentsLoop) -> Blocked:
        seen = home.see(self._host, time.monotonic())
        blocker = self._runs.get(seen.by) if seen.by is not None else None
        return seen if blocker is None else replace(seen, doing=blocker.agent._orchestree.pulse.text)

    def _tell(self, run: RunId, blocked: Blocked | None = None) -> None:
        if entry := self._runs.get(run):
            pulse = entry.agent._orchestree.pulse
            self._host.report(RunProgress(run, pulse.last, pulse.text, blocked))

    # In the loop:

    def _begin(self, run: RunId) -> None:
        entry = self._runs[run]
        entry.home.thread_id = threading.get_ident()
        name = f"orchestree:{run.path}#{run.incarnation}"
        entry.task = asyncio.get_running_loop().create_task(self._live(run, entry), name=name)

    async def _live(self, run: RunId, entry: Run) -> None:
        entry.has_begun = True
        if entry.is_fenced:
            ended = RunEnded(run=run, reason=SHUTDOWN)
        else:
            current_host.set(self._host)
            ended = await run_hooks_async(entry.agent, lambda: self._host.report(RunReady(run)))
        if self._forget(run):
            self._host.report(ended)
        self._end_with_the_last(entry.home)

    def _answer(self, run: RunId, turns: int = LET_OTHERS) -> None:
        entry = self._runs.get(run)
        if entry is None:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._answer, run, turns - 1)
        else:
            entry.home.asked.discard(run)
            self._tell(run)

    def _turns(self, home: AgentsLoop, turns: int = LET_OTHERS) -> None:
        home.turns()
        if turns:
            asyncio.get_running_loop().call_soon(self._turns, home, turns - 1)
        elif home.is_told:
            home.is_told = False
            for run in list(home.live):
                self._tell(run)

    def _fence(self, run: RunId) -> None:
        """Cancel a run before it takes a further step, its first one included."""
        entry = self._runs.get(run)
        if entry is None:
            return
        entry.is_fenced = True
        if entry.has_begun and entry.task is not None:
            kill_async(entry.agent, entry.task, at_once=True)

    def _ask(self, run: RunId) -> None:
        if entry := self._runs.get(run):
            request_stop_async(entry.agent)

    def _recycle(self, run: RunId) -> None:
        if entry := self._runs.get(run):
            request_recycle(entry.agent)

    def _kill(self, run: RunId) -> None:
        entry = self._runs.get(run)
        if entry is not None and entry.task is not None:
            kill_async(entry.agent, entry.task)

    def _wind_up(self, home: AgentsLoop) -> None:
        home.is_left = True
        for run in list(home.live):
            self._kill(run)
        self._end_with_the_last(home)

    def _end_with_the_last(self, home: AgentsLoop) -> None:
        if home.thread is not None and home.is_left and not home.live:
            asyncio.get_running_loop().stop()


def _do_nothing() -> None:
    """Only be read."""


@dataclass(slots=True)
class Run:
    """One incarnation; its task is referred to here because a loop refers to its tasks only weakly.

    Attributes:
        home: the loop that it lives on.
        has_begun: its task has taken its first step.
        is_fenced: it was left behind: if it has not begun it does not begin.
    """

    agent: AsyncAgent
    home: AgentsLoop
    task: asyncio.Task[None] | None = None
    has_begun: bool = False
    is_fenced: bool = False
