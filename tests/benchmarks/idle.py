"""1,000 idle coroutine agents for 10 s: CPU time (target: under 20 ms), and how often a thread woke up (never)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from .common import orchestrator, show
from .crashing import Idle

AGENTS = 1000
IDLE_S = 10.0


def voluntary_switches(thread: threading.Thread) -> int:
    """Return how often the thread has gone to sleep so far."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


if __name__ == "__main__":
    tree = orchestrator()
    for number in range(AGENTS):
        tree.register_agent(Idle, f"idle-{number}", start_timeout=None)
    with tree:
        threads = {thread.name: thread for thread in threading.enumerate() if thread.name.startswith("orchestree")}
        time.sleep(1.0)  # the start dies down
        cpu, switches = time.process_time(), {name: voluntary_switches(one) for name, one in threads.items()}
        time.sleep(IDLE_S)
        cpu = time.process_time() - cpu
        woken = {name: voluntary_switches(one) - switches[name] for name, one in threads.items()}
    show(f"{AGENTS:,} agents, {IDLE_S:g} s: {cpu * 1e3:.1f} ms CPU; times a thread woke up: {woken}")
