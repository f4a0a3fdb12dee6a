"""Agents whose hooks are plain methods, run in a thread or in a process of their own."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from .base import BaseAgent
from .ends import Ignore
from .periodic import next_round

if TYPE_CHECKING:
    from .lifecycle import SyncLife

Interval = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Agent(BaseAgent):
    """Runs `setup`, `execute`, `teardown`, in this order and in one thread. `execute` must be defined.

    It ends by returning from `execute` (``normal``), by raising (a crash) or by ``raise Shutdown(...)``. When
    `should_stop` is true it ought to return soon: a thread cannot be killed.
    """

    executor: ClassVar[str] = "thread"
    executors: ClassVar[tuple[str, ...]] = ("thread", "process")
    _orchestree: SyncLife

    def setup(self) -> Ignore | None:
        """Get ready; returning means ready, returning `IGNORE` that the agent is not needed (completed)."""
        return None

    @abstractmethod
    def execute(self) -> object:
        """Do the work; not called after a stop was asked for. What it returns is ``status(path).result``."""

    def teardown(self) -> None:
        """Clean up. Called after every end that Python survives, also when `setup` failed."""

    def on_stop(self) -> None:
        """Unblock `execute`: called once, in another thread beside it, when the agent is asked to stop.

        Not called outside `execute`; `teardown` starts when both have returned.
        """

    def sleep(self, seconds: float) -> bool:
        """Wait, but no longer than until the agent is asked to stop. Return `should_stop`."""
        return self._orchestree.stop.wait(seconds)


class LoopingAgent(Agent):
    """Calls `runner` again and again until it returns False or the agent is asked to stop."""

    @abstractmethod
    def runner(self) -> bool | None:
        """Do one round. Only False itself ends the agent."""

    def execute(self) -> object:
        """Run the rounds."""
        while self._orchestree.begin_round() and self.runner() is not False:
            pass
        return None


class PeriodicAgent(LoopingAgent):
    """Calls `runner` every ``config.interval`` seconds, the first time at once.

    Attributes:
        overruns: how many rounds were skipped because an earlier one still ran when they were due.
    """

    class Config(LoopingAgent.Config):
        """Attributes: ``interval``: seconds from the start of one round to the start of the next, above 0."""

        interval: Interval = 1.0

    config: Config
    overruns: int = 0

    def execute(self) -> object:
        """Run the rounds on a fixed grid of monotonic time."""
        life = self._orchestree
        interval, started, done = self.config.interval, time.monotonic(), 0
        while life.begin_round() and self.runner() is not False:
            coming = next_round(started, interval, done, time.monotonic())
            self.overruns += coming - done - 1
            done = coming
            due = started + coming * interval
            life.pulse.beat(due)
            life.enough.wait(due - time.monotonic())
        return None


class ProcessAgent(Agent):
    """An `Agent` that runs in a process unless said otherwise."""

    executor = "process"


class LoopingProcessAgent(LoopingAgent):
    """A `LoopingAgent` that runs in a process unless said otherwise."""

    executor = "process"


class PeriodicProcessAgent(PeriodicAgent):
    """A `PeriodicAgent` that runs in a process unless said otherwise."""

    executor = "process"


class LoopingThreadAgent(LoopingAgent):
    """A `LoopingAgent` that runs in a thread unless said otherwise."""


class PeriodicThreadAgent(PeriodicAgent):
    """A `PeriodicAgent` that runs in a thread unless said otherwise."""
