"""Agents whose hooks are coroutines, run as tasks of one shared loop or in a process with its own."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from .agent import Interval
from .base import BaseAgent
from .ends import Ignore
from .periodic import next_round

if TYPE_CHECKING:
    from .lifecycle import AsyncLife


class AsyncAgent(BaseAgent):
    """Runs `setup`, `execute`, `teardown`, in this order and in one task. `execute` must be defined.

    The hooks mean what those of `Agent` mean. Agents of a tree share one loop; one that blocks it blocks
    all, which the `watchdog` of any of them finds out.
    """

    executor: ClassVar[str] = "async"
    executors: ClassVar[tuple[str, ...]] = ("async", "process")
    _orchestree: AsyncLife

    async def setup(self) -> Ignore | None:
        """Get ready; returning means ready, returning `IGNORE` that the agent is not needed (completed)."""
        return None

    @abstractmethod
    async def execute(self) -> object:
        """Do the work; not called after a stop was asked for. What it returns is ``status(path).result``."""

    async def teardown(self) -> None:
        """Clean up. Called after every end that Python survives, also when `setup` failed."""

    async def on_stop(self) -> None:
        """Unblock `execute`: called once, as a task beside it, when the agent is asked to stop.

        Not called outside `execute`; `teardown` starts when both have returned.
        """

    async def sleep(self, seconds: float) -> bool:
        """Wait, but no longer than until the agent is asked to stop. Return `should_stop`."""
        return await _is_set_within(self._orchestree.stop, seconds)


class LoopingAsyncAgent(AsyncAgent):
    """Calls `runner` again and again until it returns False or the agent is asked to stop."""

    @abstractmethod
    async def runner(self) -> bool | None:
        """Do one round. Only False itself ends the agent."""

    async def execute(self) -> object:
        """Run the rounds; other tasks get their turn between two of them, even if `runner` never waits."""
        while self._orchestree.begin_round() and await self.runner() is not False:
            await asyncio.sleep(0)
        return None


class PeriodicAsyncAgent(LoopingAsyncAgent):
    """Calls `runner` every ``config.interval`` seconds, the first time at once.

    Attributes:
        overruns: how many rounds were skipped because an earlier one still ran when they were due.
    """

    class Config(LoopingAsyncAgent.Config):
        """Attributes: ``interval``: seconds from the start of one round to the start of the next, above 0."""

        interval: Interval = 1.0

    config: Config
    overruns: int = 0

    async def execute(self) -> object:
        """Run the rounds on a fixed grid of monotonic time."""
        life = self._orchestree
        interval, started, done = self.config.interval, time.monotonic(), 0
        while life.begin_round() and await self.runner() is not False:
            coming = next_round(started, interval, done, time.monotonic())
            self.overruns += coming - done - 1
            done = coming
            due = started + coming * interval
            life.pulse.beat(due)
            await _is_set_within(life.enough, due - time.monotonic())
        return None


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
