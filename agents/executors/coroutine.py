"""Runs each incarnation as a task of one event loop: the caller's, or an own one in a daemon thread.

The supervision thread puts what is to be done into an `Inbox`; everything else happens in the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Final, cast

from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.current import current_host
from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.agents.executor import Host, Launch, RunEnded, RunId, RunMessage, RunProgress, RunReady
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
"""How long `CoroutineExecutor.close` waits for the thread of its own loop."""


class CoroutineExecutor:
    """See `Executor`. A task that swallows its cancellation goes on and is not reported as ended."""

    can_kill: ClassVar[bool] = False

    def __init__(self, host: Host) -> None:
        """Use ``host.agents_loop``, which somebody else runs, or (None) an own loop that the first start makes."""
        self._host = host
        self._given = host.agents_loop
        self._inbox: Inbox | None = None
        self._thread: threading.Thread | None = None
        self._runs: dict[RunId, Run] = {}
        self._closing = False

    @staticmethod
    def check(launch: Launch) -> None:
        """Do nothing: everything is in reach already."""

    def prepare(self, agents: list[Launch]) -> None:
        """Do nothing: tasks need no preparation."""

    def start(self, launch: Launch) -> None:
        """Make the agent, and its task in the loop."""
        run, report = launch.run, self._host.report
        try:
            agent = make_agent(launch, lambda name, data: report(RunMessage(run, name, data)))
            self._runs[run] = Run(cast(AsyncAgent, agent))
            if self._inbox is None or self._inbox.closed:
                self._inbox = self._open()
            self._post(self._begin, run)
        except BaseException as error:
            self._runs.pop(run, None)
            report(failed_run(run, error))

    def ask_stop(self, run: RunId) -> None:
        """Set ``should_stop`` and run ``on_stop()`` as a task."""
        self._post(self._ask, run)

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        """Cancel the task."""
        self._post(self._kill, run)

    def look(self, run: RunId) -> None:
        """Report what the agent has noted; not through the loop, which may be what hangs."""
        if entry := self._runs.get(run):
            pulse = entry.agent._orchestree.pulse
            self._host.report(RunProgress(run, pulse.last, pulse.text))

    def measure(self, run: RunId) -> None:
        """Do nothing: a task has no memory of its own."""

    def stand_down(self, path: str) -> None:
        """Do nothing: nothing is kept ready."""

    def recycle(self, run: RunId) -> None:
        """Have the agent's rounds end."""
        self._post(self._recycle, run)

    def close(self) -> None:
        """Cancel what is left. The own loop ends with the last task, however late, in its daemon thread."""
        if self._inbox is not None:
            self._inbox.post(self._wind_up)
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _open(self) -> Inbox:
        if self._given is not None:
            return Inbox(self._given)
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        inbox = Inbox(runner.get_loop())
        self._thread = threading.Thread(target=self._serve, args=(runner, inbox), name="orchestree-agents", daemon=True)
        self._thread.start()
        return inbox

    def _serve(self, runner: asyncio.Runner, inbox: Inbox) -> None:
        why = "the event loop was closed"
        try:
            while not self._closing:
                # Tasks that agents make can end run_forever: by SystemExit, or by loop.stop().
                with suppress(SystemExit, KeyboardInterrupt):
                    inbox.loop.run_forever()
        except BaseException as error:
            why = f"the event loop failed: {describe(error)}"
        inbox.closed = True
        self._lose_all(why)
        with suppress(BaseException):
            runner.close()

    def _post(self, action: Callable[[RunId], None], run: RunId) -> None:
        if self._inbox is not None and run in self._runs:
            self._inbox.post(lambda: action(run))
            if self._inbox.closed:
                self._lose_all("the event loop was closed")

    def _lose_all(self, why: str) -> None:
        for run in list(self._runs):
            if self._runs.pop(run, None) is not None:
                report = CrashReport(cause=Cause.LOST, message=why)
                self._host.report(RunEnded(run=run, reason=abnormal(Cause.LOST), report=report))

    # In the loop:

    def _begin(self, run: RunId) -> None:
        entry = self._runs[run]
        name = f"orchestree:{run.path}#{run.incarnation}"
        entry.task = asyncio.get_running_loop().create_task(self._live(run, entry.agent), name=name)

    async def _live(self, run: RunId, agent: AsyncAgent) -> None:
        current_host.set(self._host)
        ended = await run_hooks_async(agent, lambda: self._host.report(RunReady(run)))
        if self._runs.pop(run, None) is not None:
            self._host.report(ended)
        self._end_with_the_last()

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

    def _wind_up(self) -> None:
        self._closing = True
        for run in list(self._runs):
            self._kill(run)
        self._end_with_the_last()

    def _end_with_the_last(self) -> None:
        if self._closing and self._given is None and not self._runs:
            asyncio.get_running_loop().stop()


@dataclass(slots=True)
class Run:
    """One incarnation; its task is referred to here because a loop refers to its tasks only weakly."""

    agent: AsyncAgent
    task: asyncio.Task[None] | None = None
