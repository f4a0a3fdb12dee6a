"""What the orchestrator does when its fork server was killed: find what the agents had started, and kill it.

Nobody has adopted those processes, or somebody who knows nothing of them; so all processes are asked for their mark.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from .descendants import kill_if, mark_of, processes

PATIENCE_S: Final = 2.0
"""How long those that were sent SIGKILL may take to die."""


def sweep(prefix: str, dying: Iterable[int]) -> tuple[int, ...]:
    """Kill all processes whose mark begins with `prefix`, until none is left; return the pids of survivors.

    Blocks for as long as it takes to look at all processes, at least twice, and to wait for those that were found.

    Args:
        prefix: of the marks.
        dying: pidfds of agents that have been sent SIGKILL, and may still start something.
    """
    deadline = time.monotonic() + PATIENCE_S
    for pidfd in dying:
        _has_ended(pidfd, deadline)
    while True:
        found = {pid for pid in processes() if mark_of(pid).startswith(prefix)}
        if not found or not _end(found, prefix, deadline):
            return tuple(sorted(found))


def _end(pids: set[int], prefix: str, deadline: float) -> bool:
    """Kill these; return whether there is reason to look again."""
    pidfds: list[int] = []
    for pid in pids:
        with suppress(PermissionError):
            pidfd = kill_if(pid, lambda pid=pid: mark_of(pid).startswith(prefix))  # type: ignore[misc]
            if pidfd is not None:
                pidfds.append(pidfd)
    ended = [_has_ended(pidfd, deadline) for pidfd in pidfds]
    for pidfd in pidfds:
        os.close(pidfd)
    return all(ended) and time.monotonic() < deadline and len(pidfds) > 0


def _has_ended(pidfd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
