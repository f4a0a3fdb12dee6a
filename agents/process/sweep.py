"""What the orchestrator does when its fork server was killed: find what the agents had started, and kill it.

Nobody has adopted those processes, or somebody who knows nothing of them; so all processes are asked for their mark.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from .descendants import NoDescriptors, is_zombie, kill_if, marks_of, processes

PATIENCE_S: Final = 2.0
"""How long those that were sent SIGKILL may take to die."""
RETRY_S: Final = 0.02
"""When to look again if nothing could be done: no free descriptor to look with, or not allowed."""


@dataclass(frozen=True, slots=True)
class Estate:
    """What a dead fork server has left.

    Attributes:
        prefix: of the marks that it has given.
        session: its own, whose number nobody else can have before the server is reaped.
    """

    prefix: str
    session: int

    def includes(self, pid: int) -> bool:
        """Return whether a process belongs to it and has not ended."""
        is_marked = any(mark.startswith(self.prefix) for mark in marks_of(pid))
        belongs = is_marked or (self.session > 1 and _session_of(pid) == self.session)
        return belongs and not is_zombie(pid)


def sweep(estate: Estate, dying: Iterable[int]) -> tuple[int, ...]:
    """Kill all that belongs to a dead fork server, until nothing is left; return the pids of survivors.

    Blocks for as long as it takes to look at all processes, once more whenever some were found, and to see them end.
    Closes `dying`: pidfds of agents that have been sent SIGKILL, and may still start something.
    """
    deadline = time.monotonic() + PATIENCE_S
    for pidfd in dying:
        _await_end(pidfd, deadline)
    left: set[int] = set()
    while True:
        killed = False
        with suppress(NoDescriptors):
            left = {pid for pid in processes() if estate.includes(pid)}
            if not left:
                return ()
            killed = bool({pid for pid in left if _kill(pid, estate, deadline)})
        if time.monotonic() > deadline:
            return tuple(sorted(pid for pid in left if os.path.exists(f"/proc/{pid}") and not is_zombie(pid)))
        if not killed:
            time.sleep(RETRY_S)


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _kill(pid: int, estate: Estate, deadline: float) -> bool:
    """Kill a process and wait for its end; return whether it was there and could be killed."""
    with suppress(PermissionError):
        pidfd = kill_if(pid, lambda: estate.includes(pid))
        if pidfd is not None:
            _await_end(pidfd, deadline)
            return True
    return False


def _await_end(pidfd: int, deadline: float) -> None:
    """Wait for the end of a process, and close its pidfd."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    with suppress(ChildProcessError):  # ours only where this program adopts orphans, as the first one of a container
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)
