"""A coroutine agent that crashes again and again and measures how soon its replacement runs; and the bare loop."""

from __future__ import annotations

import asyncio
import threading
import time

from orchestree import AsyncAgent, Orchestrator

WARM_UP = 50


class Times:
    """What was measured: seconds from a crash to the first statement of the replacement."""

    def __init__(self, wanted: int, pace_s: float) -> None:
        """Measure `wanted` times, each `pace_s` seconds after the replacement began (0: at once)."""
        self.wanted = wanted + WARM_UP
        self.pace_s = pace_s
        self.crashed_at: float | None = None
        self.found: list[float] = []
        self.done = threading.Event()

    def begin(self) -> bool:
        """Note that a replacement runs; False when that was the last one."""
        if self.crashed_at is not None:
            self.found.append(time.perf_counter() - self.crashed_at)
        return len(self.found) < self.wanted

    def result(self) -> list[float]:
        """Return the seconds, without those of the warm-up."""
        return self.found[WARM_UP:]


class Crasher(AsyncAgent):
    """Crashes as often as ``params["times"]`` wants."""

    async def execute(self) -> None:
        """Measure, wait, crash."""
        times: Times = self.params["times"]
        if not times.begin():
            times.done.set()
            await self.sleep(1e6)
            return
        await asyncio.sleep(times.pace_s)
        times.crashed_at = time.perf_counter()
        raise ValueError("crash")


class Idle(AsyncAgent):
    """Does nothing until it is stopped."""

    async def execute(self) -> None:
        """Wait for the stop."""
        await self.sleep(1e9)


def supervised(tree: Orchestrator, wanted: int, pace_s: float) -> list[float]:
    """Return the times of a crashing agent in `tree`, which runs."""
    times = Times(wanted, pace_s)
    tree.register_agent(Crasher, "crasher", params={"times": times})
    if not times.done.wait(300):
        raise TimeoutError("the crashing agent did not get through")
    tree.stop_agent("crasher")
    tree.unregister_agent("crasher")
    return times.result()


def bare(wanted: int, pace_s: float) -> list[float]:
    """Return the times of a task that a done-callback replaces, which is the least that asyncio can do."""
    times = Times(wanted, pace_s)

    async def task() -> None:
        if not times.begin():
            return
        await asyncio.sleep(times.pace_s)
        times.crashed_at = time.perf_counter()
        raise ValueError("crash")

    async def main() -> None:
        finished = asyncio.get_running_loop().create_future()

        def replace(ended: asyncio.Task[None]) -> None:
            if ended.exception() is None:
                finished.set_result(None)
            else:
                start()

        def start() -> None:
            times_task = asyncio.get_running_loop().create_task(task())
            keep.append(times_task)
            times_task.add_done_callback(replace)
            del keep[:-1]

        keep: list[asyncio.Task[None]] = []
        start()
        await finished

    asyncio.run(main())
    return times.result()
