"""Coroutine agent: crash to the replacement's first statement, against a bare loop doing the same (target: 25x)."""

from __future__ import annotations

from .common import micro, orchestrator, ratio, show
from .crashing import bare, supervised

if __name__ == "__main__":
    rows = []
    with orchestrator() as tree:
        for label, pace_s, wanted in (("a crash every 3 ms", 0.003, 500), ("crash after crash", 0.0, 5000)):
            ours, floor = supervised(tree, wanted, pace_s), bare(wanted, pace_s)
            rows.append(f"{label}: {ratio(ours, floor)} of the bare loop (ours {micro(ours)}; bare {micro(floor)})")
    show(*rows)
