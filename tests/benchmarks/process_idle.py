"""100 idle process agents for 20 s: CPU of the orchestrator and its fork server (target: under 20 ms), and memory."""

from __future__ import annotations

import os
import statistics
import sys
import time

from .common import show
from .floor import Floor
from .probes import a_tree, all_up, cpu_s, fork_server, memory

AGENTS = 100
WORK_S = 3.0


def pss(pids: list[int]) -> list[float]:
    """Return the proportional set sizes in MB."""
    return [memory(pid)["Pss"] / 1e6 for pid in pids]


if __name__ == "__main__":
    idle_s = float(sys.argv[1])
    names = [f"probe-{number}" for number in range(AGENTS)]
    tree = a_tree(names, works=True)
    with tree:
        all_up(tree, AGENTS, 0)
        time.sleep(WORK_S)  # each measures the host once
        agents = [pid for name in names if (pid := tree.status(name).pid)]
        server_pid = fork_server()
        # Reading this of 100 agents is work of this process: its own comes last before the pause and first after it.
        groups = {"agents": agents, "fork server": [server_pid], "orchestrator": [os.getpid()]}
        before = {name: sum(map(cpu_s, pids)) for name, pids in groups.items()}
        time.sleep(idle_s)
        spent = {name: sum(map(cpu_s, groups[name])) - before[name] for name in reversed(groups)}
        own, server = pss(agents), pss([server_pid])[0]
    with Floor() as floor:
        floor.fork_many(AGENTS)
        bare = pss(floor.children())
    show(
        f"{AGENTS} agents, {idle_s:g} s: {(spent['orchestrator'] + spent['fork server']) * 1e3:.1f} ms CPU ("
        + ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in spent.items())
        + ")",
        f"PSS of an idle agent: median {statistics.median(own):.2f} MB, most {max(own):.2f} MB, "
        f"{statistics.median(own) / statistics.median(bare):.1f}x of a bare fork among {AGENTS} "
        f"({statistics.median(bare):.2f} MB); of the fork server {server:.2f} MB",
    )
