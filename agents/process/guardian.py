"""What the fork server does about processes that agents leave behind: adopt, reap, kill.

The server is a subreaper: whatever loses its parent below it becomes its child. It knows of the death of any child by
SIGCHLD, which ends its wait through a descriptor.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from .deathsig import adopt_orphans
from .descendants import ChildList, NoDescriptors, children_of, descendants_of, kill_if, marks_of, parent_of

PATIENCE_S: Final = 2.0
"""How long what an agent left behind may take to die of SIGKILL, before it counts as a leak."""


@dataclass(slots=True, eq=False)
class Remains:
    """What an ended run has left behind.

    Attributes:
        mark: of the run.
        group: its process group, which is its pid; what has lost the mark may still be in there.
        left: pids of what had not ended at the latest look.
        dying: pidfds of those that were sent SIGKILL, by pid.
        deadline: monotonic seconds.
    """

    mark: str
    group: int
    left: set[int] = field(default_factory=set)
    dying: dict[int, int] = field(default_factory=dict)
    deadline: float = field(default_factory=lambda: time.monotonic() + PATIENCE_S)

    def include(self, pid: int) -> bool:
        """Return whether an adopted process was left behind by this run."""
        with suppress(ProcessLookupError):
            return os.getpgid(pid) == self.group or self.mark in marks_of(pid)
        return False

    def forget_dead(self) -> None:
        """Close the pidfds of what has ended; nothing of those processes is left then but their zombies."""
        for pid, pidfd in list(self.dying.items()):
            if is_readable(pidfd):
                os.close(self.dying.pop(pid))


class Guardian:
    """Guards this process, which has one thread, and all that descends from it."""

    def __init__(self, is_own: Callable[[int], bool]) -> None:
        """Adopt from now on; `is_own` tells of the pid of a child whether it was not adopted."""
        adopt_orphans()
        self._is_own = is_own
        self._children = ChildList()
        self._awaited: list[tuple[Remains, Callable[[tuple[int, ...]], None]]] = []
        self.bell, self._clapper = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """`bell`: readable when a child has died, or was stopped or continued by a signal."""
        self.listen()

    def listen(self) -> None:
        """Hear of children; again after somebody may have changed what SIGCHLD does."""
        signal.signal(signal.SIGCHLD, _heed)  # the wake-up descriptor only goes with a handler
        signal.set_wakeup_fd(self._clapper, warn_on_full_buffer=False)

    def leave(self) -> None:
        """Undo all this in a fork."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.bell)
        os.close(self._clapper)
        self._children.close()

    def answer_bell(self) -> Iterable[tuple[int, bool]]:
        """Reap who was adopted; yield which children were stopped (True) or go on (False), by pid."""
        with suppress(BlockingIOError):
            while os.read(self.bell, 4096):
                pass
        self.look()
        return _paused()

    def kill_remains(self, mark: str, group: int) -> Remains:
        """Kill what a run whose process has ended has left behind. It must not have been reaped yet."""
        remains = Remains(mark, group)
        self._kill_marked(remains)
        return remains

    def await_end(self, remains: Remains, done: Callable[[tuple[int, ...]], None]) -> None:
        """Call `done` when nothing is left, or with the pids of what could not be ended in time."""
        if remains.left:
            self._awaited.append((remains, done))
        else:
            done(())

    def patience(self) -> float:
        """Return the seconds after which `look` is due at the latest; negative if it is not."""
        if not self._awaited:
            return -1.0
        return max(0.0, min(remains.deadline for remains, _ in self._awaited) - time.monotonic())

    def look(self) -> None:
        """Reap who was adopted, and see whether what was to end has ended, or has left something in its turn."""
        self._reap_adopted()
        awaited, self._awaited = self._awaited, []
        for remains, done in awaited:
            self._kill_marked(remains)
            if remains.left and time.monotonic() < remains.deadline:
                self._awaited.append((remains, done))
            else:
                for pidfd in remains.dying.values():
                    os.close(pidfd)
                done(tuple(sorted(remains.left)))

    def end(self) -> None:
        """Kill everything below this process and return when it is gone; what belongs to somebody else is left."""
        me = os.getpid()
        while below := descendants_of(me):
            pidfds = {pid: pidfd for pid in below if (pidfd := _kill(pid)) is not None}
            for pidfd in pidfds.values():
                os.close(pidfd)
            if pidfds.keys().isdisjoint(children_of(me)):
                return
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _kill_marked(self, remains: Remains) -> None:
        """Kill what the run has left behind, and what that has started."""
        remains.forget_dead()
        left = remains.left = set(remains.dying)
        for pid in self._children.read():
            if pid in left or self._is_own(pid):
                continue
            try:
                is_meant = remains.include(pid)
            except NoDescriptors:
                is_meant = True  # perhaps; it is looked at again, and not killed without a descriptor
            if not is_meant:
                continue
            for each in (pid, *descendants_of(pid)):
                if each not in left:
                    left.add(each)
                    pidfd = _kill(each)
                    if pidfd is not None:
                        remains.dying[each] = pidfd

    def _reap_adopted(self) -> None:
        for pid in self._children.read():
            if not self._is_own(pid):
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def is_readable(descriptor: int) -> bool:
    """Return whether a pidfd says that its process has ended, without waiting."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _kill(pid: int) -> int | None:
    """Send SIGKILL to a process below this one; return its pidfd, or None if it has gone or may not be killed."""
    with suppress(PermissionError, NoDescriptors):
        return kill_if(pid, lambda: _descends_from(os.getpid(), pid))
    return None


def _descends_from(ancestor: int, pid: int) -> bool:
    parent = parent_of(pid)
    while parent is not None and parent not in (0, ancestor):
        parent = parent_of(parent)
    return parent == ancestor


def _paused() -> Iterable[tuple[int, bool]]:
    with suppress(ChildProcessError):
        while changed := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG):
            yield changed.si_pid, changed.si_code == os.CLD_STOPPED


def _heed(number: int, frame: object) -> None:
    """Do nothing: that there is a handler has the descriptor written to."""
