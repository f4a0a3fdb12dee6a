"""The pure core alone: crash -> ready cycles a second, what a group restart costs a member, what the window holds.

Targets: 50,000 cycles/s with the default backoff and 100,000 with ``backoff=None``, within 1.5x beside 10 and beside
many siblings; a group restart linear in the group; the memory of a window bounded.
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc
from typing import Final

from orchestree import Agent, AgentEntry, Backoff, Cause, CrashReport, SupervisorEntry
from orchestree.agents.ends import SHUTDOWN, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies import RestartWindow
from orchestree.supervisor import AgentState
from orchestree.supervisor.core import Core
from orchestree.supervisor.inputs import AskRunToStop, Input, StartRun, StartTree, Tick
from orchestree.supervisor.world import Settings

from .common import show

CYCLES: Final = 1_000
BATCHES: Final = 60
CRASH: Final = CrashReport(cause=Cause.EXCEPTION, message="boom")


class Worker(Agent):
    """Never really runs."""

    def execute(self) -> None:
        """Do nothing."""


def a_core(names: list[str], backoff: Backoff | None, **root: object) -> Core:
    """Return a core whose agents are all ready; its window never fills."""
    entries = [AgentEntry(Worker, name, backoff=backoff) for name in names]
    limits: dict[str, object] = {"max_restarts": 10**9, "max_seconds": 1e-9}
    core = Core(SupervisorEntry("", children=entries, **limits | root), Settings())  # type: ignore[arg-type]
    core.handle(StartTree(), 0.0)
    for name in names:
        core.handle(RunReady(RunId(name, 1)), 0.0)
    core.world.touched.clear()
    return core


def crashed(path: str, incarnation: int) -> RunEnded:
    """Return the report of a crash."""
    return RunEnded(run=RunId(path, incarnation), reason=abnormal(Cause.EXCEPTION), report=CRASH)


def cycles(siblings: int, backoff: Backoff | None, uptime_s: float = 0.001) -> float:
    """Return crash -> ready cycles per second of CPU, the median of many batches.

    What executors report is made beforehand. Virtual time jumps to the end of each delay, as the driver's timer
    would: an agent that crashes as soon as it is ready waits longer and longer, up to 30 s; one that was stable
    before, for longer than `Backoff.stable_after`, does not wait.
    """
    core = a_core([f"agent-{number}" for number in range(siblings + 1)], backoff)
    path, now, rates = f"agent-{siblings // 2}", 1.0, []
    for batch in range(BATCHES):
        first = 1 + batch * CYCLES
        reports = [
            (crashed(path, number), RunReady(RunId(path, number + 1))) for number in range(first, first + CYCLES)
        ]
        began = time.process_time()
        for ended, ready in reports:
            now += uptime_s
            core.handle(ended, now)
            if core.world.nodes[path].state is AgentState.BACKOFF:
                now = core.next_deadline() or now
                core.handle(Tick(), now)
            core.handle(ready, now)
        rates.append(CYCLES / (time.process_time() - began))
        core.world.touched.clear()
    assert core.world.nodes[path].incarnation == 1 + BATCHES * CYCLES
    return statistics.median(rates)


def group_restart(members: int) -> float:
    """Return the seconds of CPU that the core needs to restart a group of `members` (ONE_FOR_ALL), per member."""
    core = a_core([f"agent-{number}" for number in range(members)], None, strategy="one_for_all")
    times = []
    for incarnation in range(1, 6):
        began = time.process_time()
        todo: list[Input] = [crashed("agent-0", incarnation)]
        while todo:
            for effect in core.handle(todo.pop(), 1.0):
                match effect:
                    case AskRunToStop(run):
                        todo.append(RunEnded(run=run, reason=SHUTDOWN))
                    case StartRun(run):
                        todo.append(RunReady(run))
        times.append((time.process_time() - began) / members)
        core.world.touched.clear()
    return min(times)


def window_bytes(max_restarts: int, stamps_a_second: int) -> int:
    """Return what a window holds on to after a million restarts."""
    tracemalloc.start()
    window = RestartWindow(max_restarts, 1.0)
    for stamp in range(1_000_000):
        window.add(stamp / stamps_a_second)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


if __name__ == "__main__":
    many = int(sys.argv[1])
    rows = []
    for name, policy, uptime_s in (
        ("backoff=None", None, 0.001),
        ("the default backoff, stable before each crash", Backoff(), 31.0),
        ("the default backoff, crash after crash", Backoff(), 0.001),
    ):
        few, crowd = cycles(10, policy, uptime_s), cycles(many, policy, uptime_s)
        rows.append(
            f"cycles with {name}: {few:,.0f}/s beside 10 siblings, {crowd:,.0f}/s beside {many:,}: {few / crowd:.2f}x"
        )
    costs = {members: group_restart(members) for members in (100, 1_000, 10_000)}
    rows.append(
        "group restart per member: "
        + ", ".join(f"{cost * 1e6:.1f} us of {members:,}" for members, cost in costs.items())
        + f": {costs[10_000] / costs[100]:.2f}x"
    )
    rows.append(
        f"window after 1,000,000 restarts: {window_bytes(10, 1000):,} bytes of 10 in 1 s, "
        f"{window_bytes(10**9, 1000):,} bytes of 1,000,000,000 in 1 s at 1,000/s"
    )
    show(*rows)
