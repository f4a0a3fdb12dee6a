"""A host that records what executors report, and a supervision thread to call them in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from orchestree.agents.executor import KeepLine, KeepMetrics, RunEnded, RunId, RunMessage, RunReport

DEADLINE_S = 20.0

Report = TypeVar("Report", bound=RunReport)
Answer = TypeVar("Answer")


class RecordingHost:
    """Keeps every report in the order in which they came. Other threads may wait for one."""

    def __init__(self, agents_loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.agents_loop = agents_loop
        self.keep_line: KeepLine | None = None
        self.keep_metrics: KeepMetrics | None = None
        self.reports: list[RunReport] = []
        self._changed = threading.Condition()

    @contextmanager
    def supervising(self) -> Iterator[RecordingHost]:
        """Run the supervision thread until the block is left."""
        thread = threading.Thread(target=self.loop.run_forever, name="supervision", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join(DEADLINE_S)
            self.loop.close()

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Call `function` in the supervision thread and return what it returns."""

        async def inside() -> Answer:
            return function()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(DEADLINE_S)

    def until(self, function: Callable[[], Answer | None]) -> Answer:
        """Call `function` in each turn of the supervision thread until it returns something; return that."""

        async def inside() -> Answer:
            while not (found := function()):
                await asyncio.sleep(0)
            return found

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(DEADLINE_S)

    def report(self, report: RunReport) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def of(self, kind: type[Report], run: RunId) -> list[Report]:
        """Return the reports of one kind about one run, in the order in which they came."""
        return [report for report in list(self.reports) if isinstance(report, kind) and report.run == run]

    def wait(self, kind: type[Report], run: RunId) -> Report:
        """Return the first report of this kind about the run, waiting for it."""
        return self._wait(lambda: self.of(kind, run), f"{kind.__name__} of {run}")

    def wait_message(self, run: RunId, name: str) -> RunMessage:
        """Return the first message of this name that the run emitted, waiting for it."""
        return self._wait(
            lambda: [message for message in self.of(RunMessage, run) if message.name == name],
            f"message {name!r} of {run}",
        )

    def trace_so_far(self, run: RunId) -> list[str]:
        """Return the names of the messages that a run has emitted, in the order in which they came."""
        return [message.name for message in self.of(RunMessage, run)]

    def trace(self, run: RunId) -> list[str]:
        """Return the names of the messages of a run, when it has ended, in the order in which they came."""
        self.wait(RunEnded, run)
        return [message.name for message in self.of(RunMessage, run)]

    def _wait(self, found: Callable[[], list[Report]], what: str) -> Report:
        with self._changed:
            if not self._changed.wait_for(found, DEADLINE_S):
                raise AssertionError(f"no {what}, but {self.reports}")
        return found()[0]
