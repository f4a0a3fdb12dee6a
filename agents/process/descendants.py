"""Finding and killing what the process of an agent has started and left behind. Linux only: it reads ``/proc``.

Each run has a mark that everything it starts inherits: in the environment, which a new program gets, and in the name
of a memory file that is mapped, which a fork keeps. Leaving the session, the process group or the parent sheds
neither.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

VARIABLE: Final = "ORCHESTREE_RUN"
"""The environment variable that holds the mark."""
MEMORY: Final = "orchestree-run:"
"""The name of the memory file is this and the mark."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CHILDREN: Final = "/proc/{}/task/{}/children"
_LISTS_CHILDREN: Final = os.path.exists(_CHILDREN.format(os.getpid(), os.getpid()))
"""Whether the kernel was built with CONFIG_PROC_CHILDREN; otherwise all processes have to be asked for their parent."""


class NoDescriptors(Exception):
    """There is no free descriptor to look with: nothing was found out."""


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
                found += map(int, _read(_CHILDREN.format(pid, task)).split())
    return found


class ChildList:
    """The children of this process, which has one thread; cheaper to read again and again than `children_of`."""

    def __init__(self) -> None:
        """Open the list, if the kernel has it."""
        self._pid = os.getpid()
        self._file = os.open(_CHILDREN.format(self._pid, self._pid), os.O_RDONLY) if _LISTS_CHILDREN else None

    def read(self) -> list[int]:
        """Return the pids, zombies included."""
        if self._file is None:
            return children_of(self._pid)
        content, size = b"", 4096
        while len(content := os.pread(self._file, size, 0)) == size:
            size *= 4
        return [int(pid) for pid in content.split()]

    def close(self) -> None:
        """Close the list."""
        if self._file is not None:
            os.close(self._file)


def descendants_of(pid: int) -> list[int]:
    """Return the pids of the children, their children, and so on, parents before their children."""
    found = children_of(pid)
    for each in found:
        found += children_of(each)
    return found


def marks_of(pid: int) -> set[str]:
    """Return the marks that a process carries; none if it is a zombie or belongs to somebody else.

    It has several where a tree runs in an agent of another: what it was started with, and what it was forked with.

    Raises:
        NoDescriptors
    """
    found: set[str] = set()
    name = f"{VARIABLE}=".encode()
    with suppress(OSError):
        for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
            if variable.startswith(name):
                found.add(variable.removeprefix(name).decode(errors="replace"))
        for line in _read(f"/proc/{pid}/maps").splitlines():
            _, is_marked, rest = line.partition(b"/memfd:" + MEMORY.encode())
            if is_marked:
                found.add(rest.removesuffix(b" (deleted)").decode(errors="replace"))
    return found


def kill_if(pid: int, is_meant: Callable[[], bool]) -> int | None:
    """Send SIGKILL to `pid` if it still is what is meant, and return its pidfd; None if not.

    A pidfd never means another process, so what holds while it is open holds for what is killed.

    Raises:
        PermissionError: it belongs to somebody else.
        NoDescriptors
    """
    try:
        with _descriptors():
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


def memory_of_tree(pid: int) -> int:
    """Return the bytes that a process and its descendants have in memory; what they share counts for each of them."""
    pages = 0
    for each in (pid, *descendants_of(pid)):
        with suppress(OSError):
            pages += int(_read(f"/proc/{each}/statm").split()[1])
    return pages * _PAGE


def processes() -> Iterable[int]:
    """Return the pids of all processes that can be seen."""
    with _descriptors():
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_zombie(pid: int) -> bool:
    """Return whether the process has ended and only waits for its parent to take note of it."""
    with suppress(OSError):
        return _status(pid)[0] in b"ZX"
    return False


def parent_of(pid: int) -> int | None:
    """Return the pid of the parent; None when the process is gone."""
    with suppress(OSError):
        return int(_status(pid)[1])
    return None


def _status(pid: int) -> list[bytes]:
    """Return state, parent and so on: what follows the name, which stands in parentheses and may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    with _descriptors(), open(path, "rb") as file:
        return file.read()


@contextmanager
def _descriptors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise NoDescriptors from error
        raise
