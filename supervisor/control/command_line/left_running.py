"""What a file leaves running when it has been loaded: threads and child processes, in words for one line."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

import psutil

_HELPER_OF_MULTIPROCESSING = "resource_tracker"
"""Started by whoever makes a lock or shared memory; it does no work of its own and ends with us."""


@dataclass(frozen=True, slots=True)
class LeftRunning:
    """The threads (ids) and child processes that there are at one moment."""

    threads: frozenset[int]
    children: tuple[psutil.Process, ...]

    @classmethod
    def now(cls) -> LeftRunning:
        """Return what runs beside this thread, C code that knows nothing of Python left out."""
        return cls(frozenset(sys._current_frames()) - {threading.get_ident()}, tuple(filter(_works, _children())))

    def since(self, before: LeftRunning) -> LeftRunning:
        """Return what of it did not run at the moment of `before`."""
        return LeftRunning(
            self.threads - before.threads, tuple(child for child in self.children if child not in before.children)
        )

    def __bool__(self) -> bool:
        """Say whether anything runs."""
        return bool(self.threads or self.children)

    def __str__(self) -> str:
        """Return ``thread 'poller' (app.py:7), process 'sleep 60' (pid 4711)``."""
        return ", ".join([*map(_thread, sorted(self.threads)), *map(_process, self.children)])

    def end_processes(self) -> None:
        """Ask the child processes to end: otherwise they would outlive a command that was only to look."""
        for child in self.children:
            with suppress(psutil.Error):
                child.terminate()


def _children() -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process().children()
    return []


def _works(child: psutil.Process) -> bool:
    try:
        is_helper = any(_HELPER_OF_MULTIPROCESSING in word for word in child.cmdline())
        return child.status() != psutil.STATUS_ZOMBIE and not is_helper
    except psutil.Error:
        return False


def _thread(ident: int) -> str:
    """Return its name, and where in the user's own code, or else where at all, it is now."""
    from .target import own_place

    name = next((thread.name for thread in threading.enumerate() if thread.ident == ident), "")
    place = own_place(sys._current_frames().get(ident))
    return f"thread {name!r}{f' ({place})' if place else ''}"


def _process(child: psutil.Process) -> str:
    try:
        words = " ".join(child.cmdline()) or child.name()
    except psutil.Error:
        words = "ended"
    shown = " ".join(words.split())
    return f"process '{shown if len(shown) <= 60 else shown[:57] + '...'}' (pid {child.pid})"
