"""Locks on files: a program that dies gives them up, and a forked child that outlives it does not keep them."""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple


class Taken(OSError):
    """Somebody else holds what was asked for."""


class Identity(NamedTuple):
    """What tells a file from another one that has taken its path."""

    device: int
    inode: int


def identity_of(path: Path) -> Identity | None:
    """Return what tells the file at `path` from others; None if there is none to be seen."""
    try:
        return identity(os.lstat(path))
    except OSError:
        return None


def identity(found: os.stat_result) -> Identity:
    """Return what tells a file from others, of what the system says of it."""
    return Identity(found.st_dev, found.st_ino)


class Lock:
    """An exclusive ``flock`` on a file, held until `release`, also against others in the same process."""

    def __init__(self, path: Path) -> None:
        """Create the file with mode 0600 if need be, and take it.

        Raises:
            Taken: somebody else holds it.
            OSError: it cannot be opened, or is a symbolic link.
        """
        self._path = path
        self._descriptor = -1
        while not self.is_in_place():
            self._close()  # whoever held it last has removed it since it was opened
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._close()
                if not isinstance(error, BlockingIOError):
                    raise
                raise Taken(f"{path}: another orchestrator holds this lock; stop it, or choose another path") from None
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Whether it is ours: neither released, nor a copy in a forked process."""
        return self._descriptor >= 0

    def is_in_place(self) -> bool:
        """Return whether it is held and the file at the path is the one that is locked."""
        return self.is_held and identity_of(self._path) == identity(os.fstat(self._descriptor))

    def release(self) -> None:
        """Remove the file and give up the lock. Idempotent; nothing happens in a forked process."""
        if not self.is_held:
            return
        _held.discard(self)
        if self.is_in_place():
            with suppress(OSError):
                os.unlink(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # for copies of the descriptor in other processes, too
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @staticmethod
    def drop_copies() -> None:
        """Leave all locks to the parent. Called in each forked process."""
        for lock in list(_held):
            lock._close()
        _held.clear()


_held: Final = weakref.WeakSet[Lock]()
os.register_at_fork(after_in_child=Lock.drop_copies)
