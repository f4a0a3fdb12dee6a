"""What the orchestrator does when its fork server was killed: find what the agents had started, and kill it.

Nobody has adopted those processes, or somebody who knows nothing of them; so all processes are asked for their mark.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from .descendants import is_zombie, kill_if, mark_of, processes

PATIENCE_S: Final = 2.0
"""How long those that were sent SIGKILL may take to die."""


def sweep(prefix: str, session: int, dying: Iterable[int]) -> tuple[int, ...]:
    """Kill all processes that belong to a dead fork server, until none is left; return the pids of survivors.

    Blocks for as long as it takes to look at all processes, at least twice, and to wait for those that were found.

    Args:
        prefix: of the marks that it has given.
        session: its own, whose number nobody else can have before the server is reaped.
        dying: pidfds of agents that have been sent SIGKILL, and may still start something.
    """
    deadline = time.monotonic() + PATIENCE_S
    for pidfd in dying:
        _has_ended(pidfd, deadline)

    def is_meant(pid: int) -> bool:
        belongs = mark_of(pid).startswith(prefix) or _session_of(pid) == session
        return belongs and not is_zombie(pid)

    while True:
        found = {pid for pid in processes() if is_meant(pid)}
        if not found or not _end(found, is_meant, deadline):
            return tuple(sorted(found))


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _end(pids: set[int], is_meant: Callable[[int], bool], deadline: float) -> bool:
    """Kill these; return whether there is reason to look again."""
    pidfds: list[int] = []
    for pid in pids:
        with suppress(PermissionError):
            pidfd = kill_if(pid, partial(is_meant, pid))
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
