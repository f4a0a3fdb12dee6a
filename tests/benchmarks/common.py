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


def milli(seconds: Sequence[float]) -> str:
    """Return median, 10th and 90th percentile in milliseconds, and how many there are."""
    ordered = sorted(seconds)
    low, high = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    return f"{statistics.median(ordered) * 1e3:.2f} ms ({low * 1e3:.2f}-{high * 1e3:.2f}, n={len(ordered)})"


def ratio(of: Sequence[float], to: Sequence[float], digits: int = 1) -> str:
    """Return the ratio of two medians."""
    return f"{statistics.median(of) / statistics.median(to):.{digits}f}x"


def beside(of: Sequence[float], to: Sequence[float], digits: int = 1) -> str:
    """Return the ratio of two medians, and the median of the ratios of what was measured one after the other.

    The second suffers less when others come to load the machine halfway.
    """
    pairs = statistics.median(mine / least for mine, least in zip(of, to, strict=True))
    return f"{ratio(of, to, digits)} (pair by pair {pairs:.{digits}f}x)"


def show(*rows: str) -> None:
    """Write the rows for the runner to read."""
    print(json.dumps(rows))
