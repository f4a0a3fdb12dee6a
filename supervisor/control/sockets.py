"""The control socket as a file: whose name it is, how it comes and how it goes.

Whoever holds the lock file beside it owns the name. What is found at its path is deleted only if it is a socket at
which nobody listens.
"""

from __future__ import annotations

import os
import socket
import stat
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from orchestree.supervisor.file_lock import Identity, Lock, Taken, identity, identity_of

from .places import SOCKET_SUFFIX, is_live, make_folder, runtime_folder, short_address

BACKLOG: Final = 1024
"""How many connections wait while nobody accepts them."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class ControlSocket:
    """A listening socket with its file and the lock that makes it ours. Not for use by several threads at once.

    Attributes:
        name: under which it is found; not always the one that was asked for.
        path: absolute.
        listener: does not block.
        lock: held.
        identity: of the socket's file.
    """

    name: str
    path: Path
    listener: socket.socket
    lock: Lock
    identity: Identity

    def is_intact(self) -> bool:
        """Return whether socket and lock file are still where they were put."""
        return identity_of(self.path) == self.identity and self.lock.is_in_place()

    def close(self) -> None:
        """Stop listening; remove the socket if it is still ours; give up the name."""
        _opened.discard(self)
        if identity_of(self.path) == self.identity:
            with suppress(OSError):
                os.unlink(self.path)
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends it for copies in forked processes, too
        self.listener.close()
        self.lock.release()


def open_socket(name: str, path: str | None = None) -> ControlSocket:
    """Take a name and listen, with mode 0600.

    Args:
        name: wanted; if another orchestrator has it, it becomes ``<name>-<pid>`` or ``<name>-<pid>-2``, and so on.
        path: of the socket, which then is taken there or not at all; its folder must exist. None for the socket
            ``<name>.sock`` in this user's runtime folder, which is created.

    Raises:
        Taken: `path` belongs to somebody else who runs.
        FileExistsError: what stands at the path is no socket.
        OSError: as the system has it. The message says what to do.
    """
    if path is not None:
        place = Path(os.path.abspath(path))
        if not place.parent.is_dir():
            raise FileNotFoundError(f"{place}: there is no folder {place.parent} for the control socket; create it")
        return _open_at(name, place, Path(f"{place}.lock"))
    folder = runtime_folder()
    make_folder(folder)
    for candidate in _candidates(name):
        with suppress(Taken):
            return _open_at(candidate, folder / f"{candidate}{SOCKET_SUFFIX}", folder / f"{candidate}.lock")
    raise AssertionError("there is always one more name")


def _candidates(name: str) -> Iterator[str]:
    own = f"{name}-{os.getpid()}"
    yield from (name, own)
    yield from (f"{own}-{number}" for number in count(2))


def _open_at(name: str, path: Path, lock_path: Path) -> ControlSocket:
    lock = Lock(lock_path)
    try:
        _remove_stale(path)
        listener = _listen(path)
    except BaseException:
        lock.release()
        raise
    opened = ControlSocket(name, path, listener, lock, identity(os.lstat(path)))
    _opened.add(opened)
    return opened


def _remove_stale(path: Path) -> None:
    """Delete a socket whose owner has died. The lock must be held."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path}: is no socket and is left alone; remove it, or choose another path")
    if is_live(path):
        raise Taken(f"{path}: somebody listens at this socket; choose another path")
    os.unlink(path)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # Linux gives the file the mode that the socket has before it is bound. A umask would hold for all threads.
        os.fchmod(listener.fileno(), 0o600)
        with short_address(path) as address:
            listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


_opened: Final = weakref.WeakSet[ControlSocket]()


def _drop_copies() -> None:
    """Leave the socket to the parent, as its lock: a forked process that outlives it must not seem to be it."""
    for opened in list(_opened):
        opened.listener.close()
    _opened.clear()


os.register_at_fork(after_in_child=_drop_copies)
