"""What the kernel does for families of processes: kill a child with its parent, give orphans to an ancestor.

The first also works while C code holds the interpreter's lock.

The kernel's notion of a parent is the thread that made the process, so the fork server, which a thread of the
orchestrator starts, asks for this only while it loads modules and cannot see for itself; its children, always.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None)


def die_with_parent(parent_pid: int) -> None:
    """Ask for it, and end at once if the parent has ended already. Survives an exec, not a fork."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def outlive_parent() -> None:
    """Take that back."""
    _libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every process below this one that loses its own. Survives an exec, not a fork."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
