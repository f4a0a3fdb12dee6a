"""100 process agents: started together (target: 2.5x of as many bare forks), and all killed at once (target: 3x).

The time that the fork server takes to come up and to load their modules is not counted.
"""

from __future__ import annotations

import sys
import time

from orchestree import EventType

from .common import beside, milli, show
from .floor import Floor
from .probes import PATIENCE_S, a_tree, all_up, kill_all

AGENTS = 100
SETTLE_S = 0.2
"""What those that have just come up still do is not to be counted as the work of the next part."""


def ours(names: list[str]) -> tuple[float, float]:
    """Return the seconds of a start, and of a crash of all."""
    tree = a_tree(names)
    with tree:
        last = all_up(tree, len(names), 0)
        begun = tree.events.wait_for(EventType.ORCHESTRATOR_STARTED, since=0, timeout=PATIENCE_S).monotonic
        time.sleep(SETTLE_S)
        return last - begun, kill_all(tree, names)


def bare(floor: Floor, count: int) -> tuple[float, float]:
    """Return the same of the bare process."""
    started = floor.fork_many(count)
    time.sleep(SETTLE_S)
    replaced = floor.replace_all()
    floor.drop()
    return started, replaced


if __name__ == "__main__":
    rounds = int(sys.argv[1])
    names = [f"probe-{number}" for number in range(AGENTS)]
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    with Floor() as floor:
        for _ in range(rounds):
            found["bare"].append(bare(floor, AGENTS))
            found["ours"].append(ours(names))
    rows = []
    for part, label in enumerate((f"{AGENTS} started", f"{AGENTS} killed at once, all back")):
        mine, least = ([times[part] for times in found[who]] for who in ("ours", "bare"))
        rows.append(f"{label}: {beside(mine, least)} of bare forks (ours {milli(mine)}; bare {milli(least)})")
    show(*rows)
