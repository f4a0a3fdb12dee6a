"""A crash report as text for people: everything that it knows, below its one line. Pure."""

from __future__ import annotations

from orchestree.agents.ends import CrashReport


def details(report: CrashReport) -> list[str]:
    """Return lines, most important first: what it was doing, traceback, stacks, and what it printed last."""
    found: list[str] = []
    if report.progress:
        silent = "" if report.silent_s is None else f"; last progress {report.silent_s:.3g} s before its end"
        found.append(f"it was doing: {report.progress}{silent}")
    if report.max_memory is not None:
        found.append(f"peak memory {report.max_memory / 2**20:.1f} MiB, pid {report.pid}")
    found += report.traceback.rstrip().splitlines()
    found += report.stacks.splitlines()
    if report.output:
        count = len(report.output)
        found.append("its last line of output:" if count == 1 else f"its last {count} lines of output:")
        found += [f"  | {line}" for line in report.output]
    return found
