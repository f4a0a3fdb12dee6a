"""Listens at a TCP port; if that is not possible, the error says why, who has the port, and what to do."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Final

import psutil

BACKLOG: Final = 128
"""How many connections wait while nobody accepts them."""

ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, as `try_to_listen` does.

    Raises:
        OSError: of the same kind as the system's, whose message is one line for a person.
    """
    try:
        return try_to_listen(host, port)
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"metrics_host={host!r} has no address: {_reason(error)}") from None
    except OSError as error:
        explained = type(error)(_explained(error, host, port))
        explained.errno = error.errno
        raise explained from None


def try_to_listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `port` (0: any free one) of an address, or of a name that has one.

    Raises:
        OSError: as the system says it. UnicodeError: `host` can be no name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # Of a name with several addresses, the one that is meant by "127.0.0.1" in examples.
    family, _, _, _, address = min(found, key=lambda one: one[0] is not socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else it stays taken for a minute after a run
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _explained(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken {_by_whom(host, port)}; metrics_port=0 takes any free one"
        case errno.EACCES:
            return f"port {port} on {host} may not be used by this user; take one from 1024 on, or 0 for any free one"
        case errno.EADDRNOTAVAIL:
            return f"metrics_host={host!r} is no address of this machine"
        case _:
            return f"port {port} on {host} cannot be had: {_reason(error)}"


def _by_whom(host: str, port: int) -> str:
    """Return who listens at a port, if this user may see it."""
    with suppress(psutil.Error, OSError, ValueError):
        listening = [
            (one.laddr.ip, one.pid)
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None
        ]
        # Different addresses may have different owners.
        nearest = sorted(listening, key=lambda one: (one[0] != host, one[0] not in ALL_ADDRESSES))
        for _, pid in nearest:
            return f"by pid {pid} ({'this program' if pid == os.getpid() else _name_of(pid)})"
    return "(ask `ss -ltnp` by whom)"


def _name_of(pid: int) -> str:
    """Return the name of a process, which it has given itself, as a part of a line."""
    name = psutil.Process(pid).name()
    return "".join(each if each.isprintable() else " " for each in name).strip() or "without a name"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
