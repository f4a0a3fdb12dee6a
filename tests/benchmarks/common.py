"""What the benchmarks share: a silent orchestrator without limits, and how figures are written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from loguru import logger

from orchestree import Orchestrator, RunMode


def orchestrator() -> Orchestrator:
    """Return one that restarts at once and for ever, and logs nothing."""
    logger.remove()
    return Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=10**9, max_seconds=1.0, backoff=None))


def micro(seconds: Sequence[float]) -> str:
    """Return median and 99th percentile in microseconds."""
    ordered = sorted(seconds)
    return f"median {statistics.median(ordered) * 1e6:.0f} us, p99 {ordered[int(len(ordered) * 0.99)] * 1e6:.0f} us"


def ratio(of: Sequence[float], to: Sequence[float]) -> str:
    """Return the ratio of two medians."""
    return f"{statistics.median(of) / statistics.median(to):.1f}x"


def show(*rows: str) -> None:
    """Write the rows for the runner to read."""
    print(json.dumps(rows))
