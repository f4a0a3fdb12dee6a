"""SIGKILL to the supervisor's decision about it, beside a bare epoll loop on a pidfd (target: 1.3x).

What takes long about a death is giving back memory, so the bare loop's victim has as much of its own as the agent.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from .common import beside, milli, show
from .floor import Floor
from .probes import PATIENCE_S, a_tree, private, restart

LIVED_S = 0.03


def bare(floor: Floor, more: int) -> float:
    """Return the seconds until a bare loop knew."""
    pid = floor.victim(more)
    time.sleep(LIVED_S)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return floor.noticed() - killed


def size_of_victim(floor: Floor) -> int:
    """Return the private bytes of a bare victim."""
    pid = floor.victim()
    size = private(pid)
    os.kill(pid, signal.SIGKILL)
    floor.noticed()
    return size


if __name__ == "__main__":
    kills = int(sys.argv[1])
    ours, same_size, small = [], [], []
    with Floor() as floor, a_tree(["probe"]) as tree:
        tree.wait_until("probe", "ready", timeout=PATIENCE_S)
        restart(tree, "probe")
        time.sleep(LIVED_S)
        pid = tree.status("probe").pid
        assert pid is not None
        size = private(pid)
        more = max(0, size - size_of_victim(floor))
        for _ in range(kills):
            same_size.append(bare(floor, more))
            small.append(bare(floor, 0))
            time.sleep(LIVED_S)
            times = restart(tree, "probe")
            ours.append(times.crashed - times.killed)
    show(
        f"SIGKILL to the decision: {beside(ours, same_size, 2)} of a bare loop (ours {milli(ours)}; bare "
        f"{milli(same_size)}, both victims with {size / 1e6:.1f} MB of their own; "
        f"a victim that has only just been forked: {milli(small)})"
    )
