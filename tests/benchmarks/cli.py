"""`orchestree ps` with 50 agents, cold, beside an interpreter that imports no more than it must (target: 150 ms)."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from .common import beside, milli, orchestrator, show
from .crashing import Idle

AGENTS = 50
RUNS = 15
PS = [sys.executable, "-c", "from orchestree.supervisor.control.cli import main; main()", "ps"]
FLOOR = [sys.executable, "-c", "import click, http.client, json"]
TREE = "--serve"


def seconds(command: list[str]) -> float:
    """Return how long a command takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def serve() -> None:
    """Run the tree until stdin ends, in a process of its own: it must not share its GIL with who measures."""
    tree = orchestrator()
    for number in range(AGENTS):
        tree.register_agent(Idle, f"idle-{number}")
    with tree:
        print("started", flush=True)
        sys.stdin.read()


def measure() -> None:
    """Take both in turn, after one run of each that fills the caches."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.cli", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tree:
        assert tree.stdout
        tree.stdout.readline()
        pairs = [(seconds(PS), seconds(FLOOR)) for _ in range(RUNS + 1)][1:]
        listed = subprocess.run(PS, capture_output=True, text=True, check=True).stdout.count("idle-")
        tree.communicate()
    mine, least = ([pair[place] for pair in pairs] for place in (0, 1))
    above = (statistics.median(mine) - statistics.median(least)) * 1e3
    show(
        f"orchestree ps, {listed} agents: {milli(mine)}",
        f"import click, http.client, json: {milli(least)}",
        f"ratio {beside(mine, least)}, difference of the medians {above:.1f} ms",
    )


if __name__ == "__main__":
    if TREE in sys.argv:
        serve()
    else:
        folder = tempfile.mkdtemp()
        os.environ["XDG_RUNTIME_DIR"] = folder
        os.environ.pop("ORCHESTREE_SOCKET", None)
        try:
            measure()
        finally:
            shutil.rmtree(folder)
