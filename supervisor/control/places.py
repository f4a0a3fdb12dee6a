"""Where the control sockets are: shared by the server, which makes them, and the command line, which finds them.

Standard library only and quick to import. Nothing in here but `make_folder` ever creates anything.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST_ADDRESS: Final = 107
"""Bytes that the kernel takes as the address of a UNIX socket."""
SOCKET_SUFFIX: Final = ".sock"


@dataclass(frozen=True, slots=True)
class Place:
    """A running orchestrator.

    Attributes:
        name: under which it is reached, unique on this machine for one user.
        socket: its control socket; `connect` takes it.
    """

    name: str
    socket: Path


def runtime_folder() -> Path:
    """Return the folder for this user's control sockets, whether or not it is there.

    That is ``orchestree`` in ``$XDG_RUNTIME_DIR`` or else in ``/run/user/<uid>``, the first of them that is a folder
    of this user; else ``orchestree-<uid>`` in ``$TMPDIR`` or ``/tmp``.
    """
    uid = os.geteuid()
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if os.path.isabs(folder) and _is_own_folder(folder, uid):
            return Path(folder, "orchestree")
    temporary = os.environ.get("TMPDIR", "")
    return Path(temporary if os.path.isabs(temporary) else "/tmp", f"orchestree-{uid}")


def make_folder(folder: Path) -> None:
    """Create `folder` for this user alone, unless it is there; check it in any case.

    Raises:
        PermissionError: somebody else could get at what is in it, as for `check_folder`.
        OSError: it cannot be created.
    """
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Make sure that `folder` is a real folder of this user that is closed to all others.

    Raises:
        FileNotFoundError: it is not there.
        PermissionError: it is something else (a symbolic link, too); the message says what to do.
    """
    found, uid = os.lstat(folder), os.geteuid()
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise PermissionError(f"{folder}: is {kind}, the control sockets need a real folder there; remove it")
    if found.st_uid != uid:
        raise PermissionError(
            f"{folder}: belongs to uid {found.st_uid}, the control sockets need a folder of uid {uid}; "
            "have it removed, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    if found.st_mode & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise PermissionError(f"{folder}: is open to other users (mode {mode}); run: chmod 700 {folder}")


def find_orchestrators() -> list[Place]:
    """Return those that run and whose sockets are in `runtime_folder`, by name. Dead sockets are passed over.

    Raises:
        PermissionError: the folder is not to be trusted, as for `check_folder`.
    """
    folder = runtime_folder()
    try:
        check_folder(folder)
        files = [folder / name for name in os.listdir(folder) if name.endswith(SOCKET_SUFFIX)]
    except FileNotFoundError:
        return []
    return [Place(file.stem, file) for file in sorted(files, key=lambda file: file.stem) if is_live(file)]


def is_live(path: Path) -> bool:
    """Return whether somebody listens at the socket `path`. Does not block."""
    try:
        connect(path, timeout=0).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:  # its queue is full, or it is for others, or of another kind: it is somebody's
        return True
    return True


def connect(path: str | os.PathLike[str], timeout: float | None = None) -> socket.socket:
    """Return a socket that is connected to the UNIX socket `path`, however long that is.

    Args:
        path: of the socket.
        timeout: seconds for which this and each later call on the socket may block; None for no limit.

    Raises:
        OSError: `ConnectionRefusedError` and `FileNotFoundError` if nobody listens there, `BlockingIOError` if more
            wait already than its queue holds, others as the kernel has them.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout)
        with short_address(path) as address:
            client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def short_address(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give an address for the socket `path` that the kernel takes; it holds within the block.

    Raises:
        OSError: even the name of the file is too long.
    """
    text = os.fspath(path)
    if len(os.fsencode(text)) <= LONGEST_ADDRESS:
        yield text
        return
    folder, name = os.path.split(text)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{descriptor}/{name}"
        if (excess := len(os.fsencode(address)) - LONGEST_ADDRESS) > 0:
            length = len(os.fsencode(name))
            raise OSError(
                f"{text}: the name of this socket has {length} bytes, at most {length - excess} are possible; "
                "choose a shorter one"
            )
        yield address
    finally:
        os.close(descriptor)


def _is_own_folder(folder: str, uid: int) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid
