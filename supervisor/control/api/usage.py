"""Processor time and memory of processes. Remembers the last look at each, which is what a percentage is over."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

import psutil

FRESH_S: Final = 0.5
"""A look that is younger is given again: several clients that look at the same time would else shorten each
other's intervals until the percentages mean nothing."""

FORGOTTEN_S: Final = 600.0
"""Processes that nobody has asked for in that time are forgotten."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses; all None if it has ended, or cannot be looked at.

    Attributes:
        cpu_percent: of one processor since the look before, at the first one since the process began.
        memory_bytes: resident.
        threads: how many.
    """

    cpu_percent: float | None = None
    memory_bytes: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    process: psutil.Process
    at: float
    cpu_s: float
    usage: Usage


class Usages:
    """Looks at processes. Any thread."""

    def __init__(self) -> None:
        """Begin without a look."""
        self._lock = threading.Lock()
        self._looks: dict[int, _Look] = {}

    def of(self, pid: int | None) -> Usage:
        """Return what the process uses; None stands for no process."""
        if pid is None:
            return Usage()
        with self._lock:
            last = self._looks.get(pid)
            now = time.monotonic()
            if last is not None and now - last.at < FRESH_S:
                return last.usage
            try:
                look = _look(pid, last, now)
            except (psutil.Error, OSError):  # OSError: there is no free descriptor to look with
                self._looks.pop(pid, None)
                return Usage()
            self._looks[pid] = look
            self._forget(now)
            return look.usage

    def _forget(self, now: float) -> None:
        oldest = next(iter(self._looks))
        if now - self._looks[oldest].at > FORGOTTEN_S:
            self._looks = {pid: look for pid, look in self._looks.items() if now - look.at <= FORGOTTEN_S}


def _look(pid: int, last: _Look | None, now: float) -> _Look:
    if last is None or not last.process.is_running():  # another one has the number by now
        process = psutil.Process(pid)
        since, cpu_before = now - max(0.0, time.time() - process.create_time()), 0.0
    else:
        process, since, cpu_before = last.process, last.at, last.cpu_s
    with process.oneshot():
        times = process.cpu_times()
        cpu_s = times.user + times.system
        percent = round(100.0 * max(0.0, cpu_s - cpu_before) / max(now - since, 0.01), 1)
        return _Look(process, now, cpu_s, Usage(percent, process.memory_info().rss, process.num_threads()))
