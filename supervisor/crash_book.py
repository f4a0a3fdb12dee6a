"""Which crashes are the same crash: each gets a fingerprint, and the number of times that it has come. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Final

from orchestree.agents.ends import CrashReport

REMEMBERED: Final = 1_000
"""So many different crashes are remembered, those that came last; one that was forgotten counts from 1 again."""

_FRAME: Final = re.compile(r'File "([^"\n]*)", line \d+,? in (.*)(?:\n    (?! )(.*))?')
"""The file of a frame, its function, and the line of code where that is known."""
_FAULTY_THREAD: Final = re.compile(r"^Current thread .*\n((?:  .*\n?)*)", re.MULTILINE)


@dataclass(slots=True)
class Entry:
    """How often a crash has come, and when (wall time) it came first."""

    first_seen: float
    count: int = 0


class CrashBook:
    """Of one tree."""

    def __init__(self) -> None:
        """Remember none."""
        self._entries: dict[tuple[str, str], Entry] = {}  # the latest last

    def enter(self, path: str, report: CrashReport, now: float) -> CrashReport:
        """Return the report with its fingerprint and the number of its occurrence at `now`, wall time."""
        key = (path, fingerprint(report))
        entry = self._entries.pop(key, None) or Entry(now)
        entry.count += 1
        self._entries[key] = entry
        if len(self._entries) > REMEMBERED:
            del self._entries[next(iter(self._entries))]
        return replace(report, fingerprint=key[1], occurrence=entry.count, first_seen=entry.first_seen)


def fingerprint(report: CrashReport) -> str:
    """Return 12 hexadecimal digits: equal when cause, kind of failure and the code that it came through are.

    Line numbers, addresses and the words of an exception, which often hold values, do not count. Where nothing but
    words is known, they do.
    """
    faulty = _FAULTY_THREAD.search(report.stacks)
    frames = _FRAME.findall(report.traceback or (faulty.group(1) if faulty else ""))
    kind = [*report.exception_types[:1], report.signal or "", str(report.exit_code)]
    places = [f"{file.rpartition('/')[2]}:{function}:{code}" for file, function, code in frames]
    known = bool(places) or report.signal is not None or report.exit_code is not None
    parts = [report.cause, report.phase, *kind, *places, *([] if known else [report.message])]
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:12]
