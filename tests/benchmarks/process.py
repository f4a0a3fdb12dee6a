"""Process agent: SIGKILL to the replacement's ``setup()``, beside a bare fork of the same image (target: 3x)."""

from __future__ import annotations

import sys
import time

from orchestree import Orchestrator

from .common import beside, milli, show
from .floor import Floor
from .probes import PATIENCE_S, Restart, a_tree, restart


def pairs(tree: Orchestrator, floor: Floor, count: int, lived_s: float) -> tuple[list[Restart], list[float]]:
    """Return restarts of a probe that had been ready for `lived_s` each time, and as many bare forks in between."""
    ours, bare = [], []
    for _ in range(count):
        bare.append(floor.fork())
        if lived_s:
            time.sleep(lived_s)
        ours.append(restart(tree, "probe"))
    return ours, bare


def rows(label: str, ours: list[Restart], bare: list[float]) -> list[str]:
    """Return the figures of one series."""
    whole = [each.setup - each.killed for each in ours]
    return [
        f"SIGKILL to setup(), {label}: {beside(whole, bare)} of a bare fork (ours {milli(whole)}; bare {milli(bare)})",
        f"  of which to the supervisor's decision {milli([each.crashed - each.killed for each in ours])}, "
        f"from there to setup() {milli([each.setup - each.starting for each in ours])}",
    ]


if __name__ == "__main__":
    kills = int(sys.argv[1])
    found = []
    with Floor() as floor, a_tree(["probe"]) as tree:
        tree.wait_until("probe", "ready", timeout=PATIENCE_S)
        pairs(tree, floor, 5, 0.03)  # warms up
        found += rows("30 ms after it was ready", *pairs(tree, floor, kills, 0.03))
        found += rows("at once after it was ready", *pairs(tree, floor, kills, 0.0))
    with Floor() as floor, a_tree(["probe"], standby=True) as tree:
        tree.wait_until("probe", "ready", timeout=PATIENCE_S)
        pairs(tree, floor, 5, 0.1)
        ours, bare = pairs(tree, floor, kills, 0.1)
        found += rows("with standby=True, 100 ms after it was ready", ours, bare)
        takeover = [each.setup - each.starting for each in ours]
        found.append(f"  takeover, from the decision to setup(): {beside(takeover, bare)} of a bare fork (target: 1x)")
    show(*found)
