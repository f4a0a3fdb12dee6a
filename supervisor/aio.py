"""The orchestrator for asyncio programs: awaitable twins of the calls that wait, without signal handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Unpack

from .draft import join_path
from .inputs import RestartChild, StartChild, StopChild
from .registry import Partitions, Supervisor
from .states import AgentState
from .steering import child_path
from .waiting import HANDLERS_END_S, check_timeout

if TYPE_CHECKING:
    from concurrent.futures import Future

    from orchestree.agents.base import BaseAgent

    from .inputs import Input
    from .orchestrator import Orchestrator
    from .spec import ChildEntry, Policy


class AsyncOrchestrator:
    """``orchestrator.aio``: to be awaited from one event loop; none of these blocks it."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Belong to `orchestrator`."""
        self._orchestrator = orchestrator

    async def start(self) -> None:
        """Await `Orchestrator.start`; with ``agents_loop="caller"`` coroutine agents run on this loop."""
        await self._prepare(asyncio.get_running_loop())
        started = self._orchestrator.launch()
        try:
            await asyncio.wrap_future(started)
        except asyncio.CancelledError:
            await self.stop()
            raise
        if self._orchestrator.config.strict_start:
            await asyncio.to_thread(self._orchestrator.check_started)

    async def stop(self, timeout: float | None = None) -> None:
        """Await `Orchestrator.stop`; the stop itself goes on when this is cancelled."""
        if not self._orchestrator.ask_to_stop(timeout):
            await self.join()

    async def join(self) -> None:
        """Wait until the tree has ended and its event handlers are through."""
        await asyncio.wrap_future(self._orchestrator.driver.ended)
        await self._orchestrator.events.join_async(HANDLERS_END_S)
        await asyncio.to_thread(self._orchestrator.services.join)

    async def run(self) -> int:
        """Start the tree, wait for its end, and return its exit code; a cancellation stops it in order first."""
        await self.start()
        try:
            await self.join()
        except asyncio.CancelledError:
            await self.stop()
            raise
        return self._orchestrator.exit_code or 0

    async def start_agent(self, path: str, timeout: float | None = None) -> None:
        """Await `Orchestrator.start_agent`."""
        await self._operate("start_agent()", StartChild(path), path, timeout)

    async def stop_agent(self, path: str, timeout: float | None = None) -> None:
        """Await `Orchestrator.stop_agent`."""
        await self._operate("stop_agent()", StopChild(path), path, timeout)

    async def restart_agent(self, path: str, timeout: float | None = None) -> None:
        """Await `Orchestrator.restart_agent`."""
        await self._operate("restart_agent()", RestartChild(path), path, timeout)

    async def start_child(
        self, parent: str, agent: type[BaseAgent] | ChildEntry, name: str | None = None, **fields: Any
    ) -> str | None:
        """Await `Orchestrator.start_child`, under the supervisor at `parent`."""
        entry = Supervisor(self._orchestrator, parent).child_entry(agent, name, fields)
        done, started = self._orchestrator.starting(parent, entry)
        if self._orchestrator.driver.is_inside:
            return join_path(parent, entry.name)
        await asyncio.wrap_future(done)
        return child_path(parent, entry, started)

    async def reconfigure(self, path: str, **changes: Unpack[Policy]) -> None:
        """Await `Orchestrator.reconfigure`."""
        done = self._orchestrator.reconfiguring(path, changes)
        if done is not None and not self._orchestrator.driver.is_inside:
            await asyncio.wrap_future(done)

    async def resize(self, shards: Partitions, partitions: int) -> int:
        """Await `Partitions.resize`."""
        return await asyncio.to_thread(shards.resize, partitions)

    async def wait_until(self, path: str, state: AgentState | str, timeout: float) -> None:
        """Await `Orchestrator.wait_until`."""
        if (reached := self._orchestrator.reaching(path, state)) is not None:
            await self._within(reached, timeout)

    async def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare the start in a thread. It cannot be broken off there: a cancellation undoes it afterwards."""
        preparing = asyncio.create_task(asyncio.to_thread(self._orchestrator.prepare, loop))
        try:
            await asyncio.shield(preparing)
        except asyncio.CancelledError:
            await asyncio.wait([preparing])
            if preparing.exception() is None:
                self._orchestrator.give_up_start()
            raise

    async def _operate(self, call: str, event: Input, path: str, timeout: float | None) -> None:
        timeout = check_timeout(timeout)
        done = self._orchestrator.operation(call, event, path)
        if not self._orchestrator.driver.is_inside:
            await self._within(done, timeout)

    async def _within(self, done: Future[None], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wrap_future(done)  # which cancels it
        except TimeoutError:
            raise TimeoutError(f"not done within {timeout:g} s; it goes on") from None
