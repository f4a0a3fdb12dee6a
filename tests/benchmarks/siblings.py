"""A crash under one_for_one with 100 and with many idle coroutine siblings (target: within 2x)."""

from __future__ import annotations

import sys

from .common import micro, orchestrator, ratio, show
from .crashing import Idle, supervised


def with_siblings(count: int) -> list[float]:
    """Return the restart times beside `count` idle siblings."""
    tree = orchestrator()
    for number in range(count):
        tree.register_agent(Idle, f"idle-{number}")
    with tree:
        return supervised(tree, 500, 0.003)


if __name__ == "__main__":
    many = int(sys.argv[1])
    few_times, many_times = with_siblings(100), with_siblings(many)
    show(
        f"{many:,} against 100 siblings: {ratio(many_times, few_times)} "
        f"(100: {micro(few_times)}; {many:,}: {micro(many_times)})"
    )
