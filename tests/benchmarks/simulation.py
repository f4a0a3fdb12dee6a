"""A simulated day of agents that crash every minute, beside the bare core's crash -> ready cycle in the same process.

Target: a day of 100 agents under ``max_restarts=1000`` in less than 5 s. What comes on top of the core is the log, the
pretended runs and the faults.
"""

from __future__ import annotations

import resource
import sys
import time

from orchestree import AgentEntry, Backoff, Simulation, SupervisorEntry, simulate

from .common import show
from .core import Worker, cycles

DAY_S = 86_400.0


def a_day(agents: int) -> Simulation:
    """Return a day of `agents`, each of which crashes every minute."""
    entries = [AgentEntry(Worker, f"agent-{number}") for number in range(agents)]
    root = SupervisorEntry("", children=entries, max_restarts=1000, max_seconds=60.0)
    return simulate(root, ["/: crash every 1m"], until=DAY_S, seed=42, max_events=10**8)


def peak_mib() -> float:
    """Return the most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    count = int(sys.argv[1])
    before, began, began_cpu = peak_mib(), time.perf_counter(), time.process_time()
    day = a_day(count)
    wall, cpu, held = time.perf_counter() - began, time.process_time() - began_cpu, peak_mib() - before
    crashes = sum(agent.crashes for agent in day.agents.values())
    assert crashes == count * 1440, (crashes, day)
    assert all(agent.restarts == 1440 for agent in day.agents.values())
    floor = 1 / cycles(count - 1, Backoff(), uptime_s=60.0)
    each = cpu / crashes
    show(
        f"a day of {count} agents that crash every minute: {wall:.2f} s ({cpu:.2f} s of CPU), "
        f"{crashes:,} crashes, {len(day.events):,} events, peak {held:.0f} MiB more",
        f"a simulated crash: {each * 1e6:.1f} us, the bare core's cycle: {floor * 1e6:.1f} us: {each / floor:.2f}x",
    )
