"""Finding and killing what the process of an agent has started and left behind. Linux only: it reads ``/proc``.

Each run has a mark that everything it starts inherits: in the environment, which a new program gets, and in the name
of a memory file that is mapped, which a fork keeps. Leaving the session, the process group or the parent sheds
neither.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

VARIABLE: Final = "ORCHESTREE_RUN"
"""The environment variable that holds the mark."""
MEMORY: Final = "orchestree-run:"
"""The name of the memory file is this and the mark."""

_LISTS_CHILDREN: Final = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel was built with CONFIG_PROC_CHILDREN; otherwise all processes have to be asked for their parent."""


def children_of(pid: int) -> list[int]:
    """Return the pids of the children, zombies included; empty when the process is gone.

    One may be overlooked while others come and go, so whoever wants all of them asks again.
    """
    if not _LISTS_CHILDREN:
        return [each for each in processes() if parent_of(each) == pid]
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):  # the thread has just ended
                found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def descendants_of(pid: int) -> list[int]:
    """Return the pids of the children, their children, and so on, parents before their children."""
    found = children_of(pid)
    for each in found:
        found += children_of(each)
    return found


def mark_of(pid: int) -> str:
    """Return the mark that a process carries; empty if it has none, is a zombie or belongs to somebody else."""
    name = f"{VARIABLE}=".encode()
    with suppress(OSError):
        for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
            if variable.startswith(name):
                return variable.removeprefix(name).decode(errors="replace")
        for line in _read(f"/proc/{pid}/maps").splitlines():
            _, found, rest = line.partition(b"/memfd:" + MEMORY.encode())
            if found:
                return rest.removesuffix(b" (deleted)").decode(errors="replace")
    return ""


def kill_if(pid: int, is_meant: Callable[[], bool]) -> int | None:
    """Send SIGKILL to `pid` if it still is what is meant, and return its pidfd; None if not.

    A pidfd never means another process, so what holds while it is open holds for what is killed.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if is_meant():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return pidfd
    except ProcessLookupError:
        pass
    except BaseException:
        os.close(pidfd)
        raise
    os.close(pidfd)
    return None


def processes() -> Iterable[int]:
    """Return the pids of all processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_of(pid: int) -> int | None:
    """Return the pid of the parent; None when the process is gone."""
    with suppress(OSError):
        # The name in parentheses may hold anything.
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
