"""Restarts by SIGKILL, 1,000 of them unless said otherwise: what orchestrator and fork server hold before and after."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from .common import show
from .probes import a_tree, all_up, fork_server, kill_all

AGENTS = 8
SETTLE_S = 3.0
Held = dict[str, float]


def links(pid: int) -> list[str]:
    """Return what the descriptors of a process refer to."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def held_by(name: str, pid: int) -> Held:
    """Return how much of everything a process has, zombies among its children included."""
    process = psutil.Process(pid)
    files = links(pid)
    return {
        f"{name}: descriptors": len(files),
        f"{name}: sockets": sum(each.startswith("socket:") for each in files),
        f"{name}: memory files": sum("memfd:" in each for each in files),
        f"{name}: threads": process.num_threads(),
        f"{name}: children": len(process.children()),
        f"{name}: RSS in MB": round(process.memory_info().rss / 1e6, 1),
    }


def held(folder: Path, server: int | None) -> Held:
    """Return what both have."""
    found = held_by("orchestrator", os.getpid())
    if server is not None:
        found |= held_by("fork server", server)
    found["temporary files"] = sum(1 for _ in folder.rglob("*"))
    found["/dev/shm"] = sum(1 for _ in Path("/dev/shm").iterdir())
    return found


def settled(folder: Path, server: int | None) -> Held:
    """Return what they have once it no longer changes, or after a while."""
    deadline, last = time.monotonic() + SETTLE_S, held(folder, server)
    while True:
        time.sleep(0.2)
        now = held(folder, server)
        if now == last or time.monotonic() > deadline:
            return now
        last = now


def table(columns: dict[str, Held]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"{'':28}" + "".join(f"{title:>18}" for title in columns)]
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        cells = (f"{column[row]:g}" if row in column else "-" for column in columns.values())
        lines.append(f"{row:28}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def measure(folder: Path, restarts: int) -> list[str]:
    """Return the table of one run."""
    names = [f"probe-{number}" for number in range(AGENTS)]
    columns = {"before start()": settled(folder, None)}
    tree = a_tree(names)
    began = time.monotonic()
    with tree:
        all_up(tree, AGENTS, 0)
        kill_all(tree, names)
        server = fork_server()
        columns["started"] = settled(folder, server)
        done = 0
        for wanted in (restarts // 2, restarts):  # what grows without end grows from the one to the other
            while done < wanted:
                kill_all(tree, names)
                done += AGENTS
            columns[f"{done:,} restarts"] = settled(folder, server)
        assert server == fork_server()
    columns["after stop()"] = settled(folder, None)
    seconds = time.monotonic() - began
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return [
        f"{done:,} restarts of {AGENTS} agents in {seconds:.1f} s; threads left: {left or 'none'}; "
        f"fork server after stop(): {'lives' if psutil.pid_exists(server) else 'gone'}",
        *table(columns),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        tempfile.tempdir = os.environ["TMPDIR"] = name
        show(*measure(Path(name), int(sys.argv[1])))
