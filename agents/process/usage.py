"""What a running process has used so far, as the kernel counts it. Linux only: it reads ``/proc``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STAT: Final = 1_024
"""Bytes that ``/proc/PID/stat`` has at most: 52 numbers, and a name of 64 characters."""


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What one process has used.

    Attributes:
        born: when it was started, in the kernel's ticks since the machine was. Who has got its pid later has another.
        cpu_s: seconds of processor time, of all its threads and of the children that it has waited for.
        memory: resident bytes; 0 when it has ended and only waits to be reaped.
    """

    born: int
    cpu_s: float
    memory: int


def usage_of(pid: int) -> ProcessUsage | None:
    """Return what a process has used; None if there is none, or no free descriptor to look with. Any thread."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(file, _STAT)
    except OSError:
        return None
    finally:
        os.close(file)
    # What follows the name, which stands in parentheses and may hold anything, begins with the third field.
    _, _, rest = content.rpartition(b")")
    fields = rest.split(maxsplit=22)
    user, system, of_children_user, of_children_system = map(int, fields[11:15])
    ticks = user + system + of_children_user + of_children_system
    return ProcessUsage(born=int(fields[19]), cpu_s=ticks / _TICKS_PER_S, memory=int(fields[21]) * _PAGE)
