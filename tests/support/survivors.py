"""Who outlives a program: its processes are found by a mark in their environment, and awaited by pidfds.

The mark is inherited by whatever a program starts, also in sessions of its own; a helper that has an empty
environment must be named. Nothing here sleeps.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psutil

MARK: Final = "ORCHESTREE_TEST_MARK"
"""The variable that a test puts into the environment of its program."""
GONE_S: Final = 2.0
"""Seconds within which nothing of a program may be left."""
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37


class Watch:
    """Keeps pidfds of processes, so that a pid that is used again deceives nobody. Zombies count as ended."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pidfds: dict[int, int] = {}
        self.gone_before: set[int] = set()
        for pid in pids:
            self.add(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    def add(self, pid: int) -> None:
        """Watch one more."""
        try:
            self._pidfds[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            self.gone_before.add(pid)

    def alive(self) -> list[int]:
        """Return those that run at this moment."""
        return self.left_after(0.0)

    def left_after(self, seconds: float = GONE_S) -> list[int]:
        """Wait until all have ended, at most `seconds`; return those that have not."""
        deadline = time.monotonic() + seconds
        return [pid for pid, pidfd in self._pidfds.items() if not ends(pidfd, deadline)]

    def kill(self) -> None:
        """Kill all that is left."""
        for pidfd in self._pidfds.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def ends(pidfd: int, deadline: float) -> bool:
    """Return whether the process ends before the deadline."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def is_marked(pid: int, mark: str) -> bool:
    """Say whether the process runs and was started, by whatever detours, with the mark."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def marked(mark: str) -> list[int]:
    """Return the pids of all running processes with the mark, the lowest first."""
    return [pid for pid in psutil.pids() if is_marked(pid, mark)]


def described(pid: int) -> str:
    """Return what is known of a process, for a message."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return f"{pid} (child of {process.ppid()}, {process.status()}): {' '.join(process.cmdline())[:120]}"
    return f"{pid} (gone by now)"


def survivors(mark: str, watch: Watch, seconds: float = GONE_S) -> list[str]:
    """Return who of the marked and of the watched has not ended after so many seconds."""
    deadline = time.monotonic() + seconds
    left = watch.left_after(seconds)
    while pids := marked(mark):  # what has started something meanwhile shows up in the next round
        with Watch(pids) as found:
            if late := found.left_after(deadline - time.monotonic()):
                return [described(pid) for pid in sorted({*left, *late})]
    return [described(pid) for pid in left]


@dataclass
class Household:
    """A mark for the program of a test, and all that the kernel hands to this process when parents end.

    Attributes:
        mark: goes into the program's environment.
        before: children that this process had already.
    """

    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    before: frozenset[int] = field(default_factory=lambda: frozenset(children()))

    @property
    def environment(self) -> dict[str, str]:
        """What to start the program with."""
        return {MARK: self.mark}

    def orphans(self) -> set[int]:
        """Return the children that came here since, zombies included."""
        return children() - self.before

    def zombies(self, *known: int, seconds: float = GONE_S) -> set[int]:
        """Reap the orphans, of which none should run any more, and return those that are not `known`.

        Only this process, in the place of init, can reap the first process of a program that has ended and its
        fork server; everything below is for the fork server to reap.
        """
        return self.reap(seconds) - set(known)

    def reap(self, seconds: float) -> set[int]:
        """Reap whatever ends in time; return it."""
        deadline = time.monotonic() + seconds
        reaped: set[int] = set()
        while waiting := self.orphans():
            with Watch(waiting) as watch:
                if watch.left_after(deadline - time.monotonic()):
                    raise AssertionError(f"still running: {[described(pid) for pid in watch.alive()]}")
            for pid in waiting:
                os.waitpid(pid, 0)
            reaped |= waiting
        return reaped

    def reap_zombies(self) -> None:
        """Reap what came here and has ended; whatever still runs is left alone."""
        for pid in self.orphans():
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                os.waitpid(pid, 0)

    def clean(self) -> None:
        """Kill and reap whatever a failed test has left."""
        while pids := {*marked(self.mark), *self.orphans()}:
            with Watch(pids) as watch:
                watch.kill()
                assert not watch.left_after(10 * GONE_S)
            for pid in self.orphans() & pids:
                os.waitpid(pid, 0)


@contextmanager
def household() -> Iterator[Household]:
    """Be the one that orphans come to, until the block is left; then nothing of them is there any more."""
    made = Household()
    with ExitStack() as after:
        after.callback(set_subreaper, is_subreaper())
        set_subreaper(True)
        after.callback(made.clean)
        yield made


def set_subreaper(on: bool) -> None:
    """Have orphans among this process's descendants become its children, or not any more."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


def is_subreaper() -> bool:
    """Return whether they do."""
    answer = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0
    return bool(answer.value)


def children() -> set[int]:
    """Return the pids of this process's children, zombies included."""
    return {child.pid for child in psutil.Process().children()}
